"""Decoders of the Llama family, written down with OpenVINO's operations, with attention over paged memory.

In: config.json and stored weights. Out: an `openvino.Model` from tokens of many texts, one after the other, to logits.
Llama (arXiv 2302.13971), Mistral, Qwen2, Qwen3, Phi-3 (2404.14219; fused linears). Knows no tokenizer and no schedule.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from doyen.embedding.runtime import load_openvino
from doyen.models.packed_weights import GROUP, Packed
from doyen.models.rotary import Rotary, rotary_fault
from doyen.models.stored_weights import LowRank

FAMILIES = ("llama", "mistral", "qwen2", "qwen3", "phi3")
TABLE_INPUTS = ("past_lens", "subsequence_begins", "block_indices", "block_indices_begins", "max_context_len")
_LARGE = 1e30
_LARGEST_STACK = 32 << 20


_Stored = NDArray[Any] | Packed


class Weights(Protocol):
    """Tensors by name: float32, float16, or uint16 that holds bfloat16's bits."""

    def __contains__(self, name: str) -> bool: ...

    def __getitem__(self, name: str) -> NDArray[Any]: ...

    def packed(self, names: Sequence[str]) -> Packed | None:
        """Return linears behind each other in fewer bits, None where they are as they are stored."""
        ...

    def numbers(self, name: str) -> NDArray[np.float32]:
        """Return one tensor as float32."""
        ...

    def stacked(self, names: Sequence[str]) -> NDArray[Any]:
        """Return tensors behind each other."""
        ...

    def behind(self, stored: NDArray[Any], rows: NDArray[np.float32]) -> NDArray[Any]:
        """Return a tensor with more rows, rounded to its type."""
        ...

    def low_rank(self, module: str) -> LowRank | None:
        """Return what an adapter adds to a linear, None where it adds nothing."""
        ...


@dataclass(frozen=True, slots=True)
class DecoderShape:
    """What config.json says of a decoder, under one name for all families."""

    family: str
    layers: int
    heads: int
    kv_heads: int
    head_size: int
    inner: int
    vocabulary: int
    eps: float
    window: int
    """How far back attention reaches; 0: to the beginning."""
    tied: bool


def decoder_shape(config: Mapping[str, Any]) -> DecoderShape:
    """Read a config.json; call `decoder_faults` first."""
    heads = int(config["num_attention_heads"])
    family = config["model_type"]
    windowed = family in ("mistral", "phi3") or config.get("use_sliding_window", False)
    return DecoderShape(
        family=family,
        layers=int(config["num_hidden_layers"]),
        heads=heads,
        kv_heads=int(config.get("num_key_value_heads") or heads),
        head_size=int(config.get("head_dim") or int(config["hidden_size"]) // heads),
        inner=int(config["intermediate_size"]),
        vocabulary=int(config["vocab_size"]),
        eps=float(config["rms_norm_eps"]),
        window=int(config.get("sliding_window") or 0) if windowed else 0,
        tied=bool(config.get("tie_word_embeddings", False)),
    )


def decoder_faults(config: Mapping[str, Any]) -> list[str]:
    """Say what of a config.json this network cannot compute."""
    if config.get("model_type") not in FAMILIES:
        return [f"model_type is {config.get('model_type')!r}, expected {', '.join(FAMILIES)}"]
    found = [rotary_fault(config)]
    if config.get("hidden_act", "silu") != "silu":
        found.append(f"hidden_act is {config['hidden_act']!r}, expected 'silu'")
    if config.get("use_sliding_window") and len(set(config.get("layer_types") or ("one",))) > 1:
        found.append("layers with and without a sliding window")
    if config.get("quantization_config"):
        found.append("quantised weights")
    return [fault for fault in found if fault]


def build_decoder(shape: DecoderShape, weights: Weights, rotary: Rotary, *, exact: bool = False) -> Any:
    """Return the `openvino.Model`; `exact` keeps an adapter in float32. Its inputs, with n tokens of b texts in a row:

    `input_ids (n,) int64`, `cos` and `sin (n, rotary.size) float32`, `rows (r,) int64` (the tokens whose logits are
    wanted), the paged attention's tables (TABLE_INPUTS), and `key_cache.i`, `value_cache.i` of each layer.
    Output: `logits (r, vocabulary) float32`.
    """
    return _Graph(shape, weights, rotary.size, exact).model()


class _Graph:
    """The nodes of one decoder."""

    def __init__(self, shape: DecoderShape, weights: Weights, rotated: int, exact: bool) -> None:
        self._ov: Any = load_openvino()
        self.ops: Any = self._ov.opset13
        self.shape = shape
        self._weights = weights
        self._exact = exact
        self._rotated = rotated
        self._inputs: list[Any] = []
        self._zero = self.ops.constant(np.int64(0))
        ids = self._input("input_ids", np.int64, [-1])
        # Each token is a row of a batch of its own: what belongs together is in the paged attention's tables.
        self._ids = self.ops.unsqueeze(ids, self._integers(1))
        self._cos, self._sin = (
            self.ops.unsqueeze(self._input(name, np.float32, [-1, rotated]), self._integers(1, 2))
            for name in ("cos", "sin")
        )
        self._rows = self._input("rows", np.int64, [-1])
        self._tables = {
            name: self._input(name, np.int32, [] if name == "max_context_len" else [-1]) for name in TABLE_INPUTS
        }

    def model(self) -> Any:
        """Return the whole network."""
        ops, shape = self.ops, self.shape
        embeddings = self._matrix("model.embed_tokens.weight")
        x = ops.gather(embeddings, self._ids, self._zero)
        for i in range(shape.layers):
            layer = f"model.layers.{i}"
            x = ops.add(x, self._attention(self._norm(x, f"{layer}.input_layernorm"), f"{layer}.self_attn", i))
            x = ops.add(x, self._perceptron(self._norm(x, f"{layer}.post_attention_layernorm"), f"{layer}.mlp"))
        x = self._norm(ops.gather(x, self._rows, self._zero), "model.norm")
        head = embeddings if shape.tied else self._matrix("lm_head.weight")
        # The clamp changes nothing but the rounding: computing in bf16, OpenVINO rounds the last product to bf16 (in
        # steps of 0.125 for logits beyond 16), unless an operation that is fused with it keeps float32.
        logits = ops.clamp(ops.matmul(x, head, False, True), -_LARGE, _LARGE)
        logits = ops.reshape(logits, self._integers(-1, shape.vocabulary), False)
        result = ops.result(logits)
        result.output(0).set_names({"logits"})
        return self._ov.Model([result], self._inputs, "decoder")

    # ---- pieces

    def _input(self, name: str, dtype: Any, shape: list[int]) -> Any:
        made = self.ops.parameter(shape, dtype, name=name)
        made.output(0).set_names({name})
        self._inputs.append(made)
        return made

    def _integers(self, *values: int) -> Any:
        return self.ops.constant(np.asarray(values, dtype=np.int64))

    def _number(self, value: float) -> Any:
        return self.ops.constant(np.float32(value))

    def _matrix(self, name: str) -> Any:
        """Return a weight as float32; 16-bit ones stay as they are in memory, and are converted as they are used."""
        return self._constant(self._weights[name])

    def _constant(self, stored: _Stored) -> Any:
        if isinstance(stored, Packed):
            return self._unpacked(stored)
        if stored.dtype == np.float32:
            return self.ops.constant(np.ascontiguousarray(stored), shared_memory=True)
        kind = self._ov.Type.bf16 if stored.dtype == np.uint16 else self._ov.Type.f16
        tensor = self._ov.Tensor(np.ascontiguousarray(stored), self._ov.Shape(stored.shape), kind)
        return self.ops.convert(self.ops.constant(tensor, shared_memory=True), "f32")

    def _unpacked(self, packed: Packed) -> Any:
        """Return a packed weight as float32; OpenVINO keeps it packed, and unpacks it as it is used."""
        ops, (rows, columns) = self.ops, packed.shape
        kind = self._ov.Type.i8 if packed.zero is None else self._ov.Type.u4
        shape = self._ov.Shape([rows, columns // GROUP, GROUP])
        values = self._ov.Tensor(np.ascontiguousarray(packed.values), shape, kind)
        x = ops.convert(ops.constant(values, shared_memory=True), "f16")
        if packed.zero is not None:
            x = ops.subtract(x, ops.constant(packed.zero[..., None]))
        x = ops.multiply(x, ops.constant(packed.scale[..., None]))
        return ops.convert(ops.reshape(x, self._integers(rows, columns), False), "f32")

    def _linear(self, x: Any, name: str) -> Any:
        """Return x·Wᵀ, + b where there is one."""
        return self._product(x, [name])

    def _product(self, x: Any, names: list[str]) -> Any:
        """Return linears of x behind each other: one product, what an adapter adds, and biases."""
        stored = [f"{name}.weight" for name in names]
        parts = [self._weights.low_rank(name) for name in names]
        packed = self._weights.packed(stored)
        whole = packed or self._weights.stacked(stored)
        if all(part is None for part in parts):
            product = self.ops.matmul(x, self._constant(whole), False, True)
        else:
            product = self._adapted(x, whole, parts, [self._weights[name].shape[0] for name in stored])
        return self._with_biases(product, names)

    def _adapted(self, x: Any, whole: _Stored, parts: Sequence[LowRank | None], rows: Sequence[int]) -> Any:
        """Return x·Wᵀ and what an adapter adds to it.

        Not merged into the weights: rounding the sum to 16 bits moves every weight, by as much as small adapters do.
        """
        ops, found = self.ops, [part for part in parts if part is not None]
        down = np.concatenate([part.a for part in found])
        up, scale = np.zeros((sum(rows), len(down)), dtype=np.float32), np.ones(sum(rows), dtype=np.float32)
        row = column = 0
        for part, count in zip(parts, rows, strict=True):
            if part is not None:
                up[row : row + count, column : column + len(part.a)] = part.b
                scale[row : row + count] = 1.0 if part.scale is None else part.scale
                column += len(part.a)
            row += count
        product, low = self._with_low_rank(x, whole, down)
        product = ops.add(product, ops.matmul(low, ops.constant(up), False, True))
        if all(part.scale is None for part in found):
            return product
        return ops.multiply(product, ops.constant(scale.reshape(1, 1, -1)))

    def _with_low_rank(self, x: Any, whole: _Stored, down: NDArray[np.float32]) -> tuple[Any, Any]:
        """Return x·Wᵀ and x·Aᵀ: of small weights by one product, since the second alone would wait longer than it works."""
        ops = self.ops
        if self._exact or isinstance(whole, Packed) or whole.nbytes > _LARGEST_STACK:
            return ops.matmul(x, self._constant(whole), False, True), ops.matmul(x, ops.constant(down), False, True)
        both = ops.matmul(x, self._constant(self._weights.behind(whole, down)), False, True)
        parts = ops.variadic_split(both, ops.constant(np.int64(-1)), self._integers(len(whole), len(down)))
        return parts.output(0), parts.output(1)

    def _with_biases(self, product: Any, names: list[str]) -> Any:
        if f"{names[0]}.bias" not in self._weights:
            return product
        biases = np.concatenate([self._weights.numbers(f"{name}.bias") for name in names])
        return self.ops.add(product, self.ops.constant(biases.reshape(1, 1, -1)))

    def _split(self, x: Any, names: list[str], sizes: list[int]) -> list[Any]:
        """Return the linears `names` of x; one name stands for all of them behind each other (Phi's fused ones).

        Small ones are computed as one too: fewer, larger products leave less waiting between two threads.
        """
        ops = self.ops
        if len(names) > 1 and sum(self._weights[f"{name}.weight"].nbytes for name in names) > _LARGEST_STACK:
            return [self._linear(x, name) for name in names]
        parts = ops.variadic_split(self._product(x, names), ops.constant(np.int64(-1)), self._integers(*sizes))
        return [parts.output(i) for i in range(len(sizes))]

    def _norm(self, x: Any, name: str) -> Any:
        """Return x over its root mean square, scaled (arXiv 1910.07467)."""
        ops = self.ops
        mean = ops.reduce_mean(ops.power(x, self._number(2)), self._integers(-1), True)
        inverse = ops.divide(self._number(1), ops.sqrt(ops.add(mean, self._number(self.shape.eps))))
        return ops.multiply(ops.constant(self._weights.numbers(f"{name}.weight")), ops.multiply(x, inverse))

    def _attention(self, x: Any, name: str, layer: int) -> Any:
        ops, shape = self.ops, self.shape
        rows, kv_rows = shape.heads * shape.head_size, shape.kv_heads * shape.head_size
        parts = ["qkv_proj"] if shape.family == "phi3" else ["q_proj", "k_proj", "v_proj"]
        query, key, value = self._split(x, [f"{name}.{part}" for part in parts], [rows, kv_rows, kv_rows])
        query = self._turned(self._heads(query, shape.heads, f"{name}.q_norm"))
        key = self._turned(self._heads(key, shape.kv_heads, f"{name}.k_norm"))
        flat = self._integers(0, -1)
        query, key, value = (ops.reshape(part, flat, True) for part in (query, key, value))
        mixed = self._paged(query, key, value, layer)
        return self._linear(ops.unsqueeze(mixed, self._integers(1)), f"{name}.o_proj")

    def _heads(self, x: Any, heads: int, norm: str) -> Any:
        """Return `(n, heads, 1, size)`, normalised where the family does so (Qwen3)."""
        ops = self.ops
        split = ops.reshape(x, self._integers(0, 0, heads, self.shape.head_size), True)
        if f"{norm}.weight" in self._weights:
            split = self._norm(split, norm)
        return ops.transpose(split, self._integers(0, 2, 1, 3))

    def _turned(self, x: Any) -> Any:
        """Return heads `(n, heads, 1, size)` turned by their positions; numbers beyond `rotated` stay."""
        ops, size = self.ops, self._rotated
        turned = self._part(x, 0, size) if size < self.shape.head_size else x
        half = [self._part(turned, 0, size // 2), self._part(turned, size // 2, size)]
        minus = ops.constant(np.full((1, 1, 1, 1), -1, dtype=np.float32))
        rotated = ops.concat([ops.multiply(half[1], minus), half[0]], -1)
        turned = ops.add(ops.multiply(turned, self._cos), ops.multiply(rotated, self._sin))
        if size == self.shape.head_size:
            return turned
        return ops.concat([turned, self._part(x, size, self.shape.head_size)], -1)

    def _part(self, x: Any, start: int, end: int) -> Any:
        return self.ops.slice(x, self._integers(start), self._integers(end), self._integers(1), self._integers(3))

    def _perceptron(self, x: Any, name: str) -> Any:
        """Return the gated perceptron's output (SwiGLU, arXiv 2002.05202)."""
        ops, inner = self.ops, self.shape.inner
        parts = ["gate_up_proj"] if self.shape.family == "phi3" else ["gate_proj", "up_proj"]
        gate, up = self._split(x, [f"{name}.{part}" for part in parts], [inner, inner])
        return self._linear(ops.multiply(ops.swish(gate), up), f"{name}.down_proj")

    def _paged(self, query: Any, key: Any, value: Any, layer: int) -> Any:
        """Return attention `(n, heads × size)` over the blocks of each token's text, in which key and value are kept."""
        shape = self.shape
        caches = [self._input(f"{kind}_cache.{layer}", self._ov.Type.dynamic, [-1] * 4) for kind in ("key", "value")]
        past, begins, blocks, block_begins, longest = (self._tables[name] for name in TABLE_INPUTS)
        scale = self._number(shape.head_size**-0.5)
        window = self.ops.constant(np.int32(shape.window))
        known = [query, key, value, *caches, past, begins, blocks, block_begins, scale, window]
        known += [self.ops.constant(np.zeros(0, np.float32)), longest]
        nodes = [*known, *self._unused()]
        made = self._ov.op._PagedAttentionExtension([node.output(0) for node in nodes])
        for kind in "kv":
            made.get_rt_info()[f"num_{kind}_heads"] = shape.kv_heads
            made.get_rt_info()[f"{kind}_head_size"] = shape.head_size
        return made.output(0)

    def _unused(self) -> list[Any]:
        """Return the inputs of OpenVINO's paged attention that are not used here, from its 14th on (2026.4)."""
        none = {kind: np.zeros(0, kind) for kind in (np.int32, np.float32, np.uint8)}
        i, f, zero = none[np.int32], none[np.float32], np.int32(0)
        values = [i, i, i, f, f, zero, zero, np.zeros((0, 0, 0, 0), np.float32), zero, i, i, i, i, none[np.uint8], i]
        return [self.ops.constant(value) for value in values]
