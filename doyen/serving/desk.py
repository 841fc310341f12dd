"""One expert as a server holds it: its arms and adapters under names, one engine and one index for all questions.

Enters: questions with who asks them. Leaves: answers. Knows no HTTP. `doyen.toml` is read once; adapters and documents are
seen as they change.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import os
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from doyen.adapter_labels import needed_for
from doyen.adapters import list_adapters, read_adapter
from doyen.answer_cache import AnswerCache, CachedEngine, kept_mib
from doyen.config import load_settings
from doyen.errors import DoyenError, ExpertError, StoreError, UsageError
from doyen.expert import Expert, Tuning, open_engine, open_retriever, open_tuning
from doyen.index.filtering import Where
from doyen.index.store import Place
from doyen.ingesting import index_place, require_own
from doyen.ingesting.known_sources import load_sources
from doyen.labelling import Labeller
from doyen.models.catalogue import find_entry
from doyen.models.constraints import Form
from doyen.models.engine import Engine, LocalEngine
from doyen.models.shared import SharedEngine, TicketEngine, shared_engine
from doyen.models.ticket import Ticket
from doyen.records import ARMS, Answer, Hit
from doyen.retrieval.hybrid import Retriever, Sought
from doyen.retrieval.search_queue import SearchQueue
from doyen.serving.answer_stream import AnswerStream
from doyen.serving.follow_ups import rewritten_by_model, rewritten_by_words
from doyen.serving.keys import LOCAL, Principal
from doyen.serving.sessions import Turn
from doyen.serving.viewing import Viewer

PREFIX = "doyen"
log = logging.getLogger(__name__)
LONGEST_QUESTION = 32_768
_ABLE_PARAMETERS = 2_000_000_000
_TRY_AGAIN_S = 30.0
"""After an index that was made anew could not be opened (its embedder is not fetched here, say)."""


class UnknownModelError(UsageError):
    """A model name that no arm or adapter of the expert has."""


@dataclass(frozen=True, slots=True)
class ModelName:
    """What a model's name in the API stands for; `adapter` "" is the newest."""

    arm: str
    adapter: str = ""

    def __str__(self) -> str:
        return f"{PREFIX}/{self.arm}" + (f":{self.adapter}" if self.adapter else "")


@dataclass(frozen=True, slots=True)
class Asked:
    """A question with all that shapes its answer."""

    question: str
    model: ModelName
    principal: Principal
    history: Sequence[Turn] = ()
    filters: Sequence[str] = ()
    constraint: Form | None = None
    max_tokens: int = 0
    stops: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Answered:
    """An answer, the question that it was searched by, and the adapter that wrote it ("": none). `text` is what was shown."""

    answer: Answer
    question: str
    adapter: str
    text: str


class Desk:
    """Answers for one expert, from any number of threads."""

    def __init__(self, expert: Path, *, engine: Engine | None = None) -> None:
        """Take the expert's folder; its model is loaded by `open`, or the first question."""
        self.expert = expert
        self.settings = load_settings(expert)
        self.engine: SharedEngine = shared_engine(
            engine or open_engine(self.settings), most_adapters=self.settings.serve.adapters
        )
        self._lock = threading.Lock()
        self._retriever: tuple[float, Retriever] | None = None
        self._try_again_at = 0.0
        self._searches = SearchQueue(os.cpu_count() or 1)

    # ---- what there is

    @property
    def default(self) -> ModelName:
        """What `doyen ask` would use."""
        answer = self.settings.answer
        return ModelName(answer.arm, answer.adapter if "finetuned" in answer.arm else "")

    def models(self, principal: Principal) -> list[ModelName]:
        """Return a name for each arm that someone can ask, and each adapter that they may use."""
        adapters = [path.name for path in self.adapters(principal)]
        found = [ModelName("base")]
        found += [ModelName("rag")] if self.has_index else []
        for arm in ("finetuned", "rag+finetuned") if adapters else ():
            if self.has_index or "rag" not in arm:
                found += [ModelName(arm), *(ModelName(arm, name) for name in adapters)]
        return found

    def model(self, name: str, principal: Principal) -> ModelName:
        """Return what a name stands for; "" and "doyen" are the default. Raises UnknownModelError."""
        if name in ("", PREFIX):
            return self.default
        arm, _, adapter = name.removeprefix(f"{PREFIX}/").partition(":")
        wanted = ModelName(arm, adapter)
        known = self.models(principal)
        if wanted not in known:
            hint = "the models are " + ", ".join(map(str, known[:20]))
            if arm in ARMS and "rag" in arm and not self.has_index:
                hint = "nothing is indexed yet: POST /api/upload, or doyen ingest FOLDER"
            raise UnknownModelError(f"there is no model '{name[:80]}'", hint=hint)
        return wanted

    @property
    def has_index(self) -> bool:
        """Whether something was ingested."""
        return self._stamp() is not None

    @cached_property
    def _place(self) -> Place:
        return index_place(self.expert, self.settings)

    def require_own(self) -> None:
        """Refuse what would ingest into an expert that joins others. Raises UsageError."""
        try:
            require_own(self._place)
        except StoreError as error:
            raise UsageError(str(error), hint=error.hint) from error

    def _stamp(self) -> float | None:
        return self._place.stamp()

    @property
    def retriever(self) -> Retriever:
        """The index with its embedder; opened again when the index was made anew. Raises StoreError without an index."""
        try:
            stamp = self._stamp()
        except StoreError:
            if self._retriever is None:
                raise
            stamp = self._retriever[0]
        if stamp is None:
            raise StoreError("nothing is indexed yet", hint="POST /api/upload, or doyen ingest FOLDER")
        with self._lock:
            if self._retriever is None or (self._retriever[0] != stamp and time.monotonic() >= self._try_again_at):
                try:
                    self._retriever = stamp, open_retriever(self.expert, load_settings(self.expert))
                except DoyenError as error:
                    if self._retriever is None:
                        raise
                    log.warning("the index at hand goes on answering (%s)", error)
                    self._try_again_at = time.monotonic() + _TRY_AGAIN_S  # the generation at hand goes on answering
            return self._retriever[1]

    def open(self) -> None:
        """Load the embedder, the base model and the default arm's adapter."""
        if self.has_index:
            self.retriever.embedder.embed(["Hello"], kind="query")
        self.engine.open()
        if "finetuned" in self.default.arm and (tuning := self.tuning(self.default, LOCAL)):
            self.engine.open(tuning.folder)

    def search(self, sought: Sought) -> list[Hit]:
        """Return the hits of one search; those of other threads that wait at the same time go with it."""
        return self._searches.search(self.retriever, sought)

    def close(self) -> None:
        """Give up all answers at work."""
        self.engine.close()
        self._searches.close()

    # ---- who may see what

    @property
    def labeller(self) -> Labeller:
        """What gives labels to documents, as an ingest would now."""
        sources = {source.spec: source.labels for source in load_sources(self.expert)}
        return Labeller.of(self.expert, self.settings, sources)

    def viewer(self, principal: Principal) -> Viewer:
        """Return the documents as someone sees them; the one place that decides which they are shown."""
        return Viewer(self.retriever.index if self.has_index else None, principal.visible, self.labeller)

    def where(self, principal: Principal, filters: Sequence[str] = ()) -> Where | None:
        """Return what a search for someone is held to. Raises UsageError for a filter on no field that they know."""
        return self.viewer(principal).where(filters)

    def adapters(self, principal: Principal) -> list[Path]:
        """Return the adapters that someone may use, oldest first: all whose documents they may see."""
        found = list_adapters(self.expert)
        if principal.visible is None or not found:
            return found
        viewer = self.viewer(principal)
        index = viewer.index if self.has_index else None
        kept = []
        for path in found:
            with contextlib.suppress(ExpertError):  # a broken manifest says of no document that it may be seen
                needed = needed_for(read_adapter(path), index)
                if needed.allows(viewer.visible, labels_used=bool(needed.unknown) and viewer.labels_used):
                    kept.append(path)
        return kept

    # ---- answers

    def ask(self, asked: Asked, ticket: Ticket, show: Callable[[str], None] | None = None) -> Answered:
        """Answer a question; `show` gets the text as far as it is sure. Raises as `Expert.ask`, and by the ticket.

        A calibrated refusal rule decides when the answer is written: then the text comes in one piece.
        """
        if len(asked.question) > LONGEST_QUESTION:
            raise UsageError(
                f"the question has {len(asked.question):,} characters; at most {LONGEST_QUESTION:,} are taken",
                hint="ingest long texts as documents, and ask about them",
            )
        if not asked.question.strip():
            raise UsageError("the question is empty")
        out = AnswerStream(show or (lambda _: None), raw=asked.constraint is not None, stops=asked.stops)
        tuning = self.tuning(asked.model, asked.principal)
        question = self._rewritten(asked, ticket)
        expert = self._expert(asked, tuning, ticket)
        if show and expert.refusal_rule is None:
            expert.engine = self.engine_for(ticket, asked.principal, lambda _, piece: out.feed(piece))
        answer = expert.ask(question, constraint=asked.constraint)
        return Answered(answer, question, tuning.folder.name if tuning else "", out.finish(answer.text))

    def _expert(self, asked: Asked, tuning: Tuning | None, ticket: Ticket) -> Expert:
        where = None
        model = dataclasses.replace(self.settings.model, max_answer_tokens=self.most_tokens(asked.max_tokens))
        settings = dataclasses.replace(self.settings, model=model)
        retriever = self.retriever if "rag" in asked.model.arm else None
        if retriever is not None:
            where = self.where(asked.principal, asked.filters)
        elif asked.filters:
            raise UsageError(f"the arm '{asked.model.arm}' searches no documents to filter", hint="use the arm 'rag'")
        engine = self.engine_for(ticket, asked.principal)
        return Expert(engine, retriever=retriever, tuning=tuning, settings=settings, where=where)

    def most_tokens(self, wanted: int) -> int:
        """Return how many tokens an answer gets where so many were asked for; 0: as the settings say.

        Clients ask for as many as their own models take: half of the model's context is for the question.
        """
        if not wanted:
            return self.settings.model.max_answer_tokens
        return min(wanted, max(self.engine.inner.context_tokens // 2, 1))

    def engine_for(
        self, ticket: Ticket, principal: Principal, stream: Callable[[int, str], None] | None = None
    ) -> Engine:
        """Return the engine as one request sees it: it ends with the ticket, and takes from the cache what someone may see."""
        one = TicketEngine(self.engine, ticket, stream)
        if (most := kept_mib(self.settings)) and isinstance(self.engine.inner, LocalEngine):
            scope = "" if principal.visible is None else json.dumps(sorted(principal.labels))
            return CachedEngine(one, AnswerCache(self.expert, most), scope)
        return one

    def tuning(self, model: ModelName, principal: Principal) -> Tuning | None:
        """Return a fine-tuned arm's adapter, "" being the newest that they may use; trained anew, it is read anew.

        Raises UnknownModelError for one that they may not use.
        """
        if "finetuned" not in model.arm:
            return None
        allowed = [path.name for path in self.adapters(principal)]
        name = model.adapter or self.settings.answer.adapter or (allowed[-1] if allowed else "")
        if principal.visible is not None and name not in allowed:
            raise UnknownModelError(f"there is no model '{model}'", hint="GET /v1/models lists them")
        return open_tuning(self.expert, name)

    def _rewritten(self, asked: Asked, ticket: Ticket) -> str:
        how, history = self.settings.serve.rewrite, asked.history
        if not history or how == "off" or not self.settings.serve.history_tokens:
            return asked.question
        if how == "model" or (how == "auto" and self._is_able()):
            return rewritten_by_model(
                asked.question, history, self.engine_for(ticket, asked.principal), self.settings.serve.history_tokens
            )
        return rewritten_by_words(asked.question, history)

    def _is_able(self) -> bool:
        """Whether the model is large enough to rewrite questions; what a server runs is taken to be."""
        if not isinstance(self.engine.inner, LocalEngine):
            return True
        return find_entry(self.settings.model.name).parameters >= _ABLE_PARAMETERS

    def status(self, principal: Principal) -> dict[str, Any]:
        """Return what the server knows of itself; the index is read only for what adapters someone with labels may use."""
        return {
            "models": [str(m) for m in self.models(principal)],
            "default": str(self.default),
            "engine": self.engine.inner.kind,
        }
