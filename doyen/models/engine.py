"""The interface that every engine keeps, and what all of them share: tokenizer, template, turn ends, the fit of adapters.

Enters: messages (role, content). Leaves: completions with token counts. Knows prompts only as messages: their wording
is `prompts.py`, and the turn marks are the model's own chat template.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import sys
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from doyen.errors import EngineError, ModelError, UsageError
from doyen.models.checks import is_whole_model
from doyen.models.choosing import option_probabilities
from doyen.models.constraints import Choices, Constraint, PassageNumbers, require_possible
from doyen.models.fitting import (
    GOLDEN,
    fingerprint_of_config,
    require_same_base,
    require_same_tokens,
    weights_fingerprint,
)
from doyen.models.guiding import Guide, Guides
from doyen.prompts import Message, is_complete

FINETUNE_EXTRA = "pip install 'doyen[finetune]'"
CERTAINTY_TOKENS = 16


@dataclass(frozen=True, slots=True)
class Completion:
    """What the model wrote. `seconds` is the wall time of its batch divided by the batch's rows.

    `refusal_probability` is the probability that the model gave to the refusal's first token as its own first token,
    None where no refusal was named, or a server gives no probabilities. `log_probability` is the mean natural logarithm of the probabilities of the
    first CERTAINTY_TOKENS tokens that it wrote, the end of its turn included; under a constraint those that were
    forced count only with the first of each stretch. `total_log_probability` is the sum over all of them where a grammar
    rules the answer, 0 elsewhere: how likely the whole of it was.

    `choice_probabilities` are those of the options of `Choices`, in their order (`choosing.option_probabilities`).
    `shortened` says that the tokens ran out: the end is the first that was found to satisfy the constraint.
    `cached` says that it was written before; `seconds` then are those that it took.
    """

    text: str
    prompt_tokens: int
    completion_tokens: int
    seconds: float
    refusal_probability: float | None = None
    log_probability: float = 0.0
    choice_probabilities: tuple[float, ...] = ()
    shortened: bool = False
    cached: bool = False
    total_log_probability: float = 0.0


Stream = Callable[[int, str], None]
"""Called with a prompt's number and the next piece of its answer; the pieces joined are the completion's text."""


class Engine(Protocol):
    """Writes answers; greedy, so that the same prompt gives the same text."""

    name: str
    kind: str
    """What runs the model, as `[model] engine` names it, and in how many bits if fewer than 16: `openvino-4bit`."""

    @property
    def context_tokens(self) -> int:
        """The most tokens that a prompt and its answer have together."""
        ...

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
        """Answer all prompts with the base model, or with an adapter folder applied to it.

        `refusal` is a text whose first token's probability of coming first is noted; with `may_refuse` false, no
        answer begins with it. `progress` is called with the number of prompts answered since its last call.
        `constraints` say what the answers may be, one a prompt (empty: anything).
        """
        ...

    def count_tokens(self, messages: Sequence[Message]) -> int:
        """Return the length of a prompt in tokens."""
        ...

    def template_hash(self) -> str:
        """Return a hash of how this engine turns a fixed conversation into tokens."""
        ...

    def next_token_logits(self, messages: Sequence[Message], *, adapter: Path | None = None) -> Any:
        """Return the logits `(vocabulary,) float32` after a prompt, with or without an adapter."""
        ...

    def text_losses(
        self, texts: Sequence[str], prompts: Sequence[Sequence[Message]] = (), *, adapter: Path | None = None
    ) -> list[float]:
        """Return the negative log-likelihood (nats) of each text: as plain text, or as the answer to its prompt."""
        ...


def quiet_transformers() -> None:
    """Keep transformers' own progress bars and advice off stderr: doyen shows its own.

    bitsandbytes, which PEFT imports where it is installed, tries to fetch a faster kernel from a hub and says that it
    could not; doyen never fetches code, so that line is dropped too. With 8 bits it says for each product that it casts.
    """
    from transformers.utils import logging as transformers_logging

    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    for name in ("backends.cpu.ops", "autograd._functions"):
        logging.getLogger(f"bitsandbytes.{name}").addFilter(_says_something)


def _says_something(record: logging.LogRecord) -> bool:
    dull = ("Failed to load CPU gemm_4bit_forward from kernels-community", "MatMul8bitLt: inputs will be cast")
    return not str(record.msg).startswith(dull)


@contextmanager
def quiet_peft() -> Iterator[None]:
    """Hide one warning that PEFT itself causes: it asks transformers 5 for `is_gradient_checkpointing` by its old name."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="`is_gradient_checkpointing` is deprecated", category=FutureWarning)
        yield


def load_tokenizer(folder: Path) -> Any:
    """Load the model's tokenizer from its folder.

    Raises:
        ModelError: transformers is not installed, or the folder holds no tokenizer or no chat template.
    """
    try:
        from transformers import AutoTokenizer
    except ImportError as error:
        raise ModelError(
            "answers on this machine need torch and transformers, which are not installed", hint=FINETUNE_EXTRA
        ) from error
    try:
        tokenizer = AutoTokenizer.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise ModelError(f"{folder} holds no usable tokenizer: {error}") from error
    if not tokenizer.chat_template:
        raise ModelError(
            f"the tokenizer in {folder} has no chat template: this is a base model, which knows no turns",
            hint="use its instruct version (doyen models lists some), or put that one's chat_template.jinja into the folder",
        )
    return tokenizer


def load_causal_model(folder: Path, **options: Any) -> Any:
    """Load a causal language model with its native class (remote code is never run)."""
    from transformers import AutoModelForCausalLM

    quiet_transformers()
    try:
        return AutoModelForCausalLM.from_pretrained(
            str(folder), local_files_only=True, trust_remote_code=False, use_safetensors=True, **options
        )
    except (OSError, ValueError) as error:
        raise ModelError(f"the model in {folder} cannot be loaded: {error}") from error


def render(tokenizer: Any, messages: Sequence[Message], *, prompt: bool = True) -> list[int]:
    """Return the token ids of a conversation; `prompt` adds the opening of the assistant's turn.

    Turn marks that stand in a document's or a user's text are split by a space, so that no text can end its turn.
    """
    safe = without_marks(messages, tokenizer.get_added_vocab())
    out = tokenizer.apply_chat_template(safe, add_generation_prompt=prompt, tokenize=True, return_dict=True)
    return [int(i) for i in out["input_ids"]]


def without_marks(messages: Sequence[Message], marks: Iterable[str]) -> list[Message]:
    """Return messages in which each turn mark is split by a space."""
    return [{"role": m["role"], "content": _split_marks(m["content"], marks)} for m in messages]


def _split_marks(text: str, marks: Iterable[str]) -> str:
    for mark in marks:
        if mark.startswith("<") and len(mark) > 1 and mark in text:
            text = text.replace(mark, f"{mark[0]} {mark[1:]}")
    return text


def template_hash(tokenizer: Any) -> str:
    """Hash the token ids of a fixed conversation: equal hashes mean that training and serving see the same prompt."""
    probe = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "How many days? 12,500 €"},
        {"role": "assistant", "content": "14 days [1]"},
    ]
    ids = render(tokenizer, probe, prompt=False) + [-1] + render(tokenizer, probe[:2])
    return hashlib.sha256(json.dumps(ids).encode()).hexdigest()[:16]


def golden_tokens(tokenizer: Any) -> list[int]:
    """Return the token ids of a fixed conversation, and of its first turn as a prompt, parted by -1.

    It has passages, numbers, several scripts and white space, so that a changed tokenizer shows, not only a changed template.
    A template that takes no system message or several turns gets one turn without it.
    """
    from jinja2 import TemplateError

    try:
        return [*render(tokenizer, GOLDEN, prompt=False), -1, *render(tokenizer, GOLDEN[:2])]
    except TemplateError:
        return [*render(tokenizer, GOLDEN[1:3], prompt=False), -1, *render(tokenizer, GOLDEN[1:2])]


def stop_token_ids(tokenizer: Any, folder: Path) -> list[int]:
    """Return every token that ends a turn: the tokenizer's, the generation configuration's and the usual turn marks."""
    ids = {tokenizer.eos_token_id}
    path = folder / "generation_config.json"
    if path.exists():
        configured = json.loads(path.read_text()).get("eos_token_id")
        ids |= set(configured if isinstance(configured, list) else [configured])
    vocabulary = tokenizer.get_vocab()
    ids |= {vocabulary[t] for t in ("<|im_end|>", "<|end|>", "<|endoftext|>", "<|eot_id|>") if t in vocabulary}
    return sorted(int(i) for i in ids if i is not None)


def first_tokens(tokenizer: Any, text: str) -> list[int]:
    """Return the first token of a text, then of its other spellings (small letter, space before it)."""
    spellings = (text, f" {text}", text[:1].lower() + text[1:], f" {text[:1].lower()}{text[1:]}")
    found = (tokenizer(s, add_special_tokens=False)["input_ids"][0] for s in spellings)
    return list(dict.fromkeys(int(token) for token in found))


def manifest_of(adapter: Path) -> dict[str, Any]:
    """Return what training wrote beside an adapter, with its name; {} for one from elsewhere. Raises EngineError."""
    path = adapter / "manifest.json"
    if not path.exists():
        return {}
    try:
        content: dict[str, Any] = {"name": adapter.name} | json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise EngineError(f"the manifest in {adapter} is broken: {error}", hint="doyen finetune again") from error
    return content


def check_adapter(adapter: Path, base: Path, name: str, tokenizer: Any) -> None:
    """Refuse a folder without an adapter, and an adapter of another model, tokenizer or template than those of `base`.

    Raises:
        EngineError: says which of them; `name` is what the base is called.
    """
    if not ((adapter / "adapter_config.json").exists() or is_whole_model(adapter)):
        raise EngineError(f"there is no adapter in {adapter}", hint="doyen finetune --name NAME")
    manifest = manifest_of(adapter)
    if not manifest:
        return
    require_same_base(manifest, base, adapter.name, name)
    names = tokenizer.convert_ids_to_tokens
    require_same_tokens(manifest, golden_tokens(tokenizer), template_hash(tokenizer), names, name)


def context_length(folder: Path) -> int | None:
    """Return how many tokens a model was made for, by its `config.json`; None where that does not say."""
    stored = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    for config in (stored, stored.get("text_config") or {}):
        for key in ("max_position_embeddings", "n_positions"):
            if isinstance(config.get(key), int):
                return int(config[key])
    return None


def working_dtype() -> Any:
    """Return the dtype to compute in here: bfloat16 where the processor or GPU has it natively, else float32."""
    import torch

    if torch.cuda.is_available():
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
    return torch.bfloat16 if torch.ops.mkldnn._is_mkldnn_bf16_supported() else torch.float32


def rope_switch(config: Any) -> int | None:
    """Return the length beyond which a LongRoPE model (Phi) takes other rotary frequencies; None for other models.

    They change for a whole batch at once, by its longest row.
    """
    rope = getattr(config, "rope_parameters", None) or {}
    return int(rope["original_max_position_embeddings"]) if rope.get("rope_type") == "longrope" else None


def chosen(
    read: Completion, choices: Choices, options: Sequence[Sequence[int]], log_probabilities: Sequence[float]
) -> Completion:
    """Return the completion that is the likeliest option, by each option's tokens and their summed log-probability."""
    probabilities = option_probabilities(options, log_probabilities)
    best = max(range(len(options)), key=probabilities.__getitem__)
    return dataclasses.replace(
        read,
        text=choices.options[best],
        completion_tokens=len(options[best]),
        log_probability=log_probabilities[best] / len(options[best]),
        choice_probabilities=probabilities,
    )


class LocalEngine(ABC):
    """What the engines of this machine share: a model's folder and its tokenizer, opened when it is first asked for."""

    kind: str

    def __init__(
        self,
        folder: Path,
        *,
        name: str = "",
        batch_tokens: int = 8192,
        context_tokens: int | None = None,
        bits: int = 16,
        finished: Callable[[str], bool] = is_complete,
    ) -> None:
        """Take a model's folder. `bits` (16, 8, 4) are those of a linear's weight; fewer than 16 show in `kind`."""
        self.folder = folder
        self._bits = bits
        self.kind = self.kind if bits == 16 else f"{self.kind}-{bits}bit"
        self.name = name or folder.name
        self.batch_tokens = batch_tokens
        self._context_tokens = context_tokens
        self._finished = finished
        self._stops: list[int] = []
        self._tokenizer: Any = None
        self._guides: Guides | None = None
        self._identity: list[str] | None = None

    @abstractmethod
    def _open_tokenizer(self) -> Any:
        """Open the tokenizer of the folder. Raises ModelError where there is none, or no chat template."""

    @property
    def tokenizer(self) -> Any:
        """The model's tokenizer."""
        if self._tokenizer is None:
            self._tokenizer = self._open_tokenizer()
            self._stops = stop_token_ids(self._tokenizer, self.folder)
        return self._tokenizer

    @property
    def context_tokens(self) -> int:
        """The most tokens that a prompt and its answer have together."""
        return self._context_tokens or context_length(self.folder) or sys.maxsize

    @property
    @abstractmethod
    def arithmetic(self) -> str:
        """What it computes in: its precision, as text."""

    def identity(self) -> list[str]:
        """Return what the answers depend on, beside the prompt and the adapter: engine, arithmetic, weights, template."""
        if self._identity is None:
            self._identity = [self.kind, self.arithmetic, *self.of_model()]
        return self._identity

    def of_model(self) -> list[str]:
        """Return the part of the identity that is the model's alone; neither weights nor a runtime are loaded for it."""
        return [fingerprint_of_config(self.folder), weights_fingerprint(self.folder), self.template_hash()]

    def count_tokens(self, messages: Sequence[Message]) -> int:
        """Return the length of a prompt in tokens."""
        return len(render(self.tokenizer, messages))

    def template_hash(self) -> str:
        """Return a hash of how this model's template turns a fixed conversation into tokens."""
        return template_hash(self.tokenizer)

    def _guides_of(self, constraints: Sequence[Constraint | None], prompts: int, max_tokens: int) -> list[Guide | None]:
        """Return what guides each answer, before any weights are loaded.

        Raises:
            UsageError: a constraint cannot be met, or there is not one a prompt.
            EngineError: one needs more than `max_tokens`.
        """
        if constraints and len(constraints) != prompts:
            raise UsageError(f"{len(constraints)} constraints for {prompts} prompts", hint="one a prompt, or none")
        if self._guides is None:
            config = json.loads((self.folder / "config.json").read_text(encoding="utf-8"))
            vocabulary = (config.get("text_config") or config).get("vocab_size", 0)
            self._guides = Guides(self.tokenizer, int(vocabulary), self._stops)
        for constraint in constraints:
            if isinstance(constraint, Choices | PassageNumbers):
                require_possible(constraint)
        return [self._guides.of(c, max_tokens) for c in constraints] or [None] * prompts

    def _options_of(self, constraint: Constraint | None) -> list[list[int]]:
        """Return the tokens of each option of a choice, [] for other constraints."""
        options = constraint.options if isinstance(constraint, Choices) else ()
        return [[int(i) for i in self.tokenizer(o, add_special_tokens=False)["input_ids"]] for o in options]
