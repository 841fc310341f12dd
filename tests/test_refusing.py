"""Asking again where the model refuses: only those that the rule could still answer."""

import pytest

from doyen.models.engine import Completion
from doyen.prompts import REFUSAL
from doyen.records import Nearness
from doyen.refusing import RefusalRule, answer_anyway


class RefusingEngine:
    """A documented fake: refuses prompts that ask about the moon, unless it may not; notes what it was asked."""

    name = "refusing"

    def __init__(self):
        self.calls = []

    def generate(
        self, prompts, *, max_tokens, adapter=None, refusal=None, may_refuse=True, progress=None, constraints=()
    ):
        self.calls.append(([p[-1]["content"] for p in prompts], may_refuse))
        return [self.completion(p[-1]["content"], may_refuse) for p in prompts]

    def completion(self, question, may_refuse):
        if "moon" not in question:
            return Completion(f"{question} 27 [1]", 10, 3, 1.0, 0.125, -0.25)
        return Completion(REFUSAL if may_refuse else "Far [1]", 10, 3, 1.0, 0.75 if may_refuse else 0.5, -1.5)


PROMPTS = [[{"role": "user", "content": text}] for text in ("leave", "the moon", "another moon")]


def ask(rule=None, similarities=(0.5, 0.5, 0.1)):
    engine = RefusingEngine()
    found = answer_anyway(
        engine, PROMPTS, [Nearness(s, 10 * s) for s in similarities], max_tokens=8, adapter=None, rule=rule
    )
    return found, engine.calls


def test_what_the_model_refuses_is_asked_again():
    found, calls = ask()
    assert calls == [(["leave", "the moon", "another moon"], True), (["the moon", "another moon"], False)]
    assert [c.text for c, _ in found] == ["leave 27 [1]", "Far [1]", "Far [1]"]


def test_signs_are_the_first_refusal_and_the_certainty_of_what_was_written():
    (_, sure), (completion, unsure), _ = ask()[0]
    assert (sure.refusal, sure.log_probability, sure.nearness) == (0.125, -0.25, Nearness(0.5, 5.0))
    assert (unsure.refusal, unsure.log_probability) == (0.75, -1.5)
    assert completion.seconds == 2.0


def test_what_the_rule_refuses_in_any_case_is_not_asked_again():
    rule = RefusalRule(0.5, slope=1.0, similarity_weight=5.0, confidence_weight=1.0, bias=0.0)
    found, calls = ask(rule)
    assert calls[1] == (["the moon"], False)
    assert [c.text for c, _ in found] == ["leave 27 [1]", "Far [1]", REFUSAL]
    assert rule.probability(found[2][1]) > rule.threshold


@pytest.mark.parametrize("weight", [0.0, 2.0])
def test_an_unsure_answer_never_lowers_the_probability(weight):
    rule = RefusalRule(0.5, confidence_weight=weight)
    (_, sure), (_, unsure), _ = ask()[0]
    assert rule.probability(sure) < rule.probability(unsure)
