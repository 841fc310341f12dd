"""When to refuse: a logistic rule on the model's own probability of refusing and on how near the passages are.

Two signs of missing evidence are weak alone and strong together: what the fine-tuned model's first token says, and
the cosine of the best passage. The rule is fitted at fine-tuning, on examples that the adapter was not trained on.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

_EDGE = 1e-6


@dataclass(frozen=True, slots=True)
class RefusalRule:
    """`P(refuse) = sigmoid(slope · logit(p) − similarity_weight · similarity + bias)`; refuse above `threshold`.

    `p` is the model's probability of the refusal's first token as its own first token; `similarity` the largest
    cosine of the passages shown.
    """

    threshold: float = 0.5
    slope: float = 1.0
    similarity_weight: float = 0.0
    bias: float = 0.0

    def probability(self, p: float, similarity: float) -> float:
        """Return the calibrated probability that the question has no answer in the passages."""
        return sigmoid(self.slope * logit(p) - self.similarity_weight * similarity + self.bias)

    def limit(self, similarity: float) -> float:
        """Return the `p` above which a question with this similarity is refused."""
        return sigmoid((logit(self.threshold) + self.similarity_weight * similarity - self.bias) / self.slope)


def logit(p: float) -> float:
    """Return the log-odds of a probability, finite at 0 and 1."""
    p = min(max(p, _EDGE), 1 - _EDGE)
    return math.log(p / (1 - p))


def sigmoid(x: float) -> float:
    """Return the probability of log-odds."""
    return 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x))
