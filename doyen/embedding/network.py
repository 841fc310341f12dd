"""Transformer encoders of the BERT family, written down with OpenVINO's operations.

In: config.json and weights under BERT's names. Out: an `openvino.Model` from tokens to a pooled state or a logit.
BERT (arXiv 1810.04805, post-layer-norm), RoBERTa and XLM-R (positions begin after the padding's), DistilBERT (no
segments), MPNet (arXiv 2004.09297: T5's relative position buckets). Knows no tokenizer and no files.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from doyen.embedding.runtime import load_openvino
from doyen.embedding.tokens import position_offset

Weights = Mapping[str, NDArray[np.float32]]
FAMILIES = ("bert", "roberta", "xlm-roberta", "camembert", "distilbert", "mpnet")
POOLINGS = ("mean", "cls")
TOKENS = "tokens"
"""In place of a pooling: the state of every token."""
_ACTIVATIONS = {"gelu": "erf", "gelu_new": "tanh", "gelu_pytorch_tanh": "tanh"}
_RENAMED = {
    "distilbert": (
        (r"^transformer\.", "encoder."),
        (r"attention\.q_lin", "attention.self.query"),
        (r"attention\.k_lin", "attention.self.key"),
        (r"attention\.v_lin", "attention.self.value"),
        (r"attention\.out_lin", "attention.output.dense"),
        (r"sa_layer_norm", "attention.output.LayerNorm"),
        (r"ffn\.lin1", "intermediate.dense"),
        (r"ffn\.lin2", "output.dense"),
        (r"output_layer_norm", "output.LayerNorm"),
    ),
    "mpnet": (
        (r"attention\.attn\.q\.", "attention.self.query."),
        (r"attention\.attn\.k\.", "attention.self.key."),
        (r"attention\.attn\.v\.", "attention.self.value."),
        (r"attention\.attn\.o\.", "attention.output.dense."),
        (r"attention\.LayerNorm", "attention.output.LayerNorm"),
    ),
}
_MPNET_MAX_DISTANCE = 128


@dataclass(frozen=True, slots=True)
class EncoderShape:
    """What config.json says of an encoder, under one name for all families."""

    family: str
    layers: int
    heads: int
    hidden: int
    eps: float
    activation: str
    positions: int
    """Rows of the position table; the first `offset` of them stand for no token."""
    offset: int
    buckets: int = 32


def encoder_shape(config: Mapping[str, Any]) -> EncoderShape:
    """Read a config.json; call `config_faults` first."""
    short = config["model_type"] == "distilbert"
    return EncoderShape(
        family=config["model_type"],
        layers=int(config["n_layers" if short else "num_hidden_layers"]),
        heads=int(config["n_heads" if short else "num_attention_heads"]),
        hidden=int(config["dim" if short else "hidden_size"]),
        eps=1e-12 if short else float(config["layer_norm_eps"]),
        activation=_ACTIVATIONS[config["activation" if short else "hidden_act"]],
        positions=int(config["max_position_embeddings"]),
        offset=position_offset(config),
        buckets=int(config.get("relative_attention_num_buckets", 32)),
    )


def config_faults(config: Mapping[str, Any]) -> list[str]:
    """Say what of a config.json this network cannot compute."""
    short = config.get("model_type") == "distilbert"
    activation = config.get("activation" if short else "hidden_act")
    position = config.get("position_embedding_type")
    found = (
        ("model_type", config.get("model_type"), FAMILIES),
        ("hidden_act", activation, tuple(_ACTIVATIONS)),
        ("position_embedding_type", position, ("absolute", None)),
        ("is_decoder", config.get("is_decoder", False), (False,)),
    )
    return [
        f"{key} is {value!r}, expected {' or '.join(repr(v) for v in good if v is not None)}"
        for key, value, good in found
        if value not in good
    ]


def build_embedder(shape: EncoderShape, weights: Weights, pooling: str) -> Any:
    """Return the `openvino.Model`: ids `(batch, width) int32`, mask `(batch, width) float32` → `(batch, hidden)`.

    Pooling "mean" is over unmasked tokens, "cls" the first token's state, "tokens" none: `(batch, width, hidden)`. The
    result is not normalised.
    """
    graph = _Graph(shape, weights)
    states = graph.states()
    pooled = pool(states, graph.mask, pooling)
    return load_openvino().Model([pooled], [graph.ids, graph.mask], "embedder")


def build_classifier(shape: EncoderShape, weights: Weights) -> Any:
    """Return the `openvino.Model`: ids, segments `(batch, width) int32`, mask float32 → logits `(batch, 1)`.

    Heads as transformers writes them: BERT's pooler and classifier, RoBERTa's dense and out_proj, DistilBERT's
    pre_classifier.
    """
    graph = _Graph(shape, weights, segments=shape.family == "bert")
    states = graph.states()
    first = pool(states, graph.mask, "cls")
    ops = graph.ops
    if shape.family == "bert":
        logits = graph.linear(ops.tanh(graph.linear(first, "pooler.dense")), "classifier")
    elif shape.family == "distilbert":
        logits = graph.linear(ops.relu(graph.linear(first, "pre_classifier")), "classifier")
    else:
        logits = graph.linear(ops.tanh(graph.linear(first, "classifier.dense")), "classifier.out_proj")
    inputs = [graph.ids, graph.segments, graph.mask] if graph.segments is not None else [graph.ids, graph.mask]
    return load_openvino().Model([logits], inputs, "classifier")


def pool(states: Any, mask: Any, pooling: str) -> Any:
    """Return the node that pools states `(batch, width, hidden)` by a float mask `(batch, width)`."""
    if pooling == TOKENS:
        return states
    ops = load_openvino().opset13
    zero, one = (ops.constant(np.asarray(n, dtype=np.int32)) for n in (0, 1))
    if pooling == "cls":
        return ops.gather(states, zero, one)
    shown = ops.unsqueeze(mask, ops.constant(np.asarray(2, dtype=np.int32)))
    total = ops.reduce_sum(ops.multiply(states, shown), one, False)
    return ops.divide(total, ops.reduce_sum(shown, one, False))


class _Graph:
    """The nodes of one encoder."""

    def __init__(self, shape: EncoderShape, weights: Weights, *, segments: bool = False) -> None:
        self.ops: Any = load_openvino().opset13
        self.shape = shape
        self._weights = _canonical(shape.family, weights)
        self.ids = self.ops.parameter([-1, -1], np.int32, name="ids")
        self.mask = self.ops.parameter([-1, -1], np.float32, name="mask")
        self.segments = self.ops.parameter([-1, -1], np.int32, name="segments") if segments else None
        self._zero, self._one = self._integer(0), self._integer(1)
        self._width = self.ops.gather(self.ops.shape_of(self.ids, "i32"), self._one, self._zero)

    def _integer(self, value: int) -> Any:
        return self.ops.constant(np.asarray(value, dtype=np.int32))

    def _integers(self, *values: int) -> Any:
        return self.ops.constant(np.asarray(values, dtype=np.int32))

    def _weight(self, name: str) -> Any:
        return self.ops.constant(self._weights[name], shared_memory=True)

    def linear(self, x: Any, name: str) -> Any:
        """Return x·Wᵀ + b."""
        product = self.ops.matmul(x, self._weight(f"{name}.weight"), False, True)
        return self.ops.add(product, self._weight(f"{name}.bias"))

    def _layer_norm(self, x: Any, name: str) -> Any:
        normed = self.ops.mvn(x, self._integers(-1), True, self.shape.eps, "inside_sqrt")
        return self.ops.add(self.ops.multiply(normed, self._weight(f"{name}.weight")), self._weight(f"{name}.bias"))

    def states(self) -> Any:
        """Return the last layer's states `(batch, width, hidden)`."""
        ops = self.ops
        x = self._layer_norm(self._embedded(), "embeddings.LayerNorm")
        bias = self._bias()
        for i in range(self.shape.layers):
            layer = f"encoder.layer.{i}"
            mixed = self._attention(x, bias, f"{layer}.attention")
            x = self._layer_norm(ops.add(x, mixed), f"{layer}.attention.output.LayerNorm")
            inner = ops.gelu(self.linear(x, f"{layer}.intermediate.dense"), self.shape.activation)
            x = self._layer_norm(ops.add(x, self.linear(inner, f"{layer}.output.dense")), f"{layer}.output.LayerNorm")
        return x

    def _embedded(self) -> Any:
        """Return the sum of word, position and segment embeddings."""
        ops = self.ops
        last = self._integer(self.shape.positions - 1)
        first = self._integer(self.shape.offset)
        steps = ops.range(self._zero, self._width, self._one, "i32")
        positions = ops.minimum(ops.add(steps, first), last)  # padding may reach beyond the table; it is masked
        x = ops.add(
            ops.gather(self._weight("embeddings.word_embeddings.weight"), self.ids, self._zero),
            ops.gather(self._weight("embeddings.position_embeddings.weight"), positions, self._zero),
        )
        table = "embeddings.token_type_embeddings.weight"
        if self.segments is not None:
            return ops.add(x, ops.gather(self._weight(table), self.segments, self._zero))
        if self.shape.family in ("distilbert", "mpnet"):
            return x
        return ops.add(x, ops.constant(np.asarray(self._weights[table][0])))

    def _bias(self) -> Any:
        """Return what is added to attention scores: minus infinity at padding, MPNet's relative positions."""
        ops = self.ops
        one, large = (ops.constant(np.asarray(v, dtype=np.float32)) for v in (1, 1e9))
        bias = ops.unsqueeze(ops.multiply(ops.subtract(self.mask, one), large), self._integers(1, 2))
        if self.shape.family != "mpnet":
            return bias
        steps = ops.range(self._zero, self._width, self._one, "i32")
        between = ops.subtract(ops.unsqueeze(steps, self._zero), ops.unsqueeze(steps, self._one))
        span = self.shape.positions + 32  # padding may reach beyond the table
        buckets = ops.constant(_mpnet_buckets(span, self.shape.buckets))
        chosen = ops.gather(buckets, ops.add(between, self._integer(span)), self._zero)
        table = ops.gather(self._weight("encoder.relative_attention_bias.weight"), chosen, self._zero)
        return ops.add(bias, ops.unsqueeze(ops.transpose(table, self._integers(2, 0, 1)), self._zero))

    def _attention(self, x: Any, bias: Any, name: str) -> Any:
        ops, heads = self.ops, self.shape.heads
        size = self.shape.hidden // heads
        split, merge = self._integers(0, 0, heads, size), self._integers(0, 0, heads * size)
        swap = self._integers(0, 2, 1, 3)
        query, key, value = (
            ops.transpose(ops.reshape(self.linear(x, f"{name}.self.{part}"), split, True), swap)
            for part in ("query", "key", "value")
        )
        mixed = ops.scaled_dot_product_attention(query, key, value, bias)
        return self.linear(ops.reshape(ops.transpose(mixed, swap), merge, True), f"{name}.output.dense")


def _canonical(family: str, weights: Weights) -> Weights:
    """Return the weights under BERT's names."""
    rules = _RENAMED.get(family, ())
    if not rules:
        return weights
    named = {}
    for name, values in weights.items():
        for pattern, new in rules:
            name = re.sub(pattern, new, name)
        named[name] = values
    return named


def _mpnet_buckets(span: int, buckets: int) -> NDArray[np.int32]:
    """Return the bucket of each distance −span…span `(2·span + 1,)`: exact near 0, logarithmic beyond (T5)."""
    distance = np.arange(-span, span + 1)
    half, far = buckets // 2, np.abs(distance)
    exact = half // 2
    scale = math.log(_MPNET_MAX_DISTANCE / exact)
    large = exact + (np.log(np.maximum(far, 1) / exact) / scale * (half - exact)).astype(np.int64)
    found = np.where(far < exact, far, np.minimum(large, half - 1))
    return (found + np.where(distance > 0, half, 0)).astype(np.int32)
