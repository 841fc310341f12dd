"""The examples folder of an expert: imported questions and chats, the training mix made from them, its report.

examples/questions.jsonl    the questions, each with its split
examples/own.jsonl          imported chats (messages), if any
examples/train.jsonl        the training mix; examples/validation.jsonl beside it
examples/manifest.json      what they were made of, and what was left out
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from doyen.config import Settings, load_settings, write_atomic
from doyen.errors import ExamplesError
from doyen.examples.importing import holds_messages, question_row, read_examples, read_questions, write_rows
from doyen.examples.mix import build_mix
from doyen.examples.splitting import overlapping, split_by_document
from doyen.records import Example, Question
from doyen.retrieval.hybrid import Retriever

TEST_SHARE = 0.3
FEW_EXAMPLES = 100


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
    test = sum(q.split == "test" for q in questions)
    return ExamplesReport(
        questions=len(questions), test_questions=test, split_made=made, kinds=dict(Counter(q.kind for q in questions))
    )


def build_examples(expert: Path | str, retriever: Retriever) -> ExamplesReport:
    """Make the training mix from the imported questions and chats with the passages of the expert's own retriever.

    Raises:
        ExamplesError: nothing was imported, or the questions do not fit the indexed documents.
    """
    expert = Path(expert)
    settings = load_settings(expert)
    folder = expert / "examples"
    questions = read_questions(folder / "questions.jsonl") if (folder / "questions.jsonl").exists() else []
    own = read_examples(folder / "own.jsonl") if (folder / "own.jsonl").exists() else []
    if not questions and not own:
        raise ExamplesError("there is nothing to build from", hint="doyen examples import FILE")
    report = ExamplesReport(questions=len(questions), own=len(own))
    train, validation = _mix(questions, own, retriever, settings, report)
    if not train:
        raise ExamplesError(
            "no training example is left",
            hint='questions for training need "split": "train", answers and gold documents',
        )
    write_rows(folder / "train.jsonl", (e.as_dict() for e in train))
    write_rows(folder / "validation.jsonl", (e.as_dict() for e in validation))
    report.train, report.validation = len(train), len(validation)
    report.variants = dict(Counter(e.variant or "own" for e in train))
    report.kinds = dict(Counter(e.kind for e in train))
    report.documents = len({s.document for e in train for s in e.source})
    if len(train) < FEW_EXAMPLES:
        report.warnings.append(f"{len(train)} examples teach little: 100–200 teach a style, 500–1,000 a task")
    manifest = dataclasses.asdict(report) | {
        "settings": settings.examples.__dict__,
        "passages": settings.answer.passages,
        "document_summaries": settings.answer.document_summaries,
    }
    manifest["sha256"] = hashlib.sha256((folder / "train.jsonl").read_bytes()).hexdigest()
    write_atomic(folder / "manifest.json", json.dumps(manifest, indent=1, ensure_ascii=False))
    return report


def _mix(
    questions: Sequence[Question],
    own: Sequence[Example],
    retriever: Retriever,
    settings: Settings,
    report: ExamplesReport,
) -> tuple[list[Example], list[Example]]:
    test = [q for q in questions if q.split == "test"]
    report.test_questions = len(test)
    usable = [q for q in questions if q.split != "test"]
    doubles = {a.id for a, _ in overlapping(usable, test)}
    usable = [q for q in usable if q.id not in doubles]
    left_out: Counter[str] = Counter()
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
    train = [*train, *(e for e in own if not _asks_a_test_question(e, test))]
    random.Random(settings.examples.seed).shuffle(train)
    report.left_out = dict(left_out)
    return train, validation


def _asks_a_test_question(example: Example, test: Sequence[Question]) -> bool:
    asked = Question(
        id="own", question=next((m["content"] for m in reversed(example.messages) if m["role"] == "user"), "")
    )
    return bool(overlapping([asked], test))


def load_examples(expert: Path) -> tuple[list[Example], list[Example]]:
    """Return the built training and validation examples. Raises ExamplesError if there are none."""
    folder = expert / "examples"
    if not (folder / "train.jsonl").exists():
        raise ExamplesError(
            "there are no training examples", hint="doyen examples import FILE, then doyen examples build"
        )
    validation = folder / "validation.jsonl"
    held_out = read_examples(validation) if validation.exists() and validation.stat().st_size else []
    return read_examples(folder / "train.jsonl"), held_out


def examples_report(expert: Path) -> dict[str, Any]:
    """Return the manifest of the built examples with three sample rows. Raises ExamplesError if there are none."""
    train, _ = load_examples(expert)
    manifest: dict[str, Any] = json.loads((expert / "examples" / "manifest.json").read_text(encoding="utf-8"))
    lengths = sorted(sum(len(m["content"]) for m in e.messages) for e in train)
    manifest["characters"] = {"median": lengths[len(lengths) // 2], "longest": lengths[-1]}
    manifest["samples"] = [e.as_dict() for e in train[:3]]
    return manifest


def held_out_questions(expert: Path) -> list[Question]:
    """Return the imported questions of the test split. Raises ExamplesError if there are none."""
    path = expert / "examples" / "questions.jsonl"
    if not path.exists():
        raise ExamplesError("there are no held-out questions", hint="doyen examples import FILE, or --questions FILE")
    return [q for q in read_questions(path) if q.split == "test"]
