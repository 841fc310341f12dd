"""Texts → vectors `(n, dim) float32`, unit length. Knows no documents and no store."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from doyen.config import EmbedderSettings
from doyen.embedding.prefixes import Kind
from doyen.embedding.tokens import ByteCounter, TokenCounter, TokenizerCounter
from doyen.models.catalogue import EndpointSource, find_entry, in_expert
from doyen.models.fetching import require_model

__all__ = [
    "ByteCounter",
    "Embedder",
    "Kind",
    "TokenCounter",
    "TokenizerCounter",
    "computed_by_torch",
    "load_counter",
    "load_embedder",
    "recorded_precision",
]


class Embedder(Protocol):
    """What turns texts into vectors."""

    name: str
    """The name under which it was asked for."""
    dim: int
    """Length of a vector."""
    max_tokens: int
    """Tokens of a text that are read; what comes after them does not change the vector."""
    fingerprint: str
    """`<model>@<weights hash><marks>/<backend>-<precision>`. Vectors compare where the part before the `/` is the same;
    an index is written by one fingerprint only. The marks say what else a passage's vector depends on: pooling, cut
    dimensions, passage prefix. A query prefix is no part of it: it changes no vector of an index."""
    languages: frozenset[str]
    """ISO 639-1 codes of the languages that it was trained on; empty: all, or unknown ones."""
    counter: TokenCounter
    """What sizes the chunks of texts for this embedder."""

    def embed(
        self, texts: Sequence[str], *, kind: Kind = "passage", progress: Callable[[int], None] | None = None
    ) -> NDArray[np.float32]:
        """Return one unit vector a text, `(n, dim) float32`, in the texts' order.

        `kind` is "query" for what is asked and "passage" for what is searched: many models want different words before
        them. `progress` is called with the number of texts done since its last call.
        """
        ...


def load_embedder(
    embedder: str | EmbedderSettings,
    *,
    expert: Path | None = None,
    precision: str | None = None,
    recorded: str | None = None,
    cache: Path | None = None,
) -> Embedder:
    """Load the embedder of that name (or of those settings): catalogue, folder, Hub repository that was pulled, or API.

    A name that begins with `./` is a folder within the folder `expert`. `precision` is "f32" or "bf16" (None: what the
    CPU computes in natively). `recorded` is the fingerprint of the index that it will work on: its precision is taken
    where none is given. `cache` is doyen's cache folder.

    Raises: ModelError where the model is unknown, not here, or of an architecture without a backend; EndpointError
    where an API without a known vector length does not answer.
    """
    settings = EmbedderSettings(name=embedder) if isinstance(embedder, str) else embedder
    name = in_expert(settings.name, expert)
    entry = find_entry(name)
    if isinstance(entry.source, EndpointSource):
        from doyen.embedding.api import open_api_embedder

        return open_api_embedder(settings, entry.source, recorded)
    from doyen.embedding.local import load_local

    return load_local(require_model(name, cache), entry.name, settings, precision or recorded_precision(recorded))


def load_counter(
    embedder: str | EmbedderSettings, *, expert: Path | None = None, cache: Path | None = None
) -> TokenCounter:
    """Open the token counter of an embedder without loading its network; of an API, without calling it."""
    settings = EmbedderSettings(name=embedder) if isinstance(embedder, str) else embedder
    name = in_expert(settings.name, expert)
    entry = find_entry(name)
    if isinstance(entry.source, EndpointSource):
        from doyen.embedding.api import api_counter

        return api_counter(settings, entry.source)
    from doyen.embedding.prefixes import read_prefixes
    from doyen.embedding.tokens import read_limit

    folder = require_model(name, cache)
    prefixes = read_prefixes(folder, entry.name, query=settings.query_prefix, passage=settings.passage_prefix)
    return TokenizerCounter(folder / "tokenizer.json", read_limit(folder), prefixes.passage)


def computed_by_torch(embedder: EmbedderSettings, *, expert: Path | None = None, cache: Path | None = None) -> bool:
    """Whether an embedder is computed by torch, so that a GPU helps it; its network is not loaded for that."""
    from doyen.embedding.local import needs_torch

    name = in_expert(embedder.name, expert)
    return not isinstance(find_entry(name).source, EndpointSource) and needs_torch(require_model(name, cache))


def recorded_precision(fingerprint: str | None) -> str | None:
    """Return the precision in an index's fingerprint, None where no backend here computes in it."""
    found = re.search(r"/(?:openvino|torch)-(f32|bf16)$", fingerprint or "")
    return found[1] if found else None
