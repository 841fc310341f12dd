"""Conversations: each its owner's, in order, and gone with the documents that they speak of; follow-ups."""

import pytest

from doyen.errors import StoreError, UsageError
from doyen.records import Answer, Chunk, Citation, Hit
from doyen.serving.follow_ups import rewritten_by_model, rewritten_by_words, trimmed
from doyen.serving.sessions import MOST_TURNS, Sessions, Turn


def answer(text="27 days", document="leave.md"):
    citation = Citation(document, None, None, 0, 7, "27 days")
    return Answer(text, True, "rag", (citation,), (Hit(Chunk("shown.txt", 0, 1, "x"), 1.0),))


@pytest.fixture
def sessions(expert):
    return Sessions(expert)


def test_turns_come_back_in_order_and_to_their_owner_only(sessions):
    one, two = sessions.begin("ada"), sessions.begin("bob")
    sessions.add(one, "ada", "How many days?", "How many days?", answer())
    sessions.add(one, "ada", "And shore staff?", "And shore staff? (days)", answer("26 days"))
    assert sessions.turns(one, "ada") == [
        Turn("How many days?", "27 days", "How many days?"),
        Turn("And shore staff?", "26 days", "And shore staff? (days)"),
    ]
    assert sessions.turns(one, "ada", last=1)[0].question == "And shore staff?"
    for read in (sessions.turns, sessions.show, sessions.delete):
        with pytest.raises(UsageError, match="no session"):
            read(one, "bob")
    with pytest.raises(UsageError):
        sessions.add(one, "bob", "x", "x", answer())
    assert [(s["id"], s["turns"], s["question"]) for s in sessions.of("ada")] == [(one, 2, "How many days?")]
    assert sessions.of("bob")[0]["id"] == two
    sessions.delete(one, "ada")
    assert sessions.of("ada") == []


def test_what_a_document_was_shown_in_is_erased_from_the_file(sessions, expert):
    one = sessions.begin("ada")
    sessions.add(one, "ada", "Zebra?", "", answer("quagga-secret", "zebra.md"))
    sessions.add(one, "ada", "Leave?", "", answer())
    assert sessions.forget(["zebra.md"]) == 1
    assert [t.question for t in sessions.turns(one, "ada")] == ["Leave?"]
    assert b"quagga-secret" not in (expert / "serving" / "sessions.db").read_bytes()
    assert sessions.forget(["shown.txt"]) == 1  # shown to the model, though not cited


def test_removing_a_document_erases_what_was_said_of_it(expert):
    import doyen

    sessions = Sessions(expert)
    one = sessions.begin("ada")
    sessions.add(one, "ada", "Leave?", "", answer("27-secret"))
    doyen.remove_documents(expert, ["leave.md"])
    assert sessions.turns(one, "ada") == []


def test_the_oldest_turns_go(sessions):
    one = sessions.begin("ada")
    for n in range(MOST_TURNS + 3):
        sessions.add(one, "ada", f"q{n}", "", answer())
    kept = sessions.turns(one, "ada")
    assert len(kept) == MOST_TURNS and kept[0].question == "q3"


def test_a_broken_file_is_said_so(sessions, expert):
    (expert / "serving").mkdir()
    (expert / "serving" / "sessions.db").write_bytes(b"no database" * 200)
    with pytest.raises(StoreError, match="cannot be kept"):
        sessions.begin("ada")


def test_a_folder_that_cannot_be_made_is_said_so(sessions, expert):
    (expert / "serving").write_bytes(b"a file")
    with pytest.raises(StoreError, match="cannot be kept") as caught:
        sessions.begin("ada")
    assert "disk space" in caught.value.hint


# ---- follow-ups

LEAVE = [Turn("How many days of annual leave do deck crew receive?", "31 days")]


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ("And shore staff?", "And shore staff? (days annual leave deck crew receive)"),
        ("Who approves it?", "Who approves it? (days annual leave deck crew receive)"),
        ("What about study leave?", "What about study leave? (days annual deck crew receive)"),
        ("Und wie lange?", "Und wie lange? (days annual leave deck crew receive)"),
        ("When does the Orrel lock open?", "When does the Orrel lock open?"),
        ("Which pier is the Marlpit moored at?", "Which pier is the Marlpit moored at?"),
    ],
)
def test_a_follow_up_gets_the_words_of_the_question_before(question, expected):
    assert rewritten_by_words(question, LEAVE) == expected
    assert rewritten_by_words(question, []) == question


class Writes:
    """An engine that writes one text, and counts a token a word."""

    def __init__(self, text):
        self.text, self.prompts = text, []

    def count_tokens(self, messages):
        return sum(len(m["content"].split()) for m in messages)

    def generate(self, prompts, **options):
        from doyen.models.engine import Completion

        self.prompts += prompts
        return [Completion(self.text, 1, 1, 0.0) for _ in prompts]


def test_a_model_rewrites_with_as_much_history_as_fits():
    history = [Turn(f"long question number {n} " + "word " * 10, "an answer") for n in range(10)]
    engine = Writes('Question: "How much leave do shore staff receive?"\nAnd more.')
    assert rewritten_by_model("And shore staff?", history, engine, 40) == "How much leave do shore staff receive?"
    said = engine.prompts[0][1]["content"]
    assert "number 9" in said and "number 8" in said and "number 7" not in said
    assert [t.question for t in trimmed(history, engine, 40)] == [t.question for t in history[-2:]]


@pytest.mark.parametrize("text", ["", "word " * 500])
def test_what_is_no_question_is_not_taken(text):
    assert rewritten_by_model("And shore staff?", LEAVE, Writes(text), 100) == "And shore staff?"
    assert rewritten_by_model("And shore staff?", LEAVE, Writes("x"), 3) == "And shore staff?"  # no history fits
