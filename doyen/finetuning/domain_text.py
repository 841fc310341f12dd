"""The indexed documents as text to be learned: which of them, which are kept back to measure with, and their tokens.

Enters: an index. Leaves: texts, and windows of tokens of one document each. Knows no model and no optimiser.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from doyen.config import Settings
from doyen.examples.held_out.rows import held_documents
from doyen.finetuning.data import TokenisedExample
from doyen.ingesting import open_index
from doyen.lineage import DOCUMENT_TEXT
from doyen.records import Example, SourceSpan

HELD_CHARACTERS = 4000
_HELD_SHARE = 0.1
_FEWEST_HELD, _MOST_HELD = 3, 32
_TEXT_ENDS = ("<|endoftext|>", "<|end_of_text|>", "</s>", "<eos>")


@dataclass(frozen=True, slots=True)
class DomainText:
    """The text of one version of a document; `lone` if no other document is nearly the same."""

    document: str
    sha256: str
    text: str
    lone: bool = True


@dataclass(frozen=True, slots=True)
class Domain:
    """The texts to learn, and those kept back to measure with (none where there are few documents)."""

    learned: list[DomainText]
    held_out: list[DomainText]


def read_domain(expert: Path, settings: Settings) -> Domain:
    """Read the texts of an expert's documents: each text once, and only documents that everybody may see.

    One document in ten, chosen by its content, at most 32, is kept back; never one that has near-duplicates. Documents
    that are kept out of training for generated questions are neither read nor measured.

    Raises:
        StoreError: there is no index.
        ExamplesError: the record of generated questions is broken.
    """
    index, apart = open_index(expert, settings), held_documents(expert)
    double = {name for group in index.near_duplicates() for name in group.documents}
    texts: dict[str, DomainText] = {}
    for row in index.documents():
        text = "" if row.labels or row.id in apart else index.text(row.id)[0]
        if text.strip():
            texts.setdefault(_hash(text), DomainText(row.id, row.sha256, text, row.id not in double))
    return _divided(texts)


def _divided(texts: dict[str, DomainText]) -> Domain:
    wanted = min(_MOST_HELD, round(_HELD_SHARE * len(texts)))
    lone = sorted((key for key, text in texts.items() if text.lone))[:wanted]
    held = set(lone) if wanted >= _FEWEST_HELD else set()
    return Domain([t for key, t in texts.items() if key not in held], [texts[key] for key in sorted(held)])


def windows(text: str, tokenizer: Any, most: int, number: int = 0, *, whole: bool = True) -> list[TokenisedExample]:
    """Return a text as rows of at most `most` tokens, of which every token of the text is supervised once.

    A row begins with the token before it, or with the token that stands between texts; with `whole`, this one is
    supervised after the last token too. What looks like a special token in the text is read as letters.
    """
    mark = text_mark(tokenizer)
    ids = [
        mark,
        *tokenizer.encode(text, add_special_tokens=False, split_special_tokens=True),
        *([mark] if whole else []),
    ]
    return [TokenisedExample(tuple(ids[start : start + most]), 1, number) for start in range(0, len(ids) - 1, most - 1)]


def text_mark(tokenizer: Any) -> int:
    """Return the token that stands between texts: the model's end of text where it has one, not the end of a turn."""
    known = tokenizer.get_vocab()
    name = next((name for name in _TEXT_ENDS if name in known), tokenizer.eos_token)
    return int(known[name])


def lineage_of(texts: Sequence[DomainText]) -> list[Example]:
    """Return one row of lineage a learned document: it stands on the whole text."""
    return [
        Example((), (SourceSpan(t.document, t.sha256, None, 0, len(t.text)),), variant=DOCUMENT_TEXT) for t in texts
    ]


def domain_hash(domain: Domain) -> str:
    """Return a hash of the texts, learned and kept back."""
    parts = [t.sha256 + _hash(t.text) for t in domain.learned] + ["|"] + [_hash(t.text) for t in domain.held_out]
    return _hash(" ".join(parts))[:16]


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
