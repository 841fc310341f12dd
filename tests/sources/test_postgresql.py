"""PostgreSQL as a source: a real server of this machine, its types, its read-only mode and its dropped connections."""

import socket
import tempfile
import threading
import warnings
from pathlib import Path

import pytest
import sqlalchemy

from doyen.errors import DocumentError, UsageError
from doyen.sources import SourceOptions
from doyen.sources.database import DatabaseSource
from doyen.sources.database.connecting import Database

pytestmark = pytest.mark.e2e  # seconds each: a server, killed processes, hostile files

SCRIPT = """
CREATE TYPE mood AS ENUM ('calm', 'cross');
CREATE TABLE client (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), name varchar(40), mood mood, paid numeric(10, 2),
  born date, seen timestamptz, tags text[], data jsonb, picture bytea, place point, fast boolean);
INSERT INTO client (id, name, mood, paid, born, seen, tags, data, picture, place, fast) SELECT
  ('00000000-0000-0000-0000-' || lpad(n::text, 12, '0'))::uuid, 'Client ' || n, 'calm', n + 0.50, '2000-01-01',
  '2024-05-01 12:00+02', '{a,b}', '{"k": 1}', '\\x0102', '(1,2)', true FROM generate_series(1, 50) n;
CREATE TABLE step (kind mood, number int, note text, PRIMARY KEY (kind, number));
INSERT INTO step SELECT k::mood, n, repeat(k || n, 40) FROM unnest(ARRAY['calm', 'cross']) k, generate_series(1, 150) n;
CREATE TABLE log (message text);
INSERT INTO log SELECT 'message ' || n FROM generate_series(1, 1200) n;
CREATE SCHEMA hr; CREATE TABLE hr.staff (id int PRIMARY KEY, name text); INSERT INTO hr.staff VALUES (1, 'Ida');
"""


@pytest.fixture(scope="module")
def server():
    """A PostgreSQL server with a few tables; gives the path of its socket."""
    pytest.importorskip("pgserver", reason="no PostgreSQL for this Python")
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of where it keeps its lock
        import pgserver

        server = pgserver.get_server(Path(folder) / "pg", cleanup_mode="delete")
        server.psql(SCRIPT)
        port = 5432
        yield str(next(Path(folder).rglob(f".s.PGSQL.{port}")))
        server.cleanup()


class Proxy:
    """Passes connections on to a socket; `limits` are the bytes after which the next ones are dropped."""

    def __init__(self, target):
        self.target = target
        self.limits = []
        self.dropped = 0
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.port = self.listening.getsockname()[1]
        self.thread = threading.Thread(target=self.accept, daemon=True)
        self.thread.start()

    def accept(self):
        while True:
            try:
                client, _ = self.listening.accept()
            except OSError:
                return
            server = socket.socket(socket.AF_UNIX)
            server.connect(self.target)
            limit = self.limits.pop(0) if self.limits else None
            threading.Thread(target=self.pump, args=(client, server, None), daemon=True).start()
            threading.Thread(target=self.pump, args=(server, client, limit), daemon=True).start()

    def pump(self, source, target, limit):
        passed = 0
        try:
            while data := source.recv(4096):
                passed += len(data)
                if limit is not None and passed > limit:
                    self.dropped += 1
                    break
                target.sendall(data)
        except OSError:
            pass
        for end in (source, target):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            end.close()

    def close(self):
        self.listening.shutdown(socket.SHUT_RDWR)
        self.listening.close()
        self.thread.join()


@pytest.fixture
def proxy(server):
    proxy = Proxy(server)
    yield proxy
    proxy.close()


def source_of(proxy, waited=None, **options):
    sleep = waited.append if waited is not None else lambda _: None
    database = Database(f"postgresql://postgres:s3cret@127.0.0.1:{proxy.port}/postgres", sleep=sleep)
    return DatabaseSource("", options=SourceOptions(**options), database=database)


def read_all(source):
    try:
        return {item.id: item.read().decode() for item in source.items()}
    finally:
        source.database.close()


def test_tables_of_every_type_are_read(proxy):
    source = source_of(proxy, batch_rows=20)
    found = read_all(source)
    assert len(found) == 3 + 50 + 300 + 1200
    row = found["postgres/client/00000000-0000-0000-0000-000000000007"]
    assert '"name":"Client 7","mood":"calm","paid":"7.50","born":"2000-01-01","seen":"2024-05-01 10:00:00+00:00"' in row
    assert '"picture":"(2 bytes)"' in row and '"fast":true' in row
    assert list(found).index("postgres/step/calm,150") < list(found).index("postgres/step/cross,1")
    assert "- paid (numeric(10, 2)): from 1.50 to 50.50" in found["postgres/client"]
    assert "has 300 rows" in found["postgres/step"]
    assert source.root == f"postgresql://127.0.0.1:{proxy.port}/postgres"
    assert source.complete and ["log has no primary key" in w for w in source.warnings] == [True]


def test_tables_of_other_schemas_and_queries(proxy):
    assert list(read_all(source_of(proxy, tables=("hr.staff",)))) == ["postgres/hr.staff", "postgres/hr.staff/1"]
    query = "SELECT id, name, paid::float AS paid FROM client WHERE name LIKE '%7'"
    found = read_all(source_of(proxy, query=query, key=("id",), batch_rows=2))
    assert [key[-2:] for key in found if "/query/" in key] == ["07", "17", "27", "37", "47"]
    with pytest.raises(UsageError, match="two columns of --query have one name"):
        read_all(source_of(proxy, query="SELECT id, id FROM client"))


def test_nothing_can_be_written(proxy):
    database = source_of(proxy).database
    for _ in range(2):
        with pytest.raises(DocumentError, match="read-only transaction"):
            database.rows(sqlalchemy.text("DELETE FROM step"))
    database.close()


@pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning"
)  # pg8000 leaves the dead socket to Python
@pytest.mark.parametrize(
    ("table", "limits"), [("step", [40_000, 30_000, 500, 60_000, 50_000, 45_000]), ("log", [20_000, 500, 30_000])]
)
def test_a_connection_that_drops_time_and_again_is_resumed(proxy, caplog, table, limits):
    expected = read_all(source_of(proxy, tables=(table,)))
    proxy.limits = limits
    waited = []
    source = source_of(proxy, waited, tables=(table,), batch_rows=40)
    assert read_all(source) == expected
    assert source.complete
    assert proxy.dropped >= 2 and len(waited) >= 2
    assert not caplog.records


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_server_that_stays_away_ends_the_source_incomplete_and_tells_no_password(server):
    proxy = Proxy(server)
    waited = []
    source = source_of(proxy, waited, tables=("step",), batch_rows=10)
    items = source.items()
    for _ in range(5):
        next(items)
    proxy.close()
    source.database.close()
    with pytest.raises(DocumentError, match="the connection was lost") as caught:
        list(items)
    assert len(waited) == 7 and not source.complete
    assert "s3cret" not in str(caught.value) + str(caught.value.__context__)


def test_a_missing_database_is_named_at_once(proxy):
    waited = []
    database = Database(f"postgresql://postgres:s3cret@127.0.0.1:{proxy.port}/nothing", sleep=waited.append)
    with pytest.raises(DocumentError, match='database "nothing" does not exist'):
        list(DatabaseSource("", options=SourceOptions(), database=database).items())
    assert not waited
