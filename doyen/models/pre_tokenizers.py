"""llama.cpp's names for how a byte-level tokenizer splits a text before it merges ↔ `tokenizers`' parts that do so.

The patterns are those of the models' own tokenizer.json files.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

_WORDS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|"
_REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_ENDS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
_GPT4O = (
    rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}*{_LOWER}+{_ENDS}|[^\r\n\p{{L}}\p{{N}}]?{_UPPER}+{_LOWER}*{_ENDS}"
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_PROBE = (
    "It's 12,500.75 € (10 %); we'll see THEY'RE camelCase HTTPServer 1234567\n\n  two\tspaces   \r\n end /path//to\n/x "
    "Grüße naïve ½ Größe Привет 北京の天気 한국 العربية हिन्दी ไทย 🚢🚢 x**2 != 0  # tab\u00a0\u3000.\n\n\n  'S don't"
)


def _sequence(*parts: Any) -> Any:
    from tokenizers import pre_tokenizers

    return pre_tokenizers.Sequence(list(parts))


def _by_pattern(pattern: str) -> Any:
    from tokenizers import Regex, pre_tokenizers

    split = pre_tokenizers.Split(Regex(pattern), behavior="isolated", invert=False)
    return _sequence(split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False))


def _smollm() -> Any:
    # LLAMA_VOCAB_PRE_TYPE_SMOLLM in llama.cpp; HuggingFaceTB/SmolLM2-135M-Instruct's tokenizer.json.
    from tokenizers import pre_tokenizers

    return _sequence(pre_tokenizers.Digits(individual_digits=True), _gpt2())


def _gpt2() -> Any:
    from tokenizers import pre_tokenizers

    return pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)


PRE_TOKENIZERS: dict[str, Callable[[], Any]] = {
    "smollm": _smollm,
    "gpt-2": _gpt2,
    "qwen2": lambda: _by_pattern(rf"{_WORDS}\p{{N}}{_REST}"),
    "llama-bpe": lambda: _by_pattern(rf"{_WORDS}\p{{N}}{{1,3}}{_REST}"),
    "gpt-4o": lambda: _by_pattern(_GPT4O),
}


def pre_tokenizer_name(pre_tokenizer: Any) -> str | None:
    """Return llama.cpp's name for one of `tokenizers`' pre-tokenizers: the one that splits a probe alike, else None."""
    if pre_tokenizer is None:
        return None
    found = _pieces(pre_tokenizer)
    return next((name for name, make in PRE_TOKENIZERS.items() if _pieces(make()) == found), None)


def _pieces(pre_tokenizer: Any) -> list[str]:
    return [piece for piece, _ in pre_tokenizer.pre_tokenize_str(_PROBE)]
