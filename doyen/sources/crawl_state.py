"""What a crawl keeps for the next one: each page's validators and links, so that an unchanged page need not be sent."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import asdict, dataclass, field
from pathlib import Path

from doyen.config import write_atomic


@dataclass(frozen=True, slots=True)
class Visit:
    """A page as it was last sent: `name` as its item has it, `links` those that were followed."""

    url: str
    name: str
    etag: str = ""
    modified: str = ""
    links: tuple[str, ...] = field(default=())

    @property
    def headers(self) -> dict[str, str]:
        """The conditions of a request that is answered with 304 where the page is unchanged."""
        conditions = {"If-None-Match": self.etag, "If-Modified-Since": self.modified}
        return {name: value for name, value in conditions.items() if value}

    @property
    def stamp(self) -> str:
        """The entity tag, or else the time of change; "" where the server sent neither."""
        return self.etag or self.modified


def load_visits(folder: Path | None, root: str) -> dict[str, Visit]:
    """Return the pages of the last crawl by their key; none where nothing (or nothing legible) was kept."""
    if folder is None:
        return {}
    try:
        rows = json.loads(state_file(folder, root).read_text(encoding="utf-8"))
        return {key: Visit(**{**row, "links": tuple(row["links"])}) for key, row in rows.items()}
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return {}  # a cache: without it everything is fetched


def save_visits(folder: Path | None, root: str, visits: dict[str, Visit]) -> None:
    """Keep the pages for the next crawl; written only where they differ."""
    if folder is None:
        return
    path = state_file(folder, root)
    text = json.dumps({key: asdict(visit) for key, visit in visits.items()}, ensure_ascii=False, indent=0)
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        folder.mkdir(parents=True, exist_ok=True)
        write_atomic(path, text)


def state_file(folder: Path, root: str) -> Path:
    """Return the file for a root: its host is legible, the rest a hash."""
    host = re.sub(r"[^\w.-]", "_", root.partition("://")[2].partition("/")[0])
    return folder / f"{host}-{hashlib.sha256(root.encode()).hexdigest()[:8]}.json"
