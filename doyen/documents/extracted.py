"""What a reader hands back: text with its pages, headings and rows, before it becomes a Document.

Knows no file format; what several readers share (writing text with its map, page joining, titles) stands here.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

from doyen.records import Heading, Page, Record, Table

PAGE_SEPARATOR = "\n\n"
MAX_TITLE_CHARS = 200
MAX_VALUE_CHARS = 1000
_NEWLINES = str.maketrans({"\r": "\n", "\x0b": "\n", "\x0c": "\n", "\x85": "\n", "\u2028": "\n", "\u2029": "\n"})
_CONTROL = re.compile("[\x00-\x08\x0e-\x1f\x7f-\x9f\ufeff\ufffe\uffff\ud800-\udfff]")


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


class TextWriter:
    """Collects the text of a file block by block and notes where its headings, rows and pages stand.

    What is written is cleaned first, so that every offset is exact by construction.
    """

    def __init__(self) -> None:
        self.headings: list[Heading] = []
        self.records: list[Record] = []
        self.pages: list[Page] = []
        self.length = 0
        self.notes: list[tuple[str, str]] = []
        """Metadata that what writes the text adds, such as where a table's rows stand."""
        self._parts: list[str] = []
        self._page_start = -1  # of the open page; -1 before its first block
        self._page_open = False

    def block(self, text: str, *, tight: bool = False) -> int:
        """Write a block after a blank line (`tight`: on a new line) and return its start, or -1 for no text."""
        text = clean_block(text)
        if not text:
            return -1
        starts_page = self._page_open and self._page_start < 0
        separator = "" if not self._parts else "\n" if tight and not starts_page else PAGE_SEPARATOR
        start = self.length + len(separator)
        self._parts.append(separator + text)
        self.length = start + len(text)
        if starts_page:
            self._page_start = start
        return start

    def heading(self, text: str, level: int) -> None:
        """Write a heading on a line of its own."""
        text = one_line(text)
        start = self.block(text)
        if start >= 0:
            self.headings.append(Heading(start, level, clean_block(text)))

    def record(self, key: str, text: str, *, tight: bool = True) -> None:
        """Write a row, which starts on a new line."""
        start = self.block(text, tight=tight)
        if start >= 0:
            self.records.append(Record(key, start, self.length))

    def page(self) -> None:
        """Start the next page; one on which nothing is written keeps its number and is empty."""
        self._close_page()
        self._page_open, self._page_start = True, -1

    def insert(self, part: Extracted) -> None:
        """Write the text of another extraction with its headings and rows; its pages are not kept."""
        if not part.text.strip():
            return
        offset = self.length + (len(PAGE_SEPARATOR) if self._parts else 0)
        self._parts.append((PAGE_SEPARATOR if self._parts else "") + part.text)
        self.length = offset + len(part.text)
        self.headings += [replace(h, start=h.start + offset) for h in part.headings]
        self.records += [replace(r, start=r.start + offset, end=r.end + offset) for r in part.records]
        if self._page_open and self._page_start < 0:
            self._page_start = offset

    def extracted(self, title: str = "", *, metadata: tuple[tuple[str, str], ...] = (), **kept: Any) -> Extracted:
        """Return what was written; `kept` are further fields of Extracted."""
        self._close_page()
        self._page_open = False
        return Extracted(
            "".join(self._parts),
            one_line(clean_block(title)),
            pages=tuple(self.pages),
            headings=tuple(self.headings),
            records=tuple(self.records),
            metadata=(*metadata, *self.notes),
            **kept,
        )

    def _close_page(self) -> None:
        if self._page_open:
            start = self._page_start if self._page_start >= 0 else self.length
            self.pages.append(Page(len(self.pages) + 1, start, self.length))


def clean_block(text: str) -> str:
    r"""Normalise newlines, drop control characters and what cannot be encoded, and strip the block's outer blanks."""
    if text.isprintable():  # most lines are, and this is told fast
        return text.rstrip()
    text = _CONTROL.sub("", text.replace("\r\n", "\n").translate(_NEWLINES))
    return text.strip("\n").rstrip()


def named_values(*pairs: tuple[str, object]) -> tuple[tuple[str, str], ...]:
    """Return the pairs that have a value as metadata, each value on one line; dates as ISO 8601."""
    texts = ((name, value.isoformat() if isinstance(value, date) else value) for name, value in pairs)
    cleaned = ((name, " ".join(clean_block(str(value)).split())[:MAX_VALUE_CHARS]) for name, value in texts if value)
    return tuple((name, value) for name, value in cleaned if value)


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
