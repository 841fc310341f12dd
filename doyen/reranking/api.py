"""A reranking API as a reranker: `POST /rerank` with query, documents and top_n, as Jina, Cohere and vLLM answer it.

Protocols: https://api.jina.ai/redoc, https://docs.cohere.com/reference/rerank.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from doyen.config import RerankSettings
from doyen.embedding.prefixes import plain_name
from doyen.embedding.tokens import encodable
from doyen.errors import ModelError
from doyen.models.catalogue import EndpointSource
from doyen.models.endpoint import BadAnswerError, Endpoint

ATTEMPTS = 3
TIMEOUT_S = 20.0
_MOST_PASSAGES = 500
_MOST_CHARACTERS = 8_000
_NO_TEXT = "."


class ApiReranker:
    """A `Reranker` (see `doyen.reranking`) behind an API. Somebody waits for it: it is given up sooner than embeddings."""

    weight: float | None = None

    def __init__(self, settings: RerankSettings, source: EndpointSource, endpoint: Endpoint | None = None) -> None:
        if source.vendor == "openai":
            raise ModelError(
                f"{settings.name}: OpenAI's protocol has no reranking.",
                hint="for a server that speaks POST /rerank, set name = 'jina:MODEL' and [rerank] endpoint",
            )
        self.name = settings.name
        self.fingerprint = f"{plain_name(settings.name)}/api"
        self._model = source.model
        self._endpoint = endpoint or Endpoint(
            source.vendor,
            url=settings.endpoint,
            key_variable=settings.key_variable,
            attempts=ATTEMPTS,
            timeout_s=TIMEOUT_S,
        )

    def score(self, question: str, passages: Sequence[str]) -> NDArray[np.float32]:
        """Return each passage's relevance `(n,) float32`, in their order; only the first 8,000 characters are sent.

        Raises: EndpointError where the API refuses or is given up.
        """
        texts = [encodable(text[:_MOST_CHARACTERS]).strip() or _NO_TEXT for text in passages]
        asked = encodable(question[:_MOST_CHARACTERS]).strip() or _NO_TEXT
        parts = [self._scored(asked, texts[i : i + _MOST_PASSAGES]) for i in range(0, len(texts), _MOST_PASSAGES)]
        return np.concatenate(parts) if parts else np.empty(0, dtype=np.float32)

    def _scored(self, question: str, texts: list[str]) -> NDArray[np.float32]:
        body = {"model": self._model, "query": question, "documents": texts, "top_n": len(texts)}
        return self._endpoint.post("rerank", body, lambda content: _scores(content, len(texts)))


def _scores(content: Any, count: int) -> NDArray[np.float32]:
    """Read `{"results": [{"index", "relevance_score"}, …]}`, best first: `(count,)` by index. Raises BadAnswerError."""
    rows = content.get("results") if isinstance(content, dict) else None
    if not isinstance(rows, list):
        raise BadAnswerError("JSON without a list `results`")
    try:
        found = {int(row["index"]): float(row["relevance_score"]) for row in rows}
    except (KeyError, TypeError, ValueError):
        raise BadAnswerError("results without `index` and `relevance_score`") from None
    if sorted(found) != list(range(count)):
        raise BadAnswerError(f"scores of {len(found)} passages, where {count} were sent")
    scores = np.array([found[i] for i in range(count)], dtype=np.float32)
    if not np.isfinite(scores).all():
        raise BadAnswerError("scores that are not finite")
    return scores
