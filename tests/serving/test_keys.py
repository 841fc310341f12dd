"""Keys: made once, kept as hashes, over when they are over, revoked at once; and nobody is let in by a broken file."""

import datetime
import json
import stat

import pytest

from doyen.errors import AccessError, ExpertError, UsageError
from doyen.serving.keys import LOCAL, KeyRing, add_key, keys_path, load_keys, revoke_key

NOW = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)


def later(**time):
    return lambda: NOW + datetime.timedelta(**time)


def test_without_keys_it_is_this_machines_user_and_with_the_first_nobody_else(expert):
    ring = KeyRing(expert)
    assert not ring.closed and ring.principal("") == LOCAL
    _, secret = add_key(expert, "Ada", role="editor")
    with pytest.raises(AccessError, match="no API key"):
        ring.principal("")
    found = ring.principal(secret)
    assert (found.name, found.role, ring.closed) == ("Ada", "editor", True)
    assert found.may("reader") and found.may("editor") and not found.may("admin")
    with pytest.raises(AccessError, match="not one of"):
        ring.principal(secret + "x")
    keys_path(expert).unlink()
    with pytest.raises(AccessError):
        ring.principal("")


def test_only_the_hash_is_kept_and_only_the_owner_may_read_it(expert):
    key, secret = add_key(expert, "Ada")
    kept = keys_path(expert).read_text()
    assert secret not in kept and secret.split("-", 1)[1] not in kept and key.sha256 in kept
    assert stat.S_IMODE(keys_path(expert).stat().st_mode) == 0o600
    assert "sha256" not in key.as_dict()


def test_a_key_is_over_after_its_time_and_gone_when_revoked(expert):
    _, short = add_key(expert, "short", expires="12h", now=later())
    _, long = add_key(expert, "long", now=later())
    assert KeyRing(expert, now=later(hours=11)).principal(short).name == "short"
    with pytest.raises(AccessError, match="expired"):
        KeyRing(expert, now=later(hours=12)).principal(short)
    ring = KeyRing(expert, now=later(hours=12))
    assert ring.principal(long).name == "long"
    revoke_key(expert, "long")
    with pytest.raises(AccessError, match="revoked"):
        ring.principal(long)
    with pytest.raises(UsageError, match="no key"):
        revoke_key(expert, "long")
    assert add_key(expert, "long")[0].id in [k.id for k in load_keys(expert)]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"name": ""}, "name"),
        ({"name": "a\nb"}, "name"),
        ({"role": "king"}, "role"),
        ({"expires": "soon"}, "duration"),
        ({"expires": "0d"}, "duration"),
    ],
)
def test_what_cannot_be_made(expert, options, said):
    with pytest.raises(UsageError, match=said):
        add_key(expert, **({"name": "Ada"} | options))
    assert not load_keys(expert)


def test_a_name_is_taken_once(expert):
    add_key(expert, "Ada")
    with pytest.raises(UsageError, match="there is a key"):
        add_key(expert, "Ada")


@pytest.mark.parametrize("content", ["{", "[{}]", '[{"id": "a"}]', "3"])
def test_a_broken_file_opens_nothing(expert, content):
    keys_path(expert).parent.mkdir()
    keys_path(expert).write_text(content)
    with pytest.raises(ExpertError, match="not a list of keys"):
        KeyRing(expert)


def test_an_unknown_role_in_the_file_is_a_broken_file(expert):
    add_key(expert, "Ada")
    rows = json.loads(keys_path(expert).read_text())
    rows[0]["role"] = "root"
    keys_path(expert).write_text(json.dumps(rows))
    with pytest.raises(ExpertError):
        load_keys(expert)


def test_the_command_line(expert, capsys):
    from typer.testing import CliRunner

    from doyen.cli import app

    def run(*arguments):
        done = CliRunner().invoke(app, ["keys", *arguments, "--expert", str(expert), "--json"])
        assert done.exit_code == 0, done.output
        return json.loads(done.stdout)

    made = run("add", "Ada", "--role", "admin", "--expires", "4w")
    assert KeyRing(expert).principal(made["key"]).role == "admin"
    assert [k["name"] for k in run("list")] == ["Ada"] and "key" not in run("list")[0]
    assert run("revoke", made["id"])["revoked"]
