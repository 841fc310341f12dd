"""The teacher: a local server that speaks OpenAI's chat protocol, its faults, and what of its facts is believed."""

import json

import pytest
from api_server import ApiServer

from doyen.config import TeacherSettings
from doyen.errors import ConfigError, EndpointError
from doyen.examples.generating.facts import is_verbatim
from doyen.examples.generating.teacher import TeacherGenerator, checked_fact, open_teacher
from doyen.models.endpoint import Endpoint
from doyen.records import Chunk

TEXT = (
    "The Tamsin crane lifts 12 tonnes and stands at berth 4. The Orrel lock opens at 06:30 in the morning and closes late. "
    "Bicycles are not allowed on the quay."
)
CHUNK = Chunk("harbour.md", 100, 100 + len(TEXT), TEXT, context="Harbour", sha256="a" * 64, language="en")
GOOD = {
    "questions": ["How much does the Tamsin crane lift?", "What load can the Tamsin crane take?"],
    "answer": "12 tonnes",
    "evidence": "The Tamsin crane lifts 12 tonnes and stands at berth 4.",
}
VERDICT = {
    "questions": ["May I cycle on the quay?"],
    "answer": "No.",
    "evidence": "Bicycles are not allowed on the quay.",
}
INVENTED = {"questions": ["Who built the quay?"], "answer": "Ada", "evidence": "The quay was built by Ada."}
UNHELD = {
    "questions": ["When does the lock open?"],
    "answer": "07:00",
    "evidence": "The Orrel lock opens at 06:30 in the morning",
}


class TeacherServer(ApiServer):
    """Answers chats with `facts` as JSON in a code fence."""

    facts = (GOOD, VERDICT, INVENTED, UNHELD)

    def rerank(self, body):
        text = "```json\n" + json.dumps({"facts": self.facts}, ensure_ascii=False) + "\n```"
        return {"choices": [{"message": {"role": "assistant", "content": text}}], "usage": {"total_tokens": 9}}


@pytest.fixture
def server():
    made = TeacherServer()
    yield made
    made.close()


@pytest.fixture
def teacher(server, monkeypatch):
    monkeypatch.setenv("TEACHER_KEY", server.key)
    settings = TeacherSettings(
        model="large-1", url=server.url, key_variable="TEACHER_KEY", input_price=1.0, output_price=4.0
    )
    endpoint = Endpoint("openai", url=server.url, key_variable="TEACHER_KEY", first_pause_s=0.01, attempts=4)
    return TeacherGenerator(endpoint, settings)


def test_facts_with_verbatim_evidence_are_kept_and_others_counted(server, teacher):
    facts = teacher.generate([CHUNK])
    assert [(f.answer, f.kind, f.rule) for f in facts] == [
        ("12 tonnes", "number", "teacher"),
        ("no", "yesno", "teacher"),
    ]
    document = " " * 100 + TEXT
    assert all(is_verbatim(fact, document) for fact in facts)
    assert facts[0].questions == tuple(GOOD["questions"])
    assert teacher.refused == {"teacher: evidence not verbatim": 1, "teacher: answer not in the evidence": 1}
    (path, body, _) = server.requests[0]
    assert path == "/v1/chat/completions" and body["model"] == "large-1" and body["temperature"] == 0
    assert TEXT in body["messages"][-1]["content"]


def test_it_is_asked_again_after_faults_and_nonsense(server, teacher):
    server.faults = [
        (503, {}, "busy"),
        (429, {"Retry-After": "0"}, "slow down"),
        lambda good: {"choices": [{"message": {"content": "I would rather not."}}]},
    ]
    assert len(teacher.generate([CHUNK])) == 2
    assert len(server.requests) == 4


def test_a_passage_without_facts_gives_none(server, teacher):
    server.facts = ()
    assert teacher.generate([CHUNK]) == []
    assert len(server.requests) == 1


def test_a_teacher_that_never_answers_well_is_given_up(server, teacher):
    server.faults = [lambda good: {"answers": []}] * 4
    with pytest.raises(EndpointError, match="given up after 4 tries"):
        teacher.generate([CHUNK])


def test_the_cost_is_told_before_anything_is_sent(server, teacher):
    cost = teacher.estimate([CHUNK] * 1000)
    assert cost.requests == 1000 and cost.tokens_in > 100_000
    assert cost.dollars == pytest.approx((cost.tokens_in + 4 * cost.tokens_out) / 1e6)
    assert "US$" in str(cost) and "large-1" in str(cost)
    assert server.requests == []


def test_without_a_model_or_a_key_it_says_what_to_set(monkeypatch):
    with pytest.raises(ConfigError, match="no teacher is set") as error:
        open_teacher(TeacherSettings())
    assert "[teacher] model" in error.value.hint
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(EndpointError, match="OPENAI_API_KEY"):
        open_teacher(TeacherSettings(model="large-1"))


@pytest.mark.parametrize(
    "row", [{}, {"questions": 3, "answer": "a", "evidence": "b"}, GOOD | {"answer": 12}, GOOD | {"questions": []}]
)
def test_incomplete_facts_are_not_believed(row):
    assert checked_fact(CHUNK, row) == (None, "teacher: incomplete")
