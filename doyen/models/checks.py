"""What every engine asks before it answers: whether an adapter belongs to the model, whether a prompt has room.

Knows folders and numbers only, no tokens and no weights.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

from doyen.errors import EngineError


def is_whole_model(folder: Path) -> bool:
    """Tell whether a fine-tuned model's folder holds all of its weights, not an adapter to the base's."""
    return (folder / "config.json").exists() and not (folder / "adapter_config.json").exists()


def check_adapter(adapter: Path, base: Path, name: str, template_hash: Callable[[], str]) -> None:
    """Refuse a folder without an adapter, and an adapter of another model or chat template than those of `base`.

    Raises:
        EngineError: says which of them; `name` is what the base is called.
    """
    if not ((adapter / "adapter_config.json").exists() or is_whole_model(adapter)):
        raise EngineError(f"there is no adapter in {adapter}", hint="doyen finetune --name NAME")
    path = adapter / "manifest.json"
    if not path.exists():
        return
    manifest = json.loads(path.read_text(encoding="utf-8"))
    config = hashlib.sha256((base / "config.json").read_bytes()).hexdigest()[:16]
    if manifest.get("model_fingerprint", config) != config:
        raise EngineError(
            f"adapter {adapter.name} was trained for another model ({manifest.get('model')}) than {name}",
            hint="set [model] name back, or doyen finetune again",
        )
    trained_with = manifest.get("template_hash")
    if trained_with and trained_with != (now := template_hash()):
        raise EngineError(
            f"adapter {adapter.name} was trained with another chat template ({trained_with}) than {name} has now ({now})",
            hint="doyen finetune again, or put the model's tokenizer back",
        )


def context_of(folder: Path) -> int:
    """Return how many tokens a model's positions are made for, by its config.json."""
    return int(json.loads((folder / "config.json").read_text(encoding="utf-8"))["max_position_embeddings"])


def require_room(longest: int, answer: int, context: int, name: str) -> None:
    """Refuse a prompt of `longest` tokens that leaves no room for `answer` more in the context. Raises EngineError."""
    limit = context - answer
    if longest > limit:
        raise EngineError(
            f"a prompt has {longest} tokens; {name} takes {limit} and {answer} for the answer",
            hint="lower [answer] passages or [chunking] max_tokens",
        )
