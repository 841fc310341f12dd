"""What an expert holds, and what the user demands → advice by rules, where nothing was compared. It measures no arm.

The rules are those of Microsoft's PhiCookBook, "Let Phi-3 become an industry expert"; the figures are the corpus' own.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from doyen.adapters import list_adapters
from doyen.config import load_settings
from doyen.errors import StoreError
from doyen.evaluation.advice import FEW_QUESTIONS, Advice
from doyen.evaluation.constraints import CHANGES, Constraints, RuledOut
from doyen.finetuning.forgetting import general_rows
from doyen.ingesting import open_index
from doyen.records import ARMS, Arm
from doyen.words import words

if TYPE_CHECKING:
    from doyen.index.store import Index

FEW_EXAMPLES = 100
DENSE = 0.6  # share of own words from which on a corpus counts as rich in terms (an insurer's documents: 0.66)
FREQUENT, LEAST_COUNT, LEAST_LETTERS = 200, 3, 4
SAMPLE_CHARACTERS = 5_000_000
DAY = 86_400.0


@dataclass(frozen=True, slots=True)
class CorpusFacts:
    """The corpus' own numbers.

    `changed` documents are not in their first version; the index keeps `versions` older ones, retired in the last `days`. `terms` is the share of the
    corpus' frequent words (of four letters or more) that the project's general texts lack, None where there are too few.
    """

    documents: int = 0
    chunks: int = 0
    questions: int = 0
    examples: int = 0
    adapters: int = 0
    changed: int = 0
    versions: int = 0
    days: float = 0.0
    terms: float | None = None
    own_words: Sequence[str] = ()

    @property
    def changes(self) -> str | None:
        """How often some document changed, by the versions kept: a key of CHANGES; None where fewer than two are kept."""
        if self.versions < 2:
            return None
        every = self.days * DAY / self.versions
        return next(name for name, seconds in CHANGES.items() if every <= 2 * seconds)


def corpus_facts(index: Index | None, *, questions: int, examples: int, adapters: int) -> CorpusFacts:
    """Read the corpus' numbers from an index ; None: there is none."""
    if index is None:
        return CorpusFacts(questions=questions, examples=examples, adapters=adapters)
    rows = index.documents()
    changed = [row.id for row in rows if row.version > 1]
    retired = [v.retired_at for document in changed for v in index.versions(document) if v.retired_at is not None]
    days = (time.time() - min(retired)) / DAY if retired else 0.0
    terms, own = term_density(index.text(row.id)[0] for row in rows)
    return CorpusFacts(
        documents=len(rows),
        chunks=index.chunk_count(),
        questions=questions,
        examples=examples,
        adapters=adapters,
        changed=len(changed),
        versions=len(retired),
        days=days,
        terms=terms,
        own_words=tuple(own),
    )


def facts_of(expert: Path) -> CorpusFacts:
    """Read the numbers of an expert's folder."""
    settings = load_settings(expert)
    path = expert / "examples" / "manifest.json"
    made = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    index = None
    with contextlib.suppress(StoreError):
        index = open_index(expert, settings)
    return corpus_facts(
        index,
        questions=made.get("questions", 0),
        examples=made.get("train", 0),
        adapters=len(list_adapters(expert)),
    )


def term_density(texts: Iterable[str]) -> tuple[float | None, list[str]]:
    """Return the share of the texts' most frequent words that the general texts lack, and these words, the commonest first.

    The 200 commonest words of four letters or more that occur three times or more count; None where there are under 20.
    """
    counts: Counter[str] = Counter()
    read = 0
    for text in texts:
        counts.update(w for w in words(text) if len(w) >= LEAST_LETTERS and w.isalpha())
        read += len(text)
        if read > SAMPLE_CHARACTERS:
            break
    frequent = [word for word, n in counts.most_common(FREQUENT) if n >= LEAST_COUNT]
    if len(frequent) < 20:
        return None, []
    general = _general_words()
    own = [word for word in frequent if word not in general]
    return len(own) / len(frequent), own


def _general_words() -> set[str]:
    rows = (*general_rows("text"), *general_rows("turn"))
    return {word for row in rows for value in row.values() if isinstance(value, str) for word in words(value)}


def advise_without_comparison(facts: CorpusFacts, constraints: Constraints | None = None) -> Advice:
    """Advise from rules alone, by what the expert holds and what is demanded."""
    demands = constraints or Constraints()
    changes = demands.changes or facts.changes
    out = _ruled_out(facts, demands)
    left = [arm for arm in ARMS if arm not in {o.arm for o in out}]
    order = [arm for arm in _order(facts, demands, changes) if arm in left]
    reasons = ["This is advice from 1 set of general rules and not a measurement of your documents."]
    reasons += _said(facts, demands) + [f"Ruled out: {o.reason}" for o in out] + [_how_to_measure(facts.questions)]
    arm: Arm | None = order[0] if order else None
    runner_up = order[1] if len(order) > 1 else None
    if arm is None:
        reasons.insert(1, "0 arms are left: index documents (doyen ingest) or give up --traceable.")
    return Advice(arm, reasons, runner_up, measured=False, constraints=demands.as_dict(), ruled_out=out)


def _ruled_out(facts: CorpusFacts, demands: Constraints) -> list[RuledOut]:
    found = []
    if demands.traceable:
        found += [RuledOut(a, "traceable", f"{a} reads 0 documents, so it cites none.") for a in ("base", "finetuned")]
    if not facts.documents:
        found += [
            RuledOut(a, "documents", f"{a} reads documents, and 0 are indexed.") for a in ("rag", "rag+finetuned")
        ]
    if demands.changes in ("hourly", "daily", "weekly") and facts.documents:
        hours = CHANGES[demands.changes] / 3600
        reason = f"finetuned would have to be trained again for each change, so every {hours:g} hours."
        found.append(RuledOut("finetuned", "changes", reason))
    return found


def _order(facts: CorpusFacts, demands: Constraints, changes: str | None) -> list[Arm]:
    """Return the arms from the most to the least fitting."""
    enough = facts.examples >= FEW_EXAMPLES or facts.adapters > 0
    if not facts.documents:
        return ["finetuned", "base"] if enough else ["base", "finetuned"]
    if enough and demands.form:
        still = changes in (None, "rarely") and not demands.traceable and (facts.terms or 0.0) >= DENSE
        return ["finetuned", "rag+finetuned", "rag", "base"] if still else ["rag+finetuned", "rag", "finetuned", "base"]
    return ["rag", "rag+finetuned", "finetuned", "base"]


def _said(facts: CorpusFacts, demands: Constraints) -> list[str]:
    found = []
    if facts.documents:
        found.append(
            f"Retrieval fits answers that need outside data, and data that changes: {facts.documents} documents "
            f"({facts.chunks} chunks) are indexed, and a changed one counts from the next ingest on."
        )
        found.append(_change_rate(facts, demands))
    else:
        found.append(f"0 documents are indexed and {facts.adapters} adapters are trained.")
    if facts.terms is not None:
        rich = "rich in terms, which training helps with" if facts.terms >= DENSE else "near to general language"
        found.append(
            f"{facts.terms:.0%} of the documents' frequent words are not in the project's general texts "
            f"({', '.join(facts.own_words[:5])}): {rich}."
        )
    found.append(
        f"Fine-tuning fits terminology, style and tasks that stay the same: {facts.examples} examples are at hand and "
        f"{facts.adapters} adapters trained; below {FEW_EXAMPLES} or so examples make little difference."
    )
    found.append(
        "Both together (2 things to keep up to date) fit automated business flows that need current data in a fixed form"
        + (", as --form demands." if demands.form else "; --form says that yours is one.")
    )
    return found


def _change_rate(facts: CorpusFacts, demands: Constraints) -> str:
    kept = f"{facts.changed} of {facts.documents} documents have changed since they were first indexed"
    rate = (
        f"; {facts.versions} changes in {facts.days:.1f} days, so {facts.changes} by the index" if facts.changes else ""
    )
    return f"{kept}{rate}{f'; you say that they change {demands.changes}' if demands.changes else ''}."


def _how_to_measure(questions: int) -> str:
    if questions >= FEW_QUESTIONS:
        return f"{questions} questions with known answers are at hand: `doyen compare` measures which arm is best."
    return (
        f"{questions} questions with known answers are at hand; {FEW_QUESTIONS} or more let `doyen compare` measure "
        "which arm is best."
    )
