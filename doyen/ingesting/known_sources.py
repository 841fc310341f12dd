"""The expert's `sources.json`: what has been ingested, so that it can be ingested again without naming it.

Holds no credentials: of a database or a site only the URI without them.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from doyen.config import write_atomic
from doyen.sources import SourceOptions

SOURCES_FILE = "sources.json"


@dataclass(frozen=True, slots=True)
class KnownSource:
    """A source as the user named it: absolute path or URI, NAME, and the options that differ from the default."""

    spec: str
    name: str | None = None
    options: dict[str, Any] = field(default_factory=dict)

    def source_options(self, state: Path | None) -> SourceOptions:
        """Return the options for `open_source`; lists of JSON become tuples."""
        values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in self.options.items()}
        return SourceOptions(**values, state=state)


def changed_options(options: SourceOptions) -> dict[str, Any]:
    """Return the options that differ from the default, as JSON holds them."""
    return {
        f.name: list(value) if isinstance(value := getattr(options, f.name), tuple) else value
        for f in dataclasses.fields(options)
        if f.name != "state" and getattr(options, f.name) != f.default
    }


def load_sources(expert: Path) -> list[KnownSource]:
    """Return the known sources, in the order of their first ingest."""
    path = expert / SOURCES_FILE
    rows = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
    return [KnownSource(**row) for row in rows]


def remember_sources(expert: Path, ingested: Sequence[KnownSource], *, forget: Iterable[str] = ()) -> None:
    """Add sources, replacing those of the same spec, and drop others; written only where that changes the file."""
    before = load_sources(expert)
    new = {source.spec: source for source in ingested}
    gone = set(forget) - set(new)
    kept = [new.pop(source.spec, source) for source in before if source.spec not in gone]
    after = [*kept, *new.values()]
    if after != before:
        rows = [dataclasses.asdict(source) for source in after]
        write_atomic(expert / SOURCES_FILE, json.dumps(rows, indent=1, ensure_ascii=False))
