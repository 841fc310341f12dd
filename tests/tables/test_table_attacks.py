"""No statement writes, reads a file, or passes its limits: tried with over 500 of them, on real processes and files."""

import os
import time

import pyarrow as pa
import pytest
from attack_statements import HUNGRY, attacks

from doyen.errors import TableError
from doyen.tables.executing import Setup, Statement, open_tables, run
from doyen.tables.limits import QueryLimits
from doyen.tables.sandbox import Sandbox

SECRET = "the-secret-of-the-file"
LIMITS = QueryLimits(rows=50, seconds=1.0, memory_mib=128, result_mib=4)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "secret.txt").write_text(f"x\n{SECRET}\n")
    return tmp_path


@pytest.fixture
def tables():
    small = pa.table({"a": [1, 2, 3], "b": ["x", "y", None]})
    big = pa.table({"n": list(range(5000)), "s": [f"{n:050d}x" for n in range(5000)]})
    return {"t": small, "big": big}


def statements(folder):
    return attacks(str(folder / "secret.txt"), str(folder / "written"), str(folder))


def test_there_are_enough_attacks(folder):
    assert len(statements(folder)) >= 500


def test_no_statement_reads_or_writes_a_file_or_passes_its_limits(folder, tables, monkeypatch):
    monkeypatch.setenv("DOYEN_TEST_SECRET", SECRET)
    before = _state(folder)
    ran = []
    with Sandbox(tables, LIMITS) as sandbox:
        assert sandbox.run("SELECT count(*) FROM t").rows == ((3,),)
        for sql in statements(folder):
            started = time.monotonic()
            try:
                reply = sandbox.run(sql)
            except TableError:
                pass
            else:
                ran.append(sql)
                assert SECRET not in str(reply.rows), sql
                assert len(reply.rows) <= LIMITS.rows
            assert time.monotonic() - started < 30, sql  # a refusal takes no time; the machine may be busy
            assert _state(folder) == before, sql
        assert sandbox.run("SELECT sum(a), count(*) FROM t").rows == ((6, 3),)
    assert not [sql for sql in ran if any(word in sql.lower() for word in ("read_", "secret", "copy", "attach"))]


def test_hungry_statements_end_within_their_limits(folder, tables):
    for sql in HUNGRY:
        with Sandbox(tables, LIMITS) as sandbox:
            sandbox.run("SELECT 1 FROM t")
            pid = sandbox.process_id
            started = time.monotonic()
            with pytest.raises(TableError):
                sandbox.run(sql)
            assert time.monotonic() - started < 30, sql
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


@pytest.mark.parametrize("family", ["files", "settings"])
def test_the_database_refuses_even_what_the_guard_would_let_through(folder, tables, family, monkeypatch):
    """Without the guard: DuckDB's own settings hold."""
    monkeypatch.setattr("doyen.tables.executing.require_reading", lambda *_: {})
    secret, target = folder / "secret.txt", folder / "written"
    files = [
        f"SELECT * FROM read_text('{secret}')",
        f"SELECT * FROM read_csv('{secret}')",
        f"SELECT * FROM '{secret}'",
        f"SELECT * FROM glob('{folder}/*')",
        f"COPY t TO '{target}'",
        f"ATTACH '{target}' AS o",
        f"EXPORT DATABASE '{target}'",
        "INSTALL httpfs",
        "LOAD httpfs",
        "CREATE TABLE x AS SELECT 1",
        "INSERT INTO t VALUES (9, 'z')",
        "DROP TABLE t",
    ]
    settings = ["SET enable_external_access = true", "SET memory_limit = '100GB'", "SET lock_configuration = false"]
    before = _state(folder)
    connection = open_tables(_setup(tables))
    for sql in files if family == "files" else settings:
        reply = run(connection, frozenset(tables), Statement(sql, (), LIMITS))
        assert reply.reason, sql
    assert _state(folder) == before
    assert connection.execute("SELECT count(*) FROM t").fetchone() == (3,)


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="limits of the kernel are Linux's")
def test_the_process_itself_can_open_no_file(folder, tables):
    """Without guard and settings: the kernel refuses."""
    import subprocess
    import sys

    code = (
        "import doyen.tables.executing as e, sys\n"
        "import duckdb, pyarrow\n"
        "e._give_up(128)\n"
        "for act in (lambda: open(sys.argv[1]).read(), lambda: open(sys.argv[2], 'w').write('x')):\n"
        "    try:\n        act(); print('open')\n    except OSError as error:\n        print(error.errno)\n"
    )
    arguments = [sys.executable, "-c", code, str(folder / "secret.txt"), str(folder / "written")]
    done = subprocess.run(arguments, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["24", "24"]  # EMFILE
    assert not (folder / "written").exists()


def test_a_sandbox_has_no_environment_of_the_parent(tables, monkeypatch):
    monkeypatch.setenv("DOYEN_TEST_SECRET", SECRET)
    with Sandbox(tables, LIMITS) as sandbox:
        sandbox.run("SELECT 1 FROM t")
        with open(f"/proc/{sandbox.process_id}/environ", "rb") as file:
            assert SECRET.encode() not in file.read()


def _setup(tables):
    from doyen.tables.sandbox import _stream_of

    return Setup({name: _stream_of(table) for name, table in tables.items()}, LIMITS.memory_mib, os.getpid())


def _state(folder):
    return sorted((p.name, p.stat().st_size, p.stat().st_mtime_ns) for p in folder.rglob("*"))
