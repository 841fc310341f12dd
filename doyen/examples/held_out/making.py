"""The expert's documents → questions to compare on, where the user has none: from documents that training does not see.

Enters: the index, a generator, what is known already. Leaves: rows, questions, a CSV and a page to look through (rows.py,
marks.py, review_page.py). The same documents, seed and number give the same questions.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections import Counter
from collections.abc import Callable, Sequence
from functools import cached_property, lru_cache
from pathlib import Path

from doyen.config import Settings, load_settings, override
from doyen.errors import ExamplesError, UsageError
from doyen.examples.doubles import Asked
from doyen.examples.generating.absent import Absent
from doyen.examples.generating.facts import Fact, Generator, is_verbatim
from doyen.examples.generating.filters import clean, named, without_doubles
from doyen.examples.generating.opening import open_generator
from doyen.examples.generating.running import Progress, some_passages
from doyen.examples.held_out.choosing import evenly, own_words, unlike, verdicts_stand
from doyen.examples.held_out.documents import HeldOut, hold_out, trained_documents
from doyen.examples.held_out.marks import read_marks, write_marks
from doyen.examples.held_out.neighbours import NEIGHBOUR, bundled, of_expert, unanswerable
from doyen.examples.held_out.review_page import write_page
from doyen.examples.held_out.rows import Made, Row, read_made, write_made
from doyen.examples.importing import read_examples, read_questions
from doyen.models.engine import Engine
from doyen.retrieval.hybrid import Retriever

COUNT = 60
UNANSWERABLE = 0.2
"""Share of the questions that the documents do not answer."""


def make_questions(
    expert: Path | str,
    retriever: Retriever,
    count: int = COUNT,
    *,
    generator: str | Generator | None = None,
    engine: Engine | None = None,
    seed: int | None = None,
    hold_out: float | None = None,
    seen: bool = False,
    neighbours: Path | None = None,
    say: Callable[[str], None] = lambda text: None,
    progress: Progress | None = None,
) -> Made:
    """Make up to `count` questions to compare on, or return those that are there with the same inputs.

    They are about documents that nothing was trained on. With `hold_out` (a share), and where nothing was trained yet
    (25%), documents are chosen for them, which `build_examples` leaves out from then on. With `seen`, trained ones are asked
    about too. A fifth has no answer in the documents: they are about texts of `neighbours` (another expert; default:
    doyen's own). Marks that a person gave to a question stay with it, and rejected ones do not come back.

    Raises:
        UsageError: every document was trained on; the generator "model" needs an `engine`.
        ExamplesError: no question could be made.
    """
    expert = Path(expert)
    settings = load_settings(expert)
    named_ = generator if isinstance(generator, str) else None
    settings = dataclasses.replace(
        settings, examples=override(settings.examples, {"generator": named_, "seed": seed}, table="examples")
    )
    before = read_made(expert)
    held = _held(expert, retriever, before, settings, hold_out, seen)
    maker = open_generator(settings, engine) if generator is None or isinstance(generator, str) else generator
    inputs = _inputs(expert, retriever, held, count, maker.name, settings, neighbours)
    if before and before.inputs == inputs:
        return before
    work = _Work(expert, retriever, settings, maker, say, progress)
    made = Made(
        rows=_rows(work, before, held, count, neighbours),
        documents=list(held.documents),
        count=count,
        seed=settings.examples.seed,
        generator=maker.name,
        seen=held.seen,
        inputs=inputs,
    )
    made.left_out = {why: n for why, n in work.left_out.items() if n}
    made.warnings = _warnings(made, held)
    if not any(row.answerable for row in made.rows):
        why = ", ".join(f"{n} {reason}" for reason, n in work.left_out.most_common(3) if n)
        raise ExamplesError(
            f"no question could be made from the {len(held.documents)} documents held out: {why or 'no fact found'}",
            hint="--hold-out 0.5 holds out more of them; doyen examples import FILE takes your own",
        )
    save_made(expert, made, work.text_of)
    return made


def _rows(work: _Work, before: Made | None, held: HeldOut, count: int, neighbours: Path | None) -> list[Row]:
    """Return the marked rows that still stand, filled up to `count` with new ones, and behind them the rejected ones."""
    marked = {row.id: row for row in before.rows if row.mark} if before else {}
    kept = [row for row in marked.values() if row.answerable and row.mark != "rejected" and work.stands(row, held)]
    wanted = max(0, count - round(count * UNANSWERABLE) - len(kept))
    facts = work.facts(held.documents, wanted)
    chosen = evenly(facts, wanted, work.seed, set(marked))
    work.left_out["more than wanted"] += len(facts) - len(chosen)
    nothing = work.unanswerable(facts, len(kept) + len(chosen), count, neighbours)
    rows = [*kept, *map(Row.of, chosen), *(marked.get(row.id, row) for row in map(Row.of, nothing))]
    have = {row.id for row in rows}
    rejected = [row for row in marked.values() if row.mark == "rejected" and row.id not in have]
    # of documents that are gone nothing stays, not even what was rejected
    return [*rows, *(row for row in rejected if row.document in work.documents or row.rule == NEIGHBOUR)]


def review_questions(expert: Path | str, retriever: Retriever, table: Path) -> Made:
    """Take in the marks that a person gave to generated questions in a table (CSV): accepted, edited, rejected.

    Raises:
        ExamplesError: there are no generated questions, or the table has broken rows (then nothing is changed).
    """
    expert = Path(expert)
    made = read_made(expert)
    if made is None:
        raise ExamplesError("there are no generated questions to mark", hint="doyen examples questions makes some")
    marked = read_marks(table, made)
    save_made(expert, marked, lambda document: retriever.index.text(document)[0])
    return marked


def save_made(expert: Path, made: Made, text_of: Callable[[str], str]) -> None:
    """Write the questions, their record, the CSV and the page."""
    write_made(expert, made)
    write_marks(expert, made)
    write_page(expert, made, text_of)


def _held(
    expert: Path, retriever: Retriever, before: Made | None, settings: Settings, share: float | None, seen: bool
) -> HeldOut:
    """Return the documents held out before, as long as nothing was trained on them since; else choose."""
    if before and share is None and not seen and not before.seen:
        known = {d.id for d in retriever.index.documents()} - trained_documents(expert)
        if before.documents and known.issuperset(before.documents):
            return HeldOut(tuple(before.documents))
    try:
        return hold_out(expert, retriever.index, share=share, seen=seen, seed=settings.examples.seed)
    except UsageError:
        if before and before.seen and share is None:  # it was allowed once, for these questions
            return hold_out(expert, retriever.index, seen=True)
        raise


def _inputs(
    expert: Path,
    retriever: Retriever,
    held: HeldOut,
    count: int,
    generator: str,
    settings: Settings,
    neighbours: Path | None,
) -> str:
    """Return a hash of what the questions depend on."""
    path = expert / "examples" / "questions.jsonl"
    whole = [
        sorted((d.id, d.sha256) for d in retriever.index.documents()),
        *(held.documents, held.seen, count, generator, settings.examples.seed, settings.teacher.model),
        hashlib.sha256(path.read_bytes()).hexdigest() if path.exists() else None,
        str(neighbours.resolve()) if neighbours else None,
    ]
    return hashlib.sha256(json.dumps(whole).encode()).hexdigest()[:16]


def _warnings(made: Made, held: HeldOut) -> list[str]:
    found = []
    asked = sum(row.mark != "rejected" for row in made.rows)
    if asked < made.count:
        found.append(f"{asked} of the {made.count} questions wanted could be made from {len(held.documents)} documents")
    if held.seen:
        found.append("documents that were trained on are asked about: their answers may be memory")
    if held.untrained:
        found.append(
            f"{len(held.documents)} documents are held out from now on, but the examples or the adapter at hand "
            "were made with some of them: doyen examples build and doyen finetune again"
        )
    return found


class _Work:
    """One making of questions: what it reads, and what was left out on the way."""

    def __init__(
        self,
        expert: Path,
        retriever: Retriever,
        settings: Settings,
        maker: Generator,
        say: Callable[[str], None],
        progress: Progress | None,
    ) -> None:
        self.expert, self.retriever, self.maker, self.seed = expert, retriever, maker, settings.examples.seed
        self.say, self.progress = say, progress
        self.left_out: Counter[str] = Counter()
        self.text_of = lru_cache(maxsize=256)(lambda document: retriever.index.text(document)[0])
        self.documents = [d.id for d in retriever.index.documents()]
        self.passages = retriever.index.chunks_of(self.documents)

    def stands(self, row: Row, held: HeldOut) -> bool:
        """Whether a row that a person has marked is still about a document that is asked about, as that is now."""
        return row.document in held.documents and self.text_of(row.document)[row.start : row.end] == row.evidence

    def facts(self, documents: Sequence[str], wanted: int) -> list[Fact]:
        """Return the answerable facts of documents: verbatim in them, unlike anything known and each other.

        A model is shown passages enough for so many questions as are `wanted`.
        """
        held = set(documents)
        passages = [chunk for chunk in self.passages if chunk.document in held]
        asked = passages if self.maker.name == "rules" else some_passages(passages, wanted)
        estimate = getattr(self.maker, "estimate", None)
        if estimate is not None:
            self.say(str(estimate(asked)))
        facts = self.maker.generate(asked, self._advance(len(asked)))
        self.left_out.update(getattr(self.maker, "refused", {}))
        facts = without_doubles(clean(facts, self.text_of, self.left_out), self.left_out)
        facts = [own_words(fact) for fact in verdicts_stand(facts, self.left_out)]
        facts = unlike(named(facts, self.passages), self._known, self.left_out)
        assert all(is_verbatim(fact, self.text_of(fact.document)) for fact in facts)
        return facts

    def unanswerable(self, facts: Sequence[Fact], answerable: int, count: int, neighbours: Path | None) -> list[Fact]:
        """Return facts that the index says nothing about, so many that they are a fifth beside `answerable` questions.

        About neighbouring texts first; where these are too few, questions of the documents' `facts` with a name exchanged.
        """
        wanted = min(round(count * UNANSWERABLE), round(answerable * UNANSWERABLE / (1 - UNANSWERABLE)))
        texts = of_expert(neighbours) if neighbours else bundled()
        spoken = {fact.language or "en" for fact in facts} or {"en"}
        found = unanswerable(texts, self.passages, self.retriever, wanted, spoken)
        swapped = Absent(facts, self.passages).make(facts, wanted - len(found), self.seed)
        return unlike([*found, *swapped], self._known, Counter())

    @cached_property
    def _known(self) -> list[Asked]:
        """Return the questions that are imported or trained on."""
        folder = self.expert / "examples"
        imported = folder / "questions.jsonl"
        known = [Asked.of(q) for q in read_questions(imported)] if imported.exists() else []
        for name in ("train.jsonl", "validation.jsonl"):
            if (folder / name).exists():
                known += [Asked.of(e) for e in read_examples(folder / name)]
        return known

    def _advance(self, total: int) -> Callable[[int], None]:
        done = 0

        def step(more: int) -> None:
            nonlocal done
            done += more
            if self.progress:
                self.progress("questions", done, total)

        return step
