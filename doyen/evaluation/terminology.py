"""A glossary and an answer → which of the expected terms it uses, and which words it should not have used.

The glossary is a CSV file with the columns `term` and, if wanted, `definition` and `forbidden` (words that shall not stand for
the term, divided by `;`). Words are compared by their stems, so that inflections count.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from doyen.errors import ConfigError
from doyen.retrieval.terms import stem_sequence

COLUMNS = ("term", "definition", "forbidden")
_MOST_FAULTS = 10


@dataclass(frozen=True, slots=True)
class Term:
    """A term, what it means, and the words that shall not stand for it."""

    term: str
    definition: str = ""
    forbidden: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Terminology:
    """Of one answer: the expected terms, those used rightly, and the forbidden words used (of any term)."""

    expected: tuple[str, ...]
    right: tuple[str, ...]
    forbidden: tuple[str, ...]


def read_glossary(path: Path) -> list[Term]:
    """Read a glossary.

    Raises:
        ConfigError: the file is not there, has no column `term` or an unknown one, or lines without a term or with a double
            one (all named).
    """
    hint = f"[evaluation] glossary names a CSV file with the columns {', '.join(COLUMNS)}"
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            rows = [(reader.line_num, row) for row in reader]
            columns = [name.strip().lower() for name in reader.fieldnames or ()]
    except FileNotFoundError:
        raise ConfigError(f"there is no glossary {path}", hint=hint) from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ConfigError(f"the glossary {path} cannot be read: {error}", hint=hint) from error
    strange = [name for name in columns if name not in COLUMNS]
    if "term" not in columns or strange:
        raise ConfigError(f"the glossary {path} has the columns {', '.join(columns) or 'none'}", hint=hint)
    terms = [(line, _term({(k or "").strip().lower(): v for k, v in row.items()})) for line, row in rows]
    _refuse_faults(path, terms)
    return [term for _, term in terms]


def _term(row: dict[str, str | list[str] | None]) -> Term:
    def cell(name: str) -> str:
        value = row.get(name)
        return value.strip() if isinstance(value, str) else ""

    forbidden = tuple(w.strip() for w in cell("forbidden").split(";") if w.strip())
    return Term(cell("term"), cell("definition"), forbidden)


def _refuse_faults(path: Path, terms: Sequence[tuple[int, Term]]) -> None:
    faults, seen = [], dict[str, int]()
    for line, term in terms:
        key = term.term.casefold()
        if not key:
            faults.append(f"line {line}: no term")
        elif seen.setdefault(key, line) != line:
            faults.append(f"line {line}: '{term.term}' stands on line {seen[key]} already")
    if faults:
        raise ConfigError(f"the glossary {path}: {'; '.join(faults[:_MOST_FAULTS])}", hint="mend these lines")


def terminology(answer: str, known: Sequence[str], glossary: Sequence[Term], language: str = "en") -> Terminology:
    """Compare an answer with a glossary. Expected are the terms that stand in one of the known answers.

    A term is used rightly where it stands in the answer and none of its forbidden words does; a forbidden word that is a part
    of its own term does not count there.
    """
    said = stem_sequence(answer, language)
    wanted = [stem_sequence(text, language) for text in known]
    expected, right, forbidden = [], [], []
    for term in glossary:
        own = stem_sequence(term.term, language)
        rest = _without(said, own)
        wrong = [word for word in term.forbidden if _at(rest, stem_sequence(word, language)) is not None]
        forbidden += wrong
        if any(_at(text, own) is not None for text in wanted):
            expected.append(term.term)
            if not wrong and _at(said, own) is not None:
                right.append(term.term)
    return Terminology(tuple(expected), tuple(right), tuple(dict.fromkeys(forbidden)))


def _at(text: Sequence[str], sought: Sequence[str]) -> int | None:
    """Return where some stems stand in a row; None where they do not."""
    n = len(sought)
    return next((i for i in range(len(text) - n + 1) if list(text[i : i + n]) == list(sought)), None) if n else None


def _without(text: Sequence[str], own: Sequence[str]) -> list[str]:
    """Return a text with each occurrence of a term as a gap that nothing spans."""
    left = list(text)
    while (at := _at(left, own)) is not None:
        left[at : at + len(own)] = [""]
    return left
