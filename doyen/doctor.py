"""What is wrong on this machine or with this expert, and the command that mends it. Changes nothing.

`bench` measures how fast the engines answer here.
"""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from doyen.config import ModelSettings, Settings, load_settings
from doyen.embedding.runtime import native_precision
from doyen.errors import DoyenError, StoreError
from doyen.index.places import BucketPlace
from doyen.index.postgresql.place import PostgresPlace
from doyen.index.store import same_vectors
from doyen.ingesting import index_places, open_index
from doyen.models.catalogue import EmbedderSource, EndpointSource, find_entry, in_expert
from doyen.models.engine import FINETUNE_EXTRA
from doyen.models.fetching import cache_folder, is_fetched, require_model
from doyen.models.serving import is_served, server_engine

if TYPE_CHECKING:
    from doyen.models.measured import Speed

_TRAINING_PACKAGES = ("torch", "transformers", "peft")
_LEAST_DISK_GIB = 2.0
_LEAST_MEMORY_GIB = 4.0


@dataclass(frozen=True, slots=True)
class Check:
    """One finding; `hint` is what mends it."""

    name: str
    ok: bool
    detail: str
    hint: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Return the check as JSON."""
        return asdict(self)


def examine(expert: Path | None) -> list[Check]:
    """Check the machine, and the expert if one is given."""
    checks = [_python(), _packages(), _processor(), _memory(), _disk(cache_folder())]
    if expert is None:
        return checks
    try:
        settings = load_settings(expert)
    except DoyenError as error:
        return [*checks, Check("settings", False, str(error), error.hint or "")]
    checks.append(Check("settings", True, str(expert / "doyen.toml")))
    names = (("model", settings.model.name), ("embedder", settings.embedder.name), ("reranker", settings.rerank.name))
    checks += [_model(role, in_expert(name, expert)) for role, name in names if name]
    return [*checks, *_server(settings.model), *_databases(expert, settings), _index(expert, settings)]


def bench(expert: Path | None, progress: Callable[[str, int, int], None] | None = None) -> list[Speed]:
    """Measure each engine with the expert's model (the default one without an expert), and remember the figures.

    From then on `[model] engine = "auto"` takes the fastest on this machine. Takes about a minute for a small model.

    Raises: ModelError where the model is not here.
    """
    from doyen.models.measured import measure, remember
    from doyen.models.serving import engines_here

    settings = load_settings(expert).model if expert else ModelSettings()
    speeds = measure(engines_here(settings), progress)
    remember(require_model(settings.name), settings.bits, speeds)
    return speeds


def _python() -> Check:
    version = ".".join(map(str, sys.version_info[:3]))
    return Check("python", sys.version_info >= (3, 11), version, "use Python 3.11 or newer")


def _packages() -> Check:
    missing = []
    for name in _TRAINING_PACKAGES:
        try:
            importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            missing.append(name)
    if missing:
        return Check("fine-tuning", True, f"not installed: {', '.join(missing)} ({FINETUNE_EXTRA}); the rest works")
    return Check(
        "fine-tuning",
        True,
        f"torch {importlib.metadata.version('torch')}, transformers {importlib.metadata.version('transformers')}",
    )


def _processor() -> Check:
    return Check(
        "processor",
        True,
        f"{os.cpu_count()} cores, {'bfloat16' if native_precision() == 'bf16' else 'no bfloat16 (float32 is used: about half the speed)'}",
    )


def _memory() -> Check:
    try:
        gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    except (ValueError, OSError):
        return Check("memory", True, "unknown")
    return Check(
        "memory",
        gib >= _LEAST_MEMORY_GIB,
        f"{gib:.1f} GiB",
        f"at least {_LEAST_MEMORY_GIB:.0f} GiB for the default model",
    )


def _disk(folder: Path) -> Check:
    there = next(p for p in (folder, *folder.parents) if p.exists())
    free = shutil.disk_usage(there).free / 2**30
    return Check(
        "disk",
        free >= _LEAST_DISK_GIB,
        f"{free:.1f} GiB free for models in {folder}",
        "free some, or set DOYEN_CACHE to another folder",
    )


def _model(role: str, name: str) -> Check:
    try:
        entry = find_entry(name)
        if isinstance(entry.source, EndpointSource):
            return Check(role, True, f"{name} is behind an API: texts are sent there")
        if isinstance(entry.source, EmbedderSource):
            return Check(role, True, f"{name} reads with the embedder")
        fetched = is_fetched(entry)
    except DoyenError as error:
        return Check(role, False, str(error), error.hint or "")
    return Check(role, fetched, f"{name} is {'here' if fetched else 'not fetched'}", f"doyen models pull {name}")


def _server(model: ModelSettings) -> list[Check]:
    """Whether the server that is to answer does, and has the model. It is sent no question."""
    try:
        if not is_served(model):
            return []
        engine = server_engine(model)
        if engine.endpoint.is_vendors:
            return [Check("server", True, f"{engine.endpoint.host} (not asked)")]
        engine.server.find(engine.model)
    except DoyenError as error:
        return [Check("server", False, str(error), error.hint or "")]
    where = "" if engine.endpoint.is_local else ", which is not this machine: questions and passages are sent there"
    return [Check("server", True, f"{engine.server.kind} answers at {engine.endpoint.host}{where}")]


def _databases(expert: Path, settings: Settings) -> list[Check]:
    """Whether the databases and buckets of an index, or of those that it joins, are reached, and have what it needs."""
    try:
        places = index_places(expert, settings)
    except StoreError:  # which the check of the index tells
        return []
    return [_reached(name, place) for name, place in places.items() if isinstance(place, PostgresPlace | BucketPlace)]


def _reached(member: str, place: PostgresPlace | BucketPlace) -> Check:
    what = "bucket" if isinstance(place, BucketPlace) else "database"
    what += f" of {member}" if member else ""
    try:
        return Check(what, True, place.checked())
    except StoreError as error:
        return Check(what, False, str(error), error.hint or "")


def _index(expert: Path, settings: Settings) -> Check:
    try:
        index = open_index(expert, settings)
    except StoreError as error:
        return Check("index", False, str(error), error.hint or "")
    if index.unfinished:
        return Check("index", False, "an ingest was interrupted", "run the same doyen ingest again: it goes on")
    if is_fetched(find_entry(in_expert(settings.embedder.name, expert))):
        from doyen.embedding import load_embedder

        try:
            embedder = load_embedder(settings.embedder, expert=expert, recorded=index.manifest.fingerprint)
        except DoyenError as error:
            return Check("index", False, f"its embedder cannot be opened: {error}", error.hint or "")
        fingerprint = embedder.fingerprint
        if not same_vectors(fingerprint, index.manifest.fingerprint):
            return Check(
                "index",
                False,
                f"made with {index.manifest.fingerprint}, not {fingerprint}",
                "doyen ingest --rebuild SOURCE…",
            )
    documents = index.documents()
    counted = sum(d.chunks for d in documents)
    consistent = counted == index.chunk_count()
    return Check(
        "index",
        consistent,
        f"{len(documents)} documents, {index.chunk_count()} chunks (documents say {counted})",
        "doyen ingest --rebuild SOURCE…",
    )
