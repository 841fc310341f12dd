"""A BERT folder (config.json, model.safetensors, tokenizer.json) → an embedder on the CPU, without torch or ONNX.

In: texts. Out: unit vectors `(n, dim) float32`, the mean of the last layer's states (sentence-transformers' pooling).
The network is written down here with OpenVINO's operations; it knows no catalogue and downloads nothing.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from doyen.embedding.tokens import TokenCounter, TokenizerCounter, encodable, open_tokenizer, read_limit
from doyen.errors import ModelError

# Measured on two cores with AMX (benchmarks/embedding.py): one stream a core with small batches, whose activations
# stay in the core's second-level cache, is 2.5 times as fast as all cores on one batch of 1,024 tokens. Widths in
# steps of 16 leave few shapes to compile kernels for; two waiting requests a stream hide the time between batches.
BATCH_TOKENS = 256
WIDTH_STEP = 16
REQUESTS_PER_STREAM = 2
GROUP_TEXTS = 2048  # sorted by length and tokenised together: bounds the memory of a call
_STORED: dict[str, np.dtype[Any]] = {"F32": np.dtype("<f4"), "F16": np.dtype("<f2"), "BF16": np.dtype("<u2")}


class OpenVINOBert:
    """An `Embedder` (see `doyen.embedding`) of BERT architecture."""

    def __init__(
        self,
        folder: Path,
        *,
        name: str,
        weights_sha256: str,
        max_tokens: int | None = None,
        precision: str | None = None,
    ) -> None:
        """Load and compile the model in `folder`.

        `precision` is "f32" or "bf16"; None takes bf16 where the CPU computes in it, else f32. A CPU without bf16
        computes the vectors of a bf16 index in f32 (cosine above 0.9999), since emulating it is slower than both.

        Raises: ModelError where the folder holds another architecture, pooling or activation.
        """
        config = _read_config(folder)
        limit = int(config["max_position_embeddings"])
        self.name = name
        self.dim = int(config["hidden_size"])
        self.max_tokens = min(max_tokens or read_limit(folder), limit)
        self.counter: TokenCounter = TokenizerCounter(folder / "tokenizer.json", self.max_tokens)
        self._tokenizer = open_tokenizer(folder / "tokenizer.json")
        self._tokenizer.enable_truncation(self.max_tokens)
        native = _native_precision()
        precision = precision or native
        self.fingerprint = f"{name}@{weights_sha256[:12]}/openvino-{precision}"
        streams = _cores()
        compiled = _compile(folder, config, precision if native == "bf16" else "f32", streams)
        self._queue = load_openvino().AsyncInferQueue(compiled, streams * REQUESTS_PER_STREAM)
        self._lock = threading.Lock()

    def embed(self, texts: Sequence[str], *, progress: Callable[[int], None] | None = None) -> NDArray[np.float32]:
        """Return one unit vector a text, in their order; a text's end beyond `max_tokens` tokens is not read.

        `progress` is called with the number of texts done since its last call. Calls from several threads wait for
        each other, since each uses all cores.
        """
        vectors = np.empty((len(texts), self.dim), dtype=np.float32)
        done: list[int] = []

        def keep(request: Any, batch: list[int]) -> None:
            vectors[batch] = request.get_output_tensor(0).data
            done.append(len(batch))

        def report() -> None:
            while progress is not None and done:
                progress(done.pop())

        with self._lock:
            self._queue.set_callback(keep)
            try:
                for batch, inputs in self._inputs(texts):
                    self._queue.start_async(inputs, batch)
                    report()
            finally:
                self._queue.wait_all()
        report()
        return vectors

    def _inputs(self, texts: Sequence[str]) -> Iterator[tuple[list[int], Any]]:
        """Yield batches as (indices, (ids, mask)); a group is tokenised while the one before it is computed."""
        for first in range(0, len(texts), GROUP_TEXTS):
            group = [encodable(text) for text in texts[first : first + GROUP_TEXTS]]
            rows = [encoding.ids for encoding in self._tokenizer.encode_batch_fast(group)]
            for batch in _batches([len(row) for row in rows]):
                yield [first + i for i in batch], _pad([rows[i] for i in batch])


def _batches(lengths: Sequence[int]) -> Iterator[list[int]]:
    """Yield indices, longest texts first, so that batches are even and memory peaks in the first one."""
    order = sorted(range(len(lengths)), key=lambda i: -lengths[i])
    start = 0
    while start < len(order):
        size = max(1, BATCH_TOKENS // _width(lengths[order[start]]))
        yield order[start : start + size]
        start += size


def _width(length: int) -> int:
    return -(-length // WIDTH_STEP) * WIDTH_STEP


def _pad(rows: Sequence[Sequence[int]]) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    width = _width(max(len(row) for row in rows))
    ids = np.zeros((len(rows), width), dtype=np.int32)
    mask = np.zeros((len(rows), width), dtype=np.float32)
    for i, row in enumerate(rows):
        ids[i, : len(row)] = row
        mask[i, : len(row)] = 1.0
    return ids, mask


def _cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


# --- the folder ------------------------------------------------------------------------------------------------------


def _read_config(folder: Path) -> dict[str, Any]:
    config: dict[str, Any] = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    pooling_file = folder / "1_Pooling" / "config.json"
    pooling = json.loads(pooling_file.read_text(encoding="utf-8")) if pooling_file.is_file() else {}
    other = [key for key, on in pooling.items() if key.startswith("pooling_mode_") and on is True]
    faults = [
        f"{what} is {found!r}, expected {expected}"
        for what, found, expected, good in (
            ("model_type", config.get("model_type"), "'bert'", ("bert",)),
            ("hidden_act", config.get("hidden_act"), "'gelu'", ("gelu",)),
            ("position_embedding_type", config.get("position_embedding_type"), "'absolute'", ("absolute", None)),
            ("pooling", other, "the mean", (["pooling_mode_mean_tokens"], [])),
        )
        if found not in good
    ]
    if faults:
        raise ModelError(
            f"{folder} is not an embedder that doyen can run: {'; '.join(faults)}. Supported: BERT encoders with mean "
            "pooling (all-MiniLM-L6-v2 and its kin).",
            hint="set embedder = 'all-minilm-l6-v2'",
        )
    return config


def read_weights(path: Path) -> dict[str, NDArray[np.float32]]:
    """Read a safetensors file as float32, by name without the `bert.` prefix; float32 stays mapped, not copied.

    Format: https://huggingface.co/docs/safetensors — 8 bytes of header length, JSON, data. bfloat16, which numpy
    lacks, is the upper half of a float32.
    """
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(size))
    # "c": copy on write, since OpenVINO refuses a read-only array
    data = np.memmap(path, dtype=np.uint8, mode="c", offset=8 + size)
    weights = {}
    for name, tensor in header.items():
        if name == "__metadata__" or tensor["dtype"] not in _STORED:  # position_ids (int64) of older files
            continue
        start, end = tensor["data_offsets"]
        raw = data[start:end].view(_STORED[tensor["dtype"]])
        if tensor["dtype"] == "BF16":
            raw = (raw.astype(np.uint32) << 16).view(np.float32)
        weights[name.removeprefix("bert.")] = raw.astype(np.float32, copy=False).reshape(tensor["shape"])
    return weights


# --- the network -----------------------------------------------------------------------------------------------------


def load_openvino() -> Any:
    """Import OpenVINO without its telemetry, which would send an event to its makers at every import.

    OpenVINO does without the package `openvino_telemetry` where it is missing; None in `sys.modules` says that it is.
    """
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    import openvino

    return openvino


def _native_precision() -> str:
    ov = load_openvino()

    capabilities: list[str] = ov.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    return "bf16" if "BF16" in capabilities else "f32"


def _compile(folder: Path, config: Mapping[str, Any], precision: str, streams: int) -> Any:
    ov = load_openvino()

    # No CACHE_DIR: a compiled blob of 90 MB would save 0.13 s of a cold start of 0.6 s.
    options = {"INFERENCE_PRECISION_HINT": precision, "NUM_STREAMS": streams, "INFERENCE_NUM_THREADS": streams}
    try:
        model = build_bert(config, read_weights(folder / "model.safetensors"))
    except KeyError as error:
        raise ModelError(f"{folder}/model.safetensors lacks the tensor {error}: it is not a whole BERT.") from error
    return ov.Core().compile_model(model, "CPU", options)


def build_bert(config: Mapping[str, Any], weights: Mapping[str, NDArray[np.float32]]) -> Any:
    """Return the `openvino.Model`: ids `(batch, width) int32`, mask `(batch, width) float32` → `(batch, dim)`.

    BERT (arXiv 1810.04805, post-layer-norm), then the mean over unmasked tokens, then division by the L2 norm.
    """
    ov = load_openvino()
    ops = ov.opset13

    def constant(value: Any) -> Any:
        return ops.constant(np.asarray(value))

    def integers(*values: int) -> Any:
        return ops.constant(np.asarray(values, dtype=np.int32))

    def weight(name: str) -> Any:
        return ops.constant(weights[name], shared_memory=True)

    def linear(x: Any, name: str) -> Any:
        product = ops.matmul(x, weight(f"{name}.weight"), False, True)
        return ops.add(product, weight(f"{name}.bias"))

    def layer_norm(x: Any, name: str) -> Any:
        normed = ops.mvn(x, integers(-1), True, float(config["layer_norm_eps"]), "inside_sqrt")
        return ops.add(ops.multiply(normed, weight(f"{name}.weight")), weight(f"{name}.bias"))

    heads = int(config["num_attention_heads"])
    size = int(config["hidden_size"]) // heads
    zero, split = constant(np.int32(0)), integers(0, 0, heads, size)
    merge, swap = integers(0, 0, heads * size), integers(0, 2, 1, 3)

    def attention(x: Any, bias: Any, name: str) -> Any:
        query, key, value = (
            ops.transpose(ops.reshape(linear(x, f"{name}.self.{part}"), split, True), swap)
            for part in ("query", "key", "value")
        )
        mixed = ops.scaled_dot_product_attention(query, key, value, bias)
        return linear(ops.reshape(ops.transpose(mixed, swap), merge, True), f"{name}.output.dense")

    ids = ops.parameter([-1, -1], np.int32, name="ids")
    mask = ops.parameter([-1, -1], np.float32, name="mask")
    width = ops.gather(ops.shape_of(ids, "i32"), constant(np.int32(1)), zero)
    positions = ops.range(zero, width, constant(np.int32(1)), "i32")
    x = ops.add(
        ops.add(
            ops.gather(weight("embeddings.word_embeddings.weight"), ids, zero),
            ops.gather(weight("embeddings.position_embeddings.weight"), positions, zero),
        ),
        constant(np.asarray(weights["embeddings.token_type_embeddings.weight"][0])),
    )
    x = layer_norm(x, "embeddings.LayerNorm")
    hidden = ops.multiply(ops.subtract(mask, constant(np.float32(1))), constant(np.float32(1e9)))
    bias = ops.unsqueeze(hidden, integers(1, 2))
    for i in range(int(config["num_hidden_layers"])):
        layer = f"encoder.layer.{i}"
        x = layer_norm(ops.add(x, attention(x, bias, f"{layer}.attention")), f"{layer}.attention.output.LayerNorm")
        inner = ops.gelu(linear(x, f"{layer}.intermediate.dense"), "erf")
        x = layer_norm(ops.add(x, linear(inner, f"{layer}.output.dense")), f"{layer}.output.LayerNorm")
    shown = ops.unsqueeze(mask, constant(np.int32(2)))
    total = ops.reduce_sum(ops.multiply(x, shown), integers(1), False)
    mean = ops.divide(total, ops.reduce_sum(shown, integers(1), False))
    return ov.Model([ops.normalize_l2(mean, integers(1), 1e-12, "max")], [ids, mask], "bert")
