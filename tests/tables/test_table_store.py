"""Tables of ingested documents: read back exactly, held to labels and filters, gone when a document is removed."""

import io
import sqlite3

import pytest
from small_stores import write_files

from doyen import remove_documents
from doyen.config import load_settings
from doyen.errors import TableError
from doyen.index.filtering import Visible
from doyen.ingesting import ingest, open_index
from doyen.sources import SourceOptions
from doyen.tables import QueryLimits, list_tables, query
from doyen.tables.loading import load
from doyen.tables.rows import distinct_names, record_cells

STORES = "both"
CSV = "name;note;amount\nAda;a, b; 12\nBob;;7\nCyd;colour: red;NA\n"


@pytest.fixture
def opened(expert, tmp_path, embedder):
    def open_with(files, **options):
        write_files(tmp_path / "files", files)
        ingest(expert, [tmp_path / "files"], embedder=embedder, **options)
        return open_index(expert, load_settings(expert))

    return open_with


def test_rows_are_read_back_as_they_were(opened):
    index = opened({"people.csv": CSV, "text.md": "# No table\n\nWords."})
    (table,) = list_tables(index)
    assert (table.sql_name, table.document, table.rows) == ("people", "people.csv", 3)
    loaded = load(index, table)
    assert loaded.data.to_pylist() == [
        {"name": "Ada", "note": "a, b", "amount": 12},
        {"name": "Bob", "note": None, "amount": 7},
        {"name": "Cyd", "note": "colour: red", "amount": None},
    ]
    text = index.text("people.csv")[0]
    assert [text[p.start : p.end] for p in loaded.places][1] == "name: Bob; amount: 7"


def test_an_open_index_lists_what_was_ingested_since(opened):
    index = opened({"people.csv": CSV})
    assert [t.sql_name for t in list_tables(index)] == ["people"]
    opened({"prices.csv": "item,price\nrope,3\n"})
    assert [t.sql_name for t in list_tables(index)] == ["people", "prices"]


def test_statements_run_over_the_index(opened):
    index = opened({"people.csv": CSV})
    found = query(index, "SELECT name FROM people WHERE amount > $least ORDER BY 1", {"least": 7})
    assert found.as_dicts() == [{"name": "Ada"}]
    assert [t.document for t in found.tables] == ["people.csv"]
    assert query(index, "SELECT name FROM people", limits=QueryLimits(rows=2)).truncated
    with pytest.raises(TableError, match="names no ingested table"):
        query(index, "SELECT * FROM other")
    with pytest.raises(TableError, match="no column|not found|Binder"):
        query(index, "SELECT colour FROM people")


def test_sheets_and_parquet_are_tables(opened):
    import pyarrow as pa
    import pyarrow.parquet as pq

    sink = io.BytesIO()
    pq.write_table(pa.table({"day": ["2024-01-01", "2024-01-02"], "n": [1, 2]}), sink)
    index = opened({"days.parquet": sink.getvalue(), "other/days.csv": "day,n\n2024-05-01,5\n"})
    names = {t.document: t.sql_name for t in list_tables(index)}
    assert names == {"days.parquet": "days", "other/days.csv": "days_2"}
    assert query(index, "SELECT sum(a.n) + sum(b.n) FROM days a, days_2 b").rows == ((13,),)


def test_a_removed_document_is_no_table_any_more(opened, expert):
    index = opened({"people.csv": CSV, "kept.csv": "a,b\nx,1\n"})
    assert query(index, "SELECT count(*) FROM people").rows == ((3,),)
    remove_documents(expert, ["people.csv"])
    index = open_index(expert, load_settings(expert))
    assert [t.sql_name for t in list_tables(index)] == ["kept"]
    with pytest.raises(TableError):
        query(index, "SELECT count(*) FROM people")


def test_a_changed_document_is_the_new_table(opened, expert, tmp_path, embedder):
    opened({"people.csv": CSV})
    index = opened({"people.csv": CSV + "Dan;;1\n"})
    assert query(index, "SELECT count(*), sum(amount) FROM people").rows == ((4, 20),)


def test_labels_hold_for_tables(opened):
    index = opened({"pay.csv": "name,salary\nAda,900\n"}, options=SourceOptions(labels=("hr",)))
    stranger, hr = Visible(frozenset()), Visible(frozenset(("hr",)))
    assert list_tables(index, where=stranger) == []
    with pytest.raises(TableError):
        query(index, "SELECT * FROM pay", where=stranger)
    assert query(index, "SELECT salary FROM pay", where=hr).rows == ((900,),)
    assert list_tables(index, where="true") == []  # a condition on passages says nothing of documents


def test_filters_hold_for_tables(opened):
    index = opened({"a/one.csv": "x,y\n1,p\n", "b/two.csv": "x,y\n2,q\n"})
    where = index.filter_condition(["folder=a"])
    assert [t.sql_name for t in list_tables(index, where=where)] == ["one"]


def test_rows_of_a_database_are_a_table_held_to_each_rows_labels(expert, tmp_path, embedder):
    pytest.importorskip("sqlalchemy")
    with sqlite3.connect(tmp_path / "shop.db") as database:
        database.execute("CREATE TABLE orders (id INTEGER PRIMARY KEY, customer TEXT, total REAL, who TEXT)")
        rows = [(1, "Ada", 10.5, ""), (2, "Bob: b\ntotal: 9", 20.0, "hr"), (3, "C" * 300, None, "")]
        database.executemany("INSERT INTO orders VALUES (?, ?, ?, ?)", rows)
    database.close()
    ingest(expert, [f"sqlite:///{tmp_path}/shop.db"], embedder=embedder, options=SourceOptions(labels_column="who"))
    index = open_index(expert, load_settings(expert))
    (table,) = list_tables(index)
    assert (table.sql_name, table.rows) == ("orders", 3)
    assert query(index, "SELECT id, total, length(customer) FROM orders ORDER BY id").rows == (
        (1, 10.5, 3),
        (2, 20.0, 15),
        (3, None, 300),
    )
    assert query(index, "SELECT sum(total) FROM orders", where=Visible(frozenset())).rows == ((10.5,),)


def test_names_differ_without_regard_to_case():
    assert distinct_names(["a", "A", "", "a"]) == ("a", "A_2", "column", "a_3")


def test_a_records_text_is_parted_by_its_columns():
    assert record_cells("a: x\nb: 1\nb: 2\nc: z", ("a", "b", "c")) == ["x", "1\nb: 2", "z"]
    assert record_cells("a: x", ("a", "b")) == [None, None]
