"""A GGUF file → a Hugging Face model folder (bf16 safetensors, tokenizer), once, offline, without torch.

Weights are dequantised by the package `gguf` and rounded to bfloat16. Known: what `gguf_file.py` knows.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from doyen.errors import ModelError
from doyen.models.gguf_file import GgufFile
from doyen.models.gguf_vocabulary import write_tokenizer
from doyen.models.safetensors_writing import write_safetensors

_WRITTEN_AS = "5.23.0"
"""The transformers whose form of config.json is written: adapters are tied to a model by that file's hash."""
_CLASSES = {"llama": "Llama", "qwen2": "Qwen2", "qwen3": "Qwen3", "phi3": "Phi3"}


def convert_gguf(gguf: Path, folder: Path) -> None:
    """Write `folder` (config.json, model.safetensors in bf16, tokenizer, generation_config.json) from a GGUF file.

    Raises: ModelError for a file that cannot be read, an architecture that is not known, or an unknown tokenizer.
    """
    file = GgufFile(gguf)
    if "general.type" in file and file["general.type"] != "model":
        raise ModelError(f"{gguf.name} is no model: its type is {file['general.type']}", hint="give the model's file")
    try:
        config = _config(file)
        write_tokenizer(file, folder)
    except KeyError as error:
        raise ModelError(f"{gguf.name} is not whole: it has no {error}", hint="fetch or export it again") from error
    _write_json(folder / "config.json", config)
    write_safetensors(folder, sorted(file.names), file.shape, file.tensor, "BF16", lambda *_: None)
    generation = {
        "bos_token_id": _token(file, "bos"),
        "eos_token_id": _stop_ids(file),
        "pad_token_id": _token(file, "padding"),
        "transformers_version": _WRITTEN_AS,
    }
    _write_json(folder / "generation_config.json", generation)


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _token(file: GgufFile, kind: str) -> int | None:
    key = f"tokenizer.ggml.{kind}_token_id"
    return int(file[key]) if key in file else None


def _config(file: GgufFile) -> dict[str, Any]:
    """Return config.json, as transformers writes it."""
    heads, hidden = file.setting("attention.head_count"), file.setting("embedding_length")
    config = {
        "_model_name_or_path": file["general.name"] if "general.name" in file else file.path.stem,
        "architectures": [f"{_CLASSES[file.architecture]}ForCausalLM"],
        "attention_bias": False,
        "attention_dropout": 0.0,
        "bos_token_id": _token(file, "bos"),
        "dtype": "bfloat16",
        "eos_token_id": _token(file, "eos"),
        "head_dim": file.setting("attention.key_length", hidden // heads),
        "hidden_act": "silu",
        "hidden_size": hidden,
        "initializer_range": 0.02,
        "intermediate_size": file.setting("feed_forward_length"),
        "max_position_embeddings": file.setting("context_length"),
        "mlp_bias": False,
        "model_type": file.architecture,
        "num_attention_heads": heads,
        "num_hidden_layers": file.setting("block_count"),
        "num_key_value_heads": file.setting("attention.head_count_kv", heads),
        "pad_token_id": _token(file, "padding"),
        "pretraining_tp": 1,
        "rms_norm_eps": file.setting("attention.layer_norm_rms_epsilon"),
        "rope_parameters": _rope(file),
        "tie_word_embeddings": not file.has("output.weight"),
        "transformers_version": _WRITTEN_AS,
        "unk_token_id": _token(file, "unknown"),
        "use_cache": True,
        "vocab_size": len(file["tokenizer.ggml.tokens"]),
    }
    if file.architecture == "phi3":
        turned = file.setting("rope.dimension_count", config["head_dim"])
        config["partial_rotary_factor"] = turned / config["head_dim"]
        config["sliding_window"] = file.setting("attention.sliding_window") or None
        config["original_max_position_embeddings"] = file.setting("rope.scaling.original_context_length")
    return config


def _rope(file: GgufFile) -> dict[str, Any]:
    rope: dict[str, Any] = {"rope_theta": file.setting("rope.freq_base", 10000.0), "rope_type": "default"}
    if file.has("rope_freqs.weight"):
        raise ModelError(
            "The GGUF has Llama 3's scaled rotary frequencies, whose settings it does not say.",
            hint="use the model's Hugging Face folder instead",
        )
    if file.setting("rope.scaling.type") == "linear":
        return rope | {"rope_type": "linear", "factor": file.setting("rope.scaling.factor")}
    if file.has("rope_factors_long.weight"):
        rope |= {f"{kind}_factor": file.extra(f"rope_factors_{kind}.weight").tolist() for kind in ("long", "short")}
        rope |= {
            "rope_type": "longrope",
            "original_max_position_embeddings": file.setting("rope.scaling.original_context_length"),
        }
    return rope


def _stop_ids(file: GgufFile) -> list[int]:
    """Return the end of a turn and, where the vocabulary has it, the end of a text."""
    tokens: list[str] = file["tokenizer.ggml.tokens"]
    end_of_text = [tokens.index("<|endoftext|>")] if "<|endoftext|>" in tokens else []
    return [file["tokenizer.ggml.eos_token_id"], *end_of_text]
