"""Seconds of answers that are asked for one at a time: sampled, noted once, and what `advise` bounds."""

import json
import time

import pytest

from doyen.evaluation.constraints import seconds_p95
from doyen.evaluation.latency import (
    FEWEST,
    LATENCY_FILE,
    LATENCY_QUESTIONS,
    latency_by_arm,
    latency_figures,
    note_latency,
)
from doyen.records import Question

QUESTIONS = [Question(str(n), f"Which is lock {n}?") for n in range(100)]


class Slow:
    """An expert whose first answer takes long, as on an engine that is cold."""

    def __init__(self):
        self.asked = []

    def ask_many(self, questions, *, hits):
        self.asked.append((questions, hits))
        time.sleep(0.2 if len(self.asked) == 1 else 0.002)


def test_a_sample_is_asked_one_at_a_time_after_one_to_warm_up(tmp_path):
    expert, told = Slow(), []
    note_latency(tmp_path, "rag", expert, QUESTIONS, None, lambda *row: told.append(row))
    assert len(expert.asked) == LATENCY_QUESTIONS + 1 and {len(q) for q, _ in expert.asked} == {1}
    assert expert.asked[0][0] == ["Which is lock 0?"] and expert.asked[-1][0] == ["Which is lock 99?"]
    assert told[-1] == ("rag, one at a time", 13, 13)
    noted = latency_by_arm(tmp_path)["rag"]
    assert len(noted) == LATENCY_QUESTIONS and max(noted) < 0.2
    note_latency(tmp_path, "rag", expert, QUESTIONS, None, None)
    assert len(expert.asked) == LATENCY_QUESTIONS + 1  # what is noted is not measured again


def test_given_passages_are_those_of_the_question(tmp_path):
    expert = Slow()
    note_latency(tmp_path, "oracle", expert, QUESTIONS, [[n] for n in range(100)], None)
    assert all(hits == [[int(q[0].split()[-1][:-1])]] for q, hits in expert.asked)


def test_of_few_questions_nothing_is_asked(tmp_path):
    expert = Slow()
    note_latency(tmp_path, "rag", expert, QUESTIONS[: FEWEST - 1], None, None)
    assert not expert.asked and not latency_by_arm(tmp_path)


@pytest.mark.parametrize("broken", ["{", "[]"])
def test_a_broken_note_is_none(tmp_path, broken):
    (tmp_path / LATENCY_FILE).write_text(broken)
    assert latency_by_arm(tmp_path) == {}


def test_figures_and_the_bound_that_reads_them():
    figures = latency_figures([0.1 * n for n in range(1, 12)])
    assert figures == {"latency_p50": 0.6, "latency_p95": 1.05, "latency_n": 11}
    assert latency_figures(None) == {}
    report = {"cost": {"arms": {"rag": {"seconds_p95": 0.3} | figures, "base": {"seconds_p95": 0.2}}}}
    assert (seconds_p95(json.loads(json.dumps(report)), "rag"), seconds_p95(report, "base")) == (1.05, 0.2)
