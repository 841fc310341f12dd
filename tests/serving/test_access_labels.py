"""Labels: who may see what, through every endpoint; what a document says changes none of it."""

import collections
import dataclasses
import json
import random

import pytest
from label_cases import COPY, FOLDERS, REQUESTS, Guild
from postgresql_server import store_uri
from small_stores import write_files

import doyen
from doyen.config import load_settings, settings_toml
from doyen.index.filtering import Visible
from doyen.index.postgresql.connecting import close_databases
from doyen.ingesting import ingest, open_index
from doyen.ingesting.known_sources import load_sources
from doyen.labelling import Labeller
from doyen.serving.viewing import Viewer
from doyen.sources import SourceOptions


def label_of(expert, document):
    return open_index(expert, load_settings(expert)).labels_of([document])[document]


@pytest.fixture(scope="module")
def guild(tmp_path_factory):
    made = Guild(tmp_path_factory.mktemp("guild"))
    report = made.expert / "comparisons" / "c"
    report.mkdir(parents=True)
    rows = [{"answer": made.secrets[d], "document": d} for d in made.secrets]
    (report / "report.json").write_text(
        json.dumps({"rows": rows, "arms": [], "advice": {"arm": "rag"}, "manifest": {"created": "now"}})
    )
    return made


def run_cases(guild, count, seed):
    draw, found, statuses = random.Random(seed), [], collections.Counter()
    for _ in range(count):
        labels, request, answer, leaks = guild.case(draw)
        statuses[answer.status_code] += 1
        assert answer.status_code < 500, (request, answer.text[:300])
        found += [(labels, request, leaks)] if leaks else []
    return found, statuses


def test_no_case_leaks(guild):
    found, statuses = run_cases(guild, 150, 7)
    assert not found and statuses[200] > 75 and statuses[404] > 7


@pytest.mark.slow
def test_ten_thousand_cases_leak_nothing(guild):
    assert not run_cases(guild, 10_000, 1)[0]


@pytest.mark.slow
def test_no_case_leaks_from_postgresql(tmp_path, postgresql):
    one = Guild(tmp_path, each=2, store=store_uri(postgresql))
    found, statuses = run_cases(one, 400, 7)
    assert not found and statuses[200] > 75 and statuses[404] > 7
    close_databases()


def test_the_cases_would_see_a_leak(guild):
    """The same requests by an admin show hidden things: else the test above could not fail."""
    draw, shown = random.Random(3), set()
    for make in dict.fromkeys(REQUESTS):
        for _ in range(6):
            document = draw.choice(list(guild.secrets))
            method, path, more = make(guild, draw, document, ("hr",))
            if "/sessions" not in path and "session" not in more.get("json", {}):
                answer = guild.send(method, path, None, **more)
                shown |= {path.split("?")[0]} if guild.leaks((), answer, document) else set()
    assert {"/api/search", "/api/ask", "/v1/chat/completions", "/api/documents", "/api/document"} <= shown
    assert {"/api/workflows/reply", "/api/workflows/reply/reviews"} <= shown
    assert {"/api/comparisons/c", "/api/passage"} <= shown and any(path.startswith("/api/runs/") for path in shown)


def test_everyone_finds_all_that_they_may_see(guild):
    for labels in guild.keys:
        rows = guild.send("GET", "/api/documents", labels, params={"limit": 1000}).json()["documents"]
        assert {row["id"] for row in rows} == {d for d in guild.secrets if guild.sees(labels, d)}
        assert all(set(row["labels"]) <= set(labels) for row in rows)
        hit = guild.send("GET", "/api/search", labels, params={"q": "notice period guild", "k": 50}).json()["hits"]
        copies = {d for h in hit if COPY in h["text"] for d in (h["document"], *h.get("also", ()))}
        assert copies == {d for d in guild.secrets if guild.sees(labels, d)}


def test_an_adapter_is_for_who_may_see_all_of_its_documents(guild):
    for labels in guild.keys:
        names = {m["id"] for m in guild.send("GET", "/v1/models", labels).json()["data"]}
        for folder, own in FOLDERS.items():
            assert (f"doyen/finetuned:of-{folder}" in names) == (not own or bool(set(own) & set(labels)))
    body = {"question": "Leave?", "arm": "finetuned"}
    assert guild.send("POST", "/api/ask", (), json=body).json()["adapter"] == "of-open"  # the newest that they may use
    assert guild.send("POST", "/api/ask", None, json=body).json()["adapter"] == "of-open"
    taken = guild.send("POST", "/api/ask", ("hr",), json=body | {"adapter": "of-board"})
    assert taken.status_code == 404


def test_a_training_run_is_for_who_may_use_its_adapter(tmp_path):
    one = Guild(tmp_path, each=1)
    work = one.expert / "adapters" / ".next.training"
    work.mkdir()
    (work / "history.jsonl").write_text('{"step": 1, "steps": 9, "loss": 3.0}\n')
    (work / "training.html").write_text("so far")
    for labels in (*one.keys, None):
        seen = {row["name"] for row in one.send("GET", "/api/runs", labels).json()["runs"]}
        own = {f"of-{f}" for f, needed in FOLDERS.items() if labels is None or not needed or set(needed) & set(labels)}
        assert seen == own | ({"next"} if labels is None else set())
        for name in ("next", *(f"of-{folder}" for folder in FOLDERS)):
            for page in ("", "/training.html"):
                answer = one.send("GET", f"/api/runs/{name}{page}", labels)
                assert answer.status_code == (200 if name in seen else 404), (labels, name)


def test_without_an_index_nothing_says_who_may_see_all():
    nobody = Visible(frozenset())
    assert not Viewer(None, nobody, Labeller(rules=(("board", ("board",)),))).sees_all
    assert Viewer(None, nobody, Labeller()).sees_all and Viewer(None, None, Labeller()).sees_all


def test_what_is_hidden_and_what_is_not_there_look_the_same(guild):
    for path, name in (("/api/document", "id"), ("/api/page-image", "document")):
        said = []
        for document in ("board/board0.md", "board/none.md"):
            answer = guild.send("GET", path, (), params={name: document, "page": 1})
            said.append((answer.status_code, answer.text.replace(document, "")))
        assert said[0] == said[1] and said[0][0] == 404
    assert guild.send("DELETE", "/api/document", (), params={"id": "board/board0.md"}).status_code == 404


def test_new_labels_count_without_reading_anything_again(tmp_path):
    one = Guild(tmp_path, each=1)
    now = load_settings(one.expert)
    documents = dataclasses.replace(now.documents, labels=now.documents.labels.replace("board = board", "open = legal"))
    (one.expert / "doyen.toml").write_text(settings_toml(dataclasses.replace(now, documents=documents)))
    report = ingest(one.expert)
    assert sorted(report.relabelled) == ["board/board0.md", "open/open0.md"] and not report.changed
    index = open_index(one.expert, load_settings(one.expert))
    assert index.labels_of(["open/open0.md", "board/board0.md"]) == {
        "open/open0.md": {("legal",)},
        "board/board0.md": {()},
    }
    assert {c.labels for c in index.chunks_of(["open/open0.md"])} == {("legal",)}
    one.labels |= {"open/open0.md": ("legal",), "board/board0.md": ()}
    assert not run_cases(one, 60, 5)[0]
    assert not ingest(one.expert).relabelled


def test_a_source_keeps_its_labels_until_they_are_taken_away(tmp_path):
    one = Guild(tmp_path, each=1)
    folder = write_files(tmp_path / "more", {"in/a.md": "secret plans", "b.md": "other plans"})
    ingest(one.expert, [folder / "in"], options=SourceOptions(labels=("board",)))
    assert label_of(one.expert, "a.md") == {("board",)}
    ingest(one.expert, [folder])  # a folder above, without labels
    assert label_of(one.expert, "a.md") == {("board",)} and label_of(one.expert, "b.md") == {()}
    ingest(one.expert, [folder / "in"])
    assert label_of(one.expert, "a.md") == {("board",)}
    ingest(one.expert, [folder / "in"], options=SourceOptions(labels=()))
    assert label_of(one.expert, "a.md") == {()}


def test_pruning_keeps_the_labels_of_a_source_within(tmp_path):
    one = Guild(tmp_path, each=1)
    folder = write_files(tmp_path / "more", {"in/a.md": "secret plans", "b.md": "other plans"})
    ingest(one.expert, [folder / "in"], options=SourceOptions(labels=("board",)))
    ingest(one.expert, [folder], prune=True)  # the inner source is not named, its documents stay
    ingest(one.expert)
    assert label_of(one.expert, "a.md") == {("board",)} and label_of(one.expert, "b.md") == {()}
    last = write_files(tmp_path / "last", {"c.md": "last plans"})
    ingest(one.expert, [last], prune=True)
    assert [s.spec for s in load_sources(one.expert)] == [str(last)]


def upload(guild, who, name, text, **data):
    files = [("files", (name, text))]
    return guild.send("POST", "/api/upload", who, files=files, data=data)


def test_uploads_have_the_labels_of_who_uploads(tmp_path):
    one = Guild(tmp_path, each=1)
    assert upload(one, ("hr",), "a.md", b"x", labels="board").status_code == 403
    assert upload(one, ("hr",), "a.md", b"x", labels="a;b").status_code == 400
    assert upload(one, ("hr",), "plan.md", b"# The xyzzyplan", labels="hr").status_code == 202
    assert upload(one, ("legal",), "plan.md", b"mine now").status_code == 409
    assert upload(one, ("legal",), "mine.md", b"# Mine").status_code == 202
    jobs = one.send("GET", "/api/jobs", ("legal",))
    assert [j["files"] for j in jobs.json()["jobs"]] == [["mine.md"]] and "plan" not in jobs.text
    assert len(one.send("GET", "/api/jobs", None).json()["jobs"]) == 2
    ingest(one.expert, [one.expert / "uploads"], name="uploads")
    assert label_of(one.expert, "uploads/plan.md") == {("hr",)} and label_of(one.expert, "uploads/mine.md") == {()}
    assert upload(one, ("hr",), "plan.md", b"# The second xyzzyplan").status_code == 202  # keeps them
    ingest(one.expert)
    assert label_of(one.expert, "uploads/plan.md") == {("hr",)}
    one.send("DELETE", "/api/document", ("hr",), params={"id": "uploads/plan.md"}).raise_for_status()
    assert "plan.md" not in (one.expert / "uploads" / ".labels.json").read_text()


def test_a_conversation_loses_turns_that_show_what_is_hidden_now(tmp_path):
    one = Guild(tmp_path, each=1)
    session = one.send("POST", "/api/sessions", ()).json()["id"]
    one.send("POST", "/api/ask", (), json={"question": "annual leave paper?", "session": session}).raise_for_status()
    assert len(one.send("GET", f"/api/sessions/{session}", ()).json()["turns"]) == 1
    now = load_settings(one.expert)
    documents = dataclasses.replace(now.documents, labels="open = legal\n" + now.documents.labels)
    (one.expert / "doyen.toml").write_text(settings_toml(dataclasses.replace(now, documents=documents)))
    ingest(one.expert)
    assert one.send("GET", f"/api/sessions/{session}", ()).json()["turns"] == []


def test_a_removed_document_taints_what_was_trained_on_it(tmp_path):
    one = Guild(tmp_path, each=1)
    doyen.remove_documents(one.expert, ["open/open0.md"])
    rows = {a["name"]: a for a in doyen.status(one.expert)["adapters"]}
    assert rows["of-open"]["tainted"] == ["open/open0.md"] and rows["of-hr"]["tainted"] == []
    assert rows["of-both"]["labels"] == [["board", "hr"]]
    names = {m["id"] for m in one.send("GET", "/v1/models", ("hr",)).json()["data"]}
    assert "doyen/finetuned:of-open" not in names  # nothing says any more who might have seen it
    assert one.send(
        "POST", "/api/ask", None, json={"question": "x", "arm": "finetuned", "adapter": "of-open"}
    ).is_success


@pytest.mark.parametrize("by", [{"arm": "finetuned", "adapter": "of-hr"}, {"arm": "rag+finetuned"}])
def test_feedback_on_what_an_adapter_wrote_is_for_who_may_use_it(tmp_path, by):
    guild = Guild(tmp_path, each=2)
    shown = next(d for d in guild.secrets if d.startswith("open/"))
    said = {"question": "How long?", "answer": "as trained", "thumb": "down", "correction": "Four weeks."}
    said["passages"] = [{"document": shown, "start": 0, "end": 20}]
    for given in (by, {"arm": "rag"}, {"arm": "finetuned", "adapter": "of-open"}):
        assert guild.send("POST", "/api/feedback", ("hr",), json=said | given).status_code == 201
    rows = guild.send("GET", "/api/feedback", ("hr",)).json()["feedback"]
    assert len(rows) == 3
    assert [row["arm"] for row in guild.send("GET", "/api/feedback", ()).json()["feedback"]] == ["rag", "finetuned"]
    hidden = f"/api/feedback/{rows[0]['id']}/review"
    assert guild.send("POST", hidden, (), json={"verdict": "accept"}).status_code == 404
