"""One peer, one folder: cut and index it as the peer ships it, answer the questions with ranked pages.

Enters: a JSON job on stdin. Leaves: a JSON result as the last line of stdout. Run by benchmarks/retrieval.py in the peers'
own environment (requirements-peers.txt). Reading is common to all peers; chunking and ranking are each peer's own, with
the candidates widened to 30 chunks so that rank 10 can be measured. The embeddings come from doyen's MiniLM (the same
weights, bf16), kept on disk so that the sets stay feasible on two cores; `native` lets each peer embed by its own stack.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

Unit = tuple[str, "int | None"]
Ranking = list[Unit]
Text = tuple[str, "int | None", str]  # document, page, text
CHUNKS = 30  # candidates of the peers that rank chunks
WINDOWS = 60  # of minilm-200w, whose windows are small
UNITS = 60  # ranks that reciprocal rank fusion sees
RRF_K = 60  # Cormack et al. 2009
WINDOW_WORDS = 200
DIM = 384  # of all-MiniLM-L6-v2
BLOCK = 1024  # texts embedded between two writes to disk
MARKUP = (".html", ".htm", ".xml")


# ---- reading, common to all peers


def pages_of(path: Path) -> list[tuple[int | None, str]]:
    """Return (page, text) of one file: a page of a PDF, or between form feeds; page None where there are none."""
    if path.suffix == ".pdf":
        from pypdf import PdfReader

        return [(n, page.extract_text()) for n, page in enumerate(PdfReader(path).pages, 1)]
    text = path.read_text(encoding="utf-8", errors="replace")
    if path.suffix in MARKUP:
        from bs4 import BeautifulSoup, XMLParsedAsHTMLWarning

        warnings.filterwarnings("ignore", category=XMLParsedAsHTMLWarning)
        return [(None, BeautifulSoup(text, "html.parser").get_text("\n"))]
    if path.suffix == ".txt" and "\f" in text:
        return list(enumerate(text.split("\f"), 1))
    return [(None, text)]


def read_folder(root: Path, folder: Path, kept: Path) -> list[Text]:
    """Read all files below `folder`, named by their path below `root`; kept in a file, since PDFs take minutes."""
    if kept.exists():
        return [(document, page, text) for document, page, text in json.loads(kept.read_text(encoding="utf-8"))]
    found: list[Text] = []
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        try:
            pages = pages_of(path)
        except Exception as error:  # a file that the common reader cannot open is missing for every peer alike
            print(f"{path.name}: {error}", file=sys.stderr)
            continue
        found += [(path.relative_to(root).as_posix(), page, text) for page, text in pages if text.strip()]
    partial = kept.with_suffix(".partial")
    partial.write_text(json.dumps(found, ensure_ascii=False), encoding="utf-8")
    partial.replace(kept)
    return found


# ---- embeddings, shared


class Vectors:
    """MiniLM vectors of texts, kept on disk under the text without its white space (which BERT does not read)."""

    def __init__(self, model: str, folder: Path, native: bool) -> None:
        import numpy as np

        self._np, self._model, self._native, self._embedder = np, model, native, None
        self._file = folder / f"vectors.{'native' if native else 'shared'}"
        self._record = np.dtype([("key", "S32"), ("vector", np.float32, DIM)])
        if self._file.exists():  # a record that was cut off in mid-write goes
            os.truncate(self._file, self._file.stat().st_size // self._record.itemsize * self._record.itemsize)
        stored = np.fromfile(self._file, self._record) if self._file.exists() else np.empty(0, self._record)
        self._rows = dict(zip(stored["key"].tolist(), stored["vector"], strict=True))

    def __call__(self, texts: Sequence[str]) -> Any:
        """Return `(n, dim) float32`, unit length."""
        keys = [self._key(text) for text in texts]
        missing = {key: text for key, text in zip(keys, texts, strict=True) if key not in self._rows}
        order = sorted(missing, key=lambda key: len(missing[key]))
        for first in range(0, len(order), BLOCK):
            self._add(order[first : first + BLOCK], missing)
            if len(order) > BLOCK:
                print(f"embedded {min(first + BLOCK, len(order))}/{len(order)}", file=sys.stderr, flush=True)
        return self._np.stack([self._rows[key] for key in keys])

    @staticmethod
    def _key(text: str) -> bytes:
        return hashlib.md5(" ".join(text.split()).encode("utf-8", "surrogatepass")).hexdigest().encode()

    def _add(self, keys: Sequence[bytes], texts: dict[bytes, str]) -> None:
        made = self._np.empty(len(keys), self._record)
        made["key"], made["vector"] = keys, self._embed([texts[key] for key in keys])
        with self._file.open("ab") as file:
            file.write(made.tobytes())
        self._rows.update(zip(keys, made["vector"], strict=True))

    def _embed(self, texts: list[str]) -> Any:
        if self._native:
            if self._embedder is None:
                from sentence_transformers import SentenceTransformer

                self._embedder = SentenceTransformer(self._model, device="cpu")
            found = self._embedder.encode(texts, normalize_embeddings=True)
        else:
            if self._embedder is None:
                sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
                from doyen.embedding import load_embedder

                self._embedder = load_embedder(self._model, precision="bf16")
            found = self._embedder.embed(texts)
        return found


# ---- ranks


def units(found: Iterable[Unit]) -> Ranking:
    """Return distinct units, first kept."""
    return list(dict.fromkeys((document, page) for document, page in found))


def fused(rankings: Sequence[Ranking]) -> Ranking:
    """Reciprocal rank fusion of rankings of units."""
    scores: dict[Unit, float] = {}
    for ranking in rankings:
        for rank, unit in enumerate(ranking[:UNITS], 1):
            scores[unit] = scores.get(unit, 0.0) + 1 / (RRF_K + rank)
    return sorted(scores, key=lambda unit: -scores[unit])


@dataclasses.dataclass
class Job:
    """What a peer works on."""

    texts: list[Text]
    questions: list[str]
    model: str
    native: bool
    vectors: Vectors


Peer = Callable[[Job], tuple[int, list[Ranking]]]


def bm25s(job: Job) -> tuple[int, list[Ranking]]:
    """bm25s' defaults on whole files, pages where the format has pages."""
    import bm25s

    index = bm25s.BM25()
    index.index(bm25s.tokenize([t for _, _, t in job.texts], stopwords="en", show_progress=False), show_progress=False)
    asked = bm25s.tokenize(job.questions, stopwords="en", show_progress=False, return_ids=False)
    k = min(UNITS, len(job.texts))
    found = []
    for words in asked:
        # a question without a known word would fail in bm25s; it finds nothing
        places, scores = index.retrieve([words], k=k, show_progress=False) if words else ([[]], [[]])
        found.append([job.texts[i][:2] for i, score in zip(places[0], scores[0], strict=True) if score > 0])
    return len(job.texts), found


def minilm(job: Job) -> tuple[int, list[Ranking]]:
    """Windows of 200 words without overlap, cosine."""
    import numpy as np

    windows: list[Text] = []
    for document, page, text in job.texts:
        words = text.split()
        windows += [(document, page, " ".join(words[i : i + WINDOW_WORDS])) for i in range(0, len(words), WINDOW_WORDS)]
    vectors = job.vectors([text for _, _, text in windows])
    found = []
    for vector in job.vectors(job.questions):
        order = np.argsort(-(vectors @ vector), kind="stable")[:WINDOWS]
        found.append(units(windows[i][:2] for i in order))
    return len(windows), found


def rrf(job: Job) -> tuple[int, list[Ranking]]:
    """Reciprocal rank fusion (k = 60) of bm25s and minilm-200w, on units."""
    _, text = bm25s(job)
    chunks, dense = minilm(job)
    return chunks, [fused(pair) for pair in zip(text, dense, strict=True)]


def llamaindex(job: Job) -> tuple[int, list[Ranking]]:
    """SentenceSplitter(1024, 200), VectorStoreIndex; file path and page label embedded as SimpleDirectoryReader does."""
    from llama_index.core import Document, VectorStoreIndex
    from llama_index.core.base.embeddings.base import BaseEmbedding
    from llama_index.core.node_parser import SentenceSplitter

    class Shared(BaseEmbedding):  # type: ignore[misc]
        def _get_text_embeddings(self, texts: list[str]) -> list[list[float]]:
            return list(job.vectors(texts).tolist())

        def _get_text_embedding(self, text: str) -> list[float]:
            return self._get_text_embeddings([text])[0]

        def _get_query_embedding(self, query: str) -> list[float]:
            return self._get_text_embeddings([query])[0]

        async def _aget_query_embedding(self, query: str) -> list[float]:
            return self._get_query_embedding(query)

    def native() -> Any:
        from llama_index.embeddings.huggingface import HuggingFaceEmbedding

        return HuggingFaceEmbedding(model_name=job.model, device="cpu")

    model = native() if job.native else Shared(embed_batch_size=2048)
    documents = []
    for document, page, text in job.texts:
        label = {"page_label": str(page)} if page else {}
        hidden = ["unit"]
        documents.append(
            Document(
                text=text,
                metadata=label | {"file_path": document, "unit": [document, page]},
                excluded_embed_metadata_keys=hidden,
                excluded_llm_metadata_keys=hidden,
            )
        )
    nodes = SentenceSplitter(chunk_size=1024, chunk_overlap=200).get_nodes_from_documents(documents)
    index = VectorStoreIndex(nodes, embed_model=model)
    retriever = index.as_retriever(similarity_top_k=CHUNKS)
    if not job.native:
        job.vectors(job.questions)  # together: one by one they would not fill a batch
    return len(nodes), [units(hit.node.metadata["unit"] for hit in retriever.retrieve(q)) for q in job.questions]


def haystack(job: Job) -> tuple[int, list[Ranking]]:
    """DocumentSplitter() of 200 words over whole files, in-memory BM25 and embedding retrievers, rank fusion."""
    from haystack import Document
    from haystack.components.joiners import DocumentJoiner
    from haystack.components.preprocessors import DocumentSplitter
    from haystack.components.retrievers.in_memory import InMemoryBM25Retriever, InMemoryEmbeddingRetriever
    from haystack.document_stores.in_memory import InMemoryDocumentStore

    files: dict[str, list[tuple[int | None, str]]] = {}
    for document, page, text in job.texts:
        files.setdefault(document, []).append((page, text))
    documents = [Document(content=_with_form_feeds(p), meta={"document": name}) for name, p in files.items()]
    splitter = DocumentSplitter()
    if hasattr(splitter, "warm_up"):
        splitter.warm_up()
    pieces = splitter.run(documents=documents)["documents"]
    embed, ask = _haystack_native(job) if job.native else (_haystack_shared(job), job.vectors)
    store = InMemoryDocumentStore()
    store.write_documents(embed(pieces))
    text, dense = InMemoryBM25Retriever(store, top_k=CHUNKS), InMemoryEmbeddingRetriever(store, top_k=CHUNKS)
    joiner = DocumentJoiner(join_mode="reciprocal_rank_fusion", top_k=CHUNKS)
    paged = {name: any(page for page, _ in parts) for name, parts in files.items()}
    found = []
    for question, vector in zip(job.questions, ask(job.questions), strict=True):
        lists = [
            text.run(query=question)["documents"],
            dense.run(query_embedding=[float(x) for x in vector])["documents"],
        ]
        hits = joiner.run(documents=lists)["documents"]
        found.append(
            units((h.meta["document"], h.meta["page_number"] if paged[h.meta["document"]] else None) for h in hits)
        )
    return len(pieces), found


def _with_form_feeds(parts: list[tuple[int | None, str]]) -> str:
    """Join a file's pages as PyPDFToDocument does; pages without text keep their place."""
    if parts[0][0] is None:
        return parts[0][1]
    texts = {page: text for page, text in parts if page}
    return "\f".join(texts.get(n, "").replace("\f", " ") for n in range(1, max(texts) + 1))


def _haystack_shared(job: Job) -> Callable[[list[Any]], list[Any]]:
    def embed(pieces: list[Any]) -> list[Any]:
        vectors = job.vectors([p.content for p in pieces])
        return [dataclasses.replace(p, embedding=v.tolist()) for p, v in zip(pieces, vectors, strict=True)]

    return embed


def _haystack_native(job: Job) -> tuple[Callable[[list[Any]], list[Any]], Callable[[list[str]], list[Any]]]:
    from haystack_integrations.components.embedders.sentence_transformers import (
        SentenceTransformersDocumentEmbedder,
        SentenceTransformersTextEmbedder,
    )

    documents = SentenceTransformersDocumentEmbedder(model=job.model, progress_bar=False)
    asker = SentenceTransformersTextEmbedder(model=job.model, progress_bar=False)
    for part in (documents, asker):
        if hasattr(part, "warm_up"):
            part.warm_up()
    return (
        lambda pieces: list(documents.run(documents=pieces)["documents"]),
        lambda questions: [asker.run(text=q)["embedding"] for q in questions],
    )


def txtai(job: Job) -> tuple[int, list[Ranking]]:
    """Segmentation(paragraphs=True), Embeddings(hybrid=True): BM25 and dense, its weights."""
    from txtai import Embeddings
    from txtai.pipeline import Segmentation

    segment = Segmentation(paragraphs=True)
    paragraphs = [(d, page, part) for d, page, text in job.texts for part in segment(text)]
    model: dict[str, Any] = {"path": job.model}
    if not job.native:
        job.vectors([text for _, _, text in paragraphs])
        job.vectors(job.questions)
        model = {"method": "external", "transform": lambda texts: job.vectors(list(texts))}
    index = Embeddings(hybrid=True, **model)
    index.index((i, text, None) for i, (_, _, text) in enumerate(paragraphs))
    found = [index.search(question, CHUNKS) for question in job.questions]
    return len(paragraphs), [units(paragraphs[int(i)][:2] for i, _ in hits) for hits in found]


PEERS: dict[str, tuple[Peer, tuple[str, ...]]] = {
    "bm25s": (bm25s, ("bm25s",)),
    "minilm-200w": (minilm, ()),
    "rrf": (rrf, ("bm25s",)),
    "llamaindex": (llamaindex, ("llama-index-core",)),
    "haystack": (haystack, ("haystack-ai",)),
    "txtai": (txtai, ("txtai",)),
}
"""Name → what runs it, and the packages whose versions count."""


def versions(name: str, native: bool) -> dict[str, str]:
    """Return the versions of the packages that a peer's result depends on."""
    from importlib.metadata import version

    packages = (*PEERS[name][1], "pypdf", "beautifulsoup4", "sentence-transformers" if native else "openvino")
    return {package: version(package) for package in packages}


def main() -> None:
    row = json.load(sys.stdin)
    os.environ |= {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "HAYSTACK_TELEMETRY_ENABLED": "False"}
    if row.get("versions"):
        print(json.dumps({name: versions(name, row["native"]) for name in PEERS}))
        return
    kept = Path(row["kept"])
    kept.mkdir(parents=True, exist_ok=True)
    texts = read_folder(Path(row["root"]), Path(row["folder"]), kept / "texts.json")
    job = Job(texts, row["questions"], row["model"], row["native"], Vectors(row["model"], kept, row["native"]))
    started = time.perf_counter()
    with contextlib.redirect_stdout(sys.stderr):
        chunks, rankings = PEERS[row["peer"]][0](job)
    documents = len({document for document, _, _ in texts})
    about = {"documents": documents, "units": len(texts), "chunks": chunks}
    found = [[{"document": document, "page": page} for document, page in ranking] for ranking in rankings]
    print(json.dumps(about | {"seconds": round(time.perf_counter() - started, 1), "hits": found}))


if __name__ == "__main__":
    main()
