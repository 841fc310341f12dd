"""The forms in which people keep training chats → messages. Knows rows, not files.

messages           {"messages": [{"role": "user", "content": "…"}, {"role": "assistant", "content": "…"}]}
ShareGPT           {"conversations": [{"from": "human", "value": "…"}, {"from": "gpt", "value": "…"}]}
Alpaca             {"instruction": "…", "input": "…", "output": "…"}; perhaps "system", and "history": [["…", "…"]]
prompt/completion  {"prompt": "…", "completion": "…"}, texts or lists of messages (as TRL's)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

ROLES = ("system", "user", "assistant")
EXPECTED = (
    "messages (a list of role and content), conversations (a list of from and value), "
    "instruction and output, or prompt and completion"
)
_SPEAKERS = {
    "system": "system",
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "assistant": "assistant",
    "chatgpt": "assistant",
    "bing": "assistant",
    "bard": "assistant",
    "model": "assistant",
}


def is_chat(row: Mapping[str, Any]) -> bool:
    """Whether a row is a training chat in one of the known forms, sound or not, rather than a question."""
    return any(key in row for key in _FORMS)


def as_messages(row: Mapping[str, Any]) -> list[dict[str, str]]:
    """Return the messages of a row: perhaps the system's, then the user's and the assistant's, the assistant's last.

    Raises:
        ValueError: saying what was expected and what is there instead.
    """
    form = next((key for key in _FORMS if key in row), None)
    if form is None:
        raise ValueError(f"expected {EXPECTED}; there is {', '.join(map(repr, row)) or 'nothing'}")
    messages = _FORMS[form](row)
    roles = {m["role"] for m in messages if m["content"].strip()}
    if len(messages) < 2 or "user" not in roles:
        there = f"only the {' and the '.join(sorted(roles))}'s" if roles else "none"
        raise ValueError(f"'{form}' needs at least a user's and an assistant's message; there is {there}")
    if any(m["role"] == "system" for m in messages[1:]):
        raise ValueError("a system message may only be the first one")
    if messages[-1]["role"] != "assistant" or not messages[-1]["content"].strip():
        raise ValueError(f"the last message must be the assistant's, and not empty; it is the {messages[-1]['role']}'s")
    return messages


def _chat(rows: Any, name: str, role_key: str, text_key: str) -> list[dict[str, str]]:
    """Return messages of a list of entries with a speaker and a text."""
    if not isinstance(rows, list):
        raise ValueError(f"'{name}' is not a list")
    found = []
    for entry in rows:
        if not isinstance(entry, dict):
            raise ValueError(f"an entry of '{name}' is no object with '{role_key}' and '{text_key}'")
        role = _SPEAKERS.get(str(entry.get(role_key)).casefold())
        text = _text(entry.get(text_key))
        if role is None:
            known = ROLES if role_key == "role" else ("system", "human", "gpt")
            raise ValueError(f"'{role_key}' is {entry.get(role_key)!r} in '{name}', none of {', '.join(known)}")
        if text is None:
            raise ValueError(f"'{text_key}' is no text in '{name}': {str(entry.get(text_key))[:40]!r}")
        found.append({"role": role, "content": text})
    return found


def _text(value: Any) -> str | None:
    """Return a text, or the texts of a list of parts (OpenAI's form); None for anything else."""
    if isinstance(value, str):
        return value
    if isinstance(value, list) and value and all(isinstance(p, dict) and isinstance(p.get("text"), str) for p in value):
        return "\n".join(p["text"] for p in value)
    return None


def _messages(row: Mapping[str, Any]) -> list[dict[str, str]]:
    return _chat(row["messages"], "messages", "role", "content")


def _conversations(row: Mapping[str, Any]) -> list[dict[str, str]]:
    rows = row["conversations"]
    openai = isinstance(rows, list) and bool(rows) and isinstance(rows[0], dict) and "role" in rows[0]
    return _system(row) + _chat(rows, "conversations", *(("role", "content") if openai else ("from", "value")))


def _alpaca(row: Mapping[str, Any]) -> list[dict[str, str]]:
    found = _system(row)
    history = row.get("history") or []
    if not isinstance(history, list):
        raise ValueError("'history' is not a list of pairs")
    for pair in history:
        if not (isinstance(pair, list) and len(pair) == 2 and all(isinstance(t, str) for t in pair)):
            raise ValueError("an entry of 'history' is no pair of texts")
        found += [{"role": "user", "content": pair[0]}, {"role": "assistant", "content": pair[1]}]
    asked = [_required(row, "instruction")]
    if row.get("input") is not None and _required(row, "input").strip():
        asked.append(row["input"])
    return [*found, {"role": "user", "content": "\n\n".join(asked)}, _answer(row, "output")]


def _completion(row: Mapping[str, Any]) -> list[dict[str, str]]:
    prompt, completion = row["prompt"], row.get("completion")
    if isinstance(prompt, list):
        rest = completion if isinstance(completion, list) else [{"role": "assistant", "content": completion}]
        return _chat([*prompt, *rest], "prompt and completion", "role", "content")
    asked = {"role": "user", "content": _required(row, "prompt")}
    if isinstance(completion, list):
        return [*_system(row), asked, *_chat(completion, "completion", "role", "content")]
    return [*_system(row), asked, _answer(row, "completion")]


def _system(row: Mapping[str, Any]) -> list[dict[str, str]]:
    if not row.get("system"):
        return []
    return [{"role": "system", "content": _required(row, "system")}]


def _answer(row: Mapping[str, Any], key: str) -> dict[str, str]:
    return {"role": "assistant", "content": _required(row, key).strip()}


def _required(row: Mapping[str, Any], key: str) -> str:
    value = row.get(key)
    if not isinstance(value, str):
        raise ValueError(f"'{key}' is {'missing' if key not in row else f'no text: {value!r}'}")
    return value


_FORMS: dict[str, Callable[[Mapping[str, Any]], list[dict[str, str]]]] = {
    "messages": _messages,
    "conversations": _conversations,
    "instruction": _alpaca,
    "prompt": _completion,
}
