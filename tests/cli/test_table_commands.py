"""`doyen tables` and `doyen tables query` over a small index."""

import json

import pytest
from small_stores import HashEmbedder, make_expert, write_files
from typer.testing import CliRunner

from doyen.cli import app
from doyen.config import Settings
from doyen.errors import TableError
from doyen.ingesting import ingest

pytest.importorskip("duckdb")


@pytest.fixture
def folder(tmp_path):
    expert = make_expert(tmp_path / "expert", Settings())
    write_files(tmp_path / "files", {"prices.csv": "item,price\nrope,EUR 12\nanchor,EUR 80\n"})
    ingest(expert, [tmp_path / "files"], embedder=HashEmbedder())
    return str(expert)


def test_tables_are_listed_with_their_columns(folder):
    done = CliRunner().invoke(app, ["tables", "--expert", folder, "--json"])
    (table,) = json.loads(done.stdout)["tables"]
    assert (table["table"], table["rows"]) == ("prices", 2)
    assert table["columns"][1] == {"name": "price", "type": "number", "unit": "EUR", "filled": 2, "values": 2}


def test_statements_print_rows_or_json(folder):
    sql = "SELECT item, price FROM prices ORDER BY price DESC"
    done = CliRunner().invoke(app, ["tables", "query", sql, "--expert", folder])
    assert done.stdout.splitlines() == ["item | price", "anchor | 80", "rope | 12"]
    done = CliRunner().invoke(app, ["tables", "query", sql, "--expert", folder, "--json", "--rows", "1"])
    found = json.loads(done.stdout)
    assert found["rows"] == [["anchor", 80.0]]
    assert found["truncated"]
    assert found["documents"] == ["prices.csv"]


def test_a_statement_that_writes_is_refused(folder):
    done = CliRunner().invoke(app, ["tables", "query", "COPY prices TO 'x'", "--expert", folder])
    assert isinstance(done.exception, TableError)


def test_tables_and_statements_keep_to_a_filter(folder, tmp_path):
    write_files(tmp_path / "more", {"old/stock.csv": "item,left\nrope,3\n"})
    ingest(tmp_path / "expert", [tmp_path / "more"], embedder=HashEmbedder())
    only = ["--filter", "folder=old", "--expert", folder]
    listed = CliRunner().invoke(app, ["tables", *only])
    assert listed.stdout.splitlines() == ["stock  (old/stock.csv, 1 rows)", "  item: text", "  left: integer"]
    found = CliRunner().invoke(app, ["tables", "query", "SELECT * FROM stock", *only])
    assert found.stdout.splitlines() == ["item | left", "rope | 3"]
    hidden = CliRunner().invoke(app, ["tables", "query", "SELECT * FROM prices", *only])
    assert "names no ingested table; there are stock" in str(hidden.exception)


def test_long_results_say_how_many_rows_there_are(tmp_path):
    expert = make_expert(tmp_path / "expert", Settings())
    write_files(tmp_path / "files", {"days.csv": "day,visits\n" + "".join(f"d{n},{n}\n" for n in range(80))})
    ingest(expert, [tmp_path / "files"], embedder=HashEmbedder())
    whole = CliRunner().invoke(app, ["tables", "query", "SELECT day FROM days", "--expert", str(expert)])
    assert len(whole.stdout.splitlines()) == 51
    assert "80 rows; --json shows all" in whole.stderr
    some = CliRunner().invoke(app, ["tables", "query", "SELECT day FROM days", "--rows", "5", "--expert", str(expert)])
    assert len(some.stdout.splitlines()) == 6
    assert "there are more (--rows)" in some.stderr


def test_an_expert_without_tables_says_so(tmp_path):
    expert = make_expert(tmp_path / "expert", Settings())
    write_files(tmp_path / "files", {"text.md": "# Words\n\nNo table.\n"})
    ingest(expert, [tmp_path / "files"], embedder=HashEmbedder())
    assert CliRunner().invoke(app, ["tables", "--expert", str(expert)]).stdout.strip() == "no tables"
    assert json.loads(CliRunner().invoke(app, ["tables", "--expert", str(expert), "--json"]).stdout) == {"tables": []}
