"""Questions generated for comparing: which documents, evidence, balance, silence of the index, marks, and what training skips."""

import csv
import dataclasses
import json
import re
import sys
from collections import Counter

import pytest
from small_stores import HashEmbedder

import doyen
from doyen.cli import main
from doyen.config import load_settings
from doyen.errors import ExamplesError, UsageError
from doyen.examples.building import held_out_questions, known_test_questions, load_examples
from doyen.examples.doubles import Asked
from doyen.examples.generating.facts import Fact
from doyen.examples.held_out.choosing import evenly, own_words, unlike, verdicts_stand
from doyen.examples.held_out.documents import hold_out
from doyen.examples.held_out.making import UNANSWERABLE
from doyen.examples.held_out.marks import read_marks, write_marks
from doyen.examples.held_out.neighbours import Silence, bundled, unanswerable
from doyen.examples.held_out.rows import held_documents, read_made
from doyen.examples.importing import documents_of, read_questions, write_rows
from doyen.ingesting import open_index
from doyen.retrieval.hybrid import Retriever
from doyen.spreadsheets import FORMULA
from doyen.words import holds, telling_words, words

EMBEDDER = HashEmbedder()
NAMES = ("Tamsin", "Orrel", "Marisk", "Boldre", "Quenby", "Hesper", "Lorvan", "Petrel")


def document(i, name):
    return (
        f"# {name}\n\nThe {name} crane lifts {12 + i} tonnes and stands at berth {i + 4}. The {name} lock was opened in {1870 + i}. "
        f"Passing the {name} lock costs {48 + i} crowns for a barge. A {name.lower()} pass is a permit to sail at night near quay {name}. "
        f"The {name} works pays {20 + i} crowns an hour. Ada {name}son designed the {name} bridge.\n"
    )


@pytest.fixture
def expert(tmp_path):
    made = doyen.init(tmp_path / "expert")
    folder = tmp_path / "documents"
    folder.mkdir()
    for i, name in enumerate(NAMES):
        (folder / f"{name.lower()}.md").write_text(document(i, name))
    doyen.ingest(made, [folder], embedder=EMBEDDER)
    return made


def retriever_of(expert):
    settings = load_settings(expert)
    return Retriever(open_index(expert, settings), EMBEDDER, settings.retrieval)


def make(expert, count=20, **options):
    return doyen.make_questions(expert, retriever_of(expert), count, **options)


def table(expert):
    with (expert / "examples" / "questions_review.csv").open(encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file))


def save(path, rows):
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


# ------------------------------------------------------------------ documents
def test_a_quarter_is_held_out_where_nothing_was_trained_and_building_leaves_it_out(expert):
    made = make(expert)
    assert len(made.documents) == 2 and held_documents(expert) == set(made.documents)
    report = doyen.build_examples(expert, retriever_of(expert))
    train, validation = load_examples(expert)
    assert report.train and not {s.document for e in [*train, *validation] for s in e.source} & set(made.documents)
    stays = make(expert)
    assert not stays.fresh and stays.documents == made.documents


def test_imported_training_questions_about_held_out_documents_are_left_out(expert, tmp_path):
    held = make(expert).documents
    rows = [
        {"id": d, "question": f"Which berth in {d}?", "answers": ["4"], "gold": [{"document": d}], "split": "train"}
        for d in (*held, "lorvan.md" if "lorvan.md" not in held else "orrel.md")
    ]
    write_rows(tmp_path / "q.jsonl", rows)
    doyen.import_file(expert, tmp_path / "q.jsonl")
    report = doyen.build_examples(expert, retriever_of(expert))
    assert report.left_out["about a document held out for comparing"] == len(held)


def test_where_all_was_trained_on_it_says_so_or_marks(expert):
    doyen.build_examples(expert, retriever_of(expert))
    with pytest.raises(UsageError, match="all 8 documents were trained on") as error:
        make(expert)
    assert "--hold-out" in error.value.hint and "--seen" in error.value.hint
    made = make(expert, seen=True)
    assert made.seen and held_documents(expert) == frozenset() and any("memory" in w for w in made.warnings)
    assert not make(expert).fresh  # what was allowed once holds for these questions
    again = make(expert, hold_out=0.25)
    assert not again.seen and any("doyen finetune again" in w for w in again.warnings)


def test_near_copies_are_held_out_together(expert, tmp_path):
    (tmp_path / "documents" / "copy.md").write_text(document(0, "Tamsin"))
    doyen.ingest(expert, [tmp_path / "documents"], embedder=EMBEDDER)
    index = open_index(expert, load_settings(expert))
    for seed in range(6):
        chosen = set(hold_out(expert, index, share=0.3, seed=seed).documents)
        assert len(chosen & {"copy.md", "tamsin.md"}) in (0, 2)


def test_one_document_cannot_be_divided(tmp_path):
    expert = doyen.init(tmp_path / "expert")
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "a.md").write_text(document(0, "Tamsin"))
    doyen.ingest(expert, [tmp_path / "one"], embedder=EMBEDDER)
    with pytest.raises(UsageError, match="1 document cannot be divided"):
        make(expert)


# ------------------------------------------------------------------ questions
def test_answers_stand_where_the_gold_says_and_the_same_seed_gives_the_same(expert):
    made = make(expert, hold_out=0.5)
    index = open_index(expert, load_settings(expert))
    asked = [q for q in made.questions if q.answerable]
    assert asked and documents_of(asked) <= set(made.documents)
    for q in asked:
        (gold,) = q.gold
        evidence = index.text(gold.document)[0][gold.start : gold.end]
        assert q.kind == "yesno" or holds(evidence, q.answers[0])
        assert {"generated", "rules"} <= set(q.tags) and q.split == "test"
    first = (expert / "examples" / "generated_questions.jsonl").read_text()
    for name in ("generated_questions.json", "generated_questions.jsonl"):
        (expert / "examples" / name).unlink()
    make(expert, hold_out=0.5)
    assert (expert / "examples" / "generated_questions.jsonl").read_text() == first
    other = make(expert, hold_out=0.5, seed=8)
    assert other.fresh and [q.question for q in other.questions] != [q.question for q in made.questions]
    assert read_questions(expert / "examples" / "generated_questions.jsonl") == other.questions


def test_a_fifth_is_unanswerable_and_the_index_holds_no_answer(expert):
    made = make(expert, 20, hold_out=0.5)
    rows = [row for row in made.rows if not row.answerable]
    assert len(rows) == 4 and all(row.rule == "neighbour" for row in rows)
    passages = retriever_of(expert).index.chunks_of([f"{n.lower()}.md" for n in NAMES])
    for row in rows:
        assert row.asked.gold == () and row.asked.answers == ()
        assert not any(holds(chunk.text, row.evidence) for chunk in passages)


def fact(question, answer, kind="span", document="a.md", evidence="", rule="number"):
    return Fact((question,), answer, kind, document, "s", None, 0, 5, evidence or f"{question} {answer}", rule=rule)


def test_what_the_index_answers_is_no_unanswerable_question(expert):
    retriever = retriever_of(expert)
    passages = retriever.index.chunks_of([f"{n.lower()}.md" for n in NAMES])
    known = fact("How many tonnes does the Tamsin crane lift?", "12 tonnes")
    otherwise = fact("How many crowns does passing the Orrel lock cost for a barge?", "99 crowns")
    strange = fact("How long is the Zwickel viaduct?", "310 metres")
    silent = Silence(passages, retriever).silent([known, otherwise, strange])
    assert [f for f, _ in silent] == [strange]


def test_neighbours_speak_the_documents_languages(expert):
    retriever = retriever_of(expert)
    passages = retriever.index.chunks_of([f"{n.lower()}.md" for n in NAMES])
    german = unanswerable(bundled(), passages, retriever, 6, {"de"})
    assert len(german) == 6 and {f.language for f in german} == {"de"}
    assert len({f.document for f in german}) == 3  # documents take turns
    assert not unanswerable(bundled(), passages, retriever, 0, {"de"})


def test_another_expert_gives_the_neighbours(expert, tmp_path):
    other = doyen.init(tmp_path / "other")
    (tmp_path / "zoo").mkdir()
    (tmp_path / "zoo" / "zoo.md").write_text(
        "# Zoo\n\nThe Wombly zoo keeps 77 gibbons. The Wombly zoo was opened in 1951. A gibbon ticket is a paper for keepers of Wombly.\n"
    )
    doyen.ingest(other, [tmp_path / "zoo"], embedder=EMBEDDER)
    made = make(expert, hold_out=0.5, neighbours=other)
    strange = [row for row in made.rows if row.rule == "neighbour"]
    assert strange and {row.document for row in strange} == {"zoo.md"}


def test_kinds_and_documents_take_turns_and_verdicts_are_even():
    facts = [fact(f"What is item {i} of {d}?", f"x{i}", "span", d) for i in range(20) for d in ("a.md", "b.md", "c.md")]
    facts += [fact(f"How many are {i}?", f"{i}", "number", "a.md") for i in range(4)]
    facts += [fact(f"Is it {i} true?", "yes", "yesno", "b.md", rule="verdict") for i in range(9)]
    facts += [fact("Is it false?", "no", "yesno", "b.md", rule="verdict")]
    chosen = evenly(facts, 16, seed=1)
    counts = Counter(f.answer if f.kind == "yesno" else f.kind for f in chosen)
    assert counts == {"span": 9, "number": 4, "yes": 2, "no": 1}
    documents = Counter(f.document for f in chosen)
    assert max(documents.values()) - min(documents.values()) <= 2
    assert evenly(facts, 16, seed=1) == chosen != evenly(facts, 16, seed=2)
    barred = {f.row_id(f.questions[0]) for f in chosen}
    assert not barred & {f.row_id(f.questions[0]) for f in evenly(facts, 16, seed=1, barred=barred)}


def test_verdicts_must_follow_from_the_figures():
    left_out = Counter()
    right = [
        fact("Is it 5 metres?", "yes", "yesno", evidence="It is 5 metres.", rule="verdict"),
        fact("Is it 6 metres?", "no", "yesno", evidence="It is 5 metres.", rule="verdict"),
    ]
    wrong = [dataclasses.replace(f, answer={"yes": "no", "no": "yes"}[f.answer]) for f in right]
    assert verdicts_stand([*right, *wrong], left_out) == right and left_out.total() == 2


def test_questions_near_to_known_ones_or_to_each_other_are_dropped():
    facts = [
        fact("When was the Orrel lock opened?", "1874"),
        fact("In what year was the Orrel lock opened?", "1874"),
        fact("How deep is the Tamsin dock?", "9 metres"),
    ]
    left_out = Counter()
    kept = unlike(facts, [Asked.made("How deep is the dock Tamsin?", ("9 metres",))], left_out)
    assert kept == facts[:1] and left_out.total() == 2


def test_the_phrasing_with_fewest_of_the_passages_words_is_asked():
    many = dataclasses.replace(
        fact("At what height does the crane stand?", "9 m", evidence="The crane stands at a height of 9 m."),
        questions=("At what height stands the crane?", "How tall may cranes be?"),
    )
    assert own_words(many).questions == ("How tall may cranes be?",)


# ------------------------------------------------------------------ marks
def test_marks_are_read_back_and_stay(expert, tmp_path):
    made = make(expert, hold_out=0.5)
    rows = table(expert)
    assert [row["id"] for row in rows] == [row.id for row in made.rows]
    answerable = [row for row in rows if row["answerable"] == "yes"]
    answerable[0]["mark"] = "ok"
    answerable[1]["question"] = "What, in other words, is it?"
    answerable[2]["mark"] = "rejected"
    marked = doyen.review_questions(expert, retriever_of(expert), save(tmp_path / "t.csv", rows))
    assert marked.as_dict()["marks"] == {"accepted": 1, "edited": 1, "rejected": 1}
    asked = {q.question: q for q in marked.questions}
    assert len(asked) == len(rows) - 1 and answerable[2]["question"] not in asked
    assert "accepted" in asked[answerable[0]["question"]].tags
    edited = asked["What, in other words, is it?"]
    assert "edited" in edited.tags and edited.id != answerable[1]["id"]
    more = make(expert, 24, hold_out=0.5)  # other inputs: made anew, but no rejected question and with the marks
    assert more.fresh and more.as_dict()["marks"] == {"accepted": 1, "edited": 1, "rejected": 1}
    assert answerable[2]["question"] not in {q.question for q in more.questions}
    again = doyen.review_questions(expert, retriever_of(expert), expert / "examples" / "questions_review.csv")
    assert again.questions == more.questions


def test_nothing_of_a_removed_document_stays(expert, tmp_path):
    made = make(expert, 20, hold_out=0.5)
    gone = next(row.document for row in made.rows if row.answerable)
    rows = table(expert)
    for row in rows:
        row["mark"] = "rejected" if row["document"] == gone else "accepted"
    doyen.review_questions(expert, retriever_of(expert), save(tmp_path / "t.csv", rows))
    doyen.remove_documents(expert, [gone])
    make(expert, 20)
    for path in (expert / "examples").glob("*question*"):
        assert gone not in path.read_text() and gone.removesuffix(".md").title() not in path.read_text()


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"mark": "perhaps"}, "line 2: mark 'perhaps'"),
        ({"id": "gen-x"}, "line 2: id 'gen-x' is of no generated question"),
        ({"question": ""}, "line 2: no question"),
        ({"answer": ""}, "line 2: no answer"),
    ],
)
def test_a_broken_table_is_refused_by_line_and_changes_nothing(change, fault, expert, tmp_path):
    make(expert)
    before = (expert / "examples" / "generated_questions.json").read_text()
    rows = table(expert)
    rows[0] |= change
    rows[1]["mark"] = "accepted"
    with pytest.raises(ExamplesError, match=re.escape(fault)):
        doyen.review_questions(expert, retriever_of(expert), save(tmp_path / "t.csv", rows))
    assert (expert / "examples" / "generated_questions.json").read_text() == before


def test_an_edited_answer_that_the_evidence_does_not_hold_is_noted(expert, tmp_path):
    make(expert)
    rows = table(expert)
    at = next(i for i, row in enumerate(rows) if row["kind"] == "number" and row["answerable"] == "yes")
    rows[at]["answer"] = "5,000,000 parsecs"
    doyen.review_questions(expert, retriever_of(expert), save(tmp_path / "t.csv", rows))
    assert table(expert)[at]["note"] == "the answer is not word for word in the evidence"
    assert table(expert)[at]["mark"] == "edited"


def test_nothing_to_mark(expert, tmp_path):
    with pytest.raises(ExamplesError, match="no generated questions to mark"):
        doyen.review_questions(expert, retriever_of(expert), tmp_path / "t.csv")
    make(expert)
    with pytest.raises(ExamplesError, match="there is no file"):
        doyen.review_questions(expert, retriever_of(expert), tmp_path / "t.csv")


def test_the_page_holds_each_passage_as_text_and_loads_nothing(expert, tmp_path):
    hostile = "</script><img src=x onerror=alert(1)> Passing the Zarn gate costs 61 crowns for a barge. The Zarn gate has 3 doors.\n"
    (tmp_path / "documents" / "zarn.md").write_text(f"# Zarn\n\nThe Zarn gate was opened in 1990. {hostile}")
    doyen.ingest(expert, [tmp_path / "documents"], embedder=EMBEDDER)
    made = make(expert, 60, seen=True)
    assert any(row.document == "zarn.md" for row in made.rows)
    page = (expert / "examples" / "questions_review.html").read_text()
    assert "<img" not in page and page.count("</script>") == 2
    assert not re.search(r"@import|url\(|https?://|innerHTML", page)
    data = json.loads(re.search(r'id="data">(.*?)</script>', page, re.DOTALL)[1])
    for row, shown in zip(made.rows, data["rows"], strict=True):
        assert shown["cells"]["question"] == row.question and shown["passage"][1] == row.evidence


def test_the_table_that_the_page_saves_holds_no_formula_either(expert):
    made = make(expert, hold_out=0.5)
    answerable = next(row for row in made.rows if row.answerable)
    rows = [dataclasses.replace(row, answer="=1+1") if row is answerable else row for row in made.rows]
    write_marks(expert, dataclasses.replace(made, rows=rows))
    assert "'=1+1" in [row["answer"] for row in table(expert)]
    changed = read_marks(expert / "examples" / "questions_review.csv", made)
    assert [(r.answer, r.mark) for r in changed.rows if r.mark] == [("=1+1", "edited")]
    page = (expert / "examples" / "questions_review.html").read_text()
    assert f"/^{FORMULA.pattern}/.test(cell)" in page


# ------------------------------------------------------------------ who uses them
def test_without_imported_questions_the_generated_ones_are_compared_on(expert, tmp_path):
    with pytest.raises(ExamplesError) as error:
        held_out_questions(expert)
    assert "doyen compare --generate 60" in error.value.hint
    made = make(expert)
    assert held_out_questions(expert) == made.questions == known_test_questions(expert)
    write_rows(
        tmp_path / "q.jsonl", [{"id": "own", "question": "How long is the quay?", "answers": ["9 m"], "split": "test"}]
    )
    doyen.import_file(expert, tmp_path / "q.jsonl")
    assert [q.id for q in held_out_questions(expert)] == ["own"]
    assert len(known_test_questions(expert)) == len(made.questions) + 1


def test_a_broken_record_is_named(expert):
    make(expert)
    (expert / "examples" / "generated_questions.json").write_text('{"format": 9}')
    with pytest.raises(ExamplesError, match="cannot be read"):
        read_made(expert)


def test_reviewed_makes_none(expert, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(
        sys, "argv", ["doyen", "examples", "questions", "--expert", str(expert), "--seen", "--reviewed", "x.csv"]
    )
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code in (1, 2) and "error:" in capsys.readouterr().err


def test_all_bundled_texts_can_be_asked_about():
    from doyen.examples.generating.rules import RuleGenerator

    asked = {fact.document for fact in RuleGenerator().generate(bundled().passages)}
    assert asked == {chunk.document for chunk in bundled().passages}
    assert all(telling_words(c.text) and words(c.text) for c in bundled().passages) and UNANSWERABLE == 0.2
