"""An expert: a model, perhaps an adapter, perhaps an index. The four arms are four constructions of this one class.

Enters: questions. Leaves: answers with citations. Knows no files but the expert's folder, and trains nothing.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from doyen.adapters import adapter_folder, read_adapter
from doyen.answer_cache import AnswerCache, CachedEngine, kept_mib
from doyen.citing import cite
from doyen.cluster.answering import ClusterEngine
from doyen.config import Settings, load_settings
from doyen.embedding import load_embedder
from doyen.errors import UsageError
from doyen.index.filtering import Filters, Where
from doyen.ingesting import open_index
from doyen.models.constraints import Choices, Constraint, Form, PassageNumbers, require_possible
from doyen.models.engine import Completion, Engine, LocalEngine
from doyen.models.serving import serving_engine
from doyen.prompts import (
    REFUSAL,
    STUCK,
    UNKNOWN,
    Message,
    ParsedAnswer,
    Shot,
    closed_book_messages,
    parse_answer,
    passages_messages,
    with_constraint,
    with_summaries,
)
from doyen.records import ARMS, Answer, DocumentHit, Hit, Nearness
from doyen.refusing import RefusalRule, answer_anyway
from doyen.reranking import load_reranker
from doyen.retrieval.hybrid import Retriever
from doyen.retrieval.neighbours import hits_for
from doyen.tracing import span
from doyen.words import telling_words, words

_TURN_TOKENS = 64  # more than the marks of a turn take
_TUNED = {"base": "finetuned", "rag": "rag+finetuned"}


@dataclass(frozen=True, slots=True)
class Tuning:
    """An adapter's folder and the refusal rule calibrated for it (None: greedy decoding decides)."""

    folder: Path
    refusal_rule: RefusalRule | None = None


class Expert:
    """Answers questions. With `retriever` it sees passages (rag), with `tuning` it is fine-tuned; both or neither."""

    def __init__(
        self,
        engine: Engine,
        *,
        retriever: Retriever | None = None,
        tuning: Tuning | None = None,
        settings: Settings | None = None,
        shots: Sequence[Shot] = (),
        where: Where | None = None,
        label: str = "",
    ) -> None:
        """Take the parts; `label` is the arm's name where it is none of the four (a comparison's extra arms)."""
        self.engine = engine
        self.retriever = retriever
        self.tuning = tuning
        self.settings = settings or Settings()
        self.shots = tuple(shots)
        self.where = where
        self.label = label
        if tuning and retriever:
            _require_same_prompt(tuning.folder, self.settings)

    @classmethod
    def open(
        cls,
        path: Path | str,
        *,
        arm: str | None = None,
        adapter: str | None = None,
        engine: Engine | None = None,
        filters: Filters = (),
        cache: bool = False,
    ) -> Expert:
        """Open the expert in folder `path` as one of its arms (default: [answer] arm).

        With `cache`, answers are kept in the expert's folder (up to [answer] cache_mib), and given again to the same prompt.
        With `filters` (["folder=contracts", "date>=2026-01-01"] or {field: value}) it sees only documents that meet them.

        Raises:
            ExpertError, ConfigError: no expert there, or its settings are wrong.
            UsageError: the arm is unknown, or needs an adapter or an index that is not there; a filter is on no known field.
        """
        folder = Path(path)
        settings = load_settings(folder)
        arm = arm or (_TUNED.get(settings.answer.arm, settings.answer.arm) if adapter else settings.answer.arm)
        if arm not in ARMS:
            raise UsageError(f"unknown arm '{arm}'", hint=f"one of {', '.join(ARMS)}")
        if adapter and "finetuned" not in arm:
            raise UsageError(f"the arm '{arm}' uses no adapter", hint=f"--arm {_TUNED[arm]}, or no --adapter")
        retriever = open_retriever(folder, settings) if "rag" in arm else None
        if filters and retriever is None:
            raise UsageError(f"the arm '{arm}' searches no documents to filter", hint="--arm rag, or no --filter")
        where = retriever.index.filter_condition(filters) if filters and retriever else None
        tuning = open_tuning(folder, adapter or settings.answer.adapter) if "finetuned" in arm else None
        engine = engine or open_engine(settings)
        if cache and (most := kept_mib(settings)) and isinstance(engine, LocalEngine | ClusterEngine):
            engine = CachedEngine(engine, AnswerCache(folder, most))
        return cls(engine, retriever=retriever, tuning=tuning, settings=settings, where=where)

    @property
    def arm(self) -> str:
        """The name of this construction: base, rag, finetuned or rag+finetuned, or its label."""
        parts = ["rag"] * (self.retriever is not None) + ["finetuned"] * (self.tuning is not None)
        return self.label or "+".join(parts) or "base"

    def search(self, question: str, k: int = 10) -> list[Hit]:
        """Return the `k` best passages for a question. Raises UsageError without an index."""
        return self._searched().search(question, k, where=self.where)

    def search_documents(self, question: str, k: int = 10) -> list[DocumentHit]:
        """Return the `k` documents that tell most about a question, with summaries. Raises UsageError without an index."""
        return self._searched().documents(question, k, where=self.where)

    def _searched(self) -> Retriever:
        if self.retriever is None:
            raise UsageError(f"the arm '{self.arm}' has no index to search", hint="open it with arm='rag'")
        return self.retriever

    def ask(self, question: str, *, constraint: Form | None = None) -> Answer:
        """Answer one question, with a `constraint` within that: JSON of a schema, a regular expression, a choice."""
        return self.ask_many([question], constraint=constraint)[0]

    def ask_many(
        self,
        questions: Sequence[str],
        *,
        hits: Sequence[Sequence[Hit]] | None = None,
        constraint: Form | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> list[Answer]:
        """Answer questions in batches; `hits` gives passages found before (best first) instead of searching again.

        A question that is meant for an ingested table ([answer] tables) is answered by calculating over its rows, without
        a constraint and where no hits are given.

        With a `constraint` every answer keeps to it and is its text as it stands: the model is told of it, may not
        refuse, and names no passages (code finds the one that supports the answer). Where search finds no evidence,
        the answer is `answered=False` as without.

        Raises:
            UsageError: the constraint cannot be met; before anything is searched.
            EngineError: the answer that it asks for needs more than [model] max_answer_tokens.
        """
        require_possible(constraint)
        if self.retriever is None:
            prompts = [closed_book_messages(with_constraint(q, constraint)) for q in questions]
            return self._answers(questions, [()] * len(questions), prompts, constraint, progress)
        count = self.settings.answer.passages
        calculated: dict[int, Answer] = {}
        if hits is None:
            with span("retrieval", questions=len(questions)):
                hits = self.retriever.search_many(questions, hits_for(count), where=self.where)
            if self.settings.answer.tables and constraint is None:
                calculated = self._from_tables(self.retriever, questions, hits)
        decides = self.refusal_rule is not None and constraint is None  # a calibrated rule weighs nearness itself
        with span("passages", passages=count):
            passages = [tuple(self.retriever.passages(h, count)) for h in hits]
        shown = [p if decides or self._has_evidence(q, p) else () for q, p in zip(questions, passages, strict=True)]
        shown = [() if n in calculated else own for n, own in enumerate(shown)]
        if self.settings.answer.document_summaries:
            summaries = self.retriever.index.summaries_of([h.chunk.document for own in shown for h in own])
            shown = [with_summaries(own, summaries) for own in shown]
        asked = [with_constraint(q, constraint) for q in questions]
        fitting = [self._fitting(q, h) for q, h in zip(asked, shown, strict=True)]
        prompts = [passages_messages(q, h, self.shots) if h else [] for q, h in zip(asked, fitting, strict=True)]
        answers = self._answers(questions, fitting, prompts, constraint, progress)
        answers = [calculated.get(n, answer) for n, answer in enumerate(answers)]
        left_out = [len(all_) - len(kept) for all_, kept in zip(shown, fitting, strict=True)]
        return [dataclasses.replace(a, passages_left_out=n) if n else a for a, n in zip(answers, left_out, strict=True)]

    def _from_tables(
        self, retriever: Retriever, questions: Sequence[str], hits: Sequence[Sequence[Hit]]
    ) -> dict[int, Answer]:
        """Return the answers to those questions (by their number) that are meant for a table."""
        from doyen.tables.catalogue import list_tables

        with span("tables", questions=len(questions)):
            listed = list_tables(retriever.index, where=self.where)
            if not listed:
                return {}
            from doyen.tables.answering import Tables

            return Tables(retriever.index, self.where, self.engine, self.arm).answers(questions, hits, listed)

    def _fitting(self, question: str, hits: tuple[Hit, ...]) -> tuple[Hit, ...]:
        """Leave out passages from the end, as long as the prompt and its answer do not fit into the model's context."""
        while len(hits) > 1:
            room = self.engine.context_tokens - self.settings.model.max_answer_tokens
            prompt = passages_messages(question, hits, self.shots)
            # A token has a byte at least: short prompts need no counting.
            if sum(len(m["content"].encode()) + _TURN_TOKENS for m in prompt) <= room:
                break
            if self.engine.count_tokens(prompt) <= room:
                break
            hits = hits[:-1]
        return hits

    def _has_evidence(self, question: str, hits: Sequence[Hit]) -> bool:
        """Whether a passage is near the question, or holds half of its telling words."""
        sought = set(telling_words(question))
        return any(
            h.similarity >= self.settings.answer.min_similarity
            or (sought and len(sought.intersection(words(h.chunk.text))) >= len(sought) / 2)
            for h in hits
        )

    def _answers(
        self,
        questions: Sequence[str],
        shown: Sequence[tuple[Hit, ...]],
        prompts: Sequence[list[Message]],
        constraint: Form | None,
        progress: Callable[[int], None] | None,
    ) -> list[Answer]:
        """Generate for the questions that have a prompt; the others have no evidence."""
        asked = [i for i, prompt in enumerate(prompts) if prompt]
        with span("answer", model=self.engine.name, arm=self.arm, prompts=len(asked)):
            found = self._write([prompts[i] for i in asked], [shown[i] for i in asked], constraint, progress)
        done = dict(zip(asked, found, strict=True))
        text_of = lru_cache(maxsize=64)(
            lambda document: self.retriever.index.text(document)[0] if self.retriever else ""
        )
        return [
            self._answer(question, shown[i], *done[i], constraint, text_of)
            if i in done
            else Answer(UNKNOWN, False, self.arm)
            for i, question in enumerate(questions)
        ]

    def _write(
        self,
        prompts: Sequence[Sequence[Message]],
        shown: Sequence[tuple[Hit, ...]],
        constraint: Form | None,
        progress: Callable[[int], None] | None,
    ) -> list[tuple[Completion, float | None]]:
        """Return what the model writes, and how probable it is that there is no answer (None: unknown)."""
        rule = None if constraint else self.refusal_rule
        tokens, adapter = self.settings.model.max_answer_tokens, self.tuning.folder if self.tuning else None
        constraints: list[Constraint | None] = [constraint] * len(prompts)
        if constraint is None:
            constraints = [PassageNumbers(len(hits)) if hits else None for hits in shown]
        if rule is None:
            completions = self.engine.generate(
                prompts,
                max_tokens=tokens,
                adapter=adapter,
                refusal=REFUSAL,
                may_refuse=constraint is None,
                progress=progress,
                constraints=constraints,
            )
            return [(c, c.refusal_probability) for c in completions]
        nearness = [Nearness.of(hits) for hits in shown]
        found = answer_anyway(
            self.engine,
            prompts,
            nearness,
            max_tokens=tokens,
            adapter=adapter,
            rule=rule,
            constraints=constraints,
            progress=progress,
        )
        return [(c, None if c.refusal_probability is None else rule.probability(signs)) for c, signs in found]

    def _answer(
        self,
        question: str,
        hits: tuple[Hit, ...],
        completion: Completion,
        probability: float | None,
        constraint: Form | None,
        text_of: Callable[[str], str],
    ) -> Answer:
        if constraint:
            parsed = ParsedAnswer(completion.text, (), refused=False)
        else:
            parsed = parse_answer(completion.text, len(hits))
        rule = None if constraint else self.refusal_rule
        refused = parsed.refused
        if rule is not None and not refused:  # without probabilities (some servers give none) as without a rule
            refused = not self._has_evidence(question, hits) if probability is None else probability > rule.threshold
        return Answer(
            text=STUCK if parsed.stuck else UNKNOWN if refused else parsed.text,
            answered=not refused,
            arm=self.arm,
            citations=() if refused else cite(parsed, question, hits, text_of),
            hits=hits,
            seconds=completion.seconds,
            prompt_tokens=completion.prompt_tokens,
            completion_tokens=completion.completion_tokens,
            refusal_probability=probability,
            choice_probabilities=_by_option(constraint, completion),
            shortened=completion.shortened,
            cached=completion.cached,
        )

    @property
    def refusal_rule(self) -> RefusalRule | None:
        """When to refuse with passages: the adapter's rule, its threshold perhaps set by hand; None: as the model writes."""
        if self.retriever is None:
            return None
        rule = self.tuning.refusal_rule if self.tuning else None
        by_hand = self.settings.answer.refusal_threshold
        return dataclasses.replace(rule or RefusalRule(), threshold=by_hand) if by_hand > 0 else rule


def _by_option(constraint: Form | None, completion: Completion) -> dict[str, float]:
    options = constraint.options if isinstance(constraint, Choices) else ()
    return dict(zip(options, completion.choice_probabilities, strict=False))


def open_retriever(folder: Path, settings: Settings) -> Retriever:
    """Open the expert's index with its embedder and reranker. A missing index is a StoreError that names the command.

    Where `doyen reembed` gave the index another embedder than these settings name, that one is taken.
    """
    index = open_index(folder, settings)
    made = index.manifest
    named = settings.embedder
    if made.before and named.name == made.before and made.embedder != named.name:
        named = dataclasses.replace(named, name=made.embedder)
    embedder = load_embedder(named, expert=folder, recorded=made.fingerprint)
    return Retriever(
        index,
        embedder,
        settings.retrieval,
        reranker=load_reranker(settings.rerank, expert=folder, embedder=embedder) if settings.rerank.name else None,
        reranked=settings.rerank.candidates,
    )


def open_tuning(folder: Path, adapter: str) -> Tuning:
    """Find an adapter by name ('' for the newest). Raises UsageError if there is none."""
    found = adapter_folder(folder, adapter)
    return Tuning(found, read_adapter(found).refusal_rule)


def _require_same_prompt(folder: Path, settings: Settings) -> None:
    """Refuse an adapter that was trained on passages of another form than they would be shown in now."""
    trained = read_adapter(folder).examples
    asked = settings.answer.document_summaries
    if (
        trained.get("variants", {}).keys() & {"passages", "abstain"}
        and trained.get("document_summaries", False) != asked
    ):
        raise UsageError(
            f"adapter {folder.name} was trained on passages {'without' if asked else 'with'} their documents' summaries, "
            f"and [answer] document_summaries is {str(asked).lower()}",
            hint=f"set it to {str(not asked).lower()}, or doyen examples build and doyen finetune again",
        )


def open_engine(settings: Settings) -> Engine:
    """Return the engine of the model in the settings; its weights are loaded at the first prompt."""
    return serving_engine(settings.model)
