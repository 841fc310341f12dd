"""Markdown → text kept as it is, with the exact place of every heading. Renders nothing."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from doyen.documents.extracted import Extracted, one_line
from doyen.documents.plain import clean_text, decode_text
from doyen.records import Heading

_FRONT_MATTER = re.compile(r"\A---[ \t]*\n(.*?\n)??(?:---|\.\.\.)[ \t]*(?:\n|\Z)", re.DOTALL)
_FRONT_TITLE = re.compile(r"^title[ \t]*:[ \t]*(.+?)[ \t]*$", re.MULTILINE)
_FENCE = re.compile(r"\s*(`{3,}|~{3,})(.*)$")
_ATX = re.compile(r" {0,3}(#{1,6})(?:[ \t]+(.*))?$")
_SETEXT = re.compile(r" {0,3}(=+|-+)[ \t]*$")
_NOT_SETEXT_TEXT = re.compile(r" {4}|\t| {0,3}(?:[-*+>|#=]|\d+[.)] )")
_TAG = re.compile(r"</?[A-Za-z][^>]*>")
_LINK = re.compile(r"!?\[([^\]]*)\]\([^)]*\)")
_ESCAPE = re.compile(r"\\([!-/:-@\[-`{-~])")
_CLOSING = re.compile(r"[ \t]+#+[ \t]*$")


def read_markdown(data: bytes, path: Path) -> Extracted:
    """Read a Markdown file; the title is that of the YAML front matter, else the first level-1 heading."""
    text = clean_text(decode_text(data, path.name)).replace("\f", "")
    front = _FRONT_MATTER.match(text)
    headings = tuple(_headings(text, front.end() if front else 0))
    title = _front_title(front.group(1) or "") if front else ""
    return Extracted(text, title or next((h.title for h in headings if h.level == 1), ""), headings=headings)


def _front_title(front: str) -> str:
    match = _FRONT_TITLE.search(front)
    return one_line(match.group(1).strip("\"'")) if match else ""


def _headings(text: str, start: int) -> Iterator[Heading]:
    """Yield ATX and setext headings outside fenced code (CommonMark 0.31, sections 4.2, 4.3 and 4.5)."""
    fence = ""
    before, previous, previous_start = "", "", start  # a setext heading is known one line late
    for line_start, line in _lines(text, start):
        mark = _FENCE.match(line)
        if fence:
            if mark and mark.group(1).startswith(fence) and not mark.group(2).strip():
                fence = ""
            line = ""
        elif mark and not (mark.group(1)[0] == "`" and "`" in mark.group(2)):
            fence, line = mark.group(1), ""
        elif atx := _ATX.match(line):
            yield from _heading(line_start, len(atx.group(1)), _CLOSING.sub("", atx.group(2) or ""))
            line = ""
        elif (under := _SETEXT.match(line)) and previous.strip() and not before.strip():
            if not _NOT_SETEXT_TEXT.match(previous):
                yield from _heading(previous_start, 1 if under.group(1)[0] == "=" else 2, previous)
            line = ""
        before, previous, previous_start = previous, line, line_start


def _lines(text: str, start: int) -> Iterator[tuple[int, str]]:
    while start < len(text):
        end = text.find("\n", start)
        end = len(text) if end < 0 else end
        yield start, text[start:end]
        start = end + 1


def _heading(start: int, level: int, raw: str) -> Iterator[Heading]:
    title = _LINK.sub(r"\1", _TAG.sub("", raw))
    title = one_line(_ESCAPE.sub(r"\1", title).replace("**", "").replace("`", "")).rstrip("#").rstrip()
    if title:
        yield Heading(start, level, title)
