"""A question and passages → how well each passage answers, read together. Knows no index and no fusion."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from doyen.config import RerankSettings
from doyen.embedding import Embedder
from doyen.errors import ModelError
from doyen.models.catalogue import EmbedderSource, EndpointSource, find_entry, in_expert
from doyen.models.fetching import require_model

__all__ = ["Reranker", "best_first", "load_reranker"]


class Reranker(Protocol):
    """What scores passages for a question."""

    name: str
    """The name under which it was asked for."""
    fingerprint: str
    """What the scores depend on: `<model>@<weights hash>/<backend>-<precision>`, or `vendor:model/api`."""
    weight: float | None
    """None: the scores alone order. Else they are added with this weight to those that the passages were found with,
    both measured in standard deviations."""

    def score(self, question: str, passages: Sequence[str]) -> NDArray[np.float32]:
        """Return a relevance from 0 to 1 for each passage `(n,) float32`, in their order; higher is better."""
        ...


def load_reranker(
    reranker: str | RerankSettings,
    *,
    cache: Path | None = None,
    expert: Path | None = None,
    precision: str | None = None,
    embedder: Embedder | None = None,
) -> Reranker:
    """Load the reranker of that name (or of those settings): catalogue, folder, Hub repository that was pulled, or API.

    A name that begins with `./` is a folder within the folder `expert`. `precision` is "f32" or "bf16" (None: what the
    CPU computes in natively). `embedder` is the expert's: "maxsim" reads with it.

    Raises: ModelError where the model is unknown, not here, no cross-encoder with one score, or "maxsim" without a local
    `embedder`; EndpointError where an API's key is missing.
    """
    settings = RerankSettings(name=reranker) if isinstance(reranker, str) else reranker
    name = in_expert(settings.name, expert)
    entry = find_entry(name)
    if isinstance(entry.source, EndpointSource):
        from doyen.reranking.api import ApiReranker

        return ApiReranker(settings, entry.source)
    if isinstance(entry.source, EmbedderSource):
        from doyen.reranking.maxsim import MaxSim

        if embedder is None:
            raise ModelError(
                f"{name} reads with an embedder, and none was given.",
                hint="load_reranker(…, embedder=load_embedder(…))",
            )
        return MaxSim(embedder, entry.name)
    from doyen.reranking.cross_encoder import CrossEncoder

    return CrossEncoder(require_model(name, cache), name=entry.name, precision=precision)


def best_first(
    reranker: Reranker, question: str, passages: Sequence[str], most: int, found: Sequence[float] | None = None
) -> tuple[list[int], NDArray[np.float32]]:
    """Return the order of the passages and the scores `(m,)` of the first m = min(`most`, n), which alone are read.

    The first `most` are sorted by score, ties in the order they had; the others follow as they came. `found` are the
    scores that the passages were found with, for a reranker with a `weight`; its scores are on their scale then.
    """
    scores = reranker.score(question, passages[:most])
    if reranker.weight is not None and found is not None:
        scores = _added(np.asarray(found[:most], dtype=np.float32), scores, reranker.weight)
    order = np.argsort(-scores, kind="stable").tolist()
    return [*order, *range(len(order), len(passages))], scores


def _added(found: NDArray[np.float32], scores: NDArray[np.float32], weight: float) -> NDArray[np.float32]:
    """Return `found` + weight · (`scores` brought to its mean 0 and to the standard deviation of `found`)."""
    if len(scores) < 2 or scores.std() < 1e-6:
        return found
    standard = (scores - scores.mean()) / scores.std()
    return np.asarray(found + weight * found.std() * standard, dtype=np.float32)
