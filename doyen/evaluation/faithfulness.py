"""An answer and the passages that it cites → how much of each of its sentences stands in them.

Lexical: a sentence is supported where its numbers all stand in the cited passages, and half of its content words do, in
whatever inflection. That is no proof of sense: `entailment` reads, where a model for it is there. Knows no store.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from doyen.chunking import sentence_spans
from doyen.evaluation.metrics import CITATION_MARK, VERDICTS, tokenise
from doyen.retrieval.terms import stem_sequence

SUPPORTED = 0.5
"""Share of a sentence's content words that must stand in the passages."""
_VERDICTS = frozenset().union(*VERDICTS.values())


@dataclass(frozen=True, slots=True)
class Support:
    """Means over an answer's sentences: the share of words and numbers found, and whether each is supported."""

    share: float
    supported: float


def quote_support(answer: str, passages: Sequence[str], language: str = "en") -> Support | None:
    """Return how far cited passages support an answer; None where it says nothing that can be looked up (yes, no).

    Without passages nothing is supported.
    """
    found = [one for s in sentences(answer) if (one := _of_sentence(s, passages, language)) is not None]
    if not found:
        return None
    shares, supported = zip(*found, strict=True)
    return Support(sum(shares) / len(found), sum(supported) / len(found))


def sentences(answer: str) -> list[str]:
    """Return the sentences of an answer, without citation marks."""
    clean = CITATION_MARK.sub(" ", answer)
    return [clean[start:end].strip() for start, end in sentence_spans(clean) if clean[start:end].strip()]


def _of_sentence(sentence: str, passages: Sequence[str], language: str) -> tuple[float, float] | None:
    sought_words, sought_numbers = content(sentence, language)
    sought_words -= content(" ".join(_VERDICTS & set(tokenise(sentence, ""))), language)[0]
    if not sought_words and not sought_numbers:
        return None
    have_words, have_numbers = content("\n".join(passages), language)
    found = len(sought_words & have_words)
    share = (found + len(sought_numbers & have_numbers)) / (len(sought_words) + len(sought_numbers))
    enough = found >= SUPPORTED * len(sought_words) and sought_numbers <= have_numbers
    return share, float(enough)


def content(text: str, language: str = "en") -> tuple[set[str], set[str]]:
    """Return the stems of a text's content words, and its numbers as written in one form (1,577 is 1577, 5% is 5)."""
    numbers = {t.strip("%") for t in tokenise(text, "") if any(c.isdigit() for c in t)}
    return {s for s in stem_sequence(text, language) if not any(c.isdigit() for c in s)}, numbers - {""}
