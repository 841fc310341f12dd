"""The status as one with labels sees it: only what is named, so that what is added to it later is not shown by itself."""

from label_cases import Guild

from doyen.folder import status
from doyen.serving.seen import seen_status

SHOWN = {
    "format", "models", "recall", "documents", "pages", "chunks", "summaries", "duplicates", "failed", "warnings",
    "examples", "adapters", "interrupted_runs", "comparison",
}  # fmt: skip


def test_what_a_status_has_beside_is_not_shown(tmp_path):
    guild = Guild(tmp_path, each=2)
    whole = status(guild.expert) | {"newest": "xyzzyboard0q"}
    assert SHOWN | {"expert"} == set(status(guild.expert))
    answer = guild.send("GET", "/api/status", ()).json()
    assert set(answer) == SHOWN | {"expert", "server"} and "/" not in answer["expert"]
    principal = guild.service.keys.principal(guild.keys[()])
    desk = guild.service.desk
    seen = seen_status(whole, desk.viewer(principal), desk.models(principal))
    assert set(seen) == SHOWN
