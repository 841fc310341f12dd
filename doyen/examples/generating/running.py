"""The documents of an expert → its review file and the questions for training in it. What a person has edited stays.

examples/generated.json says which documents were asked about, by which generator, and what was left out.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from doyen.chunking import sentence_spans
from doyen.config import ExamplesSettings, write_atomic
from doyen.errors import ExamplesError, StoreError
from doyen.examples.generating.absent import Absent
from doyen.examples.generating.facts import Generator, is_supported, locate
from doyen.examples.generating.filters import balanced, clean, named, not_from_nothing, without_doubles, without_near
from doyen.examples.generating.review import (
    REVIEW_FILE,
    Review,
    ReviewRow,
    Written,
    read_review,
    row_of,
    write_review,
)
from doyen.examples.generating.rules import RuleGenerator
from doyen.index.store import Index
from doyen.models.engine import Engine
from doyen.records import GENERATED, Chunk, GoldSource, Question
from doyen.words import holds, words

STATE_FILE = "generated.json"
_PASSAGES_A_QUESTION = 2  # asked about for each question wanted, of a teacher or the model
Progress = Callable[[str, int, int], None]


@dataclass(slots=True)
class Generation:
    """The questions to train on, and how they came about."""

    questions: list[Question] = field(default_factory=list)
    made_by: dict[str, int] = field(default_factory=dict)
    left_out: dict[str, int] = field(default_factory=dict)
    facts: int = 0
    edited: int = 0
    not_kept: int = 0
    new: int = 0
    review: str = ""
    warnings: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Work:
    """What questions are made with: the index, the settings, who makes them, and the imported questions `known`.

    With an `engine`, what it answers without documents is left out. Documents that are `held` are not asked about.
    """

    index: Index
    settings: ExamplesSettings
    generator: Generator = field(default_factory=RuleGenerator)
    engine: Engine | None = None
    known: Sequence[Question] = ()
    say: Callable[[str], None] = lambda text: None
    progress: Progress | None = None
    left_out: Counter[str] = field(default_factory=Counter)
    held: Collection[str] = ()
    hashes: dict[str, str] = field(init=False)
    text_of: Callable[[str], str] = field(init=False)

    def __post_init__(self) -> None:
        self.hashes = {d.id: d.sha256 for d in self.index.documents() if d.id not in self.held}
        self.text_of = lru_cache(maxsize=256)(lambda document: self.index.text(document)[0])

    def advance(self, stage: str, total: int) -> Callable[[int], None]:
        """Return what counts up one stage of the progress."""
        done = 0

        def step(count: int) -> None:
            nonlocal done
            done += count
            if self.progress:
                self.progress(stage, done, total)

        return step


def generate_questions(folder: Path, work: Work) -> Generation:
    """Bring the review file in `folder` up to date with the documents, and return its questions.

    The teacher's cost is said before anything is sent. Questions nearly equal to one that is known are left out.

    Raises:
        ExamplesError: the review file has broken rows (nothing is changed), or no question could be made.
    """
    review = read_review(folder)
    state = _state(folder)
    rows, written = _checked(review, work)
    if not set(state.get("documents", {})) <= set(work.hashes):
        rows, written = _without_lost_names(rows, written, review, work)
    stale = _documents_to_ask(state, work) if rows else set(work.hashes)
    barred = review.removed | {row.id for row in rows}
    new = [w for w in _new(stale, rows, work) if w.row.id not in barred]
    written |= {w.row.id: w for w in new}
    # What a person deleted is remembered, so that it stays out; not of documents that are gone.
    gone = {key: review.written[key] for key in review.removed if review.written[key].row.document in work.hashes}
    written |= {key: replace(w, removed=True) for key, w in gone.items()}
    rows = [*rows, *(w.row for w in new)]
    made = Generation(left_out=dict(work.left_out), new=len(new), review=str(folder / REVIEW_FILE))
    _sum_up(made, rows, written, review, work)
    if not made.questions:
        raise ExamplesError(
            "no question could be made from the documents: "
            + (
                ", ".join(f"{n} {why}" for why, n in work.left_out.most_common(3) if n)
                or "no sentence or table to ask about"
            ),
            hint="doyen examples import FILE with questions of your own, or --generator teacher",
        )
    write_review(folder, rows, written.values())
    kept = {"generator": work.generator.name, "generated": work.settings.generated, "documents": work.hashes}
    write_atomic(folder / STATE_FILE, json.dumps(kept | {"left_out": made.left_out}, indent=1, ensure_ascii=False))
    return made


def _state(folder: Path) -> dict[str, Any]:
    path = folder / STATE_FILE
    state: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return state


def _documents_to_ask(state: dict[str, Any], work: Work) -> set[str]:
    """Return the documents that are new or changed; all of them for another generator or more questions than before."""
    known = state.get("documents", {})
    if state.get("generator") != work.generator.name or work.settings.generated > state.get("generated", 0):
        known = {}
    return {document for document, sha256 in work.hashes.items() if known.get(document) != sha256}


def _checked(review: Review, work: Work) -> tuple[list[ReviewRow], dict[str, Written]]:
    """Find the rows' evidence in the documents as they are now.

    A row whose evidence is gone is dropped if the machine wrote it, and stays with a note, unused, if a person did.
    """
    rows: list[ReviewRow] = []
    written: dict[str, Written] = {}
    for row in review.rows:
        edited = review.is_edited(row)
        place = _place(row, review.written.get(row.id), work)
        if isinstance(place, str):
            if edited or not row.keep:
                rows.append(replace(row, note=place))
                if row.id in review.written:
                    written[row.id] = review.written[row.id]
            else:
                work.left_out[place] += 1
            continue
        start, end = place
        evidence = work.text_of(row.document)[start:end]
        found = replace(row, evidence=row.evidence or evidence)
        odd = row.answerable and not is_supported(row.answer, row.kind, evidence)
        rows.append(replace(found, note="answer is not word for word in the evidence" if odd else ""))
        mine = review.written.get(row.id)
        base = mine.row if mine else replace(found, keep=not found.keep)  # no row of the machine: never equal to it
        language = mine.language if mine else "en"
        written[row.id] = Written(base, work.hashes[row.document], start, end, language)
    return rows, written


def _without_lost_names(
    rows: Sequence[ReviewRow], written: dict[str, Written], review: Review, work: Work
) -> tuple[list[ReviewRow], dict[str, Written]]:
    """Drop unanswerable questions of the machine that have a word of documents which are gone, and of no other."""
    have = {w for document in sorted(work.hashes) for w in words(work.text_of(document))}
    lost = {
        row.id
        for row in rows
        if not row.answerable
        and not review.is_edited(row)
        and any(w[:1].isupper() and not have.issuperset(words(w)) for w in row.question.split()[1:])
    }
    work.left_out["document is not in the index"] += len(lost)
    return [r for r in rows if r.id not in lost], {key: w for key, w in written.items() if key not in lost}


def _place(row: ReviewRow, mine: Written | None, work: Work) -> tuple[int, int] | str:
    """Return where a row's evidence stands, or why it cannot be used."""
    if row.document in work.held:
        return "document is held out for comparing"
    if row.document not in work.hashes:
        return "document is not in the index"
    try:
        text = work.text_of(row.document)
    except StoreError:
        return "document is not in the index"
    if mine and " ".join(text[mine.start : mine.end].split()) == " ".join(row.evidence.split()) and row.evidence:
        return mine.start, mine.end
    if row.evidence:
        return locate(text, row.evidence) or "evidence is not in the document"
    if not row.answerable:
        return 0, min(len(text), 1)
    spans = [s for s in sentence_spans(text) if row.kind == "yesno" or holds(text[slice(*s)], row.answer)]
    asked = set(words(row.question))
    best = max(spans, key=lambda s: len(asked & set(words(text[slice(*s)]))), default=None)
    return best or "no evidence given, and the answer is not in the document"


def _new(stale: set[str], rows: Sequence[ReviewRow], work: Work) -> list[Written]:
    """Return rows of facts that are not in the file yet: up to the number wanted, and a fair share of new documents."""
    if not stale:
        return []
    settings, left_out = work.settings, work.left_out
    fair = math.ceil(settings.generated * len(stale) / len(work.hashes)) if len(stale) < len(work.hashes) else 0
    wanted = max(settings.generated - len(rows), fair)
    passages = work.index.chunks_of(sorted(stale))
    asked = some_passages(passages, wanted) if work.generator.name != "rules" else passages
    estimate = getattr(work.generator, "estimate", None)
    if estimate is not None:
        work.say(str(estimate(asked)))
    facts = work.generator.generate(asked, work.advance("questions", len(asked)))
    left_out.update(getattr(work.generator, "refused", {}))
    facts = without_doubles(clean(facts, work.text_of, left_out), left_out)
    facts = without_near(facts, work.known, left_out, "nearly equal to an imported question")
    listed = [Question(row.id, row.question) for row in rows]
    facts = without_near(facts, listed, left_out, "nearly equal to a question in the review file")
    facts = named(facts, passages)
    held = work.index.chunks_of(sorted(work.held))  # they may not answer what shall have no answer
    nothing = Absent(facts, [*passages, *held]).make(facts, round(wanted * settings.absent_share), settings.seed)
    served = {row.document for row in rows}
    chosen = balanced(facts, wanted - len(nothing), settings.phrasings, settings.seed, served)
    left_out["more than wanted"] += len(facts) - len(chosen)
    if work.engine is not None:
        chosen = not_from_nothing(chosen, work.engine, left_out, work.advance("without documents", len(chosen)))
    return [row_of(fact, question) for fact in [*chosen, *nothing] for question in fact.questions]


def some_passages(passages: Sequence[Chunk], wanted: int) -> list[Chunk]:
    """Return passages to ask a model about, evenly from all documents: several for each question wanted are enough."""
    most = max(_PASSAGES_A_QUESTION * wanted, 1)
    by_document: dict[str, list[Chunk]] = {}
    for chunk in passages:
        by_document.setdefault(chunk.document, []).append(chunk)
    found: list[Chunk] = []
    depth = 0
    while len(found) < min(most, len(passages)):
        row = [own[depth] for own in by_document.values() if depth < len(own)]
        found += row[: most - len(found)]
        depth += 1
    return sorted(found, key=lambda c: (c.document, c.start))


def _sum_up(
    made: Generation, rows: Sequence[ReviewRow], written: dict[str, Written], review: Review, work: Work
) -> None:
    before = {row.id for row in review.rows}
    unusable = 0
    facts = set()
    for row in rows:
        made.edited += row.id in before and review.is_edited(row)
        if not row.keep:
            made.not_kept += 1
            continue
        place = written.get(row.id)
        if place is None or place.sha256 != work.hashes.get(row.document):
            unusable += 1
            continue
        made.questions.append(_question(row, place))
        facts.add((row.document, place.start, row.answer))
    made.facts = len(facts)
    made.made_by = dict(Counter(row.made_by for row in rows if row.keep))
    if unusable:
        made.warnings.append(f"{unusable} edited rows of the review file cannot be used: see their notes")
    elif len(made.questions) < work.settings.generated // 2:
        made.warnings.append(
            f"only {len(made.questions)} of the {work.settings.generated} questions wanted could be made from the documents"
        )


def _question(row: ReviewRow, place: Written) -> Question:
    gold = (GoldSource(row.document, row.page, 1, place.start, place.end),) if row.answerable else ()
    return Question(
        id=row.id,
        question=row.question,
        answers=(row.answer,) if row.answerable else (),
        kind=row.kind,
        gold=gold,
        answerable=row.answerable,
        tags=(GENERATED, row.made_by),
        language=place.language,
    )
