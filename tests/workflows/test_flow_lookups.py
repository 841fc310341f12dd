import csv

import pytest
from flow_engine import Scripted
from small_stores import make_expert, words_bert, write_files

pytest.importorskip("duckdb")

from doyen.config import EmbedderSettings, Settings
from doyen.erasing import remove_documents
from doyen.errors import TableError, UsageError, WorkflowError
from doyen.ingesting import ingest
from doyen.tables.limits import QueryLimits
from doyen.workflows.lookup import table_of_file, tables_for
from doyen.workflows.opening import open_setup
from doyen.workflows.reading import load_workflow
from doyen.workflows.reviewing import ReviewQueue
from doyen.workflows.running import run_workflow

POLICIES = "number,code,insured_sum,since\nHP-1,007,5000,2026-01-02\nHP-2,010,200.5,2025-12-31\n"
LOOKUP = """
[tables]
policies = "policies.csv"
[steps.policy]
do = "lookup"
sql = "SELECT insured_sum, code FROM policies WHERE number = $number"
with = { number = "claim" }
[steps.final]
do = "decide"
rules = [{ when = "policy.insured_sum == null", then = "unknown" }, { when = "policy.insured_sum > 1000", then = "large" }]
otherwise = "small"
"""


@pytest.fixture
def tables(tmp_path):
    (tmp_path / "policies.csv").write_text(POLICIES)
    found = tables_for([], {"policies": tmp_path / "policies.csv"}, None)
    yield found
    found.close()


def test_types_of_columns(tables):
    kinds = tables.columns("SELECT * FROM policies", ())
    assert {name: kind.name for name, kind in kinds.items()} == {
        "number": "text",
        "code": "text",
        "insured_sum": "number",
        "since": "text",
    }
    assert tables.rows("SELECT * FROM policies WHERE code = $c", {"c": "007"}, 5)[0]["insured_sum"] == 5000


def test_a_run_does_not_go_on_over_other_tables(flow_file, expert, claims, engine, tmp_path):
    write_files(tmp_path / "flow", {"policies.csv": POLICIES})
    flow, out = flow_file(more=LOOKUP_AFTER_FILE), tmp_path / "out.csv"

    def run(**more):
        return run_workflow(expert, flow, claims(["HP-1,water 3,1"]), out, engine=engine, **more)

    run()
    assert run().ran == 0
    write_files(tmp_path / "flow", {"policies.csv": POLICIES.replace("5000", "50")})
    with pytest.raises(UsageError, match="the trail of another run: other tables"):
        run()
    assert run(again=True).ran == 1


def test_values_are_bound_not_written_into_the_statement(tables):
    evil = "x' OR '1'='1"
    assert tables.rows("SELECT * FROM policies WHERE number = $n", {"n": evil}, 5) == []


@pytest.mark.parametrize(
    "sql",
    [
        "DROP TABLE policies",
        "SELECT 1; DROP TABLE policies",
        "INSERT INTO policies VALUES ('a','b',1,'c')",
        "COPY policies TO '/tmp/flow_stolen.csv'",
        "SELECT * FROM read_csv('/etc/passwd')",
        "SELECT * FROM '/etc/passwd'",
        "SELECT * FROM read_text('/etc/passwd')",
        "ATTACH '/tmp/flow_x.db'",
        "INSTALL httpfs",
        "SET enable_external_access = true",
        "PRAGMA version",
        "SELECT * FROM nothing",
        "SELECT 1) ; DROP TABLE policies; SELECT (1",
    ],
)
def test_what_is_no_lookup(tables, sql):
    with pytest.raises(TableError):
        tables.rows(sql, {}, 5)
    with pytest.raises(TableError):
        tables.columns(sql, ())
    assert len(tables.rows("SELECT * FROM policies", {}, 5)) == 2


def test_a_lookup_that_never_ends_is_stopped(tables):
    tables._sandbox._limits = QueryLimits(seconds=0.3)
    endless = " CROSS JOIN ".join(f"policies AS p{n}" for n in range(36))  # more of them take more memory than time
    with pytest.raises(TableError, match="took longer than"):
        tables.rows(f"SELECT count(*) AS n FROM {endless}", {}, 1)


def test_files_that_are_no_tables(tmp_path):
    (tmp_path / "a.parquet").write_text("no")
    (tmp_path / "a.csv").write_text("a,a\n1,2\n")
    for name in ("a.parquet", "a.csv", "none.csv"):
        with pytest.raises(UsageError, match="cannot be read"):
            table_of_file("a", tmp_path / name)


def test_ingested_tables(flow_file, tmp_path, claims, engine):
    settings = Settings(
        embedder=EmbedderSettings(name=str(words_bert(tmp_path / "embedder", ["policies number code"])))
    )
    expert = make_expert(tmp_path / "with_tables", settings)
    documents = write_files(tmp_path / "documents", {"policies.csv": POLICIES})
    assert not ingest(expert, [documents]).failed
    flow = load_workflow(flow_file(more=LOOKUP_AFTER_FILE.replace('[tables]\npolicies = "policies.csv"\n', "")))
    out = tmp_path / "out.csv"
    run_workflow(expert, flow, claims(["HP-1,water 3,1", "HP-2,water 3,1"]), out, engine=engine)
    with out.open() as file:
        assert [r["flow_decision"] for r in csv.DictReader(file)] == ["large", "small"]


def test_what_looked_up_a_documents_table_goes_with_it(flow_file, tmp_path, claims, engine):
    embedder = EmbedderSettings(name=str(words_bert(tmp_path / "embedder", ["policies number code"])))
    expert = make_expert(tmp_path / "with_tables", Settings(embedder=embedder))
    assert not ingest(expert, [write_files(tmp_path / "documents", {"policies.csv": POLICIES})]).failed
    more = LOOKUP.replace('[tables]\npolicies = "policies.csv"\n', "") + '[steps.person]\ndo = "review"\n'
    run_workflow(expert, flow_file(more=more), claims(["HP-1,water 3,1"]), tmp_path / "out.csv", engine=engine)
    (row,) = ReviewQueue(expert).rows()
    assert row.outcome["policy"]["insured_sum"] == 5000 and row.documents == ("policies.csv",)
    remove_documents(expert, ["policies.csv"])
    assert not ReviewQueue(expert).rows()


def test_rows_are_looked_up(flow_file, expert, claims, engine, tmp_path):
    path = flow_file(more=LOOKUP_AFTER_FILE)
    (path.parent / "policies.csv").write_text(POLICIES)
    out = tmp_path / "out.csv"
    run_workflow(expert, path, claims(["HP-1,water 3,1", "HP-2,water 3,1", "HP-9,water 3,1"]), out, engine=engine)
    with out.open() as file:
        rows = list(csv.DictReader(file))
    assert [r["flow_decision"] for r in rows] == ["large", "small", "unknown"]
    assert [r["policy.code"] for r in rows] == ["007", "010", ""]


LOOKUP_AFTER_FILE = (
    LOOKUP.replace('[tables]\npolicies = "policies.csv"\n', "") + '[tables]\npolicies = "policies.csv"\n'
)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("insured_sum, code", "insured_sun", "[steps.policy] sql: "),
        ("FROM policies", "FROM polices", "did you mean 'policies'?"),
        (
            "policy.insured_sum > 1000",
            "policy.insured > 1000",
            "'policy' has no field 'insured'; did you mean 'insured_sum'?",
        ),
        ("policy.insured_sum > 1000", "policy.code > 1000", "compares a text with a number"),
        ("$number", "$nummer", "[steps.policy] sql"),
    ],
)
def test_wrong_lookups_are_told_before_anything_runs(flow_file, expert, old, new, said):
    assert old in LOOKUP_AFTER_FILE
    path = flow_file(more=LOOKUP_AFTER_FILE.replace(old, new))
    (path.parent / "policies.csv").write_text(POLICIES)
    with pytest.raises(WorkflowError) as error:
        open_setup(expert, load_workflow(path), engine=Scripted())
    assert said in str(error.value)
