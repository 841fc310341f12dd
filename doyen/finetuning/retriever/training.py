"""An encoder and pairs → the encoder, trained with the batch's other passages as negatives.

Loss: multiple negatives ranking (Henderson et al. 2017, arXiv 1705.00652), the cosine scaled by 20. Half of the batches
hold pairs on like topics, whose passages are each other's hard negatives at no further cost (topic-aware sampling,
Hofstätter et al. 2021, arXiv 2104.06967); what is probably another right passage is left out of the loss (a score above
0.95 of the right one's by the untrained encoder: Moreira et al. 2024, arXiv 2407.15831).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from doyen.errors import GateError
from doyen.finetuning.retriever.encoder import Encoder
from doyen.finetuning.retriever.pairs import Pair

QUERY_TOKENS = 48
PASSAGE_TOKENS = 64
SCALE = 20.0
FALSE_NEGATIVE_SHARE = 0.95
NEAR_DUPLICATE = 0.95
WARMUP_SHARE = 0.1
TOPICAL = 0.5
LOOKS = 4
Matrix = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class RetrieverOptions:
    """How a retriever is trained: `batch_size` pairs a step, at most `most_pairs` of them.

    Fewer are gone through up to `passes` times, as far as `most_pairs` allows.
    """

    learning_rate: float
    batch_size: int
    most_pairs: int = 3200
    passes: int = 3

    def times(self, pairs: int) -> int:
        """Return how many times to go through so many pairs."""
        return max(1, min(self.passes, self.most_pairs // pairs))


@dataclass(frozen=True, slots=True)
class Batches:
    """Pairs in batches, and the untrained encoder's vectors of queries and passages `(pairs, dim) float32`.

    The chances are the mean cosines of any query and any passage, and of any two passages: what a cosine is measured
    from, since some embedders give hardly one below 0.7.
    """

    pairs: Sequence[Pair]
    queries: Matrix
    passages: Matrix
    batches: Sequence[Sequence[int]]
    asked_chance: float = 0.0
    alike_chance: float = 0.0

    def wrong(self, batch: Sequence[int]) -> NDArray[np.bool_]:
        """Return which passages `(queries, passages) bool` of a batch count as negatives; the diagonal is not wrong."""
        q, p = self.queries[batch], self.passages[batch]
        scores = (q @ p.T - self.asked_chance) / (1 - self.asked_chance)
        alike = (p @ p.T - self.alike_chance) / (1 - self.alike_chance)
        documents = np.array([self.pairs[i].document for i in batch])
        wrong = (documents[:, None] != documents[None, :]) & (alike < NEAR_DUPLICATE)
        return np.asarray(wrong & (scores < FALSE_NEGATIVE_SHARE * np.diag(scores)[:, None]), dtype=np.bool_)


def make_batches(
    pairs: Sequence[Pair],
    queries: Matrix,
    passages: Matrix,
    *,
    size: int,
    passes: int = 1,
    topical: float = TOPICAL,
    seed: int,
) -> Batches:
    """Divide all pairs into batches of `size`, `passes` times, the share `topical` of them by nearness of the passages."""
    rng = np.random.default_rng(seed)
    found = [batch for _ in range(passes) for batch in _one_pass(len(pairs), passages, size, topical, rng)]
    return Batches(pairs, queries, passages, found, chance(queries, passages), chance(passages, passages))


def chance(a: Matrix, b: Matrix) -> float:
    """Return the mean cosine of the rows of two matrices of unit vectors, below 1."""
    return min(float(a.mean(axis=0) @ b.mean(axis=0)), 0.999)


def _one_pass(count: int, passages: Matrix, size: int, topical: float, rng: np.random.Generator) -> list[list[int]]:
    order = rng.permutation(count)
    cut = int(topical * count)
    found = [
        *_by_topic(order[:cut], passages, size),
        *np.array_split(order[cut:], max(1, round((len(order) - cut) / size))),
    ]
    found = [batch for batch in found if len(batch) > 1]
    return [found[i].tolist() for i in rng.permutation(len(found))]


def _by_topic(order: NDArray[np.int64], passages: Matrix, size: int) -> Iterator[NDArray[np.int64]]:
    """Yield batches: the next pair that is left, and those nearest to it."""
    left = order
    while len(left):
        near = np.argsort(-(passages[left] @ passages[left[0]]), kind="stable")
        yield left[near[:size]]
        left = np.delete(left, near[:size])


def train(
    encoder: Encoder,
    made: Batches,
    *,
    learning_rate: float,
    report: Callable[[int, float], None],
    stop: Callable[[], bool] = lambda: False,
) -> None:
    """Take one step of AdamW a batch; `report` is called with the steps done and the last one's loss.

    `stop` is asked LOOKS times, at equal distances and at the end, whether it is time to stop.

    Raises: GateError where the loss is not a number.
    """
    import torch

    encoder.model.eval()  # without dropout: few steps learn more, cost less and come out the same again
    queries = encoder.tokenise([p.query for p in made.pairs], QUERY_TOKENS, "query")
    texts = encoder.tokenise([p.text for p in made.pairs], PASSAGE_TOKENS)
    parameters = list(encoder.model.parameters())
    optimiser = torch.optim.AdamW(parameters, lr=learning_rate, weight_decay=0.01)
    total = len(made.batches)
    looks = {round(total * (n + 1) / LOOKS) for n in range(LOOKS)}
    for step, batch in enumerate(made.batches):
        for group in optimiser.param_groups:
            group["lr"] = learning_rate * rate_share(step, total)
        vectors = encoder.vectors([queries[i] for i in batch] + [texts[i] for i in batch])
        loss = ranking_loss(vectors[: len(batch)], vectors[len(batch) :], made.wrong(batch))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        value = float(loss.detach())
        if not math.isfinite(value):
            raise GateError("the loss is not a number any more", hint="lower --learning-rate")
        report(step + 1, value)
        if step + 1 in looks and stop():
            break


def ranking_loss(queries: Any, passages: Any, wrong: NDArray[np.bool_]) -> Any:
    """Return the mean cross-entropy of each query's own passage among it and its negatives `wrong` (n, n)."""
    import torch

    scores = SCALE * queries @ passages.T
    counted = torch.from_numpy(wrong | np.eye(len(wrong), dtype=np.bool_)).to(scores.device)
    scores = scores.masked_fill(~counted, -math.inf)
    return torch.nn.functional.cross_entropy(scores, torch.arange(len(wrong), device=scores.device))


def rate_share(step: int, steps: int) -> float:
    """Linear warm-up over WARMUP_SHARE of the steps, then linear decay."""
    warmup = max(1, round(WARMUP_SHARE * steps))
    if step < warmup:
        return (step + 1) / warmup
    return (steps - step) / max(1, steps - warmup)
