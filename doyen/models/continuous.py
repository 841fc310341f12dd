"""Many callers, one CPU: the prompts of all threads are read and written together, whenever they come.

Enters: prompts of any thread. Leaves: completions, in that thread. The base and each adapter has a lane, a network of its
own with its texts; one thread lets the lanes take a step in turn. A text that nobody waits for any more is dropped between
two steps, and its memory is another's.
"""

from __future__ import annotations

import queue
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from concurrent.futures import CancelledError
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from doyen.models.constraints import Constraint, JsonSchema, Regex
from doyen.models.decoding import Request, Work
from doyen.models.engine import Completion, Stream
from doyen.models.openvino_engine import Loaded, OpenVINOEngine, Pieces, room_of
from doyen.models.paged import BLOCK
from doyen.models.shared import Event, awaited
from doyen.models.ticket import Ticket
from doyen.prompts import Message

_LOOK_S = 0.1
_END_S = 20.0
Key = tuple[Path, int] | None
"""An adapter's folder and when its manifest was written (another training may take the same name); None: the base."""


@dataclass(slots=True, eq=False)
class _Job:
    """A request with the constraint that it keeps to, and where its answer goes."""

    request: Request
    constraint: Constraint | None
    events: queue.SimpleQueue[Event]
    pieces: Pieces | None = None


class _Lane:
    """A network and its texts. `arrived` and `dropped` are filled by callers, all else belongs to the engine's thread."""

    def __init__(self, engine: OpenVINOEngine, loaded: Loaded) -> None:
        self._engine, self._network = engine, loaded.network
        self._loaded = loaded  # holds the weights, which the network reads where they are
        self._decoder = engine.decoder(loaded)
        self._work = Work()
        self._jobs: dict[int, _Job] = {}
        self.arrived: list[_Job] = []
        self.dropped: list[_Job] = []
        self.users = 0
        """Callers that hold the lane: it is not given up meanwhile."""

    @property
    def busy(self) -> bool:
        return bool(self.arrived or self.dropped or self._jobs)

    def take_in(self) -> None:
        """Take over what callers brought and withdrew; they must not do so meanwhile."""
        for job in self.arrived:
            self._jobs[id(job.request)] = job
            self._work.waiting.append(job.request)
        for job in self.dropped:
            if self._jobs.pop(id(job.request), None):
                self._decoder.drop(self._work, job.request)
        self.arrived, self.dropped = [], []

    def advance(self) -> None:
        """Take a step; hand on what came of it. An error ends all texts of the lane, each with it."""
        try:
            self._reserve()
            for request in self._decoder.advance(self._work, self._engine.batch_tokens, self._wrote):
                job = self._jobs.pop(id(request))
                made = self._engine.completion(request, job.constraint)
                if job.pieces:
                    job.pieces.finish(made.text)
                job.events.put((request.number, made))
        except Exception as error:  # the edge of a worker: it is raised again in the callers' threads
            self.end(error)

    def _reserve(self) -> None:
        """Have room for a text that is longer than all of the memory, once no other is at work."""
        waiting, running = self._work.waiting, self._work.running
        if waiting and not running and room_of(waiting[0]) > self._network.pool.size * BLOCK:
            self._network.reserve(room_of(waiting[0]))

    def _wrote(self, request: Request) -> None:
        if pieces := self._jobs[id(request)].pieces:
            pieces.show()

    def end(self, error: BaseException) -> None:
        """Give up all texts that were taken in."""
        for job in self._jobs.values():
            job.events.put((job.request.number, error))
        self._decoder.stop(self._work)
        self._jobs.clear()


class ContinuousEngine:
    """An OpenVINO engine for many threads. The base and the `most_adapters` last used ones stay loaded."""

    def __init__(self, inner: OpenVINOEngine, *, most_adapters: int = 2) -> None:
        """Start the engine's thread; weights are loaded at the first prompt."""
        self.inner = inner
        self._most = max(1, most_adapters)
        self._lanes: OrderedDict[Key, _Lane] = OrderedDict()
        self._changed = threading.Condition()
        self._preparing, self._loading = threading.Lock(), threading.Lock()
        self._crowded = self._opened_once = self._closed = False
        self._thread = threading.Thread(target=self._serve, daemon=True, name="doyen-engine")
        self._thread.start()

    def generate(
        self, prompts: Sequence[Sequence[Message]], ticket: Ticket, *, stream: Stream | None = None, **options: Any
    ) -> list[Completion]:
        """Answer prompts among those of others. Raises as `OpenVINOEngine.generate` does, and by the ticket."""
        if not prompts:
            return []
        ticket.check()
        adapter, progress = options.pop("adapter", None), options.pop("progress", None)
        constraints = options.pop("constraints", ())
        refusal, may_refuse = options.pop("refusal", None), options.pop("may_refuse", True)
        with self._alone(constraints):
            requests = self.inner.requests(prompts, options["max_tokens"], refusal, may_refuse, constraints)
        events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        held = list(constraints) or [None] * len(prompts)
        jobs = [_Job(request, held[request.number], events) for request in requests]
        for job in jobs if stream else ():
            job.pieces = Pieces(self.inner.text_of, lambda number, text: events.put((number, text)), job.request)
        with self._held(adapter, ticket) as lane:
            self._add(lane, jobs)
            try:
                return awaited(events, len(jobs), ticket, stream, progress)
            finally:
                self._drop(lane, jobs)

    def open(self, adapter: Path | None = None) -> None:
        """Load the base, or an adapter, and write a word: the first step takes longer than any later one."""
        self.generate([[{"role": "user", "content": "Hello"}]], Ticket(), max_tokens=1, adapter=adapter)

    def close(self) -> None:
        """End the thread after the step at work; all texts end with a CancelledError.

        It is waited for: a process must not end while a network reads its weights.
        """
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join(_END_S)

    # ---- the callers' side

    @contextmanager
    def _alone(self, constraints: Sequence[Constraint | None]) -> Iterator[None]:
        """Keep others out while grammars are made, or the tokenizer is opened; free answers wait for no grammar."""
        if self._opened_once and not any(isinstance(c, JsonSchema | Regex) for c in constraints):
            yield
            return
        with self._preparing:
            yield
            self._opened_once = True

    def _add(self, lane: _Lane, jobs: Sequence[_Job]) -> None:
        with self._changed:
            if self._closed:
                raise CancelledError
            lane.arrived += jobs
            self._changed.notify_all()

    def _drop(self, lane: _Lane, jobs: Sequence[_Job]) -> None:
        """Withdraw what is not answered, as after an error or when nobody waits any more."""
        with self._changed:
            lane.dropped += jobs
            self._changed.notify_all()

    @contextmanager
    def _held(self, adapter: Path | None, ticket: Ticket) -> Iterator[_Lane]:
        """Hold the lane of the base or an adapter; it is loaded where it is not."""
        key = _key(adapter)
        with self._changed:
            lane = None if self._crowded and key else self._lane(key)
        while lane is None:
            if not self._loading.acquire(timeout=_LOOK_S):
                ticket.check()
                continue
            try:
                lane = self._opened(key, ticket)
            finally:
                self._loading.release()
        try:
            yield lane
        finally:
            with self._changed:
                lane.users -= 1
                self._changed.notify_all()

    def _lane(self, key: Key) -> _Lane | None:
        """Take a lane that is loaded; `_changed` is held."""
        lane = self._lanes.get(key)
        if lane is not None:
            self._lanes.move_to_end(key)
            lane.users += 1
        return lane

    def _opened(self, key: Key, ticket: Ticket) -> _Lane:
        """Take a lane, loading it, in place of another that nobody holds; `_loading` is held, so one at a time."""
        with self._changed:
            if lane := self._lane(key):
                return lane
            try:
                while key is not None and not self._make_place():
                    self._crowded = True  # who comes now waits behind this one
                    self._changed.wait(_LOOK_S)
                    ticket.check()
            finally:
                self._crowded = False
        made = _Lane(self.inner, self.inner.open_network(key[0] if key else None))
        with self._changed:
            self._lanes[key] = made
            made.users += 1
        return made

    def _make_place(self) -> bool:
        """Give up the adapter that was not used the longest, if there are too many; False: all are in use."""
        loaded = [key for key in self._lanes if key is not None]
        if len(loaded) < self._most:
            return True
        idle = next((key for key in loaded if not self._lanes[key].users and not self._lanes[key].busy), None)
        if idle is not None:
            del self._lanes[idle]
        return idle is not None

    # ---- the engine's thread

    def _serve(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closed or any(lane.busy for lane in self._lanes.values()))
                busy = [lane for lane in self._lanes.values() if lane.busy]
                for lane in busy:
                    lane.take_in()
                if self._closed:
                    break
            for lane in busy:
                lane.advance()
        for lane in busy:
            lane.end(CancelledError())


def _key(adapter: Path | None) -> Key:
    if adapter is None:
        return None
    adapter = adapter.resolve()
    manifest = adapter / "manifest.json"
    return adapter, manifest.stat().st_mtime_ns if manifest.exists() else 0
