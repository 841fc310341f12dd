"""A GGUF file → a Hugging Face model folder (bf16 safetensors, tokenizer), once, offline, without torch.

Weights are dequantised by the package `gguf` and rounded to bfloat16. The tokenizer is built here: transformers 5.23
ignores `tokenizer.ggml.pre`, so that SmolLM2's digits would be merged otherwise than in training. Llama models only.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from doyen.errors import ModelError
from doyen.models.stored_weights import to_bfloat16, write_bfloat16

if TYPE_CHECKING:
    from tokenizers.pre_tokenizers import PreTokenizer

_CONTROL = 3  # llama.cpp's enum llama_token_type: LLAMA_TOKEN_TYPE_CONTROL
_WRITTEN_AS = "5.23.0"
"""The transformers whose form of config.json is written: adapters are tied to a model by that file's hash."""
_NAMES = {
    "token_embd": "model.embed_tokens",
    "output_norm": "model.norm",
    "output": "lm_head",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "attn_norm": "input_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
    "ffn_norm": "post_attention_layernorm",
}
_TENSOR = re.compile(r"^(?:blk\.(?P<layer>\d+)\.)?(?P<part>\w+)\.weight$")


def convert_gguf(gguf: Path, folder: Path) -> None:
    """Write `folder` (config.json, model.safetensors in bf16, tokenizer, generation_config.json) from a GGUF file.

    Raises: ModelError for a file that cannot be read, another architecture than Llama's, or an unknown tokenizer.
    """
    from gguf import GGUFReader

    try:
        reader = GGUFReader(gguf)
    except (OSError, ValueError) as error:
        raise ModelError(f"{gguf.name} is no GGUF file that can be read: {error}") from error
    metadata = _Metadata(reader)
    config = _config(metadata, tied=all(t.name != "output.weight" for t in reader.tensors))
    _write_tokenizer(metadata, folder)
    _write_json(folder / "config.json", config)
    _write_weights(reader.tensors, config, folder / "model.safetensors")
    generation = {
        "bos_token_id": metadata["tokenizer.ggml.bos_token_id"],
        "eos_token_id": metadata.stop_ids(),
        "pad_token_id": metadata["tokenizer.ggml.padding_token_id"],
        "transformers_version": _WRITTEN_AS,
    }
    _write_json(folder / "generation_config.json", generation)


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _config(metadata: _Metadata, *, tied: bool) -> dict[str, Any]:
    """Return config.json of a Llama model, as transformers writes it."""
    if (architecture := metadata["general.architecture"]) != "llama":
        raise ModelError(
            f"The GGUF's architecture is {architecture}; known: llama.",
            hint="use the model's Hugging Face folder instead",
        )
    heads, hidden = metadata["llama.attention.head_count"], metadata["llama.embedding_length"]
    return {
        "_model_name_or_path": metadata["general.name"],
        "architectures": ["LlamaForCausalLM"],
        "attention_bias": False,
        "attention_dropout": 0.0,
        "bos_token_id": metadata["tokenizer.ggml.bos_token_id"],
        "dtype": "bfloat16",
        "eos_token_id": metadata["tokenizer.ggml.eos_token_id"],
        "head_dim": hidden // heads,
        "hidden_act": "silu",
        "hidden_size": hidden,
        "initializer_range": 0.02,
        "intermediate_size": metadata["llama.feed_forward_length"],
        "max_position_embeddings": metadata["llama.context_length"],
        "mlp_bias": False,
        "model_type": "llama",
        "num_attention_heads": heads,
        "num_hidden_layers": metadata["llama.block_count"],
        "num_key_value_heads": metadata["llama.attention.head_count_kv"],
        "pad_token_id": metadata["tokenizer.ggml.padding_token_id"],
        "pretraining_tp": 1,
        "rms_norm_eps": metadata["llama.attention.layer_norm_rms_epsilon"],
        "rope_parameters": {"rope_theta": metadata["llama.rope.freq_base"], "rope_type": "default"},
        "tie_word_embeddings": tied,
        "transformers_version": _WRITTEN_AS,
        "unk_token_id": metadata["tokenizer.ggml.unknown_token_id"],
        "use_cache": True,
        "vocab_size": len(metadata["tokenizer.ggml.tokens"]),
    }


def _write_weights(tensors: Any, config: dict[str, Any], path: Path) -> None:
    from gguf.quants import dequantize

    heads = {"attn_q": config["num_attention_heads"], "attn_k": config["num_key_value_heads"]}
    found: dict[str, NDArray[np.uint16]] = {}
    for tensor in tensors:
        match = _TENSOR.match(tensor.name)
        if match is None or match["part"] not in _NAMES:
            continue  # rope_freqs and the like are no weights
        values = dequantize(tensor.data, tensor.tensor_type)
        if match["part"] in heads:
            values = _unwoven(values, heads[match["part"]])
        layer = f"model.layers.{match['layer']}." if match["layer"] else ""
        bits = to_bfloat16(np.ascontiguousarray(values, dtype=np.float32))
        found[f"{layer}{_NAMES[match['part']]}.weight"] = bits
    write_bfloat16(found, path)


def _unwoven(values: NDArray[Any], heads: int) -> NDArray[Any]:
    """Undo llama.cpp's order of query and key rows: it turns neighbours by one angle, transformers a head's halves."""
    half = values.shape[0] // heads // 2
    return values.reshape(heads, half, 2, *values.shape[1:]).swapaxes(1, 2).reshape(values.shape)


class _Metadata:
    """Key → value of a GGUF header; values are decoded once (the vocabulary takes a second)."""

    def __init__(self, reader: Any) -> None:
        self._fields = reader.fields
        self._values: dict[str, Any] = {}

    def __getitem__(self, key: str) -> Any:
        if key not in self._values:
            self._values[key] = self._fields[key].contents()
        return self._values[key]

    def stop_ids(self) -> list[int]:
        """Return the end of a turn and, where the vocabulary has it, the end of a text."""
        tokens: list[str] = self["tokenizer.ggml.tokens"]
        end_of_text = [tokens.index("<|endoftext|>")] if "<|endoftext|>" in tokens else []
        return [self["tokenizer.ggml.eos_token_id"], *end_of_text]


def _smollm() -> PreTokenizer:
    # LLAMA_VOCAB_PRE_TYPE_SMOLLM in llama.cpp; HuggingFaceTB/SmolLM2-135M-Instruct's tokenizer.json.
    from tokenizers import pre_tokenizers

    return pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
        ]
    )


PRE_TOKENIZERS: dict[str, Callable[[], PreTokenizer]] = {"smollm": _smollm}


def _write_tokenizer(metadata: _Metadata, folder: Path) -> None:
    from tokenizers import AddedToken, Tokenizer, decoders
    from tokenizers.models import BPE

    split = metadata["tokenizer.ggml.pre"]
    if metadata["tokenizer.ggml.model"] != "gpt2" or split not in PRE_TOKENIZERS:
        raise ModelError(
            f"The GGUF's tokenizer is {metadata['tokenizer.ggml.model']}/{split}; known: gpt2/smollm.",
            hint="use the model's Hugging Face folder instead",
        )
    tokens: list[str] = metadata["tokenizer.ggml.tokens"]
    merges = [tuple(merge.split(" ")) for merge in metadata["tokenizer.ggml.merges"]]
    tokenizer = Tokenizer(BPE(vocab={token: index for index, token in enumerate(tokens)}, merges=merges))
    tokenizer.pre_tokenizer = PRE_TOKENIZERS[split]()
    tokenizer.decoder = decoders.ByteLevel()
    kinds: list[int] = metadata["tokenizer.ggml.token_type"]
    control = [token for token, kind in zip(tokens, kinds, strict=True) if kind == _CONTROL]
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in control])
    tokenizer.save(str(folder / "tokenizer.json"))
    special = {key: tokens[metadata[f"tokenizer.ggml.{key}_token_id"]] for key in ("bos", "eos", "padding", "unknown")}
    config = {
        # Not the GPT2Tokenizer that upstream names: transformers 5 builds that class's own pre-tokenizer.
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": special["bos"],
        "eos_token": special["eos"],
        "pad_token": special["padding"],
        "unk_token": special["unknown"],
        "additional_special_tokens": control,
        "model_max_length": metadata[f"{metadata['general.architecture']}.context_length"],
        "clean_up_tokenization_spaces": False,
        "chat_template": metadata["tokenizer.chat_template"],
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2, ensure_ascii=False), encoding="utf-8")
