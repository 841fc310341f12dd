"""The simulation against the formulas of queues that have some."""

import math

import numpy as np
import pytest

from doyen.capacity.engine_rates import text_share
from doyen.capacity.queueing import (
    Demand,
    NodeSpeed,
    Questions,
    Simulation,
    most_per_s,
    nodes_for,
    poisson,
    run_load,
    simulate,
)

COUNT = 60_000


def erlang_c(servers, load):
    """Share of the arrivals that wait in M/M/c (Erlang, 1917), by the recursion of Erlang B."""
    blocked = 1.0
    for i in range(1, servers + 1):
        blocked = load * blocked / (i + load * blocked)
    return blocked / (1 - load / servers * (1 - blocked))


def exponential(mean, count=COUNT, seed=1):
    return np.random.default_rng(seed).exponential(mean, count)


def arrivals(per_s, count=COUNT, seed=2):
    return poisson(per_s, count, np.random.default_rng(seed))


@pytest.mark.parametrize(("servers", "busy"), [(1, 0.5), (1, 0.8), (4, 0.7), (16, 0.8)])
def test_m_m_c(servers, busy):
    speed = NodeSpeed(step_s=1.0, text_step_s=0.0, most_at_work=servers)
    run = simulate(speed, 1, Questions(np.zeros(COUNT), exponential(1.0)), arrivals(busy * servers))
    waiting = erlang_c(servers, busy * servers)
    assert np.mean(run.wait_s > 1e-9) == pytest.approx(waiting, rel=0.06)
    assert run.wait_s.mean() == pytest.approx(waiting / (servers * (1 - busy)), rel=0.12)
    # given that it waits at all, the wait is exponential: its 95th percentile
    p95 = max(0.0, math.log(waiting / 0.05) / (servers * (1 - busy)))
    assert np.percentile(run.wait_s, 95) == pytest.approx(p95, rel=0.12, abs=0.02)
    assert run.answers_per_s == pytest.approx(busy * servers, rel=0.02)
    assert run.refused == 0


def test_m_m_c_k_refuses_as_many_as_the_formula_says():
    servers, places, load = 2, 5, 2.4
    weights = [load**n / math.factorial(min(n, servers)) / servers ** max(0, n - servers) for n in range(places + 1)]
    speed = NodeSpeed(step_s=1.0, text_step_s=0.0, most_at_work=servers, most_requests=places)
    run = simulate(speed, 1, Questions(np.zeros(COUNT), exponential(1.0)), arrivals(load))
    assert run.refused_share == pytest.approx(weights[-1] / sum(weights), rel=0.05)
    assert run.answers_per_s == pytest.approx(load * (1 - weights[-1] / sum(weights)), rel=0.02)


@pytest.mark.parametrize("spread", [0.0, 1.0])
def test_m_g_1_by_pollaczek_and_khinchine(spread):
    mean, busy = 0.5, 0.7
    read = np.full(COUNT, mean) if not spread else exponential(mean)
    run = simulate(NodeSpeed(0.0, 0.0), 1, Questions(read, np.zeros(COUNT)), arrivals(busy / mean))
    assert run.wait_s.mean() == pytest.approx(busy * mean * (1 + spread) / (2 * (1 - busy)), rel=0.1)


def test_shared_service_depends_on_the_mean_alone():
    for lengths in (exponential(1.0), np.ones(COUNT)):
        run = simulate(NodeSpeed(0.0, 1.0), 1, Questions(np.zeros(COUNT), lengths), arrivals(0.7))
        assert run.whole_s.mean() == pytest.approx(1 / (1 - 0.7), rel=0.1)


def test_reading_holds_up_what_is_written():
    run = simulate(NodeSpeed(0.1, 0.0), 1, Questions(np.array([1.0, 1.0]), np.array([20.0, 1.0])), np.array([0.0, 1.5]))
    # the first reads until 1 and writes 5 tokens until 1.5; the second reads until 2.5; 15 tokens are left
    assert run.whole_s == pytest.approx([4.0, 2.6 - 1.5])


def test_the_balancer_sends_each_question_to_the_node_with_the_fewest():
    questions = Questions(np.ones(4), np.zeros(4))
    run = simulate(NodeSpeed(0.0, 0.0), 2, questions, np.array([0.0, 0.1, 0.2, 0.3]))
    assert run.wait_s == pytest.approx([0, 0, 0.8, 0.8])


def test_fewest_nodes_are_found_and_one_less_is_too_few():
    speed = NodeSpeed(0.02, 0.004, most_at_work=16, most_requests=64)
    rng = np.random.default_rng(3)
    questions = Questions(rng.uniform(0.2, 0.4, 200), rng.integers(5, 60, 200).astype(float))
    demand = Demand(per_s=8.0, most_s=5.0)
    nodes, run = nodes_for(speed, questions, demand, count=6000)
    assert nodes is not None and demand.met(run)
    assert not demand.met(run_load(speed, nodes - 1, questions, demand.per_s, count=6000))
    assert nodes >= demand.per_s / most_per_s(speed, questions)
    assert nodes_for(speed, questions, Demand(8.0, 0.1), count=2000)[0] is None


def test_overload_is_refused_and_the_rest_is_answered():
    speed = NodeSpeed(0.02, 0.004, most_at_work=16, most_requests=64)
    questions = Questions(np.full(10, 0.3), np.full(10, 40.0))
    most = most_per_s(speed, questions)
    run = run_load(speed, 1, questions, 2 * most, count=4000)
    assert run.answers_per_s == pytest.approx(most, rel=0.05)
    assert run.refused_share == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize(("share", "found"), [(0.006, 0.006), (0.0, 0.0), (0.026, 0.026)])
def test_what_a_text_adds_to_a_step_is_found_again_though_not_all_are_at_work_at_once(share, found):
    asked = Questions(np.linspace(0.3, 0.6, 24), np.linspace(10, 96, 24))
    run = Simulation(NodeSpeed(0.026 - share, share, 9), 1, asked)
    for number in range(24):
        run.arrive(number, 0.0)
    run.run_until(math.inf)
    assert text_share(max(run.ended), 0.026, asked, 9) == pytest.approx(found, abs=1e-6)
