"""What every engine asks before it answers: whether a folder is a whole model, whether a prompt has room.

Knows folders and numbers only, no tokens and no weights.
"""

from __future__ import annotations

from pathlib import Path

from doyen.errors import EngineError


def is_whole_model(folder: Path) -> bool:
    """Tell whether a fine-tuned model's folder holds all of its weights, not an adapter to the base's."""
    return (folder / "config.json").exists() and not (folder / "adapter_config.json").exists()


def require_room(longest: int, answer: int, context: int, name: str) -> None:
    """Refuse a prompt of `longest` tokens that leaves no room for `answer` more in the context. Raises EngineError."""
    limit = context - answer
    if longest > limit:
        raise EngineError(
            f"a prompt has {longest} tokens; {name} takes {limit} and {answer} for the answer",
            hint="lower [answer] passages or [chunking] max_tokens",
        )
