"""Questions that arrive by chance, nodes that answer them in batches → waits, whole times, what is refused.

A discrete-event simulation of `doyen serve` on nodes behind a balancer that sends each question to the node with the fewest.
Enters: times. Leaves: times. Knows no documents and no model. A node reads prompts one after the other, which holds up its
other answers, and writes its answers together, a token of each at a step, as doyen's engine does.

With the right numbers it is a textbook queue, by which it is tested: M/M/c and M/M/c/K (a step of 1 s however many write,
`most_at_work` = c), M/G/1 (nothing but reading), M/M/1 with shared service (a step of 1 s for each that writes).
"""

from __future__ import annotations

import heapq
import math
from collections import deque
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Seconds = NDArray[np.float64]
MOST_NODES = 48
"""So many are simulated at most, of more a part with its part of the questions: more nodes share the load better."""
_WARM_SHARE = 0.1


@dataclass(frozen=True, slots=True)
class NodeSpeed:
    """One node: a step takes `step_s + text_step_s × answers at work`; at most `most_at_work` at work, `most_requests` in all."""

    step_s: float
    text_step_s: float
    most_at_work: float = math.inf
    most_requests: float = math.inf

    def step(self, texts: int) -> float:
        """Return the seconds of a step that writes a token of each of so many answers."""
        return self.step_s + self.text_step_s * texts


@dataclass(frozen=True, slots=True)
class Questions:
    """What each question takes: seconds of reading (searching included), tokens of its answer, drawn together `(n,)`."""

    read_s: Seconds
    tokens: Seconds

    def drawn(self, count: int, rng: np.random.Generator) -> Questions:
        """Draw questions like these, with replacement."""
        chosen = rng.integers(0, len(self.read_s), count)
        return Questions(self.read_s[chosen], self.tokens[chosen])


@dataclass(frozen=True, slots=True)
class LoadRun:
    """What came of a simulation: seconds of the questions that were answered, in order of arrival, and counts."""

    wait_s: Seconds
    whole_s: Seconds
    arrivals: int
    refused: int
    answers_per_s: float

    @property
    def refused_share(self) -> float:
        """Share of the questions that were sent away with 429."""
        return self.refused / max(1, self.arrivals)

    def as_dict(self) -> dict[str, Any]:
        """Return quantiles of the waiting and of the whole time, in seconds, and the share that was refused."""
        row: dict[str, Any] = {
            "answers_per_s": round(self.answers_per_s, 4),
            "refused_share": round(self.refused_share, 5),
        }
        for name, seconds in (("wait", self.wait_s), ("whole", self.whole_s)):
            for percent in (50, 95, 99):
                row[f"{name}_p{percent}_s"] = round(quantile(seconds, percent), 3)
        return row


def quantile(seconds: Seconds, percent: float) -> float:
    """Return a percentile; infinite where nothing was answered."""
    return float(np.percentile(seconds, percent)) if len(seconds) else math.inf


@dataclass(slots=True)
class _Node:
    """Its answers by the number of steps after which they end; `steps` counts steps, in parts, since the beginning."""

    speed: NodeSpeed
    now: float = 0.0
    steps: float = 0.0
    reading: int = -1
    read_until: float = 0.0
    writing: list[tuple[float, int]] = field(default_factory=list)
    waiting: deque[int] = field(default_factory=deque)
    turn: int = 0
    """Raised whenever its next event changes: what stands in the heap of events under another turn is void."""

    @property
    def count(self) -> int:
        return len(self.writing) + len(self.waiting) + (self.reading >= 0)

    def next_event(self) -> float:
        """Return when a prompt will have been read or an answer written, infinite if none."""
        if self.reading >= 0:
            return self.read_until
        if self.writing:
            return self.now + (self.writing[0][0] - self.steps) * self.speed.step(len(self.writing))
        return math.inf

    def advance(self, now: float) -> None:
        """Let time go by, up to its next event at most."""
        if self.reading < 0 and self.writing and (step := self.speed.step(len(self.writing))):
            self.steps += (now - self.now) / step
        self.now = now


class Simulation:
    """One run; questions arrive in order of time. `ended` and `began` are by the question's number, NaN where it was refused."""

    def __init__(self, speed: NodeSpeed, nodes: int, questions: Questions) -> None:
        """Take nodes of one kind, and what each question takes."""
        self.nodes = [_Node(speed) for _ in range(nodes)]
        self.read_s, self.tokens = questions.read_s.tolist(), questions.tokens.tolist()
        self.began, self.ended = [math.nan] * len(self.read_s), [math.nan] * len(self.read_s)
        self.events: list[tuple[float, int, int]] = []
        self.by_count: list[tuple[int, int, int]] = [(0, i, 0) for i in range(nodes)]
        self.refused = 0

    def arrive(self, question: int, now: float) -> None:
        """Send a question to the node with the fewest, or away where that one is full."""
        self.run_until(now)
        number = self._freest()
        node = self.nodes[number]
        if node.count >= node.speed.most_requests:
            self.refused += 1
            return
        node.advance(now)
        node.waiting.append(question)
        self._begin(node)
        self._schedule(number)

    def run_until(self, now: float) -> None:
        """Let all happen that happens until then."""
        while self.events and self.events[0][0] <= now:
            when, number, turn = heapq.heappop(self.events)
            node = self.nodes[number]
            if turn == node.turn:
                self._happen(node, when)
                self._schedule(number)

    def _happen(self, node: _Node, when: float) -> None:
        """A prompt has been read, or an answer is written."""
        node.advance(when)
        if node.reading >= 0:
            question, node.reading = node.reading, -1
            heapq.heappush(node.writing, (node.steps + self.tokens[question], question))
        else:
            node.steps, question = node.writing[0]
            heapq.heappop(node.writing)
            self.ended[question] = when
        self._begin(node)

    def _begin(self, node: _Node) -> None:
        """Read the next prompt, if there is one, and room beside the answers at work."""
        if node.reading < 0 and node.waiting and len(node.writing) < node.speed.most_at_work:
            node.reading = node.waiting.popleft()
            self.began[node.reading] = node.now
            node.read_until = node.now + self.read_s[node.reading]

    def _schedule(self, number: int) -> None:
        node = self.nodes[number]
        node.turn += 1
        if math.isfinite(when := node.next_event()):
            heapq.heappush(self.events, (when, number, node.turn))
        heapq.heappush(self.by_count, (node.count, number, node.turn))

    def _freest(self) -> int:
        while True:
            count, number, turn = self.by_count[0]
            if turn == self.nodes[number].turn:
                return number
            heapq.heappop(self.by_count)


def simulate(speed: NodeSpeed, nodes: int, questions: Questions, arrivals_s: Seconds) -> LoadRun:
    """Answer questions that arrive at these moments, one each, ascending; the first tenth only warms the nodes up."""
    run = Simulation(speed, nodes, questions)
    warm, early = int(len(arrivals_s) * _WARM_SHARE), 0
    for question, now in enumerate(arrivals_s.tolist()):
        if question == warm:
            early = run.refused
        run.arrive(question, now)
    last = float(arrivals_s[-1])
    run.run_until(math.inf)
    ends = np.array(run.ended)
    done_by_then = int(np.sum((ends > arrivals_s[warm]) & (ends <= last)))
    began, ended = np.array(run.began[warm:]), np.array(run.ended[warm:])
    answered = ~np.isnan(ended)
    wait, whole = (times[answered] - arrivals_s[warm:][answered] for times in (began, ended))
    span = max(last - float(arrivals_s[warm]), 1e-9)
    return LoadRun(wait, whole, len(arrivals_s) - warm, run.refused - early, done_by_then / span)


def poisson(per_s: float, count: int, rng: np.random.Generator) -> Seconds:
    """Return the moments of `count` arrivals that come by chance, so many a second on average."""
    return np.cumsum(rng.exponential(1 / per_s, count))


def most_per_s(speed: NodeSpeed, questions: Questions) -> float:
    """Return the answers a second of one node that never waits for a question."""
    texts = int(min(speed.most_at_work, speed.most_requests, 1e6))
    read, tokens = float(questions.read_s.mean()), float(questions.tokens.mean())
    each = read + tokens * speed.step(texts) / texts if tokens else read
    return 1 / each if each > 0 else math.inf


def run_load(
    speed: NodeSpeed, nodes: int, questions: Questions, per_s: float, *, count: int = 20_000, seed: int = 7
) -> LoadRun:
    """Simulate questions that arrive by chance at a steady rate; of many nodes, a part with its part of the questions."""
    rng = np.random.default_rng(seed)
    part = min(nodes, MOST_NODES)
    return simulate(speed, part, questions.drawn(count, rng), poisson(per_s * part / nodes, count, rng))


@dataclass(frozen=True, slots=True)
class Demand:
    """What is asked of the nodes: so many questions a second, a percentile of the whole time, the most that is refused."""

    per_s: float
    most_s: float
    percent: float = 95.0
    most_refused: float = 0.001

    def met(self, run: LoadRun) -> bool:
        """Whether a run meets it."""
        return quantile(run.whole_s, self.percent) <= self.most_s and run.refused_share <= self.most_refused


def nodes_for(
    speed: NodeSpeed, questions: Questions, demand: Demand, *, count: int = 20_000
) -> tuple[int | None, LoadRun]:
    """Return the fewest nodes that meet a demand, with their run; None where a question alone takes too long already."""
    alone = questions.read_s + questions.tokens * speed.step(1)
    low = max(1, math.floor(demand.per_s / most_per_s(speed, questions)))
    if np.percentile(alone, demand.percent) > demand.most_s:
        return None, run_load(speed, 4 * low, questions, max(demand.per_s, 1e-9), count=count)
    if not demand.per_s:
        return 1, run_load(speed, 1, questions, 1e-9, count=count)
    high, run = low, run_load(speed, low, questions, demand.per_s, count=count)
    while not demand.met(run):
        low, high = high + 1, max(high + 1, math.ceil(high * 1.5))
        run = run_load(speed, high, questions, demand.per_s, count=count)
    while low < high:
        middle = (low + high) // 2
        tried = run_load(speed, middle, questions, demand.per_s, count=count)
        if demand.met(tried):
            high, run = middle, tried
        else:
            low = middle + 1
    return high, run
