"""The expert folder: making one, and saying what is in it. Loads no model."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
from pathlib import Path
from typing import Any

from doyen.adapter_labels import needed_for
from doyen.adapters import interrupted_runs, list_adapters, read_adapter
from doyen.config import (
    FILE_NAME,
    FORMAT_VERSION,
    JOINED,
    EmbedderSettings,
    ModelSettings,
    Settings,
    StoreSettings,
    load_settings,
    settings_toml,
    write_atomic,
)
from doyen.errors import DoyenError, ExpertError, StoreError
from doyen.evaluation.comparison import latest_report
from doyen.index.places import DATABASES, joined_names
from doyen.index.postgresql.connecting import with_schema
from doyen.index.store import Index
from doyen.ingesting import index_place, index_places, open_index
from doyen.ingesting.faults import WARNINGS_FILE, load_faults
from doyen.lineage import DOCUMENT_TEXT, LINEAGE_FILE, read_lineage, stale_examples
from doyen.models.catalogue import FolderSource, GgufSource, find_entry, in_expert
from doyen.models.fetching import is_fetched


def init(
    folder: Path | str, *, model: str | None = None, embedder: str | None = None, store: str | None = None
) -> Path:
    """Make an expert: a folder with a `doyen.toml`.

    Raises:
        ExpertError: there is one already.
        ModelError: a model name is unknown (the nearest names are given).
        StoreError: a store that this version cannot use.
    """
    path = Path(folder).expanduser()
    if (path / FILE_NAME).exists():
        raise ExpertError(f"{path} is an expert already", hint=f"edit {path / FILE_NAME}")
    if path.exists() and not path.is_dir():
        raise ExpertError(f"{path} is a file", hint="choose another folder")
    if store and store.partition("://")[0] in DATABASES:
        store = with_schema(store, path.resolve().name)
    first = None
    if store and store.startswith(JOINED):
        store, first = _joined(store, path)
    settings = Settings(
        model=ModelSettings(name=_known(model)) if model else ModelSettings(),
        embedder=EmbedderSettings(name=_known(embedder)) if embedder else first or EmbedderSettings(),
        store=StoreSettings(uri=store or StoreSettings().uri),
    )
    index_place(path, settings)
    path.mkdir(parents=True, exist_ok=True)
    write_atomic(path / FILE_NAME, settings_toml(settings))
    return path.resolve()


def _joined(store: str, path: Path) -> tuple[str, EmbedderSettings]:
    """Return a store that joins experts, named from the new folder `path`, and the embedder of the first of them."""
    names = joined_names(store)
    if not names:
        raise StoreError(f"--store {store} names no expert", hint=f"--store {JOINED}claims,legal")
    folders = [Path(name).expanduser().resolve() for name in names]
    first, *_ = [load_settings(folder) for folder in folders]
    return JOINED + ",".join(os.path.relpath(folder, path.resolve()) for folder in folders), first.embedder


def _known(name: str) -> str:
    """Return a model's name as it is kept in the settings; a folder becomes absolute. Raises ModelError if unknown."""
    entry = find_entry(name)
    return str(entry.source.path.resolve()) if isinstance(entry.source, FolderSource | GgufSource) else name


def status(folder: Path | str) -> dict[str, Any]:
    """Return what an expert holds: models, documents, examples, adapters (with stale examples), comparisons."""
    expert = Path(folder)
    settings = load_settings(expert)
    models = {role: getattr(settings, role).name for role in ("model", "embedder")}
    models |= {"reranker": settings.rerank.name} if settings.rerank.name else {}
    fetched = {role: is_fetched(find_entry(in_expert(name, expert))) for role, name in models.items()}
    index: Index | None = None
    known: dict[str, str] = {}
    pages = 0
    failed: list[dict[str, str]] = []
    warnings: list[dict[str, str]] = []
    with contextlib.suppress(StoreError):
        index = open_index(expert, settings)
        for document in index.iter_documents():
            known[document.id] = document.sha256
            pages += document.pages
        for member, place in index_places(expert, settings).items():
            own = f"{member}/" if member else ""
            failed += [{"file": fault.file, "reason": fault.reason} for fault in load_faults(place.state)]
            remarks = load_faults(place.state, WARNINGS_FILE)
            warnings += [{"document": own + note.file, "remark": note.reason} for note in remarks]
    report = latest_report(expert)
    return {
        "expert": str(expert),
        "format": FORMAT_VERSION,
        "models": {role: {"name": name, "fetched": fetched[role]} for role, name in models.items()},
        "documents": len(known),
        "pages": pages,
        "chunks": index.chunk_count() if index else 0,
        "summaries": index.summary_count() if index else 0,
        "recall": _recall(index),
        "duplicates": [group.as_dict() for group in index.near_duplicates()] if index else [],
        "failed": failed,
        "warnings": warnings,
        "examples": _examples(expert / "examples", index, known),
        "adapters": [_adapter(path, index, known) for path in list_adapters(expert)],
        "interrupted_runs": sorted(interrupted_runs(expert)),
        "comparison": {"folder": report["folder"], "advice": report["advice"]} if report else None,
    }


def _recall(index: Index | None) -> dict[str, Any] | None:
    """Return what was measured of the search by code; None where the search is exact."""
    found = index.recall() if index else None
    return dataclasses.asdict(found) if found else None


def _examples(folder: Path, index: Index | None, known: dict[str, str]) -> dict[str, Any] | None:
    path = folder / "manifest.json"
    if not path.exists():
        return None
    manifest: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    rows = read_lineage(folder / "train.jsonl") or []
    return manifest | _staleness(rows, index, known)


def _adapter(path: Path, index: Index | None, known: dict[str, str]) -> dict[str, Any]:
    try:
        manifest = read_adapter(path)
    except DoyenError as error:
        return {"name": path.name, "fault": str(error)}
    row = {
        k: v
        for k, v in dataclasses.asdict(manifest).items()
        if k in ("name", "method", "created", "steps", "train_loss", "validation_loss")
    }
    row["documents"] = len({s["document"] for s in manifest.sources})
    needed = needed_for(manifest, index)
    row["labels"] = sorted(map(list, needed.label_sets - {()}))
    row["tainted"] = sorted({s["document"] for s in manifest.sources} - known.keys()) if index else []
    lineage = read_lineage(path / LINEAGE_FILE)
    if lineage is not None:
        read = sum(line["variant"] == DOCUMENT_TEXT for line in lineage)
        row |= {"examples": len(lineage) - read, "documents_read": read}
        return row | _staleness(lineage, index, known)
    changed = sorted({s["document"] for s in manifest.sources if known.get(s["document"]) != s["sha256"]})
    return row | {"examples": None, "stale_documents": changed, "stale_examples": None, "stale_share": None}


def _staleness(rows: list[dict[str, Any]], index: Index | None, known: dict[str, str]) -> dict[str, Any]:
    stale = stale_examples(rows, index, known)
    return {
        "stale_documents": sorted({document for row in stale for document in row["documents"]}),
        "stale_examples": stale,
        "stale_share": round(len(stale) / len(rows), 4) if rows else 0.0,
    }
