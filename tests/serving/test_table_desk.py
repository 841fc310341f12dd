"""Questions over a table that a server answers: calculated, with the statement and the rows; held to labels and filters."""

import json

import pytest
from small_stores import write_files

from doyen.ingesting import ingest
from doyen.serving.keys import add_key
from doyen.sources import SourceOptions

pytest.importorskip("duckdb")
QUESTION = "How many claims were refused?"
CLAIMS = "claim,status,paid\n" + "".join(
    f"C-{n},{'refused' if n % 4 == 0 else 'paid'},{n * 10}\n" for n in range(1, 41)
)


@pytest.fixture
def desk(expert, serve, tmp_path):
    write_files(tmp_path / "tables", {"claims.csv": CLAIMS})
    assert not ingest(expert, [tmp_path / "tables"]).failed
    return serve(expert)


def test_an_answer_has_the_statement_and_the_rows(desk):
    row = desk.ask(QUESTION, passages=True).json()
    assert (row["answer"], row["answered"]) == ("10 (number of rows where status is refused)", True)
    first = row["citations"][0]
    assert (first["document"], first["row_count"], first["rows"][:2]) == ("claims.csv", 10, ["4", "8"])
    assert "\"status\" = 'refused'" in first["sql"]
    assert first["quote"] == "claim: C-4; status: refused; paid: 40"


def test_a_stream_and_the_openai_route_give_the_same_text(desk):
    lines = desk.ask(QUESTION, stream=True).text.splitlines()
    events = [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: {")]
    assert "".join(e["text"] for e in events if set(e) == {"text"}).startswith("10 ")
    body = {"model": "rag", "messages": [{"role": "user", "content": QUESTION}]}
    chat = desk.client.post("/v1/chat/completions", json=body).json()
    assert chat["choices"][0]["message"]["content"].startswith("10 (number of rows")


def test_a_filter_that_leaves_the_table_out_gives_no_number_of_it(desk):
    row = desk.ask(QUESTION, filters=["type=md"]).json()
    assert not any("sql" in citation for citation in row["citations"])


def test_a_table_with_a_label_is_counted_by_those_who_may_see_it(expert, serve, tmp_path):
    write_files(tmp_path / "tables", {"claims.csv": CLAIMS})
    assert not ingest(expert, [tmp_path / "tables"], options=SourceOptions(labels=("board",))).failed
    keys = [add_key(expert, name, role="editor", labels=(name,))[1] for name in ("board", "staff")]
    served = serve(expert)
    sent = [served.client.post("/api/ask", json={"question": QUESTION}, headers=_bearer(k)).json() for k in keys]
    assert sent[0]["answer"].startswith("10 ")
    assert not any("sql" in citation for citation in sent[1]["citations"])


def _bearer(key):
    return {"authorization": f"Bearer {key}"}
