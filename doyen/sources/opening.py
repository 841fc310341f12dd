"""What the user names (a path or a URL) → its Source, chosen by the URL's scheme. Reads nothing yet."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from urllib.parse import unquote, urlsplit

from doyen.errors import DocumentError, UsageError
from doyen.sources.database import DatabaseSource
from doyen.sources.folder import FileSource, FolderSource, is_hidden
from doyen.sources.item import Source
from doyen.sources.options import DATABASE_OPTIONS, WEB_OPTIONS, SourceOptions
from doyen.sources.remote import RemoteSource
from doyen.sources.web import WebSource

_OPTION = {"delay_s": "delay", "timeout_s": "timeout", "tables": "table"}
_SCHEME = re.compile(r"([a-z][a-z0-9+.-]*)://", re.IGNORECASE)


def open_source(
    spec: str | Path, *, suffixes: frozenset[str], name: str | None = None, options: SourceOptions | None = None
) -> Source:
    """Open one source: a folder, a file, or a URL of a web site, a remote folder or a database.

    `suffixes` are those that a reader takes; `name` stands before the ids.

    Raises:
        UsageError: the name is none, or an option does not belong to this kind of source.
        DocumentError: the path does not exist, or a package for this scheme is missing.
    """
    return open_sources([spec], suffixes=suffixes, name=name, options=options)[0]


def open_sources(
    specs: Sequence[str | Path],
    *,
    suffixes: frozenset[str],
    name: str | None = None,
    options: SourceOptions | None = None,
) -> list[Source]:
    """Open several sources as `open_source` does; a folder or file within another one of them counts once."""
    if not specs:
        raise UsageError("no source given", hint="doyen ingest FOLDER")
    if name is not None and (not name or name != name.strip("/ ") or ".." in name.split("/")):
        raise UsageError(f"--name '{name}' is not a name for a source", hint="use letters, digits, '-' and '_'")
    options = options or SourceOptions()
    prefix = f"{name}/" if name else ""
    sources = [_open(str(spec), prefix, suffixes, options) for spec in specs]
    _refuse_foreign_options(sources, options)
    return [s for n, s in enumerate(sources) if not any(_is_within(s, o, n, m) for m, o in enumerate(sources))]


def _open(spec: str, prefix: str, suffixes: frozenset[str], options: SourceOptions) -> Source:
    scheme = _SCHEME.match(spec)
    if scheme is None:
        return _open_local(Path(spec), prefix, suffixes)
    return _BY_SCHEME.get(scheme[1].lower().split("+")[0], RemoteSource)(
        spec, prefix=prefix, suffixes=suffixes, options=options
    )


def _open_local(path: Path, prefix: str, suffixes: frozenset[str]) -> Source:
    path = path.expanduser()
    if not path.exists():
        raise DocumentError(f"there is no file or folder {path}", hint="check the path")
    path = path.resolve()
    if path.is_file():
        return FileSource(path, prefix=prefix)
    return FolderSource(path, suffixes=suffixes, prefix=prefix)


def _open_file_url(spec: str, *, prefix: str, suffixes: frozenset[str], options: SourceOptions) -> Source:
    return _open_local(Path(unquote(urlsplit(spec).path)), prefix, suffixes)


_BY_SCHEME: dict[str, Callable[..., Source]] = {
    "file": _open_file_url,
    "http": WebSource,
    "https": WebSource,
    "sqlite": DatabaseSource,
    "postgresql": DatabaseSource,
    "postgres": DatabaseSource,
    "mysql": DatabaseSource,
    "mariadb": DatabaseSource,
}
"""Every other scheme is a file system of fsspec."""


def options_of(source: Source, options: SourceOptions) -> SourceOptions:
    """Return the options with those of other kinds of sources set back: what this source was opened with."""
    foreign = (WEB_OPTIONS if not isinstance(source, WebSource) else frozenset()) | (
        DATABASE_OPTIONS if not isinstance(source, DatabaseSource) else frozenset()
    )
    defaults = {f.name: f.default for f in dataclasses.fields(options) if f.name in foreign}
    return dataclasses.replace(options, **defaults)  # type: ignore[arg-type]


def _refuse_foreign_options(sources: Sequence[Source], options: SourceOptions) -> None:
    """Refuse options that none of the sources has."""
    changed = {f.name for f in dataclasses.fields(options) if getattr(options, f.name) != f.default}
    for kind, of_kind, what in (
        (WebSource, WEB_OPTIONS, "web sites (https://…)"),
        (DatabaseSource, DATABASE_OPTIONS, "databases (sqlite:///…, postgresql://…, mysql://…)"),
    ):
        foreign = sorted(changed & of_kind)
        if foreign and not any(isinstance(source, kind) for source in sources):
            names = ", ".join("--" + _OPTION.get(name, name).replace("_", "-") for name in foreign)
            raise UsageError(f"{names}: only for {what}", hint="leave it out, or name such a source")


def _is_within(source: Source, other: Source, number: int, other_number: int) -> bool:
    """Return whether `other` lists all that `source` does (of two equal ones, the first stays)."""
    if not isinstance(source, FolderSource | FileSource) or number == other_number:
        return False
    path = source.folder if isinstance(source, FolderSource) else source.path
    if isinstance(other, FileSource):
        return path == other.path and other_number < number
    if not isinstance(other, FolderSource) or not path.is_relative_to(other.folder):
        return False
    if path == other.folder:
        return other_number < number
    return not any(is_hidden(part) for part in path.relative_to(other.folder).parts) and other.takes(path)
