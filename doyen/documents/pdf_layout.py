"""Lines of PDF pages → reading text: drops running heads and feet, rejoins paragraphs and hyphenated words.

Knows no PDF library; where lines have no place on the page their lengths must do.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from statistics import median

from doyen.documents.pdf_headings import heading_level
from doyen.documents.pdf_lines import HYPHEN, Line
from doyen.documents.pdf_tables import TableLines

MIN_FURNITURE_PAGES = 4
_FURNITURE_SHARE = 0.6
_EDGE_LINES = 3
_LONG_LINE_SHARE = 0.6
_MIN_FULL_LINE_CHARS = 25
_AROUND = 4  # lines above and below that show how wide a column is
_SAME_COLUMN_EM = 3.0
_PARAGRAPH_GAP = 1.4  # a larger step than this share of the usual one starts a paragraph
_MIN_RUN_PAGES = 3
_SAME_PLACE = 3.0  # points
_YEAR = re.compile(r"\b(?:19|20)\d\d\b")
_NUMBER = re.compile(r"\d+")
_PAGE_NUMBER = re.compile(
    r"[-–—|•\s]*(?:(?:page|p\.|seite|página|pagina|पृष्ठ|第)\s*|[A-Z]-)?(\d{1,5})\s*(?:(?:of|von|de|di|sur|/)\s*\d{1,5}|页)?[-–—|•\s]*$",
    re.IGNORECASE,
)
_COMPOUND = re.compile(r"\w+(?:-\w+)+")


@dataclass(frozen=True, slots=True)
class Block:
    """A paragraph, heading or table row as one line of text; `line` is its first printed line, `table` its table."""

    text: str
    line: Line
    table: TableLines | None = None


def drop_furniture(pages: Sequence[Sequence[Line]]) -> list[list[Line]]:
    """Drop lines that repeat at the top or bottom of most pages, page numbers masked.

    Left and right pages may have heads of their own, and so may chapters: their first page keeps them. A page is never
    emptied by it.
    """
    edges = [_by_height(page) for page in pages]
    repeated = _repeated(pages, edges)
    runs = _runs(pages, edges)
    for run, numbers in zip(runs, _page_numbers(pages, edges), strict=True):
        run |= numbers
    kept = []
    for number, (page, order) in enumerate(zip(pages, edges, strict=True)):
        known = repeated[number % 2]
        dropped = {
            *_trimmed(page, order, number, known, runs[number]),
            *_trimmed(page, order[::-1], number, known, runs[number]),
        }
        kept.append([line for n, line in enumerate(page) if n not in dropped] or list(page))
    return kept


def _by_height(page: Sequence[Line]) -> list[int]:
    """Return the order of the lines from top to bottom; PDFs often draw the running head after the body."""
    if not all(line.size for line in page):
        return list(range(len(page)))
    return sorted(range(len(page)), key=lambda n: (-round(page[n].base), page[n].left))


def _repeated(pages: Sequence[Sequence[Line]], edges: Sequence[Sequence[int]]) -> tuple[set[str], set[str]]:
    """Return the forms of the edge lines that repeat, for odd and for even pages."""
    counts: tuple[Counter[str], Counter[str]] = (Counter(), Counter())
    filled = [0, 0]
    for number, (page, order) in enumerate(zip(pages, edges, strict=True)):
        filled[number % 2] += bool(page)
        lines = [page[n].text for n in (*order[:_EDGE_LINES], *order[-_EDGE_LINES:])]
        counts[number % 2].update({key for line in lines for key in _keys(line, number)})
    both = counts[0] + counts[1]
    everywhere = {
        key for key, count in both.items() if count >= max(_FURNITURE_SHARE * sum(filled), MIN_FURNITURE_PAGES)
    }
    sides = [
        {
            key
            for key, count in counts[side].items()
            if count >= max(_FURNITURE_SHARE * filled[side], MIN_FURNITURE_PAGES)
        }
        for side in (0, 1)
    ]
    return everywhere | sides[0], everywhere | sides[1]


def _keys(line: str, page: int) -> set[str]:
    """Return the forms under which a line counts as repeated: as it is, and with one number relative to the page.

    Masking only numbers that grow with the pages keeps "the limit is 400" and "the limit is 500" apart.
    """
    numbers = list(_NUMBER.finditer(line))
    ends = [*numbers[:2], *numbers[2:][-2:]]
    return {line} | {f"{line[: m.start()]}\0{int(m[0][:9]) - page}\0{line[m.end() :]}" for m in ends}


def _runs(pages: Sequence[Sequence[Line]], edges: Sequence[Sequence[int]]) -> list[set[str]]:
    """Return for every page the edge lines that the pages before it have in the same place: the heads of a chapter."""
    dropped: list[set[str]] = [set() for _ in pages]
    lengths: dict[str, tuple[int, float]] = {}
    for number, (page, order) in enumerate(zip(pages, edges, strict=True)):
        lines = [page[n] for n in {*order[:_EDGE_LINES], *order[-_EDGE_LINES:]}]
        now: dict[str, tuple[int, float]] = {}
        for line in lines:
            if not line.size or _YEAR.search(line.text):
                continue
            length, base = lengths.get(line.text, (0, line.base))
            now[line.text] = (length + 1 if abs(base - line.base) < _SAME_PLACE else 1, line.base)
            if now[line.text][0] >= _MIN_RUN_PAGES:
                for earlier in range(number - now[line.text][0] + 2, number + 1):
                    dropped[earlier].add(line.text)
        lengths = now
    return dropped


def _page_numbers(pages: Sequence[Sequence[Line]], edges: Sequence[Sequence[int]]) -> list[set[str]]:
    """Return for every page the edge lines that are a number which the page before or after counts on."""
    found: list[dict[int, str]] = [{}]
    for page, order in zip(pages, edges, strict=True):
        texts = [page[n].text for n in (*order[:_EDGE_LINES], *order[-_EDGE_LINES:])]
        found.append({int(m[1]): text for text in texts if (m := _PAGE_NUMBER.match(text))})
    found.append({})
    if sum(map(bool, found)) < MIN_FURNITURE_PAGES:
        return [set() for _ in pages]
    around = zip(found, found[1:], found[2:], strict=False)
    return [{text for n, text in here.items() if n - 1 in before or n + 1 in after} for before, here, after in around]


def _trimmed(
    page: Sequence[Line], order: Sequence[int], number: int, repeated: set[str], known: set[str]
) -> Iterator[int]:
    for n in order[:_EDGE_LINES]:
        if page[n].text not in known and repeated.isdisjoint(_keys(page[n].text, number)):
            return
        yield n


def compounds(pages: Sequence[Sequence[Line]]) -> frozenset[str]:
    """Return the document's words with a hyphen within a line, in lower case: these keep it at a line's end."""
    words = (word for page in pages for line in page if "-" in line.text for word in _COMPOUND.findall(line.text))
    return frozenset(word.lower() for word in words)


def join_lines(
    lines: Sequence[Line], tables: Sequence[TableLines] = (), hyphened: frozenset[str] = frozenset()
) -> list[Block]:
    """Rejoin the lines of one page into paragraphs, and words that were hyphenated at a line end; rows stay alone."""
    inside = {n: table for table in tables for n in range(table.first, table.last)}
    step = _usual_step(lines)
    blocks: list[Block] = []
    for n, line in enumerate(lines):
        last = lines[n - 1] if n else line
        follows = bool(blocks) and n not in inside and n - 1 not in inside
        if follows and (word := _rejoined(blocks[-1].text, last.text, line.text, hyphened)) is not None:
            blocks[-1] = replace(blocks[-1], text=word)
        elif follows and _continues(lines, n, step):
            blocks[-1] = replace(blocks[-1], text=f"{blocks[-1].text} {line.text}")
        else:
            blocks.append(Block(line.text, line, inside.get(n)))
    return [replace(block, text=_without_marks(block.text, hyphened)) for block in blocks]


def _usual_step(lines: Sequence[Line]) -> float:
    steps = [a.base - b.base for a, b in zip(lines, lines[1:], strict=False) if 0 < a.base - b.base < 3 * a.size]
    return median(steps) if steps else 0.0


def _rejoined(text: str, last: str, following: str, hyphened: frozenset[str]) -> str | None:
    """Return the text with the following line where a hyphen at its end asks for that."""
    if last.endswith(HYPHEN):
        return text[:-1] + _hyphen(text[:-1], following, hyphened) + following
    if len(last) > 2 and last[-1] in "-‐" and last[-2].islower() and following[:1].islower():
        return text[:-1] + _hyphen(text[:-1], following, hyphened) + following
    return None


def _hyphen(before: str, after: str, hyphened: frozenset[str]) -> str:
    """Return the hyphen of a compound that is broken at it, or nothing for a word that is broken."""
    head = re.search(r"[\w-]*$", before)
    tail = re.match(r"\w*", after)
    if head is None or tail is None or not tail[0] or not head[0]:
        return "-"
    known = f"{head[0]}-{tail[0]}".lower() in hyphened
    named = tail[0][0].isdigit() or head[0][-1].isdigit() or (tail[0][0].isupper() and not head[0].isupper())
    return "-" if known or named else ""


def _without_marks(text: str, hyphened: frozenset[str]) -> str:
    """Resolve marks that are left: within a row's label that was wrapped, or before nothing."""
    while (at := text.find(HYPHEN)) >= 0:
        text = text[:at] + _hyphen(text[:at], text[at + 1 :], hyphened) + text[at + 1 :]
    return text


def _continues(lines: Sequence[Line], n: int, step: float) -> bool:
    """Return whether line `n` goes on with the paragraph of the line before it."""
    last, line = lines[n - 1], lines[n]
    if last.text[-1] in ".:;?!。！？।" or abs(last.size - line.size) > 0.15 * line.size:
        return False
    width, room = _width_and_room(lines, n - 1)
    if len(last.text) < _LONG_LINE_SHARE * width or not _is_near(last, line, step):
        return False
    if line.text[0].islower() or line.text[0] == "(":
        return True
    # A full line that ends within a phrase goes on even before a capital or a number: "filed with the / SEC".
    word = len(line.text.split(" ", 1)[0])
    is_full = room <= word + 2 and len(last.text) >= _MIN_FULL_LINE_CHARS
    within_phrase = last.text[-1].isalpha() or last.text[-1] in ",–—’”)"
    if not is_full or not within_phrase or last.bold != line.bold or heading_level(line.text):
        return False
    if heading_level(last.text) and not last.bold:
        return False
    return line.text[0].isalpha() or line.text[0] in '“"$€£' or (line.text[0].isdigit() and last.text[-1].islower())


def _is_near(last: Line, line: Line, step: float) -> bool:
    """Return whether the step down is that between lines of a paragraph; text may also go on in the next column."""
    if not line.size or not step:
        return True
    down = last.base - line.base
    return down < 0 or down <= max(_PARAGRAPH_GAP * step, 1.6 * line.size)


def _width_and_room(lines: Sequence[Line], n: int) -> tuple[float, float]:
    """Return the width of the line's column and what is left of it after the line, both in the line's letters."""
    line = lines[n]
    around = lines[max(0, n - _AROUND) : n + _AROUND + 1]
    if not line.size:
        # The 90th percentile of all lengths, since one footnote line may be far longer.
        lengths = sorted(len(other.text) for other in lines)
        width = lengths[len(lengths) * 9 // 10]
        return width, 0.8 * width - len(line.text)
    near = _SAME_COLUMN_EM * line.size
    right = max(o.right for o in around if abs(o.left - line.left) <= near and o.size <= 1.2 * line.size)
    letter = max((line.right - line.left) / len(line.text), 0.01)
    return (right - line.left) / letter, (right - line.right) / letter
