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
from doyen.documents import SUFFIXES
from doyen.errors import DocumentError, ExpertError, UsageError
from doyen.sources import Source, SourceOptions, open_source, open_sources, options_of

SOURCES_FILE = "sources.json"


@dataclass(frozen=True, slots=True)
class KnownSource:
    """A source as the user named it: absolute path or URI, NAME, and the options that differ from the default."""

    spec: str
    name: str | None = None
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def labels(self) -> tuple[str, ...]:
        """Who may see what has no labels of its own."""
        return tuple(self.options.get("labels") or ())

    def source_options(self, state: Path | None) -> SourceOptions:
        """Return the options for `open_source`; lists of JSON become tuples."""
        values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in self.options.items()}
        return SourceOptions(**values, state=state)


Named = list[tuple[KnownSource, Source]]


def open_named(specs: Sequence[Path | str], name: str | None, options: SourceOptions) -> Named:
    """Open what the user named, each with what `sources.json` will hold of it."""
    opened = open_sources(specs, suffixes=SUFFIXES, name=name, options=options)
    return [(KnownSource(s.spec, name, changed_options(options_of(s, options))), s) for s in opened]


def open_known(
    known: Sequence[KnownSource], state: Path | None, *, all_of_them: bool
) -> tuple[Named, list[tuple[str, str]]]:
    """Open known sources; return also (spec, reason) of those that are gone.

    Raises:
        UsageError: no source is known.
        DocumentError: none can be opened, or one cannot where `all_of_them` are needed.
    """
    if not known:
        raise UsageError("no source given", hint="doyen ingest FOLDER")
    found: Named = []
    failed: list[tuple[str, str]] = []
    for one in known:
        try:
            source = open_source(one.spec, suffixes=SUFFIXES, name=one.name, options=one.source_options(state))
        except DocumentError as error:
            if all_of_them or len(known) == 1:
                raise
            failed.append((one.spec, str(error)))
            continue
        found.append((one, source))
    if len(failed) == len(known):
        raise DocumentError(
            f"none of the {len(known)} known sources can be opened: {failed[0][1]}", hint="check the paths"
        )
    return found, failed


def changed_options(options: SourceOptions) -> dict[str, Any]:
    """Return the options that differ from the default, as JSON holds them."""
    return {
        f.name: list(value) if isinstance(value := getattr(options, f.name), tuple) else value
        for f in dataclasses.fields(options)
        if f.name != "state" and getattr(options, f.name) != f.default
    }


def load_sources(expert: Path) -> list[KnownSource]:
    """Return the known sources, in the order of their first ingest. Raises ExpertError for a broken file."""
    path = expert / SOURCES_FILE
    try:
        rows = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
        return [KnownSource(**row) for row in rows]
    except (ValueError, TypeError) as error:
        hint = "mend it, or delete it and ingest each source by its name"
        raise ExpertError(f"{path} is not a list of sources ({error})", hint=hint) from error


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
