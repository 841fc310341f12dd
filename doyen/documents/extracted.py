"""What a reader hands back: text with its pages, headings and rows, before it becomes a Document.

Knows no file format; the small rules that several readers share (page joining, titles) stand here.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from doyen.records import Heading, Page, Record, Table

PAGE_SEPARATOR = "\n\n"
MAX_TITLE_CHARS = 200


@dataclass(frozen=True, slots=True)
class Part:
    """A file within a file: an attachment of a mail, a member of an archive. `name` is its path in there."""

    name: str
    data: bytes


@dataclass(frozen=True, slots=True)
class Extracted:
    """The text of one file and the map of its characters; an empty `title` means that the file names none.

    `parts` are documents of their own; `warnings` say what of the file could not be read (a page without text).
    """

    text: str
    title: str = ""
    pages: tuple[Page, ...] = ()
    headings: tuple[Heading, ...] = ()
    records: tuple[Record, ...] = ()
    metadata: tuple[tuple[str, str], ...] = ()
    tables: tuple[Table, ...] = ()
    parts: tuple[Part, ...] = ()
    warnings: tuple[str, ...] = ()


def join_pages(texts: Sequence[str]) -> tuple[str, tuple[Page, ...]]:
    """Join page texts with a blank line and return the whole with the exact offsets of each page.

    An empty page keeps its number and has `start == end`.
    """
    pages: list[Page] = []
    position = 0
    for number, text in enumerate(texts, start=1):
        pages.append(Page(number, position, position + len(text)))
        position += len(text) + len(PAGE_SEPARATOR)
    return PAGE_SEPARATOR.join(texts), tuple(pages)


def title_from_path(path: Path) -> str:
    """Return the file's stem as words: `water_damage-2024.md` → `Water damage 2024`."""
    words = re.sub(r"[\s_-]+", " ", path.stem).strip() or path.name
    return words[0].upper() + words[1:]


def one_line(text: str) -> str:
    """Collapse whitespace to single spaces and clip to the length of a title."""
    return " ".join(text.split())[:MAX_TITLE_CHARS].rstrip()


def table_row(cells: Sequence[str]) -> str:
    """Return a table row as `cell | cell | cell`; trailing empty cells go, an empty row gives ''."""
    texts = [" ".join(cell.split()) for cell in cells]
    while texts and not texts[-1]:
        texts.pop()
    return re.sub(r" {2,}", " ", " | ".join(texts)).strip()
