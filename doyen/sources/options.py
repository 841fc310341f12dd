"""The options of sources, as `doyen ingest` takes them. Knows no source."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

WEB_OPTIONS = frozenset({"depth", "max_pages", "delay_s", "timeout_s", "whole_site"})
DATABASE_OPTIONS = frozenset({"tables", "query", "key", "updated_at", "labels_column", "batch_rows"})


@dataclass(frozen=True, slots=True)
class SourceOptions:
    """How web sites and databases are read; folders have no options."""

    depth: int = 5
    """Web: how many links away from the start page a page may be; 0 reads the start page alone."""
    max_pages: int = 1000
    """Web: how many pages are read at most."""
    delay_s: float = 0.5
    """Web: seconds between two requests; a longer `Crawl-delay` of the site's robots.txt goes first (up to 10 s)."""
    timeout_s: float = 30.0
    """Web: seconds to wait for the server at each step."""
    whole_site: bool = False
    """Web: follow links to the whole host, not only below the start page's folder."""
    max_bytes: int = 256 * 2**20
    """Web and remote folders: the largest file that is fetched."""
    tables: tuple[str, ...] = ()
    """Database: the tables or views to read (`table` or `schema.table`); empty: every table and no view."""
    query: str = ""
    """Database: one SELECT whose rows are read in place of tables."""
    key: tuple[str, ...] = ()
    """Database: the columns that name a row, where there is no primary key or the rows come from `query`."""
    updated_at: str = ""
    """Database: a column that changes whenever its row does; rows with the value that was indexed are not read."""
    labels_column: str = ""
    """Database: a column with the labels of the row (who may see it), separated by commas."""
    labels: tuple[str, ...] | None = None
    """Who may see what has no labels of its own (doyen/labelling.py); None: as it was ingested before."""
    batch_rows: int = 500
    """Database: rows fetched in one query."""
    state: Path | None = None
    """Web: the folder where a crawl keeps what it needs to ask for changed pages only; None: fetch all again."""
