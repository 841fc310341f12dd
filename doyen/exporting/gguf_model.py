"""A merged model → one GGUF file, tensor by tensor: settings, vocabulary, weights in the wanted type."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from doyen.exporting.gguf_families import TensorNames, add_settings, architecture, rope_tensors
from doyen.exporting.gguf_tokenizer import add_tokenizer
from doyen.exporting.merging import MergedModel
from doyen.exporting.quantising import FILE_TYPES, quantised, tensor_type
from doyen.models.safetensors_writing import Progress


def write_gguf(
    model: MergedModel, path: Path, quantisation: str, about: Mapping[str, str], progress: Progress
) -> dict[str, int]:
    """Write a model into a GGUF file; return how many tensors have which type.

    Args:
        model: in transformers' names and order of rows.
        path: the file.
        quantisation: one of QUANTISATIONS.
        about: `name`, and where known `license` (an SPDX name in small letters), `base` (the base model's name).
        progress: called after each tensor.

    Raises:
        ModelError: the family or its tokenizer is not known as GGUF.
    """
    config, names = model.config, TensorNames(model.config)
    writer = open_writer(path, architecture(config))
    _add_general(writer, about, model.parameters, quantisation)
    add_settings(writer, config)
    add_tokenizer(writer, model.base, int(config["vocab_size"]))
    extra = rope_tensors(config)
    tied, layers = "lm_head.weight" not in model.names, int(config["num_hidden_layers"])
    kinds = {
        name: tensor_type(names.name(name), model.shape(name), quantisation, layers, tied=tied) for name in model.names
    }
    for name, values in extra.items():
        add_info(writer, name, values.shape, "F32")
    for name, kind in kinds.items():
        add_info(writer, names.name(name), model.shape(name), kind)
    begin_tensors(writer)
    for values in extra.values():
        writer.write_tensor_data(values)
    for done, (name, kind) in enumerate(kinds.items(), 1):
        writer.write_tensor_data(quantised(names.rows(name, model.tensor(name)), kind))
        progress("writing GGUF", done, len(kinds))
    writer.close()
    return dict(Counter(kinds.values()))


def open_writer(path: Path, kind: str) -> Any:
    """Return a `gguf.GGUFWriter` that says nothing."""
    import gguf

    logging.getLogger("gguf").setLevel(logging.WARNING)
    return gguf.GGUFWriter(path, kind)


def add_info(writer: Any, name: str, shape: tuple[int, ...], kind: str) -> None:
    """Announce a tensor of some type."""
    from gguf import GGML_QUANT_SIZES, GGMLQuantizationType
    from gguf.quants import quant_shape_to_byte_shape

    wanted = GGMLQuantizationType[kind]
    block, size = GGML_QUANT_SIZES[wanted]
    total = int(np.prod(shape)) // block * size
    if kind in ("F32", "F16"):
        writer.add_tensor_info(name, shape, np.dtype(np.float32 if kind == "F32" else np.float16), total)
    else:
        stored = quant_shape_to_byte_shape(shape, wanted)
        writer.add_tensor_info(name, stored, np.dtype(np.uint8), total, raw_dtype=wanted)


def begin_tensors(writer: Any) -> None:
    """Write all that stands before the tensors' numbers."""
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()


def _add_general(writer: Any, about: Mapping[str, str], parameters: int, quantisation: str) -> None:
    import gguf

    writer.add_type("model")
    writer.add_name(about["name"])
    writer.add_size_label(gguf.size_label(parameters, 0, 0, 0))
    if about.get("license"):
        writer.add_license(about["license"])
    if about.get("base"):
        writer.add_base_model_count(1)
        writer.add_base_model_name(0, about["base"])
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    writer.add_file_type(int(gguf.LlamaFileType[FILE_TYPES[quantisation]]))
