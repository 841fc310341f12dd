"""A GGUF file's vocabulary → tokenizer.json and tokenizer_config.json.

The tokenizer is built here: transformers 5.23 ignores `tokenizer.ggml.pre`, so that SmolLM2's digits would be merged
otherwise than in training. Byte-level BPE and SentencePiece's BPE are known.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from doyen.errors import ModelError
from doyen.models.gguf_file import GgufFile
from doyen.models.pre_tokenizers import PRE_TOKENIZERS

_CONTROL, _USER_DEFINED, _UNUSED = 3, 4, 5  # llama.cpp's enum llama_token_type
_KEEP_SPACE = ("<unk>", "<s>", "<|endoftext|>")
"""Of a Phi-3 with SentencePiece's vocabulary (told by its name, as llama.cpp does) all other marks drop what space follows."""
_SPECIAL = {"bos": "bos_token", "eos": "eos_token", "padding": "pad_token", "unknown": "unk_token"}


def write_tokenizer(file: GgufFile, folder: Path) -> None:
    """Write the tokenizer's files into a folder. Raises ModelError for a kind that is not known here."""
    from tokenizers import AddedToken

    kind = file["tokenizer.ggml.model"]
    split = file["tokenizer.ggml.pre"] if "tokenizer.ggml.pre" in file else "default"
    if kind != "llama" and (kind != "gpt2" or split not in PRE_TOKENIZERS):
        raise ModelError(
            f"The GGUF's tokenizer is {kind}/{split}; known: llama, gpt2/{', gpt2/'.join(PRE_TOKENIZERS)}.",
            hint="use the model's Hugging Face folder instead",
        )
    tokens: list[str] = file["tokenizer.ggml.tokens"]
    kinds: list[int] = file["tokenizer.ggml.token_type"]
    tokenizer = _pieces(file, tokens) if kind == "llama" else _bytes(file, tokens, split)
    control = [token for token, kind in zip(tokens, kinds, strict=True) if kind == _CONTROL]
    plain = [token for token, kind in zip(tokens, kinds, strict=True) if kind == _USER_DEFINED]
    drops = kind == "llama" and re.search("phi-?3", str(file["general.name"] if "general.name" in file else ""), re.I)
    tokenizer.add_special_tokens(
        [
            AddedToken(token, special=True, normalized=False, rstrip=bool(drops) and token not in _KEEP_SPACE)
            for token in control
        ]
    )
    tokenizer.add_tokens([AddedToken(token, special=False, normalized=False) for token in plain])
    tokenizer.save(str(folder / "tokenizer.json"))
    config: dict[str, Any] = {
        # Not the GPT2Tokenizer that upstream names: transformers 5 builds that class's own pre-tokenizer.
        "tokenizer_class": "PreTrainedTokenizerFast"
    }
    for key, name in _SPECIAL.items():
        if f"tokenizer.ggml.{key}_token_id" in file:
            config[name] = tokens[file[f"tokenizer.ggml.{key}_token_id"]]
    config |= {
        "additional_special_tokens": control,
        "model_max_length": file.setting("context_length"),
        "clean_up_tokenization_spaces": False,
    }
    if "tokenizer.chat_template" in file:
        config["chat_template"] = file["tokenizer.chat_template"]
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2, ensure_ascii=False), encoding="utf-8")


def _bytes(file: GgufFile, tokens: list[str], split: str) -> Any:
    """Byte-level BPE, as GPT-2's."""
    from tokenizers import Tokenizer, decoders, normalizers
    from tokenizers.models import BPE

    merges = [tuple(merge.split(" ")) for merge in file["tokenizer.ggml.merges"]]
    tokenizer = Tokenizer(BPE(vocab={token: index for index, token in enumerate(tokens)}, merges=merges))
    tokenizer.pre_tokenizer = PRE_TOKENIZERS[split]()
    tokenizer.decoder = decoders.ByteLevel()
    if split == "qwen2":
        tokenizer.normalizer = normalizers.NFC()
    return tokenizer


def _pieces(file: GgufFile, tokens: list[str]) -> Any:
    """SentencePiece's BPE: what has the higher score is merged first; unknown characters become bytes."""
    from tokenizers import Tokenizer, decoders, normalizers
    from tokenizers.models import BPE

    vocabulary = {token: index for index, token in enumerate(tokens)}
    scores: list[float] = file["tokenizer.ggml.scores"]
    merges = [
        (-scores[number], vocabulary[token[:cut]], vocabulary[token[cut:]], token[:cut], token[cut:])
        for token, number in vocabulary.items()
        for cut in range(1, len(token))
        if token[:cut] in vocabulary and token[cut:] in vocabulary
    ]
    pairs = [(left, right) for *_, left, right in sorted(merges)]
    unknown = tokens[file["tokenizer.ggml.unknown_token_id"]] if "tokenizer.ggml.unknown_token_id" in file else "<unk>"
    tokenizer = Tokenizer(BPE(vocab=vocabulary, merges=pairs, unk_token=unknown, fuse_unk=True, byte_fallback=True))
    prefix = bool(file["tokenizer.ggml.add_space_prefix"]) if "tokenizer.ggml.add_space_prefix" in file else True
    begin = [normalizers.Prepend("▁")] if prefix else []
    tokenizer.normalizer = normalizers.Sequence([*begin, normalizers.Replace(" ", "▁")])
    end = [decoders.Strip(" ", 1, 0)] if prefix else []
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), *end])
    return tokenizer
