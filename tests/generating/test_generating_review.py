"""The review file and the whole way: what the machine writes, what a person changes, what a changed document does to both."""

import csv
import json
import shutil

import pytest
from small_stores import HashEmbedder
from typer.testing import CliRunner

import doyen
from doyen.cli import app
from doyen.config import load_settings
from doyen.errors import ExamplesError, UsageError
from doyen.examples.building import load_examples
from doyen.examples.generating.review import read_review, read_table, write_table
from doyen.examples.importing import write_rows
from doyen.examples.reporting import examples_report
from doyen.ingesting import open_index
from doyen.models.engine import Completion
from doyen.prompts import REFUSAL
from doyen.retrieval.hybrid import Retriever

EMBEDDER = HashEmbedder()
DOCUMENTS = {
    "cranes.md": "# Cranes\n\nThe Tamsin crane lifts 12 tonnes and stands at berth 4. The Orla crane was built in 1931. "
    "Ada Mercer designed the Orla crane.\n\n| Crane | Reach | Motor |\n| --- | --- | --- |\n"
    "| Tamsin | 31 metres | electric |\n| Orla | 18 metres | diesel |\n",
    "locks.md": "# Locks\n\nPassing the Orrel lock costs 48 crowns for a barge. The Orrel lock was opened in 1874. "
    "A leeway pass is a permit to sail at night. The Orrel lock has 3 gates.\n",
}
CATS = "# Cats\n\nThe harbour cat Morwen was adopted in 2019. Each cat house has 5 doors. Bettany Krull feeds the harbour cats.\n"


def ingest(expert, files):
    folder = expert.parent / "documents"
    folder.mkdir(exist_ok=True)
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")
    doyen.ingest(expert, [folder], embedder=EMBEDDER)


@pytest.fixture
def expert(tmp_path):
    made = doyen.init(tmp_path / "expert")
    ingest(made, DOCUMENTS)
    return made


def build(expert, **options):
    settings = load_settings(expert)
    retriever = Retriever(open_index(expert, settings), EMBEDDER, settings.retrieval)
    return doyen.build_examples(expert, retriever, **options)


def rows(expert):
    with (expert / "examples" / "review.csv").open(encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file))


def save(expert, table, *, delimiter=",", encoding="utf-8-sig"):
    with (expert / "examples" / "review.csv").open("w", encoding=encoding, newline="") as file:
        writer = csv.DictWriter(file, list(table[0]), delimiter=delimiter)
        writer.writeheader()
        writer.writerows(table)


def by_question(table):
    return {row["question"]: row for row in table}


def test_documents_alone_give_examples_with_evidence(expert):
    made = build(expert)
    assert made.questions == 0 and made.generated == len(rows(expert)) > 10
    index = open_index(expert, load_settings(expert))
    for row in rows(expert):
        text, _ = index.text(row["document"])
        assert row["evidence"] in text
    train, validation = load_examples(expert)
    assert {e.origin for e in [*train, *validation]} == {"generated"}
    for example in [*train, *validation]:
        for span in example.source:
            text, _ = index.text(span.document)
            answer = example.messages[-1]["content"].split(" [")[0]
            assert example.kind == "yesno" or answer in " ".join(text[span.start : span.end].split())


def test_several_phrasings_of_a_fact_and_questions_without_an_answer(expert):
    made = build(expert)
    assert made.generated_facts < made.generated
    absent = [row for row in rows(expert) if row["answerable"] == "no"]
    assert absent and all(row["answer"] == "" and row["made_by"] == "absent" for row in absent)
    whole = " ".join(DOCUMENTS.values())
    asked = {e.question_id: e.messages[-1]["content"] for e in [*load_examples(expert)[0], *load_examples(expert)[1]]}
    assert all(asked.get(row["id"], REFUSAL) == REFUSAL and row["question"] not in whole for row in absent)


def test_building_again_changes_nothing(expert):
    build(expert)
    before = (expert / "examples" / "review.csv").read_bytes()
    again = build(expert)
    assert (expert / "examples" / "review.csv").read_bytes() == before
    assert again.edited == again.not_kept == 0


@pytest.mark.parametrize(
    "cell", ["=HYPERLINK(1)", "+49 30", "- 5 tonnes", "@SUM(A1)", "'=x", "''-x", "'tis", "plain", ""]
)
def test_no_cell_is_a_formula_and_each_is_read_as_it_was(cell, tmp_path):
    path = tmp_path / "t.csv"
    write_table(path, ["question", "note"], [[cell, "x"]])
    raw = list(csv.reader(path.read_text(encoding="utf-8-sig").splitlines()))[1][0]
    assert raw.removeprefix("'") == cell if raw != cell else cell in ("'tis", "plain", "")
    assert not raw.startswith(("=", "+", "-", "@"))
    assert read_table(path, ["question"]) == [(2, {"question": cell, "note": "x"})]


def test_what_a_person_does_stays(expert):
    build(expert)
    table = rows(expert)
    edited, refused, deleted = table[0], table[1], table[2]
    edited["question"] = "Worded by a person?"
    refused["keep"] = "no"
    own = dict.fromkeys(table[0], "") | {
        "question": "Which crane did Ada Mercer draw?",
        "answer": "Orla crane",
        "document": "cranes.md",
    }
    save(expert, [row | {"who": "KL"} for row in [edited, refused, *table[3:], own]])
    made = build(expert)
    after = by_question(rows(expert))
    assert after["Worded by a person?"]["id"] == edited["id"]
    assert after[refused["question"]]["keep"] == "no"
    assert deleted["question"] not in after
    mine = after["Which crane did Ada Mercer draw?"]
    assert mine["evidence"] == "Ada Mercer designed the Orla crane." and mine["id"].startswith("own-")
    assert {row["who"] for row in after.values()} == {"KL"}
    assert (made.not_kept, made.edited) == (1, len(after)), "a column that a person added makes all rows theirs"
    trained = {e.question_id for part in load_examples(expert) for e in part}
    assert mine["id"] in trained and refused["id"] not in trained
    build(expert)
    assert by_question(rows(expert)) == after


def test_new_documents_add_rows_and_changed_ones_take_theirs_out(expert):
    build(expert)
    before = by_question(rows(expert))
    table = rows(expert)
    kept = next(row for row in table if row["document"] == "locks.md" and row["answer"] == "48 crowns")
    kept["question"] = "What does a barge pay at the Orrel lock?"
    save(expert, table)
    ingest(expert, {"cats.md": CATS, "locks.md": DOCUMENTS["locks.md"].replace("48 crowns", "52 crowns")})
    build(expert)
    after = by_question(rows(expert))
    assert any(row["document"] == "cats.md" for row in after.values())
    gone = [row for row in after.values() if row["answer"] == "48 crowns"]
    assert [row["question"] for row in gone] == ["What does a barge pay at the Orrel lock?"], (
        "only the person's row stays"
    )
    assert gone[0]["note"] == "evidence is not in the document"
    assert any(row["answer"] == "52 crowns" for row in after.values())
    unchanged = {q: r for q, r in before.items() if r["document"] == "cranes.md"}
    assert unchanged.items() <= after.items()


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_what_a_spreadsheet_saves_is_read(expert, delimiter):
    build(expert)
    table = rows(expert)
    table[0]["keep"], table[1]["keep"] = "Nein", "X"
    save(expert, table, delimiter=delimiter)
    review = read_review(expert / "examples")
    assert [row.keep for row in review.rows[:2]] == [False, True]
    assert len(review.rows) == len(table)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"keep": "perhaps"}, "line 2: keep 'perhaps' is neither yes nor no"),
        ({"question": ""}, "line 2: no question"),
        ({"answer": ""}, "line 2: no answer"),
        ({"page": "third"}, "line 2: page 'third' is not a number from 1"),
        ({"kind": "essay"}, "line 2: kind 'essay' is unknown"),
    ],
)
def test_a_broken_row_is_named_and_nothing_is_changed(expert, change, words):
    build(expert)
    table = [row for row in rows(expert) if row["answerable"] == "yes"]
    for row in table:
        row["evidence"] = " ".join(row["evidence"].split())
    save(expert, [table[0] | change, *table[1:]])
    before = (expert / "examples" / "review.csv").read_bytes()
    with pytest.raises(ExamplesError, match="broken row") as error:
        build(expert)
    assert words in str(error.value)
    assert (expert / "examples" / "review.csv").read_bytes() == before


def test_a_file_without_header_is_refused(expert):
    build(expert)
    (expert / "examples" / "review.csv").write_text("yes,What?,this,a.md\n")
    with pytest.raises(ExamplesError, match="columns question, answer, document are missing"):
        build(expert)


def test_nothing_of_a_removed_document_is_kept(expert):
    build(expert)
    table = rows(expert)
    save(expert, [row for row in table if row["answer"] != "48 crowns"])
    doyen.remove_documents(expert, ["locks.md"])
    build(expert)
    for name in ("review.csv", "generated.jsonl", "train.jsonl"):
        assert "Orrel" not in (expert / "examples" / name).read_text(encoding="utf-8")


def test_test_questions_are_not_made_again(expert):
    build(expert)
    known = next(row for row in rows(expert) if row["answer"] == "1874")
    shutil.rmtree(expert / "examples")
    held_out = {"id": "t", "question": known["question"], "answers": ["1874"], "split": "test"}
    other = {"id": "o", "question": "Who keeps the keys of the lock?", "answers": ["the keeper"], "split": "train"}
    write_rows(expert / "q.jsonl", [held_out, other])
    doyen.import_file(expert, expert / "q.jsonl")
    build(expert, from_documents=True)
    assert known["question"] not in by_question(rows(expert))


class Speaking:
    """An engine that answers each prompt by a function of its last message."""

    name = "speaking"

    def __init__(self, say):
        self.say = say
        self.asked = 0

    def generate(self, prompts, *, max_tokens, progress=None, **options):
        self.asked += len(prompts)
        return [Completion(self.say(p[-1]["content"]), 1, 1, 0.0) for p in prompts]


def test_what_is_known_without_documents_is_left_out(expert):
    engine = Speaking(lambda text: "1874" if "Orrel lock" in text else "I do not know")
    made = build(expert, check=True, engine=engine)
    assert made.not_generated["answered without the documents"] >= 1
    assert "1874" not in {row["answer"] for row in rows(expert)}


def test_the_model_words_questions_for_chosen_answers(expert):
    def word(text):
        if "\nAnswer: " in text:  # "berth 4": no rule asks for a label
            return (
                "What is the number of the Tamsin berth?" if "Answer: 4\n" in text else "What is the number of cranes?"
            )
        return "4 [1]" if "the Tamsin berth?" in text else "I do not know."

    made = build(expert, generator="model", engine=Speaking(word))
    assert made.made_by.get("model") == 1
    row = by_question(rows(expert))["What is the number of the Tamsin berth?"]
    assert row["answer"] == "4" and "berth 4" in row["evidence"]
    with pytest.raises(UsageError, match="needs an engine"):
        build(expert, generator="model")


def test_nothing_to_ask_is_an_error_with_a_hint(tmp_path):
    expert = doyen.init(tmp_path / "expert")
    ingest(expert, {"list.txt": "a\nb\nc\n"})
    with pytest.raises(ExamplesError, match="no question could be made") as error:
        build(expert)
    assert "doyen examples import" in error.value.hint


def test_the_report_says_whether_to_expect_a_gain(expert):
    build(expert)
    row = examples_report(expert)
    assert row["documents_in_index"] == 2 and row["documents"] == 2
    assert row["expectation"].startswith("Too little to expect a gain:")
    assert row["words"]["questions"]["median"] >= 3
    assert json.dumps(row)


def test_commands(expert, monkeypatch):
    import doyen.expert

    settings = load_settings(expert)
    monkeypatch.setattr(
        doyen.expert, "open_retriever", lambda f, s: Retriever(open_index(f, settings), EMBEDDER, settings.retrieval)
    )
    run = CliRunner().invoke(app, ["examples", "build", "--questions", "30", "--expert", str(expert), "--json"])
    assert run.exit_code == 0, run.output
    assert len(rows(expert)) <= 30
    run = CliRunner().invoke(app, ["examples", "build", "--expert", str(expert)])
    assert "facts of the documents" in run.output and "review.csv" in run.output
    run = CliRunner().invoke(app, ["examples", "report", "--expert", str(expert)])
    assert "Too little to expect a gain" in run.output and "documents: 2 of 2" in run.output
    run = CliRunner().invoke(app, ["examples", "build", "--generator", "oracle", "--expert", str(expert)])
    assert run.exit_code == 1 and "expected one of rules, model, teacher" in str(run.exception)
