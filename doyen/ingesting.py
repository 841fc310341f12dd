"""Sources → index: finds files, skips what is unchanged, reads, chunks, embeds and writes in batches.

Enters: folders and files. Leaves: an up-to-date index and an `IngestReport`. An interruption loses at most the
batch in hand; running again goes on where it stopped.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from doyen.chunking import chunk_document
from doyen.config import Settings, load_settings, write_atomic
from doyen.documents import SUFFIXES, list_files, read_document
from doyen.embedding import Embedder, load_embedder
from doyen.errors import DocumentError, StoreError, UsageError
from doyen.index.lance import IndexedDocument, IndexEntry, IndexManifest, LanceIndex, is_index
from doyen.records import Chunk, Document

Progress = Callable[[str, int, int], None]
"""Called with (stage, done, total)."""

BATCH_CHUNKS = 1024
FAILED_FILE = "failed.json"


@dataclass(slots=True)
class IngestReport:
    """What an ingest did; the lists hold document ids, `failed` pairs of (file, reason)."""

    new: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    unchanged: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    failed: list[tuple[str, str]] = field(default_factory=list)
    unsupported: list[str] = field(default_factory=list)
    chunks: int = 0
    seconds: float = 0.0
    interrupted: bool = False

    @property
    def written(self) -> bool:
        """Whether the store was changed."""
        return bool(self.new or self.changed or self.removed)


@dataclass(frozen=True, slots=True)
class _File:
    path: Path
    id: str
    root: str


def index_folder(expert: Path, settings: Settings) -> Path:
    """Return the folder of the expert's index.

    Raises:
        StoreError: for a URI that this version cannot use.
    """
    uri = settings.store.uri
    if "://" in uri:
        raise StoreError(
            f"[store] uri = '{uri}': this version keeps the index in a local folder", hint='set [store] uri = "index"'
        )
    folder = expert / uri
    if expert.resolve().is_relative_to(folder.resolve()):
        raise StoreError(f"[store] uri = '{uri}' is the expert's own folder or one around it", hint='uri = "index"')
    return folder


def open_index(expert: Path, settings: Settings) -> LanceIndex:
    """Open the expert's index; a missing one is a StoreError that names the command."""
    return LanceIndex.open(index_folder(expert, settings))


def ingest(
    expert: Path | str,
    sources: Sequence[Path | str],
    *,
    name: str | None = None,
    prune: bool = False,
    rebuild: bool = False,
    embedder: Embedder | None = None,
    progress: Progress | None = None,
) -> IngestReport:
    """Bring the index in step with `sources` (folders or files).

    A document is named by its path below the folder, after `name/` if given. Files that a folder no longer holds are
    taken out; `prune` also takes out every document of other sources; `rebuild` makes the index anew.

    Raises:
        DocumentError: a source does not exist, or holds no document that can be read (nothing is changed then).
        UsageError: a source gives an id that another source already has.
        StoreError: the index was made by another embedder, or cannot be written (disk full).
    """
    started = time.perf_counter()
    expert = Path(expert)
    settings = load_settings(expert)
    report = IngestReport()
    files, roots = _collect([Path(s) for s in sources], name, report)
    embedder = embedder or load_embedder(settings.embedder.name)
    manifest = IndexManifest(settings.embedder.name, embedder.fingerprint, embedder.dim, settings.chunking.max_tokens)
    folder = index_folder(expert, settings)
    if rebuild and folder.exists():
        _refuse_collisions(files, {}, prune)
        if not is_index(folder):
            raise StoreError(f"{folder} is not an index of doyen: not removed")
        shutil.rmtree(folder)
    with writing():
        index = LanceIndex.open_or_create(folder, manifest)
        unfinished = index.unfinished
        index.recover()
    known = {d.id: d for d in index.documents()}
    files = _with_known_roots(files, known)
    _refuse_collisions(files, known, prune)
    try:
        _bring_in(index, files, known, settings, embedder, report, progress)
        with writing():
            _take_out(index, files, roots, known, prune, report)
    except KeyboardInterrupt:
        report.interrupted = True
    if report.written or unfinished:
        with writing():
            index.finish(whole=not report.interrupted, keep_versions_days=settings.documents.keep_versions_days)
    _remember_failures(folder, files, report, prune)
    report.seconds = time.perf_counter() - started
    return report


def _collect(sources: Sequence[Path], name: str | None, report: IngestReport) -> tuple[list[_File], list[Path]]:
    """Return the files below the sources and the folders among them."""
    if not sources:
        raise UsageError("no source given", hint="doyen ingest FOLDER")
    if name is not None and (not name or name != name.strip("/ ") or ".." in name.split("/")):
        raise UsageError(f"--name '{name}' is not a name for a source", hint="use letters, digits, '-' and '_'")
    prefix = f"{name}/" if name else ""
    files: list[_File] = []
    roots: list[Path] = []
    for source in (s.expanduser() for s in sources):
        if not source.exists():
            raise DocumentError(f"there is no file or folder {source}", hint="check the path")
        source = source.resolve()
        if source.is_file():
            files.append(_File(source, prefix + source.name, str(source.parent)))
            continue
        supported, unsupported = list_files(source)
        report.unsupported += [str(p) for p in unsupported]
        if not supported:
            kinds = " ".join(sorted(SUFFIXES))
            raise DocumentError(
                f"{source} holds no document that can be read ({len(unsupported)} other files)",
                hint=f"supported: {kinds}; nothing was changed",
            )
        roots.append(source)
        files += [_File(p, prefix + p.relative_to(source).as_posix(), str(source)) for p in supported]
    return _once(files), roots


def _once(files: Sequence[_File]) -> list[_File]:
    """Keep each file once: under its longest id where overlapping sources (a folder and a file in it) give several."""
    kept: dict[Path, _File] = {}
    for file in files:
        other = kept.setdefault(file.path, file)
        if len(file.id) > len(other.id):
            kept[file.path] = file
    return list(kept.values())


def _with_known_roots(files: Sequence[_File], known: dict[str, IndexedDocument]) -> list[_File]:
    """Files of a folder that is already indexed keep the ids they have there."""
    by_source: dict[str, list[IndexedDocument]] = {}
    for document in known.values():
        by_source.setdefault(document.source, []).append(document)
    found = []
    for file in files:
        there = next((d for d in by_source.get(str(file.path), ()) if _same_place(d, file)), None)
        found.append(_File(file.path, there.id, there.root) if there else file)
    return found


def _same_place(document: IndexedDocument, file: _File) -> bool:
    """Whether a document has this file's id seen from a folder above or below."""
    if document.id.endswith(file.id):
        return True
    below = document.root != file.root and Path(document.root).is_relative_to(file.root)
    return below and file.id.endswith(document.id)


@contextmanager
def writing() -> Iterator[None]:
    """Turn what LanceDB raises where it cannot write (OSError, RuntimeError) into a StoreError."""
    try:
        yield
    except (OSError, RuntimeError) as error:
        hint = "free disk space, then run the same command again: it goes on"
        raise StoreError(f"cannot write the index: {error}", hint=hint) from error


def _refuse_collisions(files: Sequence[_File], known: dict[str, IndexedDocument], prune: bool) -> None:
    seen: dict[str, _File] = {}
    for file in files:
        other = seen.setdefault(file.id, file)
        if other.path != file.path:
            raise UsageError(
                f"{other.path} and {file.path} would both be '{file.id}'", hint="ingest one of the two with --name NAME"
            )
        before = known.get(file.id)
        if before is not None and before.root != file.root and not prune and Path(before.source).exists():
            raise UsageError(
                f"'{file.id}' is already indexed from {before.source}; {file.path} would take its place",
                hint="ingest this source with --name NAME",
            )


def _bring_in(
    index: LanceIndex,
    files: Sequence[_File],
    known: dict[str, IndexedDocument],
    settings: Settings,
    embedder: Embedder,
    report: IngestReport,
    progress: Progress | None,
) -> None:
    batch: list[tuple[Document, str, list[Chunk]]] = []
    waiting = 0
    for done, file in enumerate(files):
        if progress:
            progress("documents", done, len(files))
        document = _read(file, known.get(file.id), report)
        if document is None:
            continue
        chunks = chunk_document(document, max_tokens=settings.chunking.max_tokens)
        batch.append((document, file.root, chunks))
        waiting += len(chunks)
        if waiting >= BATCH_CHUNKS:
            _flush(index, batch, known, embedder, report)
            batch, waiting = [], 0
    _flush(index, batch, known, embedder, report)
    if progress:
        progress("documents", len(files), len(files))


def _read(file: _File, before: IndexedDocument | None, report: IngestReport) -> Document | None:
    """Return the document if it is new or changed; note it as unchanged or failed otherwise."""
    try:
        data = file.path.read_bytes()
        sha256 = hashlib.sha256(data).hexdigest()
        if before is not None and before.sha256 == sha256 and before.root == file.root:
            report.unchanged.append(file.id)
            return None
        document = read_document(file.path, file.id, data)
    except (DocumentError, OSError) as error:
        reason = error.strerror or str(error) if isinstance(error, OSError) else str(error)
        report.failed.append((str(file.path), reason))
        return None
    changed = before is None or before.sha256 != document.sha256
    return dataclasses.replace(document, version=(before.version if before else 0) + changed)


def _flush(
    index: LanceIndex,
    batch: Sequence[tuple[Document, str, Sequence[Chunk]]],
    known: dict[str, IndexedDocument],
    embedder: Embedder,
    report: IngestReport,
) -> None:
    if not batch:
        return
    texts = [f"{c.context}\n{c.text}" if c.context else c.text for _, _, chunks in batch for c in chunks]
    vectors = embedder.embed(texts)
    with writing():
        index.write([IndexEntry(document, root, chunks) for document, root, chunks in batch], vectors)
    report.chunks += len(texts)
    for document, _, _ in batch:
        (report.changed if document.id in known else report.new).append(document.id)


def _take_out(
    index: LanceIndex,
    files: Sequence[_File],
    roots: Sequence[Path],
    known: dict[str, IndexedDocument],
    prune: bool,
    report: IngestReport,
) -> None:
    present = {file.id for file in files}
    gone = sorted(
        d.id
        for d in known.values()
        if d.id not in present and (prune or any(Path(d.source).is_relative_to(root) for root in roots))
    )
    index.retire(gone)
    report.removed = gone


def _remember_failures(folder: Path, files: Sequence[_File], report: IngestReport, prune: bool) -> None:
    """Keep the list of failed files for `doyen status`, those of other sources too; written only when it differs."""
    path = folder / FAILED_FILE
    old = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
    seen = {str(file.path) for file in files}
    others = [row for row in old if row["file"] not in seen and not prune and Path(row["file"]).exists()]
    rows = others + [{"file": file, "reason": reason} for file, reason in report.failed]
    if rows != old:
        write_atomic(path, json.dumps(rows, indent=1, ensure_ascii=False))
