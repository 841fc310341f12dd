"""The CPU's engine: a decoder on OpenVINO, without torch. Texts are read together, equal beginnings once.

Enters: messages. Leaves: completions. An adapter is computed beside the 16-bit weights; nothing is written to disk.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from doyen.embedding.runtime import native_precision
from doyen.errors import ModelError
from doyen.models.chat_tokenizer import open_chat_tokenizer
from doyen.models.checks import is_whole_model, require_room
from doyen.models.constraints import Choices, Constraint
from doyen.models.decoder_network import build_decoder, decoder_faults, decoder_shape
from doyen.models.decoding import Decoder, Request
from doyen.models.engine import (
    CERTAINTY_TOKENS,
    Completion,
    LocalEngine,
    Stream,
    check_adapter,
    chosen,
    first_tokens,
    render,
)
from doyen.models.guiding import Guide
from doyen.models.packed_weights import PackedWeights
from doyen.models.paged import PagedNetwork
from doyen.models.rotary import Rotary
from doyen.models.stored_weights import StoredWeights
from doyen.prompts import Message


class OpenVINOEngine(LocalEngine):
    """A causal language model and its adapters in this process. Weights are loaded at the first prompt.

    `precision` is "bf16" or "f32", None for what the CPU computes in. Writing stops at the end of the turn, or where a
    text is `finished`. The base and the adapter that was used last stay loaded.
    """

    kind = "openvino"

    def __init__(self, folder: Path, *, precision: str | None = None, **options: Any) -> None:
        """Take a model's folder; `options` are those of `LocalEngine`."""
        super().__init__(folder, **options)
        self._precision = precision
        self._base: Loaded | None = None
        self._tuned: tuple[Path, Loaded] | None = None
        self._breaks: dict[int, bool] = {}

    # ---- loading

    def _open_tokenizer(self) -> Any:
        return open_chat_tokenizer(self.folder)

    def open_network(self, adapter: Path | None) -> Loaded:
        """Load a network of its own, of the base or of an adapter; the engine keeps no hold of it."""
        self.tokenizer  # noqa: B018 - loads it first
        return self._loaded(adapter and adapter.resolve(), self._precision, 2 * self.batch_tokens)

    def _load(self, adapter: Path | None) -> Loaded:
        """Return the base model, the base with an adapter on it, or a model that was trained whole."""
        self.tokenizer  # noqa: B018 - loads it first, so that a missing template is said before the weights load
        if adapter is None:
            if self._base is None:
                self._base = self._loaded(None, self._precision, 2 * self.batch_tokens)
            return self._base
        adapter = adapter.resolve()
        if self._tuned is None or self._tuned[0] != adapter:
            self._tuned = None  # before the next one is loaded
            self._tuned = adapter, self._loaded(adapter, self._precision, 2 * self.batch_tokens)
        return self._tuned[1]

    def _loaded(self, adapter: Path | None, precision: str | None, tokens: int) -> Loaded:
        if adapter is None:
            return Loaded(self.folder, None, precision, tokens, self._bits)
        check_adapter(adapter, self.folder, self.name, self.tokenizer)
        whole = is_whole_model(adapter)
        base, added = (adapter, None) if whole else (self.folder, adapter)
        return Loaded(base, added, precision, tokens, self._bits)

    # ---- the interface

    @property
    def arithmetic(self) -> str:
        """What it computes in: "bf16" or "f32"."""
        return self._precision or native_precision()

    def generate(
        self,
        prompts: Sequence[Sequence[Message]],
        *,
        max_tokens: int,
        adapter: Path | None = None,
        refusal: str | None = None,
        may_refuse: bool = True,
        progress: Callable[[int], None] | None = None,
        stream: Stream | None = None,
        constraints: Sequence[Constraint | None] = (),
    ) -> list[Completion]:
        """Answer all prompts greedily; texts of together about `batch_tokens` tokens are at work at a time.

        `stream` gets each answer as it is written. An interruption (Ctrl-C) takes effect within a step.

        Raises:
            EngineError: a prompt and its answer do not fit into the model's context, the adapter does not fit, or a
                constraint needs more than `max_tokens`.
            UsageError: a constraint cannot be met.
        """
        if not prompts:
            return []
        requests = self.requests(prompts, max_tokens, refusal, may_refuse, constraints)
        loaded = self._load(adapter)
        loaded.network.reserve(max(room_of(r) for r in requests))
        streams = [Pieces(self.text_of, stream, r) for r in requests] if stream else None
        decoder = self.decoder(loaded)
        done: dict[int, Completion] = {}
        for request in decoder.run(
            requests, self.batch_tokens, lambda r: streams[r.number].show() if streams else None
        ):
            done[request.number] = self.completion(request, constraints[request.number] if constraints else None)
            if streams:
                streams[request.number].finish(done[request.number].text)
            if progress:
                progress(1)
        return [done[i] for i in range(len(prompts))]

    def requests(
        self,
        prompts: Sequence[Sequence[Message]],
        max_tokens: int,
        refusal: str | None,
        may_refuse: bool,
        constraints: Sequence[Constraint | None],
    ) -> list[Request]:
        """Return what the decoder is to do for prompts; loads no weights. Raises as `generate` does."""
        guides = self._guides_of(constraints, len(prompts), max_tokens)
        refusing = first_tokens(self.tokenizer, refusal) if refusal else []
        requests = [
            Request(i, render(self.tokenizer, p), max_tokens, refusing, may_refuse, _kept(guide, max_tokens), guide)
            for i, (p, guide) in enumerate(zip(prompts, guides, strict=True))
        ]
        for request, constraint in zip(requests, constraints, strict=False):
            request.options = self._options_of(constraint)
            request.max_tokens = max([len(o) for o in request.options] or [max_tokens])
        longest = max(requests, key=room_of)
        require_room(len(longest.prompt), longest.max_tokens, self.context_tokens, self.name)
        return requests

    def decoder(self, loaded: Loaded) -> Decoder:
        """Return what runs requests on a loaded network."""
        return Decoder(loaded.network, loaded.rotary, self._stops, self._ends)

    def completion(self, request: Request, constraint: Constraint | None) -> Completion:
        """Return what an ended request wrote."""
        kept = request.log_probabilities[:CERTAINTY_TOKENS]
        sure = sum(kept) / len(kept) if kept else 0.0
        made = Completion(
            self.text_of(request), len(request.prompt), len(request.written), request.seconds, request.refusal, sure
        )
        if not isinstance(constraint, Choices):
            if (guide := request.guide) is None:
                return made
            total = math.fsum(request.log_probabilities) if guide.strict else 0.0
            return dataclasses.replace(made, shortened=guide.shortened, total_log_probability=total)
        return chosen(made, constraint, request.options, request.option_log_probabilities)

    def text_of(self, request: Request) -> str:
        """Return what is written: exactly, where a grammar rules it, else without white space at its ends."""
        if request.guide is not None and request.guide.strict:
            assert self._guides is not None
            return self._guides.text(request.written)
        text: str = self.tokenizer.decode(request.written, skip_special_tokens=True)
        return text.strip()

    def _ends(self, request: Request) -> bool:
        """Whether what is written is finished; asked only where a line breaks. A grammar says so itself."""
        if request.guide is not None and request.guide.strict:
            return False
        token = request.written[-1]
        if token not in self._breaks:
            self._breaks[token] = "\n" in self.tokenizer.decode([token])
        return self._breaks[token] and self._finished(self.tokenizer.decode(request.written))

    def next_token_logits(self, messages: Sequence[Message], *, adapter: Path | None = None) -> NDArray[np.float32]:
        """Return the logits `(vocabulary,) float32` after a prompt, with or without an adapter, in float32 arithmetic.

        A gate compares them, and in bfloat16 even a change by 1e-7 moves logits by .05, since it changes roundings. The
        network is loaded for this call alone, in the same way as the one that answers.
        """
        ids = render(self.tokenizer, messages)
        loaded = self._loaded(adapter, "f32", len(ids))
        logits: NDArray[np.float32] = Decoder(loaded.network, loaded.rotary, (), lambda _: False).forced(ids, ())[0]
        return logits

    def text_losses(
        self, texts: Sequence[str], prompts: Sequence[Sequence[Message]] = (), *, adapter: Path | None = None
    ) -> list[float]:
        """Return the negative log-likelihood (nats) of each text: as plain text, or as the answer to its prompt.

        Plain text stands behind the model's beginning-of-text token; of a model that has none, the text's first token
        is not counted.
        """
        loaded, tokenizer = self._load(adapter), self.tokenizer
        begin = [] if tokenizer.bos_token_id is None else [int(tokenizer.bos_token_id)]
        heads = [render(tokenizer, prompt) for prompt in prompts] or [begin] * len(texts)
        found = []
        for head, text in zip(heads, texts, strict=True):
            ids = [*head, *tokenizer(text, add_special_tokens=False)["input_ids"]]
            loaded.network.reserve(len(ids))
            found.append(Decoder(loaded.network, loaded.rotary, (), lambda _: False).loss(ids, max(1, len(head))))
        return found

    def logits_after(
        self, prompt: Sequence[int], answer: Sequence[int], *, adapter: Path | None = None
    ) -> NDArray[np.float32]:
        """Return the logits `(1 + len(answer), vocabulary) float32` after a prompt and after each token of an answer."""
        loaded = self._load(adapter)
        loaded.network.reserve(len(prompt) + len(answer))
        return Decoder(loaded.network, loaded.rotary, (), lambda _: False).forced(prompt, answer)


class Loaded:
    """A compiled network and what its configuration says."""

    def __init__(self, folder: Path, adapter: Path | None, precision: str | None, tokens: int, bits: int) -> None:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        if faults := decoder_faults(config):
            raise ModelError(
                f"the OpenVINO engine does not know this model: {'; '.join(faults)}",
                hint='set [model] engine = "transformers"',
            )
        shape = decoder_shape(config)
        self.rotary = Rotary(config, shape.head_size)
        packed = bits < 16
        # The network reads them where they are.
        self._weights = PackedWeights(folder, adapter, bits) if packed else StoredWeights(folder, adapter)
        model = build_decoder(shape, self._weights, self.rotary, exact=(precision or native_precision()) == "f32")
        self.network = PagedNetwork(model, self.rotary, tokens, precision)


class Pieces:
    """Hands on a text as it grows, but no white space at its ends, and no character that is only half written."""

    def __init__(self, text_of: Callable[[Request], str], stream: Stream, request: Request) -> None:
        self._text_of, self._stream, self._request = text_of, stream, request
        self._shown = ""

    def show(self) -> None:
        """Hand on what was written since the last call."""
        self.finish(self._text_of(self._request).rstrip("\ufffd"))

    def finish(self, text: str) -> None:
        """Hand on the rest of the whole text."""
        if len(text) > len(self._shown) and text.startswith(self._shown):
            self._stream(self._request.number, text[len(self._shown) :])
            self._shown = text


def _kept(guide: Guide | None, max_tokens: int) -> int:
    """Return of how many tokens the log-probabilities are kept: of all where a grammar rules the answer."""
    return max_tokens if guide is not None and guide.strict else CERTAINTY_TOKENS


def room_of(request: Request) -> int:
    """Return how many tokens a request's prompt and answer have at most."""
    return len(request.prompt) + request.max_tokens


def openvino_faults(folder: Path) -> list[str]:
    """Say why this engine cannot run the model in a folder; nothing where it can."""
    try:
        config: Mapping[str, Any] = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        return [f"config.json cannot be read: {error}"]
    found = decoder_faults(config)
    if not any(folder.glob("model*.safetensors")):
        found.append("no weights in safetensors")
    return found
