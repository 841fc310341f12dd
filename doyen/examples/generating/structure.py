"""What the form of a document says: rows of tables, headings and their first sentence, "name: value" lines → facts."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from doyen.chunking import sentence_spans
from doyen.chunking.cutting import SECTION_SEPARATOR
from doyen.examples.generating.facts import Fact, fact_of
from doyen.examples.generating.languages import LANGUAGES
from doyen.records import Chunk, Kind
from doyen.words import words

_NUMBERING = re.compile(r"^(?:[A-Z]?\d+|[A-Z]|[IVX]+)(?:[.\d]*\d)?[.)]?\s+(?=\w)")
_LONGEST_CELL = 80
_MOST_ROW_FACTS = 3
_HEADING_ANSWER = (4, 28)  # words
_PAIR = re.compile(r"\s*([^:;]{1,40}): ([^;]{1,80})(?:;|$)")
_SENTENCE_LIKE = re.compile(r"[.!?]\s")


@dataclass(frozen=True, slots=True)
class _Row:
    start: int
    end: int
    cells: tuple[tuple[str, str], ...]  # column name, value


def title_of(chunk: Chunk) -> str:
    """Return the title of a chunk's document."""
    return chunk.context.split("\n", 1)[0].split(SECTION_SEPARATOR, 1)[0].strip()


def plain_heading(title: str) -> str:
    """Return a heading without its number."""
    return _NUMBERING.sub("", title.strip()).strip(" :.")


def table_facts(chunk: Chunk) -> list[Fact]:
    """Return facts of a table's cells: the row by its first cell, the column by its header → the cell.

    Rows whose first cell is not the only one of its name in the passage are left out.
    """
    rows = [*_piped_rows(chunk), *_named_rows(chunk.text)]
    keys = Counter(row.cells[0][1] for row in rows)
    language = LANGUAGES.get(chunk.language or "en")
    found = []
    for row in rows:
        key_column, key = row.cells[0]
        if keys[key] > 1 or not words(key):
            continue
        name = key if re.search(r"[^\W\d_]{3}", key) else f"{_spaced(key_column)} {key}"
        for column, value in row.cells[1 : 1 + _MOST_ROW_FACTS]:
            if not words(value) or not words(column) or len(value) > _LONGEST_CELL:
                continue
            forms = language.cell if language else ("{row}: {column}?",)
            asked = [form.format(column=_spaced(column), row=name) for form in forms]
            asked = [f"{q[:1].upper()}{q[1:]}" for q in asked]
            kind: Kind = "number" if re.fullmatch(r"\W*\d[\d.,\s]*\W*", value) else "span"
            found.append(fact_of(chunk, (row.start, row.end), asked, value, kind=kind, rule="table"))
    return found


def _spaced(name: str) -> str:
    return " ".join(name.replace("_", " ").split())


def _piped_rows(chunk: Chunk) -> Iterator[_Row]:
    """Yield rows of cells divided by bars; the header is the first such line, or stands in the chunk's context."""
    context_header = next((line for line in chunk.context.split("\n")[1:] if line.count("|") >= 1), "")
    header: tuple[str, ...] = _cells(context_header) if context_header else ()
    at_table = bool(header)
    position = 0
    for line in chunk.text.split("\n"):
        start, position = position, position + len(line) + 1
        if line.count("|") < 1 or (line.count("|") == 1 and line.strip().startswith("|")):
            if line.strip():
                header, at_table = (), False
            continue
        cells = _cells(line)
        if all(set(cell) <= set("-: ") for cell in cells):
            continue
        if not at_table:
            header, at_table = cells, True
        elif len(cells) == len(header) and cells[0] and all(map(words, header)):
            yield _Row(start, start + len(line), tuple(zip(header, cells, strict=True)))


def _cells(line: str) -> tuple[str, ...]:
    return tuple(
        re.sub(r"[*`_]{1,2}(?=\S)|(?<=\S)[*`]{1,2}", "", cell).strip() for cell in line.strip().strip("|").split("|")
    )


def _named_rows(text: str) -> Iterator[_Row]:
    """Yield lines of three and more "name: value" pairs, as spreadsheets and CSV files are written."""
    position = 0
    for line in text.split("\n"):
        start, position = position, position + len(line) + 1
        pairs = _PAIR.findall(line)
        if len(pairs) >= 3 and sum(len(a) + len(b) + 3 for a, b in pairs) >= 0.9 * len(line):
            yield _Row(start, start + len(line), tuple((a.strip(), b.strip()) for a, b in pairs))


def heading_facts(chunk: Chunk) -> list[Fact]:
    """Return the fact that stands under the passage's own heading: its first sentence."""
    levels = [part.strip() for part in chunk.context.split("\n", 1)[0].split(SECTION_SEPARATOR) if part.strip()]
    if len(levels) < 2:
        return []
    heading, title = plain_heading(levels[-1]), levels[0]
    language = LANGUAGES.get(chunk.language or "en")
    at = chunk.text.find(levels[-1])
    if at < 0 or language is None or not 1 <= len(words(heading)) <= 8 or heading.endswith("?"):
        return _asked_headings(chunk, levels[-1], at)
    span = _first_sentence(chunk.text, at + len(levels[-1]))
    if span is None:
        return []
    asked = [form.format(title=title, heading=heading) for form in language.about]
    return [fact_of(chunk, span, asked, chunk.text[slice(*span)], kind="long", rule="heading")]


def _asked_headings(chunk: Chunk, heading: str, at: int) -> list[Fact]:
    """A heading that is a question is one."""
    if at < 0 or not heading.strip().endswith("?"):
        return []
    span = _first_sentence(chunk.text, at + len(heading))
    asked = [plain_heading(heading)]
    return [fact_of(chunk, span, asked, chunk.text[slice(*span)], kind="long", rule="heading")] if span else []


def _first_sentence(text: str, after: int) -> tuple[int, int] | None:
    low, high = _HEADING_ANSWER
    for start, end in sentence_spans(text):
        if start >= after:
            sentence = text[start:end]
            fit = low <= len(words(sentence)) <= high and sentence.rstrip().endswith((".", "!")) and "|" not in sentence
            return (start, end) if fit and sentence[0].isupper() else None
    return None


def rows_of(text: str) -> Sequence[tuple[int, int]]:
    """Return the spans of lines that are table rows: sentences are not sought in them."""
    found, position = [], 0
    for line in text.split("\n"):
        start, position = position, position + len(line) + 1
        if line.count("|") >= 1 or len(_PAIR.findall(line)) >= 3 or re.match(r"\s*Table .{1,80}: columns ", line):
            found.append((start, start + len(line)))
    return found
