"""A network on the CPU with OpenVINO: sequences of tokens → one row `(size,) float32` each, in batches of like length.

Knows no architecture, no prefixes and no heads: the network that is handed in has its pooling in it.
"""

from __future__ import annotations

import functools
import os
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

# Measured on two cores with AMX (benchmarks/embedding.py): one stream a core with small batches, whose activations
# stay in the core's second-level cache, is 2.5 times as fast as all cores on one batch of 1,024 tokens. Widths in
# steps of 16 leave few shapes to compile kernels for; two waiting requests a stream hide the time between batches.
BATCH_TOKENS = 256
WIDTH_STEP = 16
REQUESTS_PER_STREAM = 2
CORES_VARIABLE = "DOYEN_CORES"
FEW_TEXTS, FEW_TOKENS = 16, 512
"""Up to here texts are run by the thread that asks: handing a question over to a stream and back takes as long as its network."""
GROUP_TEXTS = 2048  # sorted by length and tokenised together: bounds the memory of a call

T = TypeVar("T")
Integers = NDArray[np.int32]
Feed = Callable[[Integers, Integers, NDArray[np.float32]], Any]
"""(ids, segments, mask), each `(batch, width)` → the network's inputs."""


class BatchedNetwork:
    """A compiled network that gives one row a sequence."""

    def __init__(self, model: Any, feed: Feed, size: int, precision: str | None = None) -> None:
        """Compile `model`, whose only output is `(batch, size)`.

        `precision` is "f32" or "bf16"; None takes bf16 where the CPU computes in it, else f32. A CPU without bf16
        computes the vectors of a bf16 index in f32 (cosine above 0.9999), since emulating it is slower than both.
        """
        native = native_precision()
        self.size = size
        self.backend = f"openvino-{precision or native}"
        streams = cores()
        used = (precision or native) if native == "bf16" else "f32"
        # No CACHE_DIR: a compiled blob of 90 MB would save 0.13 s of a cold start of 0.6 s.
        options = {"INFERENCE_PRECISION_HINT": used, "NUM_STREAMS": streams, "INFERENCE_NUM_THREADS": streams}
        compiled = openvino_core().compile_model(model, "CPU", options)
        self._queue = load_openvino().AsyncInferQueue(compiled, streams * REQUESTS_PER_STREAM)
        self._request = compiled.create_infer_request()
        self._feed = feed
        self._lock = threading.Lock()
        self._few = threading.Lock()

    def run(
        self,
        items: Sequence[T],
        encode: Callable[[Sequence[T]], Sequence[Any]],
        progress: Callable[[int], None] | None = None,
    ) -> NDArray[np.float32]:
        """Return one row an item `(n, size) float32`, in their order.

        `encode` tokenises a group of items (tokenizers' `Encoding`s), while the group before it is computed.
        `progress` is called with the number of items done since its last call. Calls from several threads wait for
        each other, since each uses all cores; those of few tokens wait for no long one.
        """
        if len(items) > FEW_TEXTS:
            return self._many_rows(items, encode, progress)
        rows = encode(items)
        if sum(len(row.ids) for row in rows) > FEW_TOKENS:
            return self._many_rows(rows, lambda group: group, progress)
        return self._few_rows(rows, progress)

    def _many_rows(
        self,
        items: Sequence[T],
        encode: Callable[[Sequence[T]], Sequence[Any]],
        progress: Callable[[int], None] | None,
    ) -> NDArray[np.float32]:
        out = np.empty((len(items), self.size), dtype=np.float32)

        def keep(found: NDArray[np.float32], batch: list[int]) -> None:
            out[batch] = found

        self._each(items, encode, keep, progress)
        return out

    def _few_rows(self, rows: Sequence[Any], progress: Callable[[int], None] | None) -> NDArray[np.float32]:
        """Return one row of each encoding `(n, size)`, computed by this thread."""
        out = np.empty((len(rows), self.size), dtype=np.float32)
        with self._few:
            for batch, own in batches(rows, lambda group: group):
                # Inputs are copied: shared ones, freed after the call, were written to by the queue's next request of this network.
                out[batch] = self._request.infer(self._feed(*pad(own)))[0]
                if progress is not None:
                    progress(len(batch))
        return out

    def run_tokens(
        self, items: Sequence[T], encode: Callable[[Sequence[T]], Sequence[Any]]
    ) -> list[NDArray[np.float32]]:
        """Return the states of an item's tokens `(width, size) float32`, padding included, of a network that pools nothing."""
        out: dict[int, NDArray[np.float32]] = {}

        def keep(found: NDArray[np.float32], batch: list[int]) -> None:
            out.update(zip(batch, np.array(found, dtype=np.float32), strict=True))  # a copy: the request is used again

        self._each(items, encode, keep)
        return [out[i] for i in range(len(items))]

    def _each(
        self,
        items: Sequence[T],
        encode: Callable[[Sequence[T]], Sequence[Any]],
        keep: Callable[[NDArray[np.float32], list[int]], None],
        progress: Callable[[int], None] | None = None,
    ) -> None:
        """Call `keep` with the output of each batch and the indices of its items."""
        done: list[int] = []

        def finish(request: Any, batch: list[int]) -> None:
            keep(request.get_output_tensor(0).data, batch)
            done.append(len(batch))

        def report() -> None:
            while progress is not None and done:
                progress(done.pop())

        with self._lock:
            self._queue.set_callback(finish)
            try:
                for batch, rows in batches(items, encode):
                    self._queue.start_async(self._feed(*pad(rows)), batch)
                    report()
            finally:
                self._queue.wait_all()
        report()


def batches(
    items: Sequence[T], encode: Callable[[Sequence[T]], Sequence[Any]], most_tokens: int = BATCH_TOKENS
) -> Iterator[tuple[list[int], list[Any]]]:
    """Yield (indices, encodings) of like length, longest of a group first: memory peaks in the first one."""
    for first in range(0, len(items), GROUP_TEXTS):
        rows = encode(items[first : first + GROUP_TEXTS])
        order = sorted(range(len(rows)), key=lambda i: -len(rows[i].ids))
        start = 0
        while start < len(order):
            size = max(1, most_tokens // _width(len(rows[order[start]].ids)))
            batch = order[start : start + size]
            yield [first + i for i in batch], [rows[i] for i in batch]
            start += size


def pad(rows: Sequence[Any]) -> tuple[Integers, Integers, NDArray[np.float32]]:
    """Return ids, segments and mask `(batch, width)`; padding has id 0 and is masked."""
    width = _width(max(len(row.ids) for row in rows))
    ids, segments = (np.zeros((len(rows), width), dtype=np.int32) for _ in range(2))
    mask = np.zeros((len(rows), width), dtype=np.float32)
    for i, row in enumerate(rows):
        ids[i, : len(row.ids)] = row.ids
        segments[i, : len(row.ids)] = row.type_ids
        mask[i, : len(row.ids)] = 1.0
    return ids, segments, mask


def _width(length: int) -> int:
    return max(1, -(-length // WIDTH_STEP)) * WIDTH_STEP


def cores() -> int:
    """Return how many cores this process may use: $DOYEN_CORES, which a worker of a cluster has, else all it may run on."""
    if (given := os.environ.get(CORES_VARIABLE, "")).isdecimal() and int(given):
        return int(given)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def load_openvino() -> Any:
    """Import OpenVINO without its telemetry, which would send an event to its makers at every import.

    OpenVINO does without the package `openvino_telemetry` where it is missing; None in `sys.modules` says that it is.
    """
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    import openvino

    return openvino


@functools.cache
def openvino_core() -> Any:
    """Return the process's one `openvino.Core`, which is never let go.

    Its CPU plugin gives the thread that made it a stack for signals where the CPU has wide registers (AVX-512, AMX), and
    frees it with the last Core or model, in whatever thread that happens: the next Ctrl-C would then be a segmentation fault.
    """
    return load_openvino().Core()


def native_precision() -> str:
    """Return "bf16" where the CPU computes in it, else "f32"."""
    capabilities: list[str] = openvino_core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    return "bf16" if "BF16" in capabilities else "f32"
