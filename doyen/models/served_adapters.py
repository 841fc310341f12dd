"""Adapters on a server: which fields of a request name one, and the gates before one is used first.

vLLM serves an adapter under its own model name, llama.cpp's server beside the model with a scale for each request, other
servers as a model. An adapter's name there is that of its folder.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from doyen.errors import EndpointError, EngineError
from doyen.models.chat_stream import TokenSigns
from doyen.models.checks import is_whole_model
from doyen.models.engine import manifest_of
from doyen.models.fitting import GOLDEN, require_same_tokens
from doyen.models.servers import LLAMACPP, VLLM, ServedModel, Server
from doyen.prompts import Message

NOISE = 0.06
"""Below this, a difference of log-probabilities may be rounding: in bfloat16 a change of 1e-7 in an adapter moved one by .058."""
_OVER_NOISE = 3.0
_PROBES = (GOLDEN[:2], GOLDEN[:4])

Probe = Callable[[Mapping[str, Any], Sequence[Message]], TokenSigns | None]
"""From the fields that name a model, and messages, to the first token that it writes; None without log-probabilities."""


class ServedAdapters:
    """Knows what a server calls the base model and its adapters; each adapter is checked once."""

    def __init__(self, server: Server, base: ServedModel, probe: Probe, names: Any = list) -> None:
        """Take what asks for a first token, and what names token ids in errors."""
        self._server, self._base, self._probe, self._names = server, base, probe, names
        self._beside = self._scaled_adapters()
        self._checked: dict[Path, dict[str, Any]] = {}
        self.effects: dict[str, float] = {}
        """By how much each checked adapter moves log-probabilities, at most."""
        self.path_of: Callable[[Path], Path] = lambda adapter: adapter
        """Where an adapter is in the form that the server loads."""
        self.remarks: list[str] = []

    def fields(self, adapter: Path | None) -> dict[str, Any]:
        """Return the fields of a request for the base, or for an adapter's folder.

        Raises:
            EngineError: the adapter is not served, cannot be loaded there, changes nothing, or its tokens are others.
        """
        if adapter is None:
            return {"model": self._base.name, **self._scales("")}
        adapter = adapter.resolve()
        if adapter not in self._checked:
            found = self._find(adapter)
            self._check(adapter, found)
            self._checked[adapter] = found
        return self._checked[adapter]

    def _find(self, adapter: Path) -> dict[str, Any]:
        """Return the fields that name an adapter, which vLLM is asked to load where it does not have it."""
        name = adapter.name
        if name in self._beside:
            return {"model": self._base.name, **self._scales(name)}
        served = next((m for m in self._server.models if name in (m.name, m.name.removesuffix(":latest"))), None)
        if served is not None and served.parent in ("", self._base.name):
            return {"model": served.name, **self._scales("")}
        if served is not None:
            raise EngineError(
                f"{self._host} serves '{name}' on another base ({served.parent}) than {self._base.name}",
                hint="serve it on the expert's model, or under another name",
            )
        if self._server.kind == VLLM and self._server.endpoint.is_local and not is_whole_model(adapter):
            self._load(adapter)
            return {"model": name}
        raise EngineError(f"{self._host} does not serve the adapter '{name}'{self._there()}", hint=self._how(adapter))

    def _load(self, adapter: Path) -> None:
        body = {"lora_name": adapter.name, "lora_path": str(self.path_of(adapter))}
        try:
            self._server.endpoint.stream("load_lora_adapter", body, lambda _, lines: [*lines] or [""])
        except EndpointError as error:
            raise EngineError(
                f"{self._host} does not serve the adapter '{adapter.name}'{self._there()}, and does not load it: {error}",
                hint=self._how(adapter),
            ) from error

    def _check(self, adapter: Path, found: dict[str, Any]) -> None:
        manifest = manifest_of(adapter)
        if not self._server.tells_tokens:
            self.remarks.append(f"{self._host} tells no tokens: whether it has {adapter.name}'s template is unchecked")
        elif manifest.get("golden_tokens"):
            require_served_template(self._server, found["model"], manifest, self._names)
        effect = self._effect(found)
        if effect is None:
            self.remarks.append(
                f"{self._host} gives no log-probabilities: whether it applies {adapter.name} is unchecked"
            )
            return
        changed, noise = effect
        if changed <= max(NOISE, _OVER_NOISE * noise):
            raise EngineError(
                f"{self._host} serves '{adapter.name}', but it changes no answer there: log-probabilities differ from the base's "
                f"by {changed:.2g} at most (the base's own, asked twice: {noise:.2g})",
                hint=self._how(adapter),
            )
        self.effects[adapter.name] = changed

    def _effect(self, found: Mapping[str, Any]) -> tuple[float, float] | None:
        """Return by how much first log-probabilities under an adapter differ from the base's, and these from themselves.

        None where the server gives none. llama.cpp's server is kept from its cache: what it has read in another batch
        gives other numbers, by up to 0.13 with 4-bit weights.
        """
        apart = {"cache_prompt": False} if self._server.kind == LLAMACPP else {}
        base = {**self.fields(None), **apart}
        changed = noise = 0.0
        for messages in _PROBES:
            told = [self._probe({**fields, **apart}, messages) for fields in (base, found, base)]
            first, tuned, again = (one.top if one else {} for one in told)
            if not (first and tuned and again):
                return None
            changed = max(changed, largest_difference(first, tuned))
            noise = max(noise, largest_difference(first, again))
        return changed, noise

    @property
    def _host(self) -> str:
        return self._server.endpoint.host

    def _there(self) -> str:
        names = [m.name for m in self._server.models] + list(self._beside)
        return f" (it has {', '.join(names[:20])})" if names else ""

    def _how(self, adapter: Path) -> str:
        if self._server.kind == VLLM:
            return (
                f"doyen serve --engine vllm, or start vLLM with --enable-lora --lora-modules {adapter.name}={adapter} "
                "(Phi's adapters on vLLM before 0.7: doyen export --format split)"
            )
        if self._server.kind == LLAMACPP:
            return f"start it with --lora {adapter.name}.gguf: the adapter exported as GGUF, under this name"
        return f"serve the merged model there (doyen export --adapter {adapter.name}) under the name '{adapter.name}'"

    def _scaled_adapters(self) -> dict[str, int]:
        """Return llama.cpp's adapters: file name without ending → number."""
        if self._server.kind != LLAMACPP:
            return {}
        try:
            rows = self._server.endpoint.get("/lora-adapters", lambda content: content)
        except EndpointError:
            return {}
        return {Path(str(row["path"])).stem: int(row["id"]) for row in rows if isinstance(row, dict) and "path" in row}

    def _scales(self, name: str) -> dict[str, Any]:
        """Say each adapter's scale: one that is not named may stay on, as the server was started."""
        if not self._beside:
            return {}
        return {"lora": [{"id": number, "scale": float(one == name)} for one, number in self._beside.items()]}


def require_served_template(server: Server, model: str, manifest: Mapping[str, Any], names: Any = list) -> None:
    """Refuse a server that makes other tokens of the golden conversation than training did.

    Servers may read a conversation that ends with an answer as one to be continued: so its prompts are compared, of one
    turn and of two.

    Raises:
        EngineError: naming the first token that differs.
    """
    golden = list(manifest["golden_tokens"])
    cut = golden.index(-1)
    try:
        prompt, turns = server.tokens(GOLDEN[:2], model), server.tokens(GOLDEN[:4], model, prompt=False)
    except EndpointError as error:
        if error.status is None:
            raise
        # a template that takes no system message
        prompt, turns = server.tokens(GOLDEN[1:2], model), server.tokens(GOLDEN[1:2], model, prompt=False)
    label = f"{server.endpoint.host}'s {model}"
    turns = turns[:-1]  # Phi's template ends a conversation that is no prompt with a token of its own
    for before, now in ((golden[cut + 1 :], prompt), (golden[:cut][: len(turns)], turns)):
        if server.kind == LLAMACPP and before[1:] == now:  # the token that begins a text is added when it is read
            continue
        require_same_tokens({"name": manifest.get("name", ""), "golden_tokens": before}, now, "", names, label)


def largest_difference(a: Mapping[str, float], b: Mapping[str, float]) -> float:
    """Return by how much two lists of likeliest tokens differ, at least: a token that one lacks is below its least."""
    found = [abs(a[token] - b[token]) for token in a.keys() & b.keys()]
    for one, other in ((a, b), (b, a)):
        found += [max(0.0, value - min(other.values())) for token, value in one.items() if token not in other]
    return max((value for value in found if not math.isnan(value)), default=0.0)
