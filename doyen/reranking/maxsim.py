"""The expert's own embedder as a reranker: late interaction of a question's tokens with a passage's, no further weights.

MaxSim after ColBERT (Khattab & Zaharia 2020, arXiv 2004.12832), with an embedder that was not trained for it: hence the
weights of the tokens, and the small weight beside the score of the search. See LOG.md for the measurements.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from doyen.embedding import Embedder, Kind
from doyen.errors import ModelError

WEIGHT = 0.5


@runtime_checkable
class TokenEmbedder(Protocol):
    """An embedder that also gives the vectors of single tokens."""

    def token_states(self, texts: Sequence[str], *, kind: Kind = "passage") -> list[NDArray[np.float32]]:
        """Return the unit vectors of each text's tokens `(tokens, hidden) float32`."""
        ...


class MaxSim:
    """A `Reranker` (see `doyen.reranking`) of an embedder's token vectors."""

    weight: float | None = WEIGHT

    def __init__(self, embedder: Embedder, name: str = "maxsim") -> None:
        """Take an embedder. Raises ModelError where it gives no vectors of tokens (an API)."""
        if not isinstance(embedder, TokenEmbedder):
            raise ModelError(
                f"{name} reads with the token vectors of the embedder, and {embedder.name} gives none.",
                hint="set [rerank] name to a cross-encoder or to an API's reranker, or take an embedder on this machine",
            )
        self.name = name
        self.fingerprint = f"{name}:{embedder.fingerprint}"
        self._embedder: TokenEmbedder = embedder

    def score(self, question: str, passages: Sequence[str]) -> NDArray[np.float32]:
        """Return the mean cosine, at least 0, of the question's tokens to their nearest ones in each passage `(n,) float32`.

        Tokens count by the variance of that cosine over the passages: what all of them hold alike tells nothing. So a
        score compares within one call only.
        """
        if not passages:
            return np.empty(0, dtype=np.float32)
        asked = self._embedder.token_states([question], kind="query")[0]
        if not len(asked):
            return np.zeros(len(passages), dtype=np.float32)
        nearest = np.zeros((len(passages), len(asked)), dtype=np.float32)
        for row, tokens in zip(nearest, self._embedder.token_states(passages), strict=True):
            if len(tokens):
                row[:] = (asked @ tokens.T).max(axis=1)
        weights = nearest.var(axis=0)
        total = float(weights.sum())
        mean = nearest @ (weights / total) if total > 1e-9 else nearest.mean(axis=1)
        return np.asarray(mean.clip(0.0, 1.0), dtype=np.float32)
