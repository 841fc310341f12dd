"""Held-out passages → how doyen's own search orders them, dense and full text together, in an index made for this only."""

from __future__ import annotations

import tempfile
from pathlib import Path

from doyen.config import RetrievalSettings
from doyen.embedding import Embedder
from doyen.finetuning.retriever.measuring import HeldOut
from doyen.index.lance import IndexEntry, IndexManifest, LanceIndex
from doyen.records import Chunk, Document
from doyen.retrieval.hybrid import Retriever


def search_orders(held_out: HeldOut, embedder: Embedder, settings: RetrievalSettings, most: int) -> list[list[int]]:
    """Return the places of the `most` best passages for each query, best first.

    Passages are indexed as documents of their own under numbers, so that no document's name gives its queries away.
    """
    with tempfile.TemporaryDirectory() as folder:
        manifest = IndexManifest(embedder.name, embedder.fingerprint, embedder.dim, embedder.max_tokens)
        index = LanceIndex.open_or_create(Path(folder, "index"), manifest)
        entries = [_entry(str(place), text) for place, text in enumerate(held_out.passages)]
        index.write(entries, embedder.embed(held_out.passages))
        index.finish()
        found = Retriever(index, embedder, settings).search_many(held_out.queries, most)
        return [[int(hit.chunk.document) for hit in hits] for hits in found]


def _entry(name: str, text: str) -> IndexEntry:
    return IndexEntry(Document(name, text, name, "text/plain", name, name), "", [Chunk(name, 0, len(text), text)])
