"""An encoder's ONNX file → the same network that `doyen.embedding.network` builds, read by OpenVINO itself.

It is how models run whose code is not in doyen: the file holds the whole computation, no Python. Knows no tokenizer.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from doyen.embedding.network import TOKENS, pool
from doyen.embedding.runtime import Feed, load_openvino, openvino_core
from doyen.errors import ModelError

_KNOWN_INPUTS = {"input_ids", "attention_mask", "token_type_ids"}
_STATES = ("last_hidden_state", "token_embeddings")
_POOLED = ("sentence_embedding",)


def read_onnx(path: Path, pooling: str) -> tuple[Any, Feed, int]:
    """Return (model, feed, size): an `openvino.Model` whose only output is `(batch, size)`, and what feeds it.

    Where the file pools by itself (`sentence_embedding`), its own pooling is taken; with pooling "tokens" the output is
    `(batch, width, size)`, and a file that only pools has none.

    Raises: ModelError where the file cannot be read, or has other inputs or outputs.
    """
    ov = load_openvino()
    try:
        model = openvino_core().read_model(path)
    except RuntimeError as error:
        raise ModelError(f"OpenVINO cannot read {path}: {str(error).strip().splitlines()[-1]}") from error
    inputs = {node.get_any_name(): node for node in model.inputs}
    outputs = {name: node for node in model.outputs for name in node.get_names()}
    found = next((name for name in (_STATES if pooling == TOKENS else (*_POOLED, *_STATES)) if name in outputs), "")
    if not {"input_ids", "attention_mask"} <= set(inputs) or set(inputs) - _KNOWN_INPUTS or not found:
        raise ModelError(
            f"{path} has the inputs {', '.join(inputs)} and the outputs {', '.join(outputs)}; expected input_ids, "
            f"attention_mask and perhaps token_type_ids, and {' or '.join((*_STATES, *_POOLED))}.",
            hint="export the model with `optimum-cli export onnx --task feature-extraction`",
        )
    result = outputs[found]
    if found in _STATES:
        mask = inputs["attention_mask"]
        shown = ov.opset13.convert(mask.node, "f32")
        result = pool(result.node.input_value(0), shown, pooling)
        model = ov.Model([result], model.get_parameters(), "onnx")
    else:
        model = ov.Model([result.node.input_value(0)], model.get_parameters(), "onnx")
    size = model.output(0).get_partial_shape()[-1]
    if size.is_dynamic:
        raise ModelError(f"{path} does not say how long its vectors are.")
    names = [node.get_any_name() for node in model.inputs]
    types = {node.get_any_name(): node.get_element_type().to_dtype() for node in model.inputs}

    def feed(ids: NDArray[np.int32], segments: NDArray[np.int32], mask: NDArray[np.float32]) -> dict[str, Any]:
        values = {"input_ids": ids, "attention_mask": mask, "token_type_ids": segments}
        return {name: values[name].astype(types[name]) for name in names}

    return model, feed, int(size.get_length())
