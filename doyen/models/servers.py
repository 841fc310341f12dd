"""What a server behind an endpoint is, which models it has, how long their context is, and how it makes tokens.

Known are vLLM, llama.cpp's server, Ollama, OpenAI and Azure; any other is taken to speak no more than
`/chat/completions`. Knows no prompts but as messages, and writes no answers.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from doyen.errors import EndpointError, ModelError
from doyen.models.endpoint import BadAnswerError, Endpoint
from doyen.prompts import Message

T = TypeVar("T")
VLLM, LLAMACPP, OLLAMA, OPENAI, AZURE, OTHER = "vllm", "llama.cpp", "ollama", "openai", "azure", "other"
_OWNERS = {"vllm": VLLM, "llamacpp": LLAMACPP, "library": OLLAMA}
_OLLAMA_CONTEXT = 4096  # what Ollama takes where a model file sets no num_ctx, however long the model's own context is
_NO_LIST = frozenset({400, 403, 404, 405, 501})


@dataclass(frozen=True, slots=True)
class ServedModel:
    """A model, or an adapter under its own name (`parent` is its base's); `root` is its path on the server, if told."""

    name: str
    parent: str = ""
    root: str = ""
    context_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Server:
    """A server; `models` is empty where it tells none."""

    endpoint: Endpoint
    kind: str
    models: tuple[ServedModel, ...] = ()
    version: tuple[int, ...] = ()
    slots: int = 0
    """How many requests it answers at once, if it says so; others would wait in its queue."""

    @property
    def tells_tokens(self) -> bool:
        """Whether it says how it makes tokens of messages."""
        return self.kind in (VLLM, LLAMACPP)

    @property
    def continues(self) -> bool:
        """Whether it can go on with an answer whose beginning is given."""
        return self.kind in (VLLM, LLAMACPP)

    def find(self, name: str) -> ServedModel:
        """Return the model that the server calls `name`, or by a path or a tag that ends so.

        Raises: ModelError, naming the models that are there.
        """
        if not self.models:
            return ServedModel(name)
        for fits in (lambda m: m.name == name, lambda m: _short(m.name) == name, lambda m: _short(m.root) == name):
            if found := [m for m in self.models if fits(m)]:
                return found[0]
        bases = [m for m in self.models if not m.parent]
        if self.kind == LLAMACPP and len(bases) == 1:  # it has one model, under whatever name
            return bases[0]
        raise ModelError(
            f"{self.endpoint.host} has no model '{name}'; it has {', '.join(m.name for m in self.models[:20])}",
            hint="set [model] name to one of these, or serve it there under this name",
        )

    def context_tokens(self, model: ServedModel) -> int:
        """Return how many tokens a prompt and its answer may have together; 0 where the server does not say."""
        if model.context_tokens:
            return model.context_tokens
        if self.kind == OLLAMA:
            return self.endpoint.post("/api/show", {"model": model.name}, _of_form(_ollama_context))
        return 0

    def tokens(self, messages: Sequence[Message], model: str, *, prompt: bool = True) -> list[int]:
        """Return the token ids that the server makes of messages; `prompt` adds the opening of the assistant's turn.

        Raises: EndpointError where it does not say them.
        """
        given = list(messages)
        if self.kind == VLLM:
            body = {"model": model, "messages": given, "add_generation_prompt": prompt, "add_special_tokens": False}
            return self.endpoint.post("/tokenize", body, _of_form(_token_ids))
        body = {"messages": given, "add_generation_prompt": prompt}
        text = self.endpoint.post("/apply-template", body, _of_form(lambda content: str(content["prompt"])))
        return self.text_tokens(text, model)

    def text_tokens(self, text: str, model: str) -> list[int]:
        """Return the token ids of a text, turn marks in it read as such. Raises EndpointError where it does not say them."""
        if self.kind == VLLM:
            body: dict[str, Any] = {"model": model, "prompt": text, "add_special_tokens": False}
        else:
            body = {"content": text, "add_special": False, "parse_special": True}
        return self.endpoint.post("/tokenize", body, _of_form(_token_ids))


def _of_form(read: Callable[[Any], T]) -> Callable[[Any], T]:
    """Let a reader of JSON say what came instead of what it reads."""

    def read_checked(content: Any) -> T:
        try:
            return read(content)
        except (KeyError, TypeError, ValueError, AttributeError):
            raise BadAnswerError(f"JSON of another form: {json.dumps(content)[:120]}") from None

    return read_checked


def _token_ids(content: Mapping[str, Any]) -> list[int]:
    return [int(t) for t in content["tokens"]]


def _ollama_context(content: Mapping[str, Any]) -> int:
    """Read Ollama's /api/show: the context that it gives a model, beyond which it cuts prompts without a word."""
    if found := re.search(r"^\s*num_ctx\s+(\d+)", content.get("parameters") or "", re.MULTILINE):
        return int(found[1])
    own = [v for k, v in (content.get("model_info") or {}).items() if k.endswith(".context_length")]
    return min([_OLLAMA_CONTEXT, *map(int, own)])


def _short(name: str) -> str:
    """Return a model's name without folders, without GGUF's ending and without the tag that means none."""
    return name.replace("\\", "/").rstrip("/").rpartition("/")[2].removesuffix(".gguf").removesuffix(":latest")


def find_server(endpoint: Endpoint) -> Server:
    """Ask an endpoint what it is. OpenAI's and Azure's own are not asked.

    Raises: EndpointError where there is no answer, or no leave to ask.
    """
    if endpoint.is_vendors:
        return Server(endpoint, endpoint.vendor)
    try:
        models, owner = endpoint.get("models", lambda content: (served_models(content), _owner(content)))
    except EndpointError as error:
        if error.status not in _NO_LIST:
            raise
        return Server(endpoint, OTHER)
    kind = _OWNERS.get(owner, OTHER)
    version: tuple[int, ...] = _told(endpoint, "/version", _version_numbers, ()) if kind == VLLM else ()
    slots = _told(endpoint, "/props", _slots, 0) if kind == LLAMACPP else 0
    return Server(endpoint, kind, models, version, slots)


def served_models(content: Any) -> tuple[ServedModel, ...]:
    """Read `/v1/models`; nothing of another form is taken for a model."""
    rows = content.get("data") if isinstance(content, dict) else None
    found = []
    for row in rows if isinstance(rows, list) else ():
        if isinstance(row, dict) and isinstance(row.get("id"), str):
            meta = row.get("meta")
            context = row.get("max_model_len") or (meta.get("n_ctx") if isinstance(meta, dict) else 0) or 0
            found.append(ServedModel(row["id"], row.get("parent") or "", row.get("root") or "", int(context)))
    return tuple(found)


def _owner(content: Any) -> str:
    rows = content.get("data") if isinstance(content, dict) else None
    return next((str(row.get("owned_by")) for row in rows or () if isinstance(row, dict)), "")


def _told(endpoint: Endpoint, path: str, read: Callable[[Any], T], unknown: T) -> T:
    """Return what a server tells of itself, or what it is taken for where it tells nothing."""
    with contextlib.suppress(EndpointError):
        return endpoint.get(path, read, attempts=1)
    return unknown


def _slots(content: Any) -> int:
    found = content.get("total_slots") if isinstance(content, dict) else None
    return found if isinstance(found, int) else 0


def _version_numbers(content: Any) -> tuple[int, ...]:
    version = str(content.get("version", "")) if isinstance(content, dict) else ""
    return tuple(int(n) for n in re.findall(r"\d+", version)[:2])
