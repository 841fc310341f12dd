"""The expert folder: making one, and saying what is in it. Loads no model."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from doyen.adapters import list_adapters, read_adapter
from doyen.config import (
    FILE_NAME,
    FORMAT_VERSION,
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
from doyen.index.lance import IndexedDocument
from doyen.ingesting import FAILED_FILE, index_folder, open_index
from doyen.models.catalogue import FolderSource, find_entry
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
    settings = Settings(
        model=ModelSettings(name=_known(model)) if model else ModelSettings(),
        embedder=EmbedderSettings(name=_known(embedder)) if embedder else EmbedderSettings(),
        store=StoreSettings(uri=store or StoreSettings().uri),
    )
    index_folder(path, settings)
    path.mkdir(parents=True, exist_ok=True)
    write_atomic(path / FILE_NAME, settings_toml(settings))
    return path.resolve()


def _known(name: str) -> str:
    """Return a model's name as it is kept in the settings; a folder becomes absolute. Raises ModelError if unknown."""
    entry = find_entry(name)
    return str(entry.source.path.resolve()) if isinstance(entry.source, FolderSource) else name


def status(folder: Path | str) -> dict[str, Any]:
    """Return what an expert holds: models, documents, examples, adapters (with stale sources), comparisons."""
    expert = Path(folder)
    settings = load_settings(expert)
    models = {role: getattr(settings, role).name for role in ("model", "embedder")}
    fetched = {role: is_fetched(find_entry(name)) for role, name in models.items()}
    documents: dict[str, IndexedDocument] = {}
    failed: list[dict[str, str]] = []
    chunks = 0
    try:
        index = open_index(expert, settings)
        documents = {d.id: d for d in index.documents()}
        chunks = index.chunk_count()
        failed_path = index_folder(expert, settings) / FAILED_FILE
        failed = json.loads(failed_path.read_text(encoding="utf-8")) if failed_path.exists() else []
    except StoreError:
        pass
    adapters = [_adapter(path, {d.id: d.sha256 for d in documents.values()}) for path in list_adapters(expert)]
    report = latest_report(expert)
    examples = expert / "examples" / "manifest.json"
    return {
        "expert": str(expert),
        "format": FORMAT_VERSION,
        "models": {role: {"name": name, "fetched": fetched[role]} for role, name in models.items()},
        "documents": len(documents),
        "pages": sum(d.pages for d in documents.values()),
        "chunks": chunks,
        "failed": failed,
        "examples": json.loads(examples.read_text(encoding="utf-8")) if examples.exists() else None,
        "adapters": adapters,
        "interrupted_runs": [
            p.parent.name[1:].removesuffix(".training")
            for p in sorted((expert / "adapters").glob(".*.training/checkpoint.pt"))
        ],
        "comparison": {"folder": report["folder"], "advice": report["advice"]} if report else None,
    }


def _adapter(path: Path, known: dict[str, str]) -> dict[str, Any]:
    try:
        manifest = read_adapter(path)
    except DoyenError as error:
        return {"name": path.name, "fault": str(error)}
    row = {
        k: v
        for k, v in dataclasses.asdict(manifest).items()
        if k in ("name", "method", "created", "steps", "train_loss", "validation_loss")
    }
    stale = sorted({s["document"] for s in manifest.sources if known.get(s["document"]) != s["sha256"]})
    return row | {"stale_documents": stale, "documents": len({s["document"] for s in manifest.sources})}
