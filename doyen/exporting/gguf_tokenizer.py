"""tokenizer.json and its configuration → a GGUF file's vocabulary, so that llama.cpp makes the same tokens of a text.

Two kinds are known: byte-level BPE (GPT-2's, with llama.cpp's name for how it splits) and SentencePiece's BPE (Llama 2,
Phi-3), whose scores are taken from the order of the merges.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from doyen.errors import ModelError
from doyen.models.pre_tokenizers import PRE_TOKENIZERS, pre_tokenizer_name

_NORMAL, _UNKNOWN, _CONTROL, _USER_DEFINED, _UNUSED, _BYTE = 1, 2, 3, 4, 5, 6  # llama.cpp's enum llama_token_type
_UNMERGED = -1e9


def add_tokenizer(writer: Any, folder: Path, vocabulary: int) -> None:
    """Add a model folder's tokenizer to a `gguf.GGUFWriter`, filled up to `vocabulary` tokens.

    Raises:
        ModelError: there is no tokenizer.json, or llama.cpp has no name for its kind.
    """
    from gguf import SpecialVocab

    path = folder / "tokenizer.json"
    try:
        stored: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{path} cannot be read: {error}", hint="GGUF needs a model with a tokenizer.json") from error
    pieces = bool(stored["model"].get("byte_fallback"))
    tokens, kinds = _tokens(stored, vocabulary, pieces)
    normalizer = json.dumps(stored.get("normalizer") or {})
    writer.add_add_space_prefix(pieces and '"Prepend"' in normalizer)
    if pieces:
        writer.add_tokenizer_model("llama")
        writer.add_tokenizer_pre("default")
        writer.add_token_scores(_scores(stored, tokens))
    else:
        writer.add_tokenizer_model("gpt2")
        writer.add_tokenizer_pre(_split_name(path))
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    special = SpecialVocab(folder, load_merges=not pieces, n_vocab=len(tokens))
    special.add_special_token["bos"] = _begins_with(path, special.special_token_ids.get("bos"))
    special.add_to_gguf(writer, quiet=True)


def _tokens(stored: Mapping[str, Any], vocabulary: int, pieces: bool) -> tuple[list[str], list[int]]:
    """Return all tokens by number, and of which kind they are."""
    by_id = {number: token for token, number in stored["model"]["vocab"].items()}
    added = {row["id"]: row for row in stored.get("added_tokens", [])}
    unknown = stored["model"].get("unk_token")
    tokens, kinds = [], []
    for number in range(max(vocabulary, max(by_id | added) + 1)):
        if number in added:
            token, kind = added[number]["content"], _CONTROL if added[number]["special"] else _USER_DEFINED
        elif number in by_id:
            token = by_id[number]
            kind = _BYTE if pieces and len(token) == 6 and token.startswith("<0x") else _NORMAL
        else:
            token, kind = f"[PAD{number}]", _UNUSED
        tokens.append(token)
        kinds.append(_UNKNOWN if pieces and token == unknown else kind)
    return tokens, kinds


def _scores(stored: Mapping[str, Any], tokens: list[str]) -> list[float]:
    """Return each token's score: what is merged earlier has a higher one."""
    rank: dict[str, int] = {}
    for merge in stored["model"]["merges"]:
        left, right = merge.split(" ", 1) if isinstance(merge, str) else merge
        rank.setdefault(left + right, len(rank))
    return [-float(rank[token]) if token in rank else _UNMERGED for token in tokens]


def _split_name(path: Path) -> str:
    from tokenizers import Tokenizer

    name = pre_tokenizer_name(Tokenizer.from_file(str(path)).pre_tokenizer)
    if name is None:
        raise ModelError(
            f"the tokenizer in {path.parent} splits texts in a way that has no known name in llama.cpp; known: "
            + ", ".join(PRE_TOKENIZERS),
            hint="--format merged, then llama.cpp's own convert_hf_to_gguf.py",
        )
    return name


def _begins_with(path: Path, bos: int | None) -> bool:
    from tokenizers import Tokenizer

    ids = Tokenizer.from_file(str(path)).encode("a").ids
    return bool(ids) and ids[0] == bos
