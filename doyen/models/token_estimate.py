"""Messages → about how many tokens, for models whose tokenizer is not here. Rather too many than too few."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from doyen.prompts import Message

_LETTERS = 3
_TURN_TOKENS = 16  # the marks of a turn
_PARTS = re.compile(r"[a-z ]+|[^\x00-\x7f]+|.", re.DOTALL)


def estimated_tokens(messages: Sequence[Message]) -> int:
    """Return a token for three small letters or spaces, one for each other ASCII character, one for each byte of others."""
    return sum(_TURN_TOKENS + sum(map(_part_tokens, _PARTS.findall(m["content"]))) for m in messages)


def _part_tokens(part: str) -> int:
    return math.ceil(len(part) / _LETTERS) if part.isascii() else len(part.encode())
