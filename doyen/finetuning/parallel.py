"""Several processes that train one model: joining them, sharing out a step's examples, adding up their gradients.

Enters: the environment that `torchrun` or `doyen finetune --processes` sets. Each process computes its part of every
step; the sum is what one process computes, up to the order of floating-point sums. Knows no model and no files.
"""

from __future__ import annotations

import datetime
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from doyen.errors import DoyenError, GateError, ProcessError, UsageError
from doyen.finetuning.data import TokenisedExample, micro_batches

_T = TypeVar("_T")
_BUCKET = 2**25
"""Gradients of at most so many numbers are added up at once: 128 MiB of memory beside them."""
_LONG = datetime.timedelta(days=7)
_SEEDS_APART = 1_000_003


@dataclass(slots=True)
class Group:
    """The processes of a run, seen from one of them; alone by default. `sharded`: each holds a part of the weights only.

    Only the main process (rank 0) reports, and writes files. All must call the methods below in the same order.
    """

    rank: int = 0
    size: int = 1
    sharded: bool = False
    control: Any = None
    stop_wanted: bool = False

    @property
    def main(self) -> bool:
        """Tell whether this process is the one that reports and writes."""
        return self.rank == 0

    @property
    def scale(self) -> int:
        """What a loss is multiplied by: sharded gradients are averaged over the processes, not added up."""
        return self.size if self.sharded else 1

    @property
    def option(self) -> str:
        """What to add to a `doyen finetune` command for as many processes."""
        return f" --processes {self.size}" if self.size > 1 else ""

    def same(self, value: _T) -> _T:
        """Return the main process's value."""
        if self.size == 1:
            return value
        box = [value]
        with _peers():
            _distributed().broadcast_object_list(box, src=0, group=self.control)
        return box[0]

    def gather(self, value: _T) -> list[_T]:
        """Return every process's value, by rank."""
        if self.size == 1:
            return [value]
        found: list[Any] = [None] * self.size
        with _peers():
            _distributed().all_gather_object(found, value, group=self.control)
        return found

    def total(self, value: float) -> float:
        """Return the sum of the processes' values: the very same number in all of them."""
        return value if self.size == 1 else sum(self.gather(value))

    def wait(self) -> None:
        """Wait, for days if it must be, until all processes are here."""
        self.gather(None)

    @contextmanager
    def main_first(self) -> Iterator[None]:
        """Let the main process go through the body before the others: it writes what they read."""
        if not self.main:
            self.wait()
        yield
        if self.main:
            self.wait()

    def spread(self, items: Sequence[Any], measure: Callable[[Sequence[Any]], list[float]]) -> list[float]:
        """Return `measure(items)`, each process measuring a part of the items, where each holds all the weights."""
        if self.size == 1 or self.sharded:
            return self.same(measure(items))
        found = [0.0] * len(items)
        for rank, part in enumerate(self.gather(measure(items[self.rank :: self.size]))):
            found[rank :: self.size] = part
        return found

    def share(
        self,
        examples: Sequence[TokenisedExample],
        steps: Sequence[Sequence[Sequence[int]]],
        micro_batch_tokens: int,
        switch: int | None,
    ) -> list[list[list[int]]]:
        """Return this process's part of each step: micro-batches, as many as every other process has of the step.

        Examples are dealt out from the longest to the shortest, forth and back. A process with fewer micro-batches
        than another has empty ones.
        """
        if self.size == 1:
            return [[list(part) for part in step] for step in steps]
        found = []
        for step in steps:
            order = sorted((i for part in step for i in part), key=lambda i: (-len(examples[i].ids), i))
            hands: list[list[int]] = [[] for _ in range(self.size)]
            for place, i in enumerate(order):
                lap, seat = divmod(place, self.size)
                hands[seat if lap % 2 == 0 else self.size - 1 - seat].append(i)
            parts = [micro_batches(examples, hand, micro_batch_tokens, switch) for hand in hands]
            most = max(len(part) for part in parts)
            found.append(parts[self.rank] + [[] for _ in range(most - len(parts[self.rank]))])
        return found

    def add_gradients(self, parameters: Sequence[Any]) -> None:
        """Replace each gradient by the sum over the processes; FSDP has done it where the weights are sharded."""
        if self.size == 1 or self.sharded:
            return
        import torch

        for bucket in _buckets(parameters):
            flat = torch.cat(
                [(torch.zeros_like(p) if p.grad is None else p.grad).detach().float().flatten() for p in bucket]
            )
            with _peers():
                _distributed().all_reduce(flat)
            for parameter, part in zip(bucket, flat.split([p.numel() for p in bucket]), strict=True):
                parameter.grad = part.view_as(parameter).to(parameter.dtype)

    def decide(self, *, save: bool) -> tuple[bool, bool]:
        """Agree after a step: does anyone want to stop (Ctrl-C)? Does the main process want a checkpoint?"""
        if self.size == 1:
            return False, save
        wishes = self.gather((self.stop_wanted, save))
        return any(stop for stop, _ in wishes), wishes[0][1]

    def copy_from_main(self, parameters: Sequence[Any]) -> None:
        """Overwrite parameters with those of the main process."""
        if self.size == 1:
            return
        with _peers():
            for parameter in parameters:
                _distributed().broadcast(parameter.data, src=0)

    def require_same(self, what: Any, message: str, hint: str) -> None:
        """Raise GateError in all processes where their values differ."""
        found = self.gather(what)
        apart = [rank for rank, value in enumerate(found) if value != found[0]]
        if apart:
            raise GateError(f"{message} (process {', '.join(map(str, apart))} against process 0)", hint=hint)

    def require_alike(self, parameters: Sequence[Any]) -> None:
        """Raise GateError in all processes where copies of the trained weights have drifted apart."""
        if self.size > 1 and not self.sharded:
            sums = [float(p.detach().double().sum()) for p in parameters]
            self.require_same(sums, "the copies of the trained weights differ", "report a bug; one process works")

    @contextmanager
    def together(self) -> Iterator[None]:
        """Let a DoyenError of one process stop all of them with its message; no collective call may stand inside."""
        fault: DoyenError | None = None
        try:
            yield
        except DoyenError as error:
            if self.size == 1:
                raise
            fault = error
        if self.size > 1:
            found = self.gather((str(fault), fault.hint) if fault else None)
            if fault:
                raise fault
            for rank, other in enumerate(found):
                if other:
                    raise GateError(f"process {rank}: {other[0]}", hint=other[1])

    @contextmanager
    def deferring_signals(self) -> Iterator[None]:
        """Take Ctrl-C and SIGTERM as a wish that `decide` brings to all processes, so that all stop after one step.

        A wish that came too late for that is a KeyboardInterrupt at the end.
        """
        if self.size == 1 or threading.current_thread() is not threading.main_thread():
            yield
            return

        def wish(*_: Any) -> None:
            self.stop_wanted = True

        self.stop_wanted = False
        before = {number: signal.signal(number, wish) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
        if self.stop_wanted:
            raise KeyboardInterrupt


def is_main() -> bool:
    """Tell from the environment whether this process is alone or the one that prints. Loads no torch."""
    return processes() == 1 or os.environ.get("RANK", "0") == "0"


def processes() -> int:
    """Return how many processes the environment speaks of (`torchrun`'s variables), 1 for none."""
    names = ("WORLD_SIZE", "RANK", "MASTER_ADDR", "MASTER_PORT")
    return int(os.environ["WORLD_SIZE"]) if all(os.environ.get(name) for name in names) else 1


@contextmanager
def joined() -> Iterator[Group]:
    """Join the processes that the environment speaks of; alone where it speaks of none.

    On GPUs, process k of a machine takes the k-th one; gradients go through NCCL there, else through gloo.

    Raises:
        UsageError: a machine has more processes than GPUs.
        ProcessError: the others are not to be reached.
    """
    if processes() == 1:
        yield Group()
        return
    import torch

    distributed = _distributed()
    cuda = torch.cuda.is_available()
    if cuda:
        place, cards = int(os.environ.get("LOCAL_RANK", "0")), torch.cuda.device_count()
        if place >= cards:
            raise UsageError(f"{place + 1} processes on a machine with {cards} GPUs", hint=f"--processes {cards}")
        torch.cuda.set_device(place)
    own = not distributed.is_initialized()
    with _peers():
        if own:
            distributed.init_process_group("cpu:gloo,cuda:nccl" if cuda else "gloo")
        control = distributed.new_group(backend="gloo", timeout=_LONG)
    try:
        yield Group(distributed.get_rank(), distributed.get_world_size(), control=control)
    finally:
        if own:
            distributed.destroy_process_group()


def own_seed(group: Group, seed: int) -> None:
    """Give each process random numbers of its own (dropout), the main one's being those of a run alone."""
    if not group.main:
        import torch

        torch.manual_seed(seed + _SEEDS_APART * group.rank)


@contextmanager
def _peers() -> Iterator[None]:
    """Turn what torch raises where another process is gone into a ProcessError."""
    try:
        yield
    except RuntimeError as error:
        raise lost(error) from error


def lost(error: BaseException) -> ProcessError:
    """Return the error that says that another process is gone."""
    return ProcessError(
        f"another process of the run ended or is not to be reached: {str(error).splitlines()[0][:200]}",
        hint="see what that process said; doyen finetune --resume with as many processes goes on from the last checkpoint",
    )


def is_lost(error: BaseException) -> bool:
    """Tell whether torch raised an error because another process is gone."""
    return isinstance(error, _distributed().DistError) or "onnection closed by peer" in str(error)


def _buckets(parameters: Sequence[Any]) -> Iterator[list[Any]]:
    """Yield the parameters in their order, in groups of at most _BUCKET numbers (a larger one alone)."""
    bucket: list[Any] = []
    held = 0
    for parameter in parameters:
        if bucket and held + parameter.numel() > _BUCKET:
            yield bucket
            bucket, held = [], 0
        bucket.append(parameter)
        held += parameter.numel()
    if bucket:
        yield bucket


def _distributed() -> Any:
    import torch.distributed

    return torch.distributed
