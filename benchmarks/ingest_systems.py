"""One system, one folder: ingest it, answer the questions with pages, tell the seconds. Run by benchmarks/ingest.py.

Enters: a JSON job on stdin. Leaves: a JSON result as the last line of stdout. doyen runs in its own environment, the
peers in theirs (requirements-peers.txt), each in a process of its own. The peers get what their guides show: LlamaIndex
`IngestionPipeline` (SentenceSplitter, HuggingFaceEmbedding) into a VectorStoreIndex that is persisted; Haystack a splitter,
SentenceTransformersDocumentEmbedder and an InMemoryDocumentStore that is saved. Both read PDFs with pypdf, page by page, as
their own readers do, Markdown as text, and XML as the text of its elements.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

Hits = list[list[dict[str, Any]]]
HITS = 50


def texts_of(path: Path) -> list[tuple[int | None, str]]:
    """Return (page, text) of a file, as the peers' readers give it."""
    if path.suffix == ".pdf":
        from pypdf import PdfReader

        return [(n, page.extract_text()) for n, page in enumerate(PdfReader(path).pages, 1)]
    if path.suffix == ".xml":
        return [(None, "\n".join(t.strip() for t in ElementTree.parse(path).getroot().itertext() if t.strip()))]
    return [(None, path.read_text(encoding="utf-8", errors="replace"))]


def files_of(folder: Path) -> list[Path]:
    return sorted(p for p in folder.rglob("*") if p.is_file())


def llamaindex(job: dict[str, Any]) -> tuple[dict[str, Any], Callable[[list[str]], Hits]]:
    from llama_index.core import Document, StorageContext, VectorStoreIndex
    from llama_index.core.ingestion import IngestionPipeline
    from llama_index.core.node_parser import SentenceSplitter
    from llama_index.embeddings.huggingface import HuggingFaceEmbedding
    from transformers import AutoTokenizer

    folder = Path(job["folder"])
    tokenizer = AutoTokenizer.from_pretrained(job["model"])
    model = HuggingFaceEmbedding(model_name=job["model"], device="cpu")
    size, overlap = job["chunk_tokens"] - 2, min(200, job["chunk_tokens"] // 10)

    def tokens(text: str) -> list[int]:
        return list(tokenizer.encode(text, add_special_tokens=False))

    splitter = SentenceSplitter(chunk_size=size, chunk_overlap=overlap, tokenizer=tokens)
    names = {"document": "", "page": 0}
    documents = [
        Document(
            text=text,
            metadata={"document": path.relative_to(folder).as_posix(), "page": page},
            excluded_embed_metadata_keys=list(names),
            excluded_llm_metadata_keys=list(names),
        )
        for path in files_of(folder)
        for page, text in texts_of(path)
    ]
    nodes = IngestionPipeline(transformations=[splitter, model]).run(documents=documents)
    index = VectorStoreIndex(nodes, embed_model=model, storage_context=StorageContext.from_defaults())
    index.storage_context.persist(job["work"])
    retriever = index.as_retriever(similarity_top_k=HITS)

    def search(questions: list[str]) -> Hits:
        return [[dict(n.node.metadata) for n in retriever.retrieve(question)] for question in questions]

    return {"chunks": len(nodes)}, search


def haystack(job: dict[str, Any]) -> tuple[dict[str, Any], Callable[[list[str]], Hits]]:
    from haystack import Document
    from haystack.components.preprocessors import DocumentSplitter
    from haystack.document_stores.in_memory import InMemoryDocumentStore
    from haystack_integrations.components.embedders.sentence_transformers import (
        SentenceTransformersDocumentEmbedder,
        SentenceTransformersTextEmbedder,
    )
    from transformers import AutoTokenizer

    folder = Path(job["folder"])
    tokenizer = AutoTokenizer.from_pretrained(job["model"])
    size = job["chunk_tokens"] - 2

    def pieces(text: str) -> list[str]:
        """Cut at the model's own tokens: no splitter of Haystack counts in them."""
        places = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
        starts = [places[i][0] for i in range(0, len(places), size)]
        return [text[a:b] for a, b in zip(starts, [*starts[1:], len(text)], strict=True)]

    splitter = DocumentSplitter(split_by="function", splitting_function=pieces, split_length=1)
    embedder = SentenceTransformersDocumentEmbedder(model=job["model"], progress_bar=False)
    asker = SentenceTransformersTextEmbedder(model=job["model"], progress_bar=False)
    for part in (splitter, embedder, asker):
        if hasattr(part, "warm_up"):
            part.warm_up()
    documents = [
        Document(content=text, meta={"document": path.relative_to(folder).as_posix(), "page": page})
        for path in files_of(folder)
        for page, text in texts_of(path)
        if text.strip()
    ]
    store = InMemoryDocumentStore(embedding_similarity_function="cosine")
    embedded = embedder.run(documents=splitter.run(documents=documents)["documents"])["documents"]
    store.write_documents(embedded)
    Path(job["work"]).mkdir(parents=True, exist_ok=True)
    store.save_to_disk(str(Path(job["work"]) / "store.json"))

    def search(questions: list[str]) -> Hits:
        found = []
        for question in questions:
            vector = asker.run(text=question)["embedding"]
            hits = store.embedding_retrieval(query_embedding=vector, top_k=HITS)
            found.append([{"document": h.meta["document"], "page": h.meta["page"]} for h in hits])
        return found

    return {"chunks": len(embedded)}, search


def doyen(job: dict[str, Any]) -> tuple[dict[str, Any], Callable[[list[str]], Hits]]:
    from doyen import ingest, init
    from doyen.config import load_settings
    from doyen.expert import open_retriever

    expert = Path(job["work"])
    if not (expert / "doyen.toml").exists():
        init(expert)
    report = ingest(expert, [job["folder"]])

    def search(questions: list[str]) -> Hits:
        retriever = open_retriever(expert, load_settings(expert))
        return [[h.as_dict() for h in hits] for hits in retriever.search_many(questions, HITS)]

    return {"chunks": report.chunks, "failed": [reason for _, reason in report.failed]}, search


SYSTEMS = {"doyen": doyen, "llamaindex": llamaindex, "haystack": haystack}


def main() -> None:
    job = json.load(sys.stdin)
    os.environ |= {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "HAYSTACK_TELEMETRY_ENABLED": "False"}
    started = time.perf_counter()
    result, search = SYSTEMS[job["system"]](job)
    result["seconds"] = time.perf_counter() - started
    print(json.dumps({"ingested": result}), flush=True)
    if job.get("questions"):
        result["hits"] = search(job["questions"])
    print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
