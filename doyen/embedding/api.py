"""An embeddings API as an embedder: OpenAI's protocol (`POST /embeddings`), and Jina's, which adds the task.

Protocols: https://platform.openai.com/docs/api-reference/embeddings, https://api.jina.ai/redoc. Chunks are sized by bytes,
since the tokenizers are not here: a token of these models is at least one byte.
"""

from __future__ import annotations

import math
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, CancelledError, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from doyen.config import EmbedderSettings
from doyen.embedding.prefixes import AUTOMATIC, Kind, Prefixes, plain_name, vector_marks
from doyen.embedding.tokens import BYTES_PER_TOKEN, ByteCounter, TokenCounter, encodable
from doyen.errors import EndpointError, ModelError
from doyen.models.catalogue import EndpointSource
from doyen.models.endpoint import BadAnswerError, Endpoint
from doyen.models.pace import Pace

BATCH_TEXTS = 128
BATCH_TOKENS = 30_000  # by four bytes a token; OpenAI takes 300,000 of its own a request
CONCURRENT = 4
_WAIT_S = 0.2
_TASKS = {"query": "retrieval.query", "passage": "retrieval.passage"}
_NO_TEXT = "."  # an empty text is refused by OpenAI


@dataclass(frozen=True, slots=True)
class ApiModel:
    """What is known of a model behind an API."""

    dim: int
    max_tokens: int
    price: float | None = None
    """US dollars for a million tokens, at PRICES_OF."""


PRICES_OF = "January 2025"
_UNKNOWN = ApiModel(0, 512)
MODELS = {
    "openai:text-embedding-3-small": ApiModel(1536, 8191, 0.02),
    "openai:text-embedding-3-large": ApiModel(3072, 8191, 0.13),
    "openai:text-embedding-ada-002": ApiModel(1536, 8191, 0.10),
    "jina:jina-embeddings-v3": ApiModel(1024, 8192),
    "jina:jina-embeddings-v4": ApiModel(2048, 8192),
}


class ApiEmbedder:
    """An `Embedder` (see `doyen.embedding`) behind an API."""

    languages: frozenset[str] = frozenset()

    def __init__(self, endpoint: Endpoint, settings: EmbedderSettings, source: EndpointSource, dim: int = 0) -> None:
        """Take the vectors' length from `dim`, the settings or what is known of the model; else ask the API once."""
        known = _model(source)
        self.name = settings.name
        self.endpoint = endpoint
        self._source = source
        self._dimensions = settings.dimensions
        query, passage = settings.query_prefix, settings.passage_prefix
        self._prefixes = Prefixes("" if query == AUTOMATIC else query, "" if passage == AUTOMATIC else passage)
        self.own_price = settings.price >= 0
        self.price = settings.price if self.own_price else known.price
        self.counter: TokenCounter = api_counter(settings, source)
        self.max_tokens = self.counter.limit
        self.dim = dim or settings.dimensions or known.dim or self._asked_dim()
        self.fingerprint = f"{plain_name(settings.name)}@{self.dim}{vector_marks(self._prefixes)}/api"

    def embed(
        self, texts: Sequence[str], *, kind: Kind = "passage", progress: Callable[[int], None] | None = None
    ) -> NDArray[np.float32]:
        """Return one unit vector a text, in their order; a text's end beyond `max_tokens` tokens is not sent.

        `progress` is called, also with 0 while the API is waited for; what it raises ends the call.

        Raises: EndpointError where the API refuses, is given up, or sends vectors of another length.
        """
        vectors = np.empty((len(texts), self.dim), dtype=np.float32)
        prepared = [self._prepared(text, kind) for text in texts]
        with ThreadPoolExecutor(CONCURRENT, thread_name_prefix="embeddings") as pool:
            ended = threading.Event()

            def alive() -> None:
                if ended.is_set():
                    raise CancelledError

            waiting = _batches(prepared)
            under_way: dict[Future[NDArray[np.float32]], list[int]] = {}
            try:
                for rows in waiting:
                    under_way[pool.submit(self._send, [prepared[i] for i in rows], kind, alive)] = rows
                    if len(under_way) >= 2 * CONCURRENT:
                        _collect(under_way, vectors, progress)
                while under_way:
                    _collect(under_way, vectors, progress)
            finally:  # where a batch failed or the caller stopped, the others do not wait for their next try
                ended.set()
                for job in under_way:
                    job.cancel()
        return vectors

    def _prepared(self, text: str, kind: Kind) -> str:
        text = self._prefixes.before(kind) + encodable(text)
        starts = self.counter.starts(text) if self.counter.count(text) > self.max_tokens else ()
        return (text[: starts[self.max_tokens]] if len(starts) > self.max_tokens else text).strip() or _NO_TEXT

    def _send(self, texts: Sequence[str], kind: Kind, alive: Callable[[], None] | None) -> NDArray[np.float32]:
        """Send one batch; return unit vectors."""
        body: dict[str, Any] = {"model": self._source.model, "input": list(texts)}
        if self._source.vendor == "jina":
            body |= {"task": _TASKS[kind], "truncate": True}
        else:
            body["encoding_format"] = "float"
        if self._dimensions:
            body["dimensions"] = self._dimensions
        tokens = sum(self.counter.count(text) for text in texts)
        vectors = self.endpoint.post(
            "embeddings", body, lambda content: _vectors(content, len(texts)), tokens=tokens, alive=alive
        )
        expected = getattr(self, "dim", vectors.shape[1])
        if vectors.shape[1] != expected:
            raise EndpointError(
                f"{self.endpoint.host} sends vectors of {vectors.shape[1]} numbers for {self.name}, expected {expected}",
                hint="the model there is another one, or does not know `dimensions`: set [embedder] dimensions = 0, "
                "then doyen ingest --rebuild SOURCE…",
            )
        unit: NDArray[np.float32] = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        return unit

    def _asked_dim(self) -> int:
        return int(self._send(["length"], "passage", None).shape[1])


def open_api_embedder(settings: EmbedderSettings, source: EndpointSource, recorded: str | None) -> ApiEmbedder:
    """Open the embedder; the vectors' length is taken from the index's fingerprint where it is of this model.

    Raises: ModelError where the vendor has no embeddings; EndpointError without a key, or where an unknown model's vector
    length must be asked for and the API does not answer.
    """
    if source.vendor == "cohere" or "rerank" in source.model:
        raise ModelError(f"{settings.name} is a reranker, not an embedder.", hint=f'[rerank] name = "{settings.name}"')
    pace = Pace(settings.requests_per_minute, settings.tokens_per_minute)
    endpoint = Endpoint(
        source.vendor,
        url=settings.endpoint,
        key_variable=settings.key_variable,
        deployment=source.model,
        pace=pace,
    )
    match = re.match(rf"{re.escape(plain_name(settings.name))}@(\d+)[+/]", recorded or "")
    return ApiEmbedder(endpoint, settings, source, int(match[1]) if match and not settings.dimensions else 0)


def api_counter(settings: EmbedderSettings, source: EndpointSource) -> ByteCounter:
    """Return what sizes chunks for a model behind an API.

    Its limit in units of four bytes is a quarter of a known model's limit in tokens, so that no text can be too long,
    in whatever script; of an unknown model it is 512.
    """
    known = _model(source)
    return ByteCounter(known.max_tokens if known is _UNKNOWN else known.max_tokens // BYTES_PER_TOKEN)


def _model(source: EndpointSource) -> ApiModel:
    return MODELS.get(f"{source.vendor}:{source.model}", _UNKNOWN)


def _batches(texts: Sequence[str]) -> Iterator[list[int]]:
    """Yield indices, so many that neither their number nor their bytes are too large for one request."""
    batch: list[int] = []
    held = 0
    for i, text in enumerate(texts):
        size = len(text.encode())
        if batch and (len(batch) >= BATCH_TEXTS or held + size > BATCH_TOKENS * BYTES_PER_TOKEN):
            yield batch
            batch, held = [], 0
        batch.append(i)
        held += size
    if batch:
        yield batch


def _collect(
    under_way: dict[Future[NDArray[np.float32]], list[int]],
    vectors: NDArray[np.float32],
    progress: Callable[[int], None] | None,
) -> None:
    """Take in the batches that are done; wait for one."""
    done: set[Future[NDArray[np.float32]]] = set()
    while not done:
        done, _ = wait(under_way, timeout=_WAIT_S, return_when=FIRST_COMPLETED)
        if progress is not None and not done:
            progress(0)
    for job in done:
        rows = under_way.pop(job)
        vectors[rows] = job.result()
        if progress is not None:
            progress(len(rows))


def _vectors(content: Any, count: int) -> NDArray[np.float32]:
    """Read an answer `{"data": [{"index", "embedding"}, …]}`: `(count, dim) float32`. Raises BadAnswerError."""
    rows = content.get("data") if isinstance(content, dict) else None
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise BadAnswerError("JSON without a list `data` of embeddings")
    if len(rows) != count:
        raise BadAnswerError(f"{len(rows)} vectors for {count} texts")
    ordered = sorted(enumerate(rows), key=lambda pair: pair[1].get("index", pair[0]))
    if [row.get("index", place) for place, row in ordered] != list(range(count)):
        raise BadAnswerError("vectors whose `index` is not that of the texts")
    values = [row.get("embedding") for _, row in ordered]
    try:
        vectors = np.array(values, dtype=np.float32)
    except (TypeError, ValueError):
        raise BadAnswerError("embeddings that are not lists of numbers of one length") from None
    if vectors.ndim != 2 or not vectors.shape[1]:
        raise BadAnswerError("embeddings that are not lists of numbers of one length")
    if not np.isfinite(vectors).all() or not all(map(math.isfinite, np.linalg.norm(vectors, axis=1))):
        raise BadAnswerError("embeddings with numbers that are not finite")
    if not vectors.any(axis=1).all():
        raise BadAnswerError("an embedding of zeros")
    return vectors
