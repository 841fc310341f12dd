"""Expert.ask over an index with tables: calculated answers with citations, and all else left to the passages."""

import pytest
from small_stores import HashEmbedder, write_files

from doyen.config import Settings, load_settings
from doyen.expert import Expert
from doyen.index.filtering import Visible
from doyen.ingesting import ingest, open_index
from doyen.models.engine import Completion
from doyen.retrieval.hybrid import Retriever
from doyen.tables.writing import sql_pattern, statement_in

CLAIMS = "claim,status,region,paid\n" + "".join(
    f"C-{n:03d},{'refused' if n % 4 == 0 else 'paid'},{'North' if n % 2 else 'South'},{n * 10}\n" for n in range(1, 41)
)
TEXT = "# Refunds\n\nA refund is sent within nine days of the return.\n"


class SayingEngine:
    """An engine that says prepared texts, one a call, and keeps what it was asked."""

    kind, name, context_tokens = "server", "saying", 8192

    def __init__(self, *texts):
        self.texts, self.asked = list(texts), []

    def generate(self, prompts, **_):
        self.asked += prompts
        return [Completion(self.texts.pop(0) if self.texts else "nine days [1]", 0.0, 1, 1) for _ in prompts]

    def count_tokens(self, messages):
        return 10


@pytest.fixture
def opened(expert, tmp_path):
    write_files(tmp_path / "files", {"claims.csv": CLAIMS, "refunds.md": TEXT})
    ingest(expert, [tmp_path / "files"], embedder=HashEmbedder())
    settings = load_settings(expert)
    index = open_index(expert, settings)

    def open_with(*texts, where=None, settings=settings):
        retriever = Retriever(index, HashEmbedder(), settings.retrieval)
        return Expert(SayingEngine(*texts), retriever=retriever, settings=settings, where=where)

    open_with.index = index
    return open_with


def test_a_count_is_calculated_and_cites_its_rows(opened):
    expert = opened()
    answer = expert.ask("How many claims were refused?")
    assert answer.answered
    assert answer.text.startswith("10 ")
    assert not expert.engine.asked
    first = answer.citations[0]
    assert first.document == "claims.csv"
    assert first.row_count == 10
    assert first.rows[:2] == ("4", "8")
    assert "count(*)" in first.sql
    text = opened.index.text("claims.csv")[0]
    assert all(text[c.start : c.end] == c.quote and len(c.quote) <= 300 for c in answer.citations)
    row = answer.as_dict()["citations"][0]
    assert row["sql"] == first.sql
    assert row["row_count"] == 10


def test_other_questions_go_to_the_passages(opened):
    expert = opened("nine days [1]")
    answer = expert.ask("Within how many days is a refund sent?")
    assert len(expert.engine.asked) == 1
    assert answer.citations[0].document == "refunds.md"
    assert "sql" not in answer.as_dict()["citations"][0]


def test_questions_of_both_kinds_in_one_batch_keep_their_order(opened):
    expert = opened("nine days [1]")
    texts = [
        a.text for a in expert.ask_many(["Within how many days is a refund sent?", "How many claims were refused?"])
    ]
    assert texts[0].startswith("nine days")
    assert texts[1].startswith("10 ")


def test_it_can_be_switched_off(opened):
    settings = Settings()
    off = Settings(answer=type(settings.answer)(tables=False))
    expert = opened("ten [1]", settings=off)
    expert.ask("How many claims were refused?")
    assert expert.engine.asked


def test_who_may_not_see_the_document_gets_no_number_of_it(opened):
    hidden = Visible(frozenset(), opened.index.filter_condition(["type=md"]))
    answer = opened("unknown", where=hidden).ask("How many claims were refused?")
    assert not any(c.sql for c in answer.citations)


def test_an_able_model_writes_what_templates_do_not_know_and_repairs_it_once(opened):
    question = 'For the "paid" column, what is the mean of the five largest rows of the table claims by region North?'
    good = "SELECT avg(paid) FROM (SELECT paid FROM claims WHERE region = 'North' ORDER BY paid DESC LIMIT 5)"
    expert = opened("SELECT avg(pid) FROM claims", f"```sql\n{good};\n```")
    answer = expert.ask(question)
    assert "350" in answer.text
    assert answer.citations[0].sql == good
    assert "fails" in expert.engine.asked[1][-1]["content"]


def test_a_model_that_attacks_is_refused_and_the_passages_answer(opened):
    question = (
        'What is the geometric mean of the "paid" column of the table claims, leaving out refused rows twice over?'
    )
    expert = opened("COPY claims TO '/tmp/x'", "DROP TABLE claims", "unknown")
    answer = expert.ask(question)
    assert not any(c.sql and ("COPY" in c.sql or "DROP" in c.sql) for c in answer.citations)


def test_statements_are_taken_out_of_what_a_model_says():
    assert statement_in("```sql\nSELECT 1;\n```") == "SELECT 1"
    assert statement_in("NONE") is None
    assert statement_in("I cannot DROP TABLE") is None


def test_the_grammar_of_a_table_is_one_that_answers_can_be_held_to(opened):
    import re

    from doyen.models.constraints import Regex, require_possible
    from doyen.tables import list_tables
    from doyen.tables.loading import load

    pattern = sql_pattern(load(opened.index, list_tables(opened.index)[0]))
    require_possible(Regex(pattern))
    assert re.fullmatch(
        pattern, 'SELECT "region", avg("paid") FROM "claims" WHERE "status" = \'paid\' GROUP BY "region"'
    )
    assert not re.fullmatch(pattern, 'SELECT "salary" FROM "claims"')
    assert not re.fullmatch(pattern, 'SELECT "paid" FROM "other"')
