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
