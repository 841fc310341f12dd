"""Lines of PDF pages → reading text: drops running heads and feet, rejoins paragraphs, finds headings.

Works on text lines alone: knows no fonts, no coordinates and no PDF library.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence

from doyen.records import Heading

MIN_FURNITURE_PAGES = 4
_FURNITURE_SHARE = 0.6
_EDGE_LINES = 3
_LONG_LINE_SHARE = 0.6
_FULL_LINE_SHARE = 0.8
_MIN_FULL_LINE_CHARS = 40
_MAX_HEADING_CHARS = 80
_NUMBER = re.compile(r"\d+")
_BARE_NUMBER = re.compile(r"[\W_]*(?:page\s+)?\d{1,4}(?:\s*(?:of|/)\s*\d{1,4})?[\W_]*$", re.IGNORECASE)
_NUMBERED = re.compile(r"(\d{1,2}(?:\.\d{1,2}){0,4})\.?[ \t]+(?=[^\W\d_])")
_NAMED = re.compile(
    r"(part|chapter|article|section|clause|item|note|appendix|annex|schedule|exhibit)[ \t]+"
    r"(\d{1,3}(?:\.\d{1,2}){0,4}[A-Za-z]?|[IVX]{1,6}|[A-Z])\b[ \t]*[.:–—-]?[ \t]*(.*)$",
    re.IGNORECASE,
)
_TOP_WORDS = frozenset(("part", "chapter", "appendix", "annex", "schedule", "exhibit"))
_SENTENCE_END = (".", ";", ",", ":", "!", "?")


def drop_furniture(pages: Sequence[Sequence[str]]) -> list[list[str]]:
    """Drop lines that repeat at the top or bottom of most pages, page numbers masked; empty lines go too.

    A page is never emptied by it.
    """
    kept = [[line for line in page if line] for page in pages]
    filled = sum(bool(page) for page in kept)
    if filled < MIN_FURNITURE_PAGES:
        return kept
    counts = Counter(key for n, page in enumerate(kept) for key in _edge_keys(page, n))
    repeated = {key for key, count in counts.items() if count >= _FURNITURE_SHARE * filled}
    return [_trim(_trim(page, n, repeated), n, repeated, from_top=False) for n, page in enumerate(kept)]


def _edge_keys(page: list[str], number: int) -> set[str]:
    """Return the forms of the first and last lines; PDFs often store the running head after the body."""
    edge = [*page[:_EDGE_LINES], *page[-_EDGE_LINES:]]
    return {key for line in edge for key in _keys(line, number)}


def _keys(line: str, page: int) -> set[str]:
    """Return the forms under which a line counts as repeated: as it is, and with one number relative to the page.

    Masking only numbers that grow with the pages keeps "the limit is 400" and "the limit is 500" apart.
    """
    if _BARE_NUMBER.match(line):
        return {"#"}
    numbers = list(_NUMBER.finditer(line))
    ends = [*numbers[:2], *numbers[2:][-2:]]
    return {line} | {f"{line[: m.start()]}\0{int(m[0][:9]) - page}\0{line[m.end() :]}" for m in ends}


def _trim(page: list[str], number: int, repeated: set[str], from_top: bool = True) -> list[str]:
    lines = page if from_top else page[::-1]
    count = 0
    while count < min(_EDGE_LINES, len(lines)) and not repeated.isdisjoint(_keys(lines[count], number)):
        count += 1
    if count == len(lines):
        return page
    return lines[count:] if from_top else lines[count:][::-1]


def join_lines(lines: Sequence[str]) -> str:
    """Rejoin the lines of one page into paragraphs, one a line, and words that were hyphenated at a line end."""
    width = _width(lines)
    joined: list[str] = []
    last = ""  # the line, as printed, that ends what is joined so far
    for line in lines:
        if joined and _is_hyphenated(last, line):
            joined[-1] = joined[-1][:-1] + line
        elif joined and _continues(last, line, width):
            joined[-1] += " " + line
        else:
            joined.append(line)
        last = line
    return "\n".join(joined)


def _width(lines: Sequence[str]) -> int:
    """Return the page's usual full line length: the 90th percentile, since one footnote line may be far longer."""
    lengths = sorted(map(len, lines))
    return lengths[len(lengths) * 9 // 10] if lengths else 0


def _is_hyphenated(line: str, following: str) -> bool:
    return len(line) > 2 and line[-1] in "-‐" and line[-2].islower() and following[:1].islower()


def _continues(line: str, following: str, width: int) -> bool:
    if len(line) < _LONG_LINE_SHARE * width or line[-1] in ".:;?!。！？।":
        return False
    if following[0].islower() or following[0] == "(":
        return True
    # A full line that ends within a phrase goes on even before a capital or a number: "filed with the / SEC".
    within_phrase = line[-1].isalpha() or line[-1] in ",–—"
    is_full = len(line) >= max(_FULL_LINE_SHARE * width, _MIN_FULL_LINE_CHARS)
    if not is_full or not within_phrase or heading_level(line) or heading_level(following):
        return False
    return following[0].isalpha() or (following[0].isdigit() and line[-1].islower())


def find_headings(text: str, start: int, end: int) -> Iterator[Heading]:
    """Yield numbered headings that stand on a line of their own in `text[start:end]`.

    Runs of candidates of one level are lists, tables or a table of contents and yield nothing.
    """
    candidates: list[tuple[int, int, str]] = []
    position = start
    for line in text[start:end].split("\n"):
        candidates.append((position, heading_level(line), line))
        position += len(line) + 1
    levels = [0, *(level for _, level, _ in candidates), 0]
    for index, (at, level, line) in enumerate(candidates, start=1):
        if level and level not in (levels[index - 1], levels[index + 1]):
            yield Heading(at, level, " ".join(line.split()))


def heading_level(line: str) -> int:
    """Return the level of a numbered heading such as `3.2 Water damage` or `Section 4 – Claims`, else 0."""
    if not 3 < len(line) < _MAX_HEADING_CHARS or line.endswith(_SENTENCE_END) or re.search(r"\.{4}|(\. ){3}", line):
        return 0
    if re.search(r"[a-z)]\s+\d{1,3}$", line):  # a table of contents: the title and its page
        return 0
    if match := _NUMBERED.match(line):
        title = line[match.end() :]
        is_title = title[0].isupper() or not title[0].islower()
        return match.group(1).count(".") + 1 if is_title and not re.search(r"\d.*\d{3}|[%$€£]", title) else 0
    if match := _NAMED.match(line):
        word, number, title = match.groups()
        if not word[0].isupper() or (title and not (title[0].isupper() or title[0] in '"“(')):
            return 0
        return 1 if word.lower() in _TOP_WORDS else number.count(".") + 2
    return 0
