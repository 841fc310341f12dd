"""What a comparison asks: each arm once, or once an adapter, with the passages it is shown → its answers, kept as they come.

Enters: engines, a retriever, settings, questions with hits. Leaves: answers by arm and adapter. An arm of a server that fails is
named with the reason, and the others go on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from doyen.answering import BLOCK, Progress, ask_into
from doyen.config import Settings
from doyen.errors import EngineError, ModelError
from doyen.evaluation.gold_passages import gold_hits
from doyen.evaluation.hosted import reference_settings
from doyen.evaluation.latency import note_latency
from doyen.evaluation.memory_notes import note_memory
from doyen.expert import Expert, open_tuning
from doyen.models.engine import Engine
from doyen.models.server_engine import CONCURRENT, ServerEngine
from doyen.prompts import Shot
from doyen.records import ARMS, GOLD, HOSTED, TUNED, Answer, Hit, Question, shows_passages
from doyen.retrieval.hybrid import Retriever


@dataclass(frozen=True, slots=True)
class Run:
    """One asking of an arm; `key` names its answers file: the arm, with the adapter where several are compared."""

    arm: str
    adapter: str = ""
    several: bool = False

    @property
    def key(self) -> str:
        """The name of the run among the files of a comparison."""
        return f"{self.arm}.{self.adapter}" if self.several else self.arm


def runs_of_arms(arms: Sequence[str], adapters: Sequence[str]) -> list[Run]:
    """Return the runs: a fine-tuned arm once an adapter, the others once."""
    several = len(adapters) > 1
    return [Run(arm, name, several and bool(name)) for arm in arms for name in (adapters if TUNED in arm else ("",))]


@dataclass(slots=True)
class Asked:
    """What came of it: run key → answers (None: not asked), arms that failed and why, questions that arms left out and why."""

    answers: dict[Run, list[Answer | None]] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    left_out: dict[str, dict[str, int]] = field(default_factory=dict)

    def pairs(self, questions: Sequence[Question]) -> dict[Run, list[tuple[Question, Answer]]]:
        """Return each run's questions with their answers, those left out that it was not asked."""
        return {
            run: [(q, a) for q, a in zip(questions, own, strict=True) if a is not None]
            for run, own in self.answers.items()
        }

    def by_arm(self) -> dict[str, list[Answer]]:
        """Return all answers of each arm, of all its adapters."""
        found: dict[str, list[Answer]] = {}
        for run, own in self.answers.items():
            found.setdefault(run.arm, []).extend(a for a in own if a is not None)
        return found

    def by_training(self) -> dict[str, dict[str, list[Answer | None]]]:
        """Return arm → adapter → answers of the arms that were asked with several adapters."""
        found: dict[str, dict[str, list[Answer | None]]] = {}
        for run, own in self.answers.items():
            if run.several:
                found.setdefault(run.arm, {})[run.adapter] = own
        return found


@dataclass(slots=True)
class Asking:
    """All that the runs of one comparison share."""

    expert: Path
    settings: Settings
    engine: Engine
    reference: ServerEngine | None
    retriever: Retriever
    questions: Sequence[Question]
    hits: Sequence[Sequence[Hit]]
    shots: Sequence[Shot]
    target: Path
    progress: Progress | None = None

    def ask(self, runs: Sequence[Run]) -> Asked:
        """Ask all runs. What the reference's server does not answer costs its arm alone; any other failure ends it all."""
        found = Asked()
        wants_gold = any(GOLD in run.arm for run in runs)
        gold, left_out = gold_hits(self.retriever, self.questions) if wants_gold else ([], {})
        for run in runs:
            if GOLD in run.arm and left_out:
                found.left_out[run.arm] = left_out
            if GOLD in run.arm and not any(gold):
                continue  # nothing to give: `left_out` says why
            try:
                found.answers[run] = self._ask(run, gold if GOLD in run.arm else self.hits)
            except (ModelError, EngineError) as error:  # of a server: EndpointError, a ModelError
                if HOSTED not in run.arm:
                    raise
                found.failed[run.arm] = str(error)
        return found

    def _ask(self, run: Run, hits: Sequence[Sequence[Hit] | None]) -> list[Answer | None]:
        asked = [i for i, own in enumerate(hits) if own is not None]
        path = self.target / f"answers.{run.key}.jsonl"
        held = path.stat().st_size if path.exists() else 0
        expert, questions = self._expert(run), [self.questions[i] for i in asked]
        given = [own for own in hits if own is not None]
        if HOSTED not in run.arm and self.engine.kind != "server" and not held:
            note_latency(self.target, run.arm, expert, questions, given if GOLD in run.arm else None, self.progress)
        answers = ask_into(
            expert,
            questions,
            given,
            path,
            self._shown(run),
            # what is paid for is kept soon
            block=CONCURRENT if HOSTED in run.arm else BLOCK,
        )
        if HOSTED not in run.arm and path.stat().st_size > held:  # this process wrote answers
            note_memory(self.target, run.arm, self.engine)
        found: list[Answer | None] = [None] * len(hits)
        for i, answer in zip(asked, answers, strict=True):
            found[i] = answer
        return found

    def _shown(self, run: Run) -> Progress | None:
        """Return the progress under the run's own name: an arm may be asked with several adapters."""
        told = self.progress
        return None if told is None else lambda _, done, total: told(run.key, done, total)

    def _expert(self, run: Run) -> Expert:
        reads = shows_passages(run.arm)
        hosted = HOSTED in run.arm
        settings = reference_settings(self.settings) if hosted else self.settings
        if GOLD in run.arm:  # what holds the answer is evidence, however far from the question's words
            settings = replace(settings, answer=replace(settings.answer, min_similarity=-1.0))
        engine = self.reference if hosted and self.reference is not None else self.engine
        return Expert(
            engine,
            retriever=self.retriever if reads else None,
            tuning=open_tuning(self.expert, run.adapter) if TUNED in run.arm else None,
            settings=settings,
            shots=self.shots if reads else (),
            label="" if run.arm in ARMS else run.arm,
        )
