"""A statement's rows → citations: the lines of the table, verbatim, that the answer was calculated from.

Enters: the ids of the rows that a statement reads. Leaves: Citations with the statement, the rows' keys and their number.
Running the statement over these rows alone gives the same answer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from doyen.citing import MAX_QUOTE
from doyen.records import Citation
from doyen.tables.loading import LoadedTable
from doyen.tables.rows import RowPlace

MOST_QUOTED = 3
"""Rows that are quoted of an answer from many; the keys of the others are named."""
MOST_KEYS = 100


def cite_rows(
    table: LoadedTable, sql: str, row_ids: Sequence[int], row_count: int, text_of: Callable[[str], str]
) -> tuple[Citation, ...]:
    """Return citations of the first rows, at most three; where no row fits, of the line that describes the table."""
    keys = tuple(table.places[n].key for n in row_ids[:MOST_KEYS])
    places = [table.places[n] for n in row_ids[:MOST_QUOTED]]
    if not places:
        places = [_description(table, text_of)]
    return tuple(_citation(table, place, sql, keys, row_count, text_of) for place in places)


def _citation(
    table: LoadedTable, place: RowPlace, sql: str, keys: tuple[str, ...], count: int, text_of: Callable[[str], str]
) -> Citation:
    end = min(place.end, place.start + MAX_QUOTE)
    quote = text_of(place.document)[place.start : end]
    own = table.table
    is_file = place.document == own.document
    return Citation(
        document=place.document,
        page=None,
        section=own.name if is_file and own.note is not None and own.note.key_prefix else None,
        start=place.start,
        end=place.start + len(quote),
        quote=quote,
        sha256=own.sha256 if is_file else place.sha256,
        version=own.version if is_file else place.version,
        sql=sql,
        rows=keys,
        row_count=count,
    )


def _description(table: LoadedTable, text_of: Callable[[str], str]) -> RowPlace:
    """Return the place of the line above the rows that tells their columns."""
    document = table.table.document
    text = text_of(document)
    note = table.table.note
    start = max(text.rfind(f"Table {table.table.name}: columns", 0, note.start), 0) if note is not None else 0
    end = text.find("\n", start)
    return RowPlace(document, "", start, len(text) if end < 0 else end)
