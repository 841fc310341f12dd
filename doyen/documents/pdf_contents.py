"""Pages as lines → the same without tables of contents, which are page furniture: they name sections, and hold none.

Only what is clearly a table of contents goes: titles with page numbers that rise, under a heading that says so or with
dotted leaders. Expects lines without running heads.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from doyen.documents.pdf_lines import Line

_MIN_ENTRIES = 4
_MAX_GAP_LINES = 3  # lines between entries: a part's title, a title that goes on
_MAX_TITLE_CHARS = 130
_RISING_SHARE = 0.9
_PAGES_AROUND = 10  # printed numbers differ from physical ones by a cover, or by a part bound before
_HEAD = re.compile(
    r"\W*(?:(?:table of )?contents?|beginning|(?:beginning )?pages?(?: no\.?| number)?|index(?: to .*)?|inhalt(?:sverzeichnis)?|seite"
    r"|table des matières|sommaire|índice|contenido|目录|विषय.सूची)\W*(?:\(.{0,20}\)\W*)?$",
    re.IGNORECASE,
)
_ENTRY = re.compile(r"(?=.*[^\W\d_]{3}).*\s(?:[A-Z]-)?(\d{1,4})$")
_MONEY = re.compile(r"[$€£%]|\d,\d{3}")


def drop_contents(pages: Sequence[Sequence[Line]]) -> list[list[Line]]:
    """Drop tables of contents; a document that is nothing else keeps them."""
    kept: list[list[Line]] = []
    goes_on = False
    for number, page in enumerate(pages, start=1):
        entries = _entries(page)
        goes_on = _is_contents(page, entries, number, len(pages), goes_on)
        kept.append(_without(page, entries) if goes_on else list(page))
    return kept if any(kept) else [list(page) for page in pages]


def _entries(page: Sequence[Line]) -> dict[int, int]:
    """Return the lines that are a title and a page number, with the number."""
    entries: dict[int, int] = {}
    for at, line in enumerate(page):
        apart = line.led or len(line.cells) == 2 or not line.size or _is_far(line, page)
        if apart and (match := _ENTRY.match(line.text)) and not _MONEY.search(line.text):
            entries[at] = int(match[1])
    return entries


def _is_far(line: Line, page: Sequence[Line]) -> bool:
    """Return whether an entry of three cells (number, title, page) ends at the right of the page."""
    return len(line.cells) == 3 and line.right > 0.9 * max(other.right for other in page)


def _is_contents(page: Sequence[Line], entries: dict[int, int], number: int, pages: int, goes_on: bool) -> bool:
    found = list(entries.values())
    if len(found) < _MIN_ENTRIES:
        return False
    rising = sum(a <= b for a, b in zip(found, found[1:], strict=False))
    in_range = min(found) >= number - _PAGES_AROUND and max(found) <= pages + _PAGES_AROUND
    if rising < _RISING_SHARE * (len(found) - 1) or not in_range or found[0] == found[-1]:
        return False
    first = next(iter(entries))
    headed = any(_HEAD.match(line.text) for line in page[:first][-2 * _MAX_GAP_LINES :])
    led = sum(page[at].led for at in entries) * 2 > len(entries)
    return headed or led or goes_on


def _without(page: Sequence[Line], entries: dict[int, int]) -> list[Line]:
    """Return the page without the entries, what stands between them and their heading."""
    places = list(entries)
    dropped = set(places)
    for one, other in zip(places, places[1:], strict=False):
        between = range(one + 1, other)
        if len(between) <= _MAX_GAP_LINES and all(_is_title(page[n].text) for n in between):
            dropped.update(between)
    head = places[0] - 1
    while head >= max(0, places[0] - 2 * _MAX_GAP_LINES) and (
        _is_title(page[head].text) or _HEAD.match(page[head].text)
    ):
        if _HEAD.match(page[head].text):
            dropped.update(range(head, places[0]))
        head -= 1
    return [line for n, line in enumerate(page) if n not in dropped]


def _is_title(text: str) -> bool:
    return len(text) <= _MAX_TITLE_CHARS and not text.endswith((".", ":", ";"))
