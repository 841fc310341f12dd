"""Answers from a cluster: an `Engine` whose prompts are shared out among workers, each of which holds the model once.

Enters: messages. Leaves: the completions that the model's engine writes there. Searching, citing and what is kept of the answers
stay with the process that asked; an adapter travels to where its folder is not.
"""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from doyen.answer_cache import adapter_hash
from doyen.cluster.connecting import connected
from doyen.cluster.crew import Crew, places
from doyen.cluster.machines import place_name
from doyen.config import ModelSettings, Settings
from doyen.embedding.runtime import CORES_VARIABLE
from doyen.errors import ClusterError, UsageError
from doyen.models.constraints import Constraint
from doyen.models.engine import Completion, LocalEngine, Stream
from doyen.models.fetching import cache_folder
from doyen.models.serving import is_served, local_engine
from doyen.parsing.worker import resident_bytes
from doyen.prompts import Message

ANSWER = "answer"
_MOST_PIECE = 16
_PARCEL_BYTES = 1 << 30
_ROOM_GIB = 1.0
"""What a worker needs beside the weights."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """What a worker has loaded; `identity` is its engine's, and all have to be alike."""

    where: str
    identity: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class AdapterAt:
    """An adapter for a worker: where its folder is, a hash of it, and a parcel of it (in a list: fetched where needed; empty
    where it is too large to be sent).
    """

    folder: Path
    digest: str
    parcel: list[Any]


class AnswerWorker:
    """An actor that holds a model and answers prompts with it."""

    def __init__(self, cores: int, settings: ModelSettings) -> None:
        """Take what to load."""
        os.environ[CORES_VARIABLE] = str(cores)
        self._settings = settings
        self._engine: Any = None
        self._adapters: dict[str, Path] = {}

    def where(self) -> str:
        """Return the machine's name."""
        return place_name()

    def ready(self) -> Loaded:
        """Load the model. Raises ModelError where it is not on this machine."""
        engine = self._engine = local_engine(self._settings)
        engine.generate([[{"role": "user", "content": "."}]], max_tokens=1)
        assert isinstance(engine, LocalEngine)
        return Loaded(self.where(), tuple(engine.identity()))

    def call(self, method: str, given: tuple[Any, ...], adapter: AdapterAt | None, options: dict[str, Any]) -> Any:
        """Call a method of the engine, with an adapter."""
        return getattr(self._engine, method)(*given, adapter=self._placed(adapter), **options)

    def resident_gib(self) -> float:
        """Return the memory that this worker holds, in GiB; 0 where the system does not tell."""
        return round(resident_bytes() / 2**30, 3)

    def _placed(self, adapter: AdapterAt | None) -> Path | None:
        """Return the adapter's folder on this machine; it is unpacked where the given one is not seen here."""
        if adapter is None:
            return None
        if adapter.digest not in self._adapters:
            self._adapters[adapter.digest] = (
                adapter.folder if _is_there(adapter.folder, adapter.digest) else _unpacked(adapter)
            )
        return self._adapters[adapter.digest]


def _is_there(folder: Path, digest: str) -> bool:
    try:
        return folder.is_dir() and adapter_hash(folder) == digest
    except OSError:
        return False


def _unpacked(adapter: AdapterAt) -> Path:
    """Return a folder of doyen's cache with the adapter in it; it serves all workers of this machine, and later runs."""
    import ray

    kept = cache_folder() / "adapters"
    folder = kept / adapter.digest
    if _is_there(folder, adapter.digest):
        return folder
    if not adapter.parcel:
        hint = f"mount {adapter.folder} at the same path on every machine of the cluster"
        raise ClusterError(f"{place_name()} does not see {adapter.folder}, which is too large to be sent", hint=hint)
    kept.mkdir(mode=0o700, parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=kept) as made:
        with zipfile.ZipFile(io.BytesIO(ray.get(adapter.parcel[0]))) as parcel:
            parcel.extractall(Path(made, "adapter"))
        if folder.exists() and not _is_there(folder, adapter.digest):  # damaged
            shutil.rmtree(folder)
        with contextlib.suppress(OSError):  # another worker was first
            Path(made, "adapter").rename(folder)
    return folder


class ClusterEngine:
    """An `Engine` (see `doyen.models.engine`) on a crew; `own` is this machine's, which counts tokens and loads no weights."""

    def __init__(self, crew: Crew, own: LocalEngine) -> None:
        """Start the workers. Raises ClusterError where one lacks the model, or has another one than this machine."""
        found: list[Loaded] = crew.start(lambda said: require_alike(said, own.of_model(), own.name))
        self._crew, self._own, self._identity = crew, own, list(found[0].identity)
        self.name, self.kind, self.workers = own.name, self._identity[0], crew.size
        self.count_tokens, self.template_hash = own.count_tokens, own.template_hash
        self._adapters: dict[tuple[Path, str], AdapterAt] = {}

    @property
    def context_tokens(self) -> int:
        """The most tokens that a prompt and its answer have together."""
        return self._own.context_tokens

    def identity(self) -> list[str]:
        """Return what the answers depend on beside prompt and adapter: what a worker's engine says."""
        return self._identity

    def resident_gib(self) -> float:
        """Return the memory that one of the workers holds, in GiB."""
        held: float = self._crew.submit(ANSWER, "resident_gib").result()
        return held

    def generate(
        self,
        prompts: Sequence[Sequence[Message]],
        *,
        max_tokens: int,
        adapter: Path | None = None,
        refusal: str | None = None,
        may_refuse: bool = True,
        progress: Callable[[int], None] | None = None,
        stream: Stream | None = None,
        constraints: Sequence[Constraint | None] = (),
    ) -> list[Completion]:
        """Answer all prompts, piece by piece on the workers; `stream` gets each answer as a whole."""
        options = {"max_tokens": max_tokens, "refusal": refusal, "may_refuse": may_refuse}
        held = list(constraints)
        if held and len(held) != len(prompts):
            raise UsageError(f"{len(held)} constraints for {len(prompts)} prompts", hint="one a prompt, or none")

        def given(piece: slice) -> tuple[tuple[Any, ...], dict[str, Any]]:
            return (prompts[piece],), options | {"constraints": held[piece]}

        found: list[Completion] = []
        for part in self._shared_out("generate", len(prompts), given, adapter):
            for number, completion in enumerate(part, len(found)):
                if stream:
                    stream(number, completion.text)
            found += part
            if progress:
                progress(len(part))
        return found

    def text_losses(
        self, texts: Sequence[str], prompts: Sequence[Sequence[Message]] = (), *, adapter: Path | None = None
    ) -> list[float]:
        """Return the negative log-likelihood (nats) of each text: as plain text, or as the answer to its prompt."""

        def given(piece: slice) -> tuple[tuple[Any, ...], dict[str, Any]]:
            return (texts[piece], prompts[piece]), {}

        return [loss for part in self._shared_out("text_losses", len(texts), given, adapter) for loss in part]

    def next_token_logits(self, messages: Sequence[Message], *, adapter: Path | None = None) -> Any:
        """Return the logits `(vocabulary,) float32` after a prompt, with or without an adapter."""
        return self._crew.submit(ANSWER, "call", "next_token_logits", (messages,), self._at(adapter), {}).result()

    def _shared_out(
        self,
        method: str,
        count: int,
        given: Callable[[slice], tuple[tuple[Any, ...], dict[str, Any]]],
        adapter: Path | None,
    ) -> Iterator[list[Any]]:
        """Yield a method's results for consecutive pieces of `count` inputs, which the workers do beside each other."""
        size = max(1, min(_MOST_PIECE, -(-count // self.workers)))
        there = self._at(adapter)
        asked = []
        for start in range(0, count, size):
            arguments, options = given(slice(start, start + size))
            asked.append(self._crew.submit(ANSWER, "call", method, arguments, there, options))
        for future in asked:
            yield list(future.result())

    def _at(self, adapter: Path | None) -> AdapterAt | None:
        """Return an adapter as workers take it; its parcel is put into the cluster once."""
        if adapter is None:
            return None
        folder = adapter.resolve()
        key = (folder, adapter_hash(folder))
        if key not in self._adapters:
            import ray

            parcel = _parcel(folder)
            self._adapters[key] = AdapterAt(*key, [ray.put(parcel)] if parcel else [])
        return self._adapters[key]


def _parcel(folder: Path) -> bytes:
    """Pack an adapter's files; b"" for one that is too large (a whole model): it has to be where the workers see it."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    if sum(path.stat().st_size for path in files) > _PARCEL_BYTES:
        return b""
    found = io.BytesIO()
    with zipfile.ZipFile(found, "w", zipfile.ZIP_STORED) as parcel:
        for path in files:
            parcel.write(path, path.relative_to(folder))
    return found.getvalue()


def require_alike(found: Sequence[Loaded], of_model: Sequence[str], name: str) -> None:
    """Refuse workers whose model is not that of this machine, or whose engine computes unlike that of the first of them.

    `of_model` is the end of an engine's identity: what it says of configuration, weights and template.
    """
    for loaded in found:
        if list(loaded.identity[-len(of_model) :]) != list(of_model):
            raise ClusterError(
                f"the worker on {loaded.where} has weights or a chat template of {name} that differ from those here",
                hint=f"put the same model onto all machines (doyen models pull {name})",
            )
        own, first = (", ".join(one.identity[: -len(of_model)]) for one in (loaded, found[0]))
        if own != first:
            raise ClusterError(
                f"the worker on {loaded.where} computes with {own}, that on {found[0].where} with {first}",
                hint='set [model] engine = "openvino" or "transformers", or use machines of one kind',
            )


@contextmanager
def engine_on(on: str, settings: Settings) -> Iterator[ClusterEngine | None]:
    """Give the engine of the expert's model on a cluster ("ray", "ray://HOST:PORT"); None where `on` is empty.

    Raises:
        UsageError: `on` names no cluster, or the settings' model is behind a server.
        ClusterError: the cluster does not answer, its machines do not fit, or one lacks the model.
        ModelError: the model is not on this machine, which counts its tokens.
    """
    if not on:
        yield None
        return
    if is_served(settings.model):
        raise UsageError("--on shares out a model of this machine, and a server answers here", hint="leave --on out")
    own = local_engine(settings.model)
    assert isinstance(own, LocalEngine)
    with connected(on) as machines:
        where = places(
            machines,
            settings.cluster.workers,
            settings.cluster.worker_cores,
            gpus=settings.model.engine != "openvino",
            memory_gib=_needed_gib(own.folder, settings.model.bits),
        )
        with Crew(AnswerWorker, (settings.model,), where, (ANSWER,)) as crew:
            yield ClusterEngine(crew, own)


def _needed_gib(folder: Path, bits: int) -> float:
    """Return about how much memory a worker takes: the weights in their bits, and room to work."""
    stored = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
    return round(stored * bits / 16 / 2**30 + _ROOM_GIB, 2)
