"""A GGUF file → a Hugging Face model folder (bf16 safetensors, tokenizer), once, offline.

The weights go through transformers' own GGUF loader, dequantised. The tokenizer does not: transformers 5.23 ignores
`tokenizer.ggml.pre`, so that SmolLM2's digits would be merged otherwise than in training. It is built here instead.
"""

from __future__ import annotations

import importlib
import io
import json
from collections.abc import Callable
from contextlib import redirect_stderr
from pathlib import Path
from typing import TYPE_CHECKING, Any

from doyen.errors import ModelError

if TYPE_CHECKING:
    from tokenizers.pre_tokenizers import PreTokenizer

_CONTROL = 3  # llama.cpp's enum llama_token_type: LLAMA_TOKEN_TYPE_CONTROL


def convert_gguf(gguf: Path, folder: Path) -> None:
    """Write `folder` (config.json, model.safetensors in bf16, tokenizer, generation_config.json) from a GGUF file.

    Raises: ModelError without torch, transformers, accelerate and gguf, or for a tokenizer that is not known here.
    """
    try:
        importlib.import_module("accelerate")  # transformers' GGUF loader needs it, and says so late
        import torch
        from gguf import GGUFReader
        from transformers import AutoModelForCausalLM, GenerationConfig, GgufConfig
    except ImportError as error:
        raise ModelError(
            f"Converting {gguf.name} needs PyTorch and transformers: {error}", hint="pip install 'doyen[finetune]'"
        ) from error
    metadata = _Metadata(GGUFReader(gguf))
    _write_tokenizer(metadata, folder)
    with redirect_stderr(io.StringIO()):  # three progress bars that cannot all be switched off otherwise
        model = AutoModelForCausalLM.from_pretrained(
            gguf.parent,
            gguf_file=gguf.name,
            quantization_config=GgufConfig(dequantize=True),
            dtype=torch.bfloat16,
            local_files_only=True,
        )
        model.generation_config = GenerationConfig(
            bos_token_id=metadata["tokenizer.ggml.bos_token_id"],
            eos_token_id=metadata.stop_ids(),
            pad_token_id=metadata["tokenizer.ggml.padding_token_id"],
        )
        model.save_pretrained(folder)


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
