"""Databases as sources, with SQLite: rows and schemas as items, keys, stamps, faults and dropped connections."""

import datetime
import decimal
import json
import random
import socket
import sqlite3
import threading
import uuid
from pathlib import Path

import pytest
import sqlalchemy
from hypothesis import given
from hypothesis import strategies as st

from doyen.documents import read_document
from doyen.errors import DocumentError, UsageError
from doyen.sources import SourceOptions, open_source
from doyen.sources.database import DatabaseSource
from doyen.sources.database.connecting import Database
from doyen.sources.database.rows import key_text, record_bytes

SCRIPT = """
CREATE TABLE customer (id INTEGER PRIMARY KEY, name TEXT NOT NULL, since DATE, turnover NUMERIC, photo BLOB, vip BOOLEAN);
INSERT INTO customer VALUES (1, 'Anna Weber', '2019-03-01', 1200.5, x'0102', 1), (2, 'Björn/Öst', 'unknown', NULL, NULL, 0);
CREATE TABLE line (order_id INTEGER, pos INTEGER, item TEXT, changed TEXT, who TEXT, PRIMARY KEY (order_id, pos),
                   FOREIGN KEY (order_id) REFERENCES customer (id));
CREATE TABLE log (at TEXT, message TEXT);
INSERT INTO log VALUES ('2024-05-01', 'started'), ('2024-05-01', 'started'), ('2024-05-02', 'stopped');
CREATE VIEW vips AS SELECT id, name FROM customer WHERE vip;
"""


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "shop.db"
    change(path, SCRIPT)
    lines = [
        (n // 7, n % 7, f"item {n}", f"2024-01-{1 + n % 28:02d} 10:00:00", "a, b" if n % 2 else None) for n in range(60)
    ]
    with sqlite3.connect(path) as connection:
        connection.executemany("INSERT INTO line VALUES (?, ?, ?, ?, ?)", lines)
    connection.close()
    return path


def change(path, script):
    connection = sqlite3.connect(path)
    connection.executescript(script)
    connection.close()


def source_of(path, prefix="", database=None, **options):
    return DatabaseSource(f"sqlite:///{path}", prefix=prefix, options=SourceOptions(**options), database=database)


def rows_of(source):
    return {item.id: json.loads(item.read()) for item in source.items() if item.name == "row.record"}


def test_every_row_of_every_table_is_an_item_and_views_are_passed_over(path):
    source = source_of(path, "erp/")
    items = {item.id: item for item in source.items()}
    assert len(items) == 3 + 2 + 60 + 2
    assert items["erp/shop/line/3,4"].source == f"sqlite:///{path}/line/3,4"
    assert items["erp/shop/customer/1"].root == source.root == f"sqlite:///{path}"
    assert source.skipped == [f"sqlite:///{path}/vips (a view)"]
    assert source.complete
    assert json.loads(items["erp/shop/customer/1"].read()) == {
        "table": "customer",
        "key": "1",
        "title": "Anna Weber",
        "columns": {
            "id": 1,
            "name": "Anna Weber",
            "since": "2019-03-01",
            "turnover": 1200.5,
            "photo": "(2 bytes)",
            "vip": 1,
        },
    }
    assert json.loads(items["erp/shop/customer/2"].read())["columns"] == {
        "id": 2,
        "name": "Björn/Öst",
        "since": "unknown",
        "vip": 0,
    }


def test_a_row_is_read_as_a_document(path):
    item = next(i for i in source_of(path).items() if i.id == "shop/customer/1")
    document = read_document(Path(item.name), item.id, item.read())
    assert document.title == "Anna Weber"
    assert "turnover: 1200.5\n" in document.text


@pytest.mark.parametrize("batch_rows", [1, 2, 7, 60, 500])
def test_pages_of_any_size_give_every_row_once_in_the_order_of_the_keys(path, batch_rows):
    source = source_of(path, tables=("line",), batch_rows=batch_rows)
    rows = rows_of(source)
    assert [row["columns"]["item"] for row in rows.values()] == [f"item {n}" for n in range(60)]


def test_bytes_of_a_row_are_the_same_each_time_and_read_twice(path):
    item = next(i for i in source_of(path).items() if i.id == "shop/line/2,1")
    again = next(i for i in source_of(path, batch_rows=3).items() if i.id == "shop/line/2,1")
    assert item.read() == item.read() == again.read()


def test_a_page_is_fetched_only_when_one_of_its_rows_is_read(path):
    asked = []

    class Listening(Database):
        def rows(self, statement):
            asked.append(str(statement))
            return super().rows(statement)

    source = source_of(path, database=Listening(f"sqlite:///{path}"), tables=("line",), batch_rows=20)
    items = [i for i in source.items() if i.name == "row.record"]
    assert sum("item" in statement for statement in asked) == 0
    for item in items[:20]:
        item.read()
    assert sum("item" in statement for statement in asked) == 1


def test_the_change_column_is_the_stamp(path):
    def stamps():
        return {i.id: i.stamp for i in source_of(path, updated_at="changed").items()}

    before = stamps()
    assert before["shop/customer/1"] == ""
    change(path, "UPDATE line SET item = 'new', changed = '2024-09-09 09:09:09' WHERE order_id = 1 AND pos = 1")
    change(path, "DELETE FROM line WHERE order_id = 2 AND pos = 2; UPDATE line SET item = 'unnoticed' WHERE pos = 3")
    after = stamps()
    assert before.keys() - after.keys() == {"shop/line/2,2"}
    assert [key for key in after if after[key] != before[key]] == ["shop/line/1,1"]
    change(path, "ALTER TABLE line ADD COLUMN more TEXT")
    assert stamps()["shop/line/1,1"] != after["shop/line/1,1"]
    item = next(i for i in source_of(path, updated_at="changed").items() if i.id == "shop/line/1,1")
    assert item.modified_at == 1725872949.0


def test_a_labels_column_labels_the_rows_and_changes_the_stamp(path):
    items = {i.id: i for i in source_of(path, tables=("line",), updated_at="changed", labels_column="who").items()}
    assert items["shop/line/0,1"].labels == ("a", "b") and items["shop/line/0,0"].labels == ()
    assert items["shop/line/0,1"].stamp.endswith(" a b")


def test_a_table_without_a_key_names_its_rows_by_content_with_a_warning(path):
    source = source_of(path, tables=("log",))
    rows = rows_of(source)
    assert sorted(row["columns"]["message"] for row in rows.values()) == ["started", "stopped"]
    assert "log has no primary key" in source.warnings[0]
    assert {i.id: i.stamp for i in source_of(path, tables=("log",)).items() if i.stamp} == {
        key: key.rpartition("/")[2] for key in rows
    }


def test_key_columns_can_be_named_and_must_be_unique(path):
    source = source_of(path, tables=("vips",), key=("id",))
    assert list(rows_of(source)) == ["shop/vips/1"] and not source.warnings
    with pytest.raises(UsageError, match=r"log: more than one row has at = 2024-05-01"):
        list(source_of(path, tables=("log",), key=("at",)).items())
    change(path, "INSERT INTO log VALUES (NULL, 'x')")
    source = source_of(path, tables=("log",), key=("at", "message"))
    with pytest.raises(UsageError, match="at, message = 2024-05-01,started"):
        list(source.items())


def test_rows_without_a_key_are_counted(path):
    change(
        path, "CREATE TABLE t (k TEXT PRIMARY KEY, v TEXT); INSERT INTO t VALUES (NULL, 'a'), (NULL, 'b'), ('c', 'd')"
    )
    source = source_of(path, tables=("t",))
    assert list(rows_of(source)) == ["shop/t/c"]
    assert "t: 2 rows have no value in k" in source.warnings[0]


# ---- one query


QUERY = "SELECT c.id AS id, c.name, count(*) AS n, ':x 100%' AS odd FROM customer c JOIN line l ON l.order_id = c.id GROUP BY c.id;"


def test_the_rows_of_a_query_are_items(path):
    source = source_of(path, "crm/", query=QUERY, key=("id",), batch_rows=1)
    rows = rows_of(source)
    assert [(key, row["columns"]) for key, row in rows.items()] == [
        ("crm/shop/query/1", {"id": 1, "name": "Anna Weber", "n": 7, "odd": ":x 100%"}),
        ("crm/shop/query/2", {"id": 2, "name": "Björn/Öst", "n": 7, "odd": ":x 100%"}),
    ]
    assert source.complete


def test_a_query_and_the_tables_do_not_cover_each_other(path):
    query, tables, some = source_of(path, "crm/", query=QUERY), source_of(path), source_of(path, tables=("line",))
    other = source_of(path, "other/", query=QUERY)
    (row, *_) = [i.source for i in query.items() if i.name == "row.record"]
    assert query.covers(row) and not tables.covers(row) and not other.covers(row)
    assert tables.covers(f"sqlite:///{path}/line/1") and not query.covers(f"sqlite:///{path}/line/1")
    assert some.covers(f"sqlite:///{path}/line/1") and some.covers(f"sqlite:///{path}/line")
    assert not some.covers(f"sqlite:///{path}/line_archive/1") and not some.covers(f"sqlite:///{path}/log/1")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tables": ("nothing",)}, "no table nothing"),
        ({"tables": ("line",), "key": ("nothing",)}, "line has no columns nothing"),
        ({"tables": ("line",), "query": "SELECT 1"}, "exclude each other"),
        ({"query": "DELETE FROM line"}, "takes one SELECT"),
        ({"query": "SELECT 1 AS a", "key": ("b",)}, "gives no column b"),
        ({"updated_at": "nothing"}, "no column 'nothing' in customer, line, log"),
    ],
)
def test_options_that_do_not_fit_are_refused(path, options, message):
    with pytest.raises(UsageError, match=message):
        list(source_of(path, **options).items())


def test_nothing_is_ever_written(path):
    with pytest.raises(DocumentError, match="cannot be read"):
        list(source_of(path, query="SELECT * FROM line; DELETE FROM line").items())
    database = Database(f"sqlite:///{path}")
    with pytest.raises(DocumentError, match="readonly"):
        database.rows(sqlalchemy.text("DELETE FROM line"))
    assert len(rows_of(source_of(path, tables=("line",)))) == 60


# ---- the schema


def schema_of(path, table, **options):
    item = next(i for i in source_of(path, tables=(table,), **options).items() if i.name == "schema.md")
    assert item.id == f"shop/{table}"
    return item.read().decode()


def test_the_schema_page_tells_columns_types_keys_and_typical_values(path):
    page = schema_of(path, "line")
    assert "# Table line\n" in page
    assert "has 60 rows and 5 columns: order_id, pos, item, changed, who." in page
    assert "Its key is order_id, pos." in page
    assert "Its column order_id refers to customer.id." in page
    assert "- item (text): for example item 0, item 1, item 2\n" in page
    assert "- changed (text): from 2024-01-01 10:00:00 to 2024-01-28 10:00:00\n" in page
    assert "- who (text): a, b (30); 30 without a value\n" in page
    assert schema_of(path, "line") == page


def test_the_schema_page_of_odd_values(path):
    page = schema_of(path, "customer")
    assert "- since (date): 2019-03-01 (1), unknown (1)" in page
    assert "- photo (blob): (2 bytes) (1); 1 without a value" in page
    change(path, "CREATE TABLE empty (id INTEGER PRIMARY KEY, x TEXT)")
    assert "has 0 rows" in schema_of(path, "empty") and "- x (text): no values" in schema_of(path, "empty")


def test_the_values_of_a_large_table_are_those_of_its_first_rows_but_ranges_are_whole(path):
    change(path, "CREATE TABLE big (id INTEGER PRIMARY KEY, price REAL)")
    with sqlite3.connect(path) as connection:
        connection.executemany("INSERT INTO big VALUES (?, ?)", ((n, n / 2) for n in range(3000)))
    connection.close()
    page = schema_of(path, "big")
    assert "has 3,000 rows" in page and "first 2,000 rows" in page
    assert "- price (real): from 0.0 to 1499.5\n" in page


# ---- values


def test_values_have_one_form():
    zone = datetime.timezone(datetime.timedelta(hours=2))
    columns = {
        "day": datetime.date(2024, 5, 1),
        "moment": datetime.datetime(2024, 5, 1, 12, 0, tzinfo=zone),
        "local": datetime.datetime(2024, 5, 1, 12, 0, 0, 5),
        "price": decimal.Decimal("1E+3"),
        "exact": decimal.Decimal("12.50"),
        "none": None,
        "nan": float("nan"),
        "id": uuid.UUID(int=1),
        "tags": ["b", "a"],
        "data": {"b": 1, "a": decimal.Decimal("1.5")},
        "long": "x" * 100_000,
    }
    row = json.loads(record_bytes("t", "1", columns))["columns"]
    assert row.pop("long") == "x" * 100_000
    assert row == {
        "day": "2024-05-01",
        "moment": "2024-05-01 10:00:00+00:00",
        "local": "2024-05-01 12:00:00.000005",
        "price": "1000",
        "exact": "12.50",
        "nan": "nan",
        "id": "00000000-0000-0000-0000-000000000001",
        "tags": '["b", "a"]',
        "data": '{"a": "1.5", "b": 1}',
    }


def test_titles_are_those_of_columns_named_so():
    def title(**columns):
        return json.loads(record_bytes("t", "1", columns))["title"]

    assert title(id=1, product_name="Bike", Title=" Mountain\nbike ") == "Mountain bike"
    assert title(id=1, product_name="Bike") == "Bike"
    assert title(id=1, name=None, price=3) == "" == title(name=7)


@given(st.lists(st.one_of(st.text(max_size=8), st.integers(), st.binary(max_size=4)), min_size=2, max_size=2))
def test_keys_as_text_are_one_path_segment_of_one_line(values):
    text = key_text(values)
    assert text and "/" not in text and text not in (".", "..") and len(text.splitlines()) == 1
    assert text.encode()


@given(a=st.tuples(st.text(max_size=5), st.text(max_size=5)), b=st.tuples(st.text(max_size=5), st.text(max_size=5)))
def test_different_keys_have_different_texts(a, b):
    assert (key_text(a) == key_text(b)) == (a == b)


# ---- what goes wrong


def test_a_missing_file_a_file_that_is_no_database_and_an_empty_one_are_refused(tmp_path):
    with pytest.raises(DocumentError, match="there is no database file"):
        source_of(tmp_path / "none.db")
    assert not (tmp_path / "none.db").exists()
    (tmp_path / "text.db").write_text("no database " * 100)
    with pytest.raises(DocumentError, match="not a database"):
        list(source_of(tmp_path / "text.db").items())
    (tmp_path / "empty.db").write_bytes(b"")
    with pytest.raises(DocumentError, match="holds no table"):
        list(source_of(tmp_path / "empty.db").items())
    with pytest.raises(UsageError, match="names no file"):
        open_source("sqlite://", suffixes=frozenset())


@pytest.mark.parametrize("url", ["postgresql://me:s3cret@127.0.0.1:1/db", "mysql://me:s3cret@127.0.0.1:1/db"])
def test_a_server_that_does_not_answer_is_refused_at_once_and_no_password_is_told(url):
    source = open_source(url, suffixes=frozenset())
    assert source.root == url.replace("me:s3cret@", "")
    with pytest.raises(DocumentError) as caught:
        list(source.items())
    shown = str(caught.value) + repr(caught.value.__cause__) + source.root
    assert "s3cret" not in shown and "127.0.0.1" in shown


def test_a_malformed_url_is_refused_without_repeating_it():
    with pytest.raises(UsageError) as caught:
        open_source("postgresql://me:s3cret@host:port/db", suffixes=frozenset())
    assert "s3cret" not in str(caught.value) + repr(caught.value.__cause__)
    with pytest.raises(UsageError, match="names no database"):
        open_source("mysql://host", suffixes=frozenset())


def test_user_and_password_may_stand_in_the_variables_of_the_databases_own_tools(monkeypatch):
    monkeypatch.setenv("PGUSER", "me")
    monkeypatch.setenv("PGPASSWORD", "s3cret")
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(10)
        database = Database(f"postgresql://127.0.0.1:{server.getsockname()[1]}/db")
        asking = threading.Thread(
            target=lambda: pytest.raises(DocumentError, database.rows, sqlalchemy.text("SELECT 1"))
        )
        asking.start()
        client, _ = server.accept()
        with client:
            client.recv(1000)  # whether the server has TLS
            client.sendall(b"N")
            assert b"user\x00me\x00" in client.recv(1000)
            client.sendall(b"R\x00\x00\x00\x08\x00\x00\x00\x03")  # asks for the password in clear text
            assert b"s3cret" in client.recv(1000)
        asking.join()


def test_a_row_that_was_deleted_meanwhile_fails_by_itself(path):
    items = [i for i in source_of(path, tables=("line",)).items() if i.name == "row.record"]
    change(path, "DELETE FROM line WHERE order_id = 0 AND pos = 1")
    assert items[0].read() and items[2].read()
    with pytest.raises(DocumentError, match="the row 0,1 of line was deleted"):
        items[1].read()


class Dropping:
    """Opens SQLite connections of which one breaks every so many statements (more than the look at a table takes)."""

    def __init__(self, path, seed):
        self.path = path
        self.random = random.Random(seed)
        self.down = False
        self.left = 25

    def __call__(self):
        if self.down:
            raise sqlite3.OperationalError("disk I/O error")
        dropping = self

        class Cursor(sqlite3.Cursor):
            def execute(self, *arguments):
                dropping.left -= 1
                if not dropping.left:
                    dropping.left = dropping.random.randint(20, 30)
                    raise sqlite3.OperationalError("disk I/O error")
                return super().execute(*arguments)

        class Connection(sqlite3.Connection):
            def cursor(self, factory=Cursor):
                return super().cursor(factory)

        return sqlite3.connect(self.path, factory=Connection, check_same_thread=False)


@pytest.mark.parametrize("seed", range(5))
def test_dropped_connections_are_taken_up_again_from_the_last_key(path, seed):
    expected = {i.id: i.read() for i in source_of(path).items()}
    connect, waited = Dropping(path, seed), []
    database = Database(f"sqlite:///{path}", connect=connect, sleep=waited.append)
    source = source_of(path, database=database, batch_rows=2)
    assert {i.id: i.read() for i in source.items()} == expected
    assert source.complete
    assert len(waited) > 3


def test_a_connection_that_never_comes_back_ends_the_source_incomplete(path):
    connect, waited = Dropping(path, 0), []
    database = Database(f"sqlite:///{path}", connect=connect, sleep=waited.append, waits_s=(1.0, 2.0, 4.0))
    source = source_of(path, database=database, tables=("line",), batch_rows=3)
    items = source.items()
    first = [next(items) for _ in range(5)]
    connect.down = True
    with pytest.raises(DocumentError, match="the connection was lost"):
        list(items)
    assert waited[-3:] == [1.0, 2.0, 4.0]
    assert len(first) == 5 and not source.complete


def test_a_blank_query_is_refused(path):
    with pytest.raises(UsageError, match="takes one SELECT"):
        list(source_of(path, query=" ; ").items())
