"""When to refuse: a logistic rule on how the model answers and on how near the passages are.

Four signs of missing evidence are weak alone and strong together: the model's own probability of refusing, how sure
it is of the answer that it writes when it may not refuse, and the best cosine and BM25 score of the passages. The rule is
fitted at fine-tuning, on examples that the adapter was not trained on.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from doyen.models.constraints import Constraint
from doyen.models.engine import Completion, Engine
from doyen.prompts import REFUSAL, Message, parse_answer
from doyen.records import Nearness

_EDGE = 1e-6


@dataclass(frozen=True, slots=True)
class Signs:
    """What speaks for and against an answer.

    `refusal` is the model's probability of the refusal's first token as its own first token; `log_probability` the
    mean natural logarithm of the probabilities of its answer's first tokens.
    """

    refusal: float
    log_probability: float
    nearness: Nearness = Nearness()


@dataclass(frozen=True, slots=True)
class RefusalRule:
    """`P = sigmoid(slope · logit(refusal) − similarity_weight · similarity − lexical_weight · lexical
    − confidence_weight · log_probability + bias)`.

    P is the calibrated probability that the passages hold no answer; above `threshold` the question is refused.
    """

    threshold: float = 0.5
    slope: float = 1.0
    similarity_weight: float = 0.0
    lexical_weight: float = 0.0
    confidence_weight: float = 0.0
    bias: float = 0.0

    def probability(self, signs: Signs) -> float:
        """Return the calibrated probability that the question has no answer in the passages."""
        return sigmoid(
            self.slope * logit(signs.refusal)
            - self.similarity_weight * signs.nearness.similarity
            - self.lexical_weight * signs.nearness.lexical
            - self.confidence_weight * signs.log_probability
            + self.bias
        )


def answer_anyway(
    engine: Engine,
    prompts: Sequence[Sequence[Message]],
    nearness: Sequence[Nearness],
    *,
    max_tokens: int,
    adapter: Path | None,
    rule: RefusalRule | None = None,
    constraints: Sequence[Constraint | None] = (),
    progress: Callable[[int], None] | None = None,
) -> list[tuple[Completion, Signs]]:
    """Answer prompts; one that the model refuses is asked again with the refusal ruled out.

    With a `rule` only those are asked again that it could still answer. The completion then is the second one, with
    the refusal's probability of the first. Where an engine tells no probabilities, the first answer stands.
    """
    options: dict[str, Any] = {"max_tokens": max_tokens, "adapter": adapter, "refusal": REFUSAL}
    first = engine.generate(prompts, progress=progress, constraints=constraints, **options)
    found = [_with_signs(c, s) for c, s in zip(first, nearness, strict=True)]
    again = [
        i
        for i, (completion, signs) in enumerate(found)
        if parse_answer(completion.text, 0).refused
        and completion.refusal_probability is not None  # else a server tells none, and the refusal stands
        and not (rule and rule.probability(dataclasses.replace(signs, log_probability=0.0)) > rule.threshold)
    ]
    own = [constraints[i] for i in again] if constraints else ()
    second = engine.generate([prompts[i] for i in again], may_refuse=False, constraints=own, **options)
    for i, completion in zip(again, second, strict=True):
        kept = dataclasses.replace(
            completion,
            refusal_probability=first[i].refusal_probability,
            seconds=first[i].seconds + completion.seconds,
        )
        found[i] = _with_signs(kept, nearness[i])
    return found


def _with_signs(completion: Completion, nearness: Nearness) -> tuple[Completion, Signs]:
    return completion, Signs(completion.refusal_probability or 0.0, completion.log_probability, nearness)


def logit(p: float) -> float:
    """Return the log-odds of a probability, finite at 0 and 1."""
    p = min(max(p, _EDGE), 1 - _EDGE)
    return math.log(p / (1 - p))


def sigmoid(x: float) -> float:
    """Return the probability of log-odds."""
    return 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x))
