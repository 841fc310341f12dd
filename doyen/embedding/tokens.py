"""Texts → how many of the embedder's tokens they are and where each begins, for the chunker.

A counter is small and picklable: a worker process opens it in milliseconds, without the network's weights or
OpenVINO. Knows no chunks and no vectors.
"""

from __future__ import annotations

import hashlib
import json
from array import array
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

BYTES_PER_TOKEN = 4
BLOCK_CHARS = 1 << 16
_OFFSET_FAMILIES = ("roberta", "xlm-roberta", "camembert", "mpnet")
_LARGEST_LIMIT = 8192  # a window of 32,768 tokens would cost gigabytes of attention; chunks are far smaller
_UNKNOWN_LIMIT = 512


class TokenCounter(Protocol):
    """What measures texts in an embedder's tokens."""

    limit: int
    """Tokens of a text that the embedder reads, special ones included."""
    special: int
    """Special tokens that the embedder adds to a text."""
    fingerprint: str
    """What the counts depend on; chunks of one index are sized by one counter."""

    def count(self, text: str) -> int:
        """Return the tokens of a text, without special ones."""
        ...

    def starts(self, text: str) -> Sequence[int]:
        """Return the character at which each token of the text begins, ascending, without special ones."""
        ...


class TokenizerCounter:
    """A `TokenCounter` from a tokenizer.json file. Only the path is pickled; the file is read at the first use."""

    def __init__(self, path: Path, limit: int, prefix: str = "") -> None:
        """Open the file. `prefix` is what the embedder puts before each passage: its tokens count as special ones."""
        self.path = path
        self.limit = limit
        self._tokenizer: Any = open_tokenizer(path)
        self.special: int = self._tokenizer.num_special_tokens_to_add(False) + (self.count(prefix) if prefix else 0)
        mark = f"+{self.special}" if prefix else ""
        self.fingerprint = f"tokenizer@{hashlib.sha256(path.read_bytes()).hexdigest()[:12]}{mark}/{limit}"

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_tokenizer": None}

    def count(self, text: str) -> int:
        """Return the tokens of a text, without special ones."""
        return len(self._encode(text))

    def starts(self, text: str) -> Sequence[int]:
        """Return the character at which each token of the text begins, ascending, without special ones."""
        starts = array("I")
        for first, block in _blocks(encodable(text)):
            starts.extend(sorted(first + start for start, _ in self._encode(block).offsets))
        return starts

    def _encode(self, text: str) -> Any:
        if self._tokenizer is None:
            self._tokenizer = open_tokenizer(self.path)
        return self._tokenizer.encode(encodable(text), add_special_tokens=False)


class ByteCounter:
    """A `TokenCounter` for embedders whose tokenizer is not here: a token is four bytes of UTF-8.

    English has about 4 bytes a token; a character of a 3-byte script (Chinese, Hindi) counts 3/4 token.
    """

    special = 2

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.fingerprint = f"bytes{BYTES_PER_TOKEN}/{limit}"

    def count(self, text: str) -> int:
        """Return the UTF-8 bytes / 4, rounded up."""
        size = len(text) if text.isascii() else len(encodable(text).encode())
        return -(-size // BYTES_PER_TOKEN)

    def starts(self, text: str) -> Sequence[int]:
        """Return the character in which every fourth byte lies."""
        if text.isascii():
            return range(0, len(text), BYTES_PER_TOKEN)
        points = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype="<u4")
        ends = np.cumsum(1 + (points > 0x7F) + (points > 0x7FF) + (points > 0xFFFF))
        found: list[int] = np.searchsorted(ends, np.arange(0, ends[-1], BYTES_PER_TOKEN), side="right").tolist()
        return found


def _blocks(text: str) -> Iterator[tuple[int, str]]:
    """Yield the text in blocks that end at a line end or space, with their starts.

    What a tokenizer keeps of a token takes some 150 bytes: a book at once would be gigabytes.
    """
    start = 0
    while start < len(text):
        end = start + BLOCK_CHARS
        if end < len(text):
            cut = max(text.rfind("\n", start, end), text.rfind(" ", start + BLOCK_CHARS // 2, end))
            end = cut if cut > start else end
        yield start, text[start:end]
        start = end


def open_tokenizer(path: Path) -> Any:
    """Open a tokenizer.json without its padding and truncation (all-MiniLM-L6-v2's cuts at 128 tokens)."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(path))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def read_limit(folder: Path) -> int:
    """Return how many tokens the model in a folder reads: sentence-transformers' limit within the positions.

    RoBERTa's position table begins with rows that stand for no token. A model without a table (relative or rotary
    positions) reads what sentence-transformers or its tokenizer says, else 512.
    """
    config, sentence, tokenizer = (
        read_json(folder / name) for name in ("config.json", "sentence_bert_config.json", "tokenizer_config.json")
    )
    table = config.get("max_position_embeddings")
    positions = int(table) - position_offset(config) if table and int(table) > 0 else 0
    stated = sentence.get("max_seq_length") or (0 if positions else tokenizer.get("model_max_length")) or 0
    limits = [int(n) for n in (stated, positions) if n]
    return min([*limits, _LARGEST_LIMIT]) if limits else _UNKNOWN_LIMIT


def position_offset(config: Mapping[str, Any]) -> int:
    """Return the row of the position table at which a text's first token stands, by config.json."""
    return int(config.get("pad_token_id", 1)) + 1 if config.get("model_type") in _OFFSET_FAMILIES else 0


def read_json(path: Path) -> dict[str, Any]:
    """Return a JSON object from a file, {} where there is none."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def encodable(text: str) -> str:
    """Replace lone surrogates, which no tokenizer takes, by U+FFFD: the text keeps its length."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return "".join("\ufffd" if "\ud800" <= c <= "\udfff" else c for c in text)
    return text
