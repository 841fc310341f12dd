"""Markdown → text kept as it is, with the exact place of every heading and table. Renders nothing."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from doyen.documents.extracted import Extracted, one_line, table_row
from doyen.documents.plain import clean_text, decode_text
from doyen.records import Heading, Table

_FRONT_MATTER = re.compile(r"\A---[ \t]*\n(.*?\n)??(?:---|\.\.\.)[ \t]*(?:\n|\Z)", re.DOTALL)
_FRONT_TITLE = re.compile(r"^title[ \t]*:[ \t]*(.+?)[ \t]*$", re.MULTILINE)
_FENCE = re.compile(r"\s*(`{3,}|~{3,})(.*)$")
_ATX = re.compile(r" {0,3}(#{1,6})(?:[ \t]+(.*))?$")
_SETEXT = re.compile(r" {0,3}(=+|-+)[ \t]*$")
_NOT_SETEXT_TEXT = re.compile(r" {4}|\t| {0,3}(?:[-*+>|#=]|\d+[.)] )")
_TAG = re.compile(r"</?[A-Za-z][^>]*>")
_LINK = re.compile(r"!?\[([^\]]*)\]\([^)]*\)")
_ESCAPE = re.compile(r"\\([!-/:-@\[-`{-~])")
_TABLE_RULE = re.compile(r"\s*\|?(?:\s*:?-+:?\s*\|)*\s*:?-+:?\s*\|?\s*")
_CELL_END = re.compile(r"(?<!\\)\|")
_CLOSING = re.compile(r"[ \t]+#+[ \t]*$")


def read_markdown(data: bytes, path: Path) -> Extracted:
    """Read a Markdown file; the title is that of the YAML front matter, else the first level-1 heading."""
    text = clean_text(decode_text(data, path.name)).replace("\f", "")
    front = _FRONT_MATTER.match(text)
    lines = list(_lines_outside_code(text, front.end() if front else 0))
    headings = tuple(_headings(lines))
    title = _front_title(front.group(1) or "") if front else ""
    return Extracted(
        text,
        title or next((h.title for h in headings if h.level == 1), ""),
        headings=headings,
        tables=tuple(_tables(lines)),
    )


def _front_title(front: str) -> str:
    match = _FRONT_TITLE.search(front)
    return one_line(match.group(1).strip("\"'")) if match else ""


def _lines_outside_code(text: str, start: int) -> Iterator[tuple[int, str]]:
    """Yield every line with its start; lines of fenced code are empty (CommonMark 0.31, section 4.5)."""
    fence = ""
    for line_start, line in _lines(text, start):
        mark = _FENCE.match(line)
        if fence:
            if mark and mark.group(1).startswith(fence) and not mark.group(2).strip():
                fence = ""
            line = ""
        elif mark and not (mark.group(1)[0] == "`" and "`" in mark.group(2)):
            fence, line = mark.group(1), ""
        yield line_start, line


def _headings(lines: Sequence[tuple[int, str]]) -> Iterator[Heading]:
    """Yield ATX and setext headings (CommonMark 0.31, sections 4.2 and 4.3)."""
    before, previous, previous_start = "", "", 0  # a setext heading is known one line late
    for line_start, line in lines:
        if atx := _ATX.match(line):
            yield from _heading(line_start, len(atx.group(1)), _CLOSING.sub("", atx.group(2) or ""))
            line = ""
        elif (under := _SETEXT.match(line)) and previous.strip() and not before.strip():
            if not _NOT_SETEXT_TEXT.match(previous):
                yield from _heading(previous_start, 1 if under.group(1)[0] == "=" else 2, previous)
            line = ""
        before, previous, previous_start = previous, line, line_start


def _tables(lines: Sequence[tuple[int, str]]) -> Iterator[Table]:
    """Yield pipe tables: a row, a rule, and the rows down to a line without a pipe (GFM 0.29, section 4.10)."""
    i = 1
    while i < len(lines):
        (start, head), (_, rule) = lines[i - 1], lines[i]
        if not ("|" in head and "|" in rule and _TABLE_RULE.fullmatch(rule)):
            i += 1
            continue
        while i + 1 < len(lines) and "|" in lines[i + 1][1]:
            i += 1
        last_start, last = lines[i]
        cells = _CELL_END.split(head.strip().strip("|"))
        yield Table(start, last_start + len(last), table_row([_plain(cell) for cell in cells]))
        i += 2


def _lines(text: str, start: int) -> Iterator[tuple[int, str]]:
    while start < len(text):
        end = text.find("\n", start)
        end = len(text) if end < 0 else end
        yield start, text[start:end]
        start = end + 1


def _heading(start: int, level: int, raw: str) -> Iterator[Heading]:
    title = one_line(_plain(raw)).rstrip("#").rstrip()
    if title:
        yield Heading(start, level, title)


def _plain(raw: str) -> str:
    """Return inline Markdown without tags, link targets, escapes, bold and code marks."""
    return _ESCAPE.sub(r"\1", _LINK.sub(r"\1", _TAG.sub("", raw))).replace("**", "").replace("`", "")
