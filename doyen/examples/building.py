"""The examples folder of an expert: imported questions and chats, questions made from documents, the training mix of both.

examples/questions.jsonl    the imported questions, each with its split
examples/own.jsonl          imported chats (messages), if any
examples/train.jsonl        the training mix; examples/validation.jsonl beside it
examples/review.csv         questions made from the documents, for a person to edit (generating/review.py)
examples/generated_questions.jsonl    questions to compare on, from documents kept out of training (held_out/rows.py)
examples/manifest.json      what they were made of, and what was left out
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import random
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from doyen.config import Settings, load_settings, override, write_atomic
from doyen.errors import ExamplesError, UsageError
from doyen.examples.doubles import Asked, near_questions
from doyen.examples.feedback import feedback_questions
from doyen.examples.generating.facts import Generator
from doyen.examples.generating.opening import open_generator
from doyen.examples.generating.review import REVIEW_FILE
from doyen.examples.generating.running import Generation, Progress, Work, generate_questions
from doyen.examples.held_out.rows import generated_questions, held_documents
from doyen.examples.importing import holds_messages, question_row, read_examples, read_questions, write_rows
from doyen.examples.mix import build_mix
from doyen.examples.splitting import overlapping, split_by_document
from doyen.models.engine import Engine
from doyen.records import Example, Question
from doyen.retrieval.hybrid import Retriever
from doyen.words import clip

TEST_SHARE = 0.3
FEW_EXAMPLES = 100
_SHOWN_PAIRS = 3
_SHOWN_WORDS = 16


@dataclass(slots=True)
class ExamplesReport:
    """What the examples folder holds: counts, and what was left out by reason."""

    questions: int = 0
    test_questions: int = 0
    split_made: bool = False
    train: int = 0
    validation: int = 0
    own: int = 0
    variants: dict[str, int] = field(default_factory=dict)
    kinds: dict[str, int] = field(default_factory=dict)
    left_out: dict[str, int] = field(default_factory=dict)
    documents: int = 0
    documents_in_index: int = 0
    generated: int = 0
    generated_facts: int = 0
    made_by: dict[str, int] = field(default_factory=dict)
    not_generated: dict[str, int] = field(default_factory=dict)
    edited: int = 0
    not_kept: int = 0
    review: str = ""
    warnings: list[str] = field(default_factory=list)


def import_file(expert: Path | str, source: Path | str) -> ExamplesReport:
    """Check a questions or messages file and take it into the expert's examples folder (replacing the last of its kind).

    Questions without any `split` are split by gold document, 70/30, by a fixed seed.

    Raises:
        ExamplesError: broken lines (all named), double ids.
    """
    expert, source = Path(expert), Path(source)
    settings = load_settings(expert)
    folder = expert / "examples"
    if holds_messages(source):
        own = read_examples(source)
        write_rows(folder / "own.jsonl", (e.as_dict() for e in own))
        return ExamplesReport(own=len(own), kinds=dict(Counter(e.kind for e in own)))
    questions = read_questions(source)
    made = all(q.split is None for q in questions)
    if made:
        questions = split_by_document(questions, share=TEST_SHARE, seed=settings.examples.seed)
    write_rows(folder / "questions.jsonl", (question_row(q) for q in questions))
    test = [q for q in questions if q.split == "test"]
    return ExamplesReport(
        questions=len(questions),
        test_questions=len(test),
        split_made=made,
        kinds=dict(Counter(q.kind for q in questions)),
        warnings=_on_both_sides([q for q in questions if q.split != "test"], test),
    )


def _on_both_sides(train: Sequence[Question], test: Sequence[Question]) -> list[str]:
    """Warn of questions to train on that are nearly equal to test questions."""
    pairs = overlapping(train, test)
    if not pairs:
        return []
    shown = "; ".join(f"'{a.id}' is like '{b.id}' ({clip(a.question, _SHOWN_WORDS)})" for a, b in pairs[:_SHOWN_PAIRS])
    return [f"{len(pairs)} training questions are nearly equal to a test question and will not be trained on: {shown}"]


def build_examples(
    expert: Path | str,
    retriever: Retriever,
    *,
    from_documents: bool = False,
    engine: Engine | None = None,
    generator: str | Generator | None = None,
    questions: int | None = None,
    check: bool = False,
    say: Callable[[str], None] = lambda text: None,
    progress: Progress | None = None,
) -> ExamplesReport:
    """Make the training mix from questions and chats with the passages of the expert's own retriever.

    Where nothing to train on was imported, and with `from_documents`, up to `questions` questions are made from the documents by
    `generator` ("rules", "model", "teacher", or an object; default [examples] generator), and kept in
    examples/review.csv, which may be edited. The generator "model" needs an `engine`; with `check`, what that engine answers
    without any document is left out. `say` is told what a teacher will cost before anything is sent there.

    Raises:
        ExamplesError: the questions do not fit the indexed documents, the review file has broken rows, or nothing is left.
        UsageError: the generator or `check` needs an engine.
    """
    expert = Path(expert)
    settings = load_settings(expert)
    if check and engine is None:
        raise UsageError("the check without documents needs an engine", hint="build_examples(…, engine=…)")
    made = {"generated": questions, "generator": generator if isinstance(generator, str) else None}
    settings = dataclasses.replace(settings, examples=override(settings.examples, made, table="examples"))
    folder = expert / "examples"
    asked = read_questions(folder / "questions.jsonl") if (folder / "questions.jsonl").exists() else []
    own = read_examples(folder / "own.jsonl") if (folder / "own.jsonl").exists() else []
    report = ExamplesReport(questions=len(asked), own=len(own), documents_in_index=len(retriever.index.documents()))
    held, generated = held_documents(expert), generated_questions(expert)
    asked += feedback_questions(expert, "train", lambda document: retriever.index.text(document)[0])
    if from_documents or not (own or any(q.split != "test" for q in asked)):
        maker = open_generator(settings, engine) if generator is None or isinstance(generator, str) else generator
        checking, known = engine if check else None, [*asked, *generated]
        work = Work(retriever.index, settings.examples, maker, checking, known, say, progress, held=held)
        found = generate_questions(folder, work)
        _note_generation(report, found)
        asked = [*asked, *found.questions]
    elif (folder / REVIEW_FILE).exists():
        report.warnings.append(f"examples/{REVIEW_FILE} is not used: --from-documents adds its questions")
    kept_out = [*generated, *feedback_questions(expert, "compare")]
    train, validation = _mix(asked, own, retriever, settings, report, kept_out, held)
    if not train:
        raise ExamplesError(
            "no training example is left",
            hint='questions for training need "split": "train", answers and gold documents',
        )
    write_mix(folder, train, validation, report, settings)
    return report


def write_mix(
    folder: Path, train: Sequence[Example], validation: Sequence[Example], report: ExamplesReport, settings: Settings
) -> None:
    """Complete the report, and write examples and manifest into an expert's examples folder."""
    write_rows(folder / "train.jsonl", (e.as_dict() for e in train))
    write_rows(folder / "validation.jsonl", (e.as_dict() for e in validation))
    report.train, report.validation = len(train), len(validation)
    report.variants = dict(Counter(e.variant or "own" for e in train))
    report.kinds = dict(Counter(e.kind for e in train))
    report.documents = len({s.document for e in train for s in e.source})
    if len(train) < FEW_EXAMPLES:
        report.warnings.append(f"{len(train)} examples teach little: 100–200 teach a style, 500–1,000 a task")
    manifest = (dataclasses.asdict(report) | {"review": Path(report.review).name}) | {
        "settings": settings.examples.__dict__,
        "passages": settings.answer.passages,
        "document_summaries": settings.answer.document_summaries,
    }
    manifest["sha256"] = hashlib.sha256((folder / "train.jsonl").read_bytes()).hexdigest()
    write_atomic(folder / "manifest.json", json.dumps(manifest, indent=1, ensure_ascii=False))


def _note_generation(report: ExamplesReport, found: Generation) -> None:
    report.generated, report.generated_facts = len(found.questions), found.facts
    report.made_by, report.not_generated = found.made_by, found.left_out
    report.edited, report.not_kept, report.review = found.edited, found.not_kept, found.review
    report.warnings += found.warnings


def _mix(
    questions: Sequence[Question],
    own: Sequence[Example],
    retriever: Retriever,
    settings: Settings,
    report: ExamplesReport,
    kept_out: Sequence[Question],
    held: Collection[str],
) -> tuple[list[Example], list[Example]]:
    """Mix what may be trained on: nothing near to a test question, imported or `kept_out`, nor about `held` documents."""
    test = [q for q in questions if q.split == "test"]
    report.test_questions = len(test)
    test += kept_out
    usable = [q for q in questions if q.split != "test"]
    about = {q.id for q in usable if any(g.document in held for g in q.gold)}
    doubles = {a.id for a, _ in overlapping(usable, test)} - about
    usable = [q for q in usable if q.id not in doubles | about]
    left_out: Counter[str] = Counter()
    if about:
        left_out["about a document held out for comparing"] = len(about)
    if doubles:
        left_out["nearly equal to a test question"] = len(doubles)
    train: list[Example] = []
    validation: list[Example] = []
    if usable:
        split = split_by_document(
            usable,
            share=settings.finetune.validation_share,
            seed=settings.finetune.seed,
            name="validation",
            pages=True,  # of a few long documents, whole ones would make a validation set of two or three topics
        )
        parts = {name: [q for q in split if q.split == name] for name in ("train", "validation")}
        mix = build_mix(
            parts["train"],
            parts["validation"],
            retriever,
            settings.examples,
            passages=settings.answer.passages,
            document_summaries=settings.answer.document_summaries,
        )
        train, validation = mix.train, mix.validation
        left_out += mix.left_out
    near = near_questions([Asked.of(e) for e in own], [Asked.of(q) for q in test])
    if near:
        left_out["own chats nearly equal to a test question"] = len(near)
    train = [*train, *(e for i, e in enumerate(own) if i not in near)]
    random.Random(settings.examples.seed).shuffle(train)
    report.left_out = dict(left_out)
    return train, validation


def load_examples(expert: Path) -> tuple[list[Example], list[Example]]:
    """Return the built training and validation examples. Raises ExamplesError if there are none."""
    folder = expert / "examples"
    if not (folder / "train.jsonl").exists():
        raise ExamplesError(
            "there are no training examples",
            hint="doyen examples build (from the documents), or doyen examples import FILE first",
        )
    validation = folder / "validation.jsonl"
    held_out = read_examples(validation) if validation.exists() and validation.stat().st_size else []
    return read_examples(folder / "train.jsonl"), held_out


def held_out_questions(expert: Path) -> list[Question]:
    """Return the imported questions of the test split; without imported ones, those generated for comparing.

    Raises:
        ExamplesError: there are neither.
    """
    found = [*(imported_test_questions(expert) or generated_questions(expert)), *feedback_questions(expert, "compare")]
    if not found and not (expert / "examples" / "questions.jsonl").exists():
        raise ExamplesError(
            "there are no held-out questions",
            hint="doyen compare --generate 60 makes some from the documents; doyen examples import FILE, or --questions "
            "FILE, takes your own",
        )
    return found


def known_test_questions(expert: Path) -> list[Question]:
    """Return all questions that must not be trained on: the imported ones of the test split, generated ones, feedback."""
    known = [*imported_test_questions(expert), *generated_questions(expert)]
    return [*known, *feedback_questions(expert, "compare")]


def imported_test_questions(expert: Path) -> list[Question]:
    """Return the imported questions of the test split, none where nothing was imported."""
    path = expert / "examples" / "questions.jsonl"
    return [q for q in read_questions(path) if q.split == "test"] if path.exists() else []
