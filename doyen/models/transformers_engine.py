"""The engine of torch and transformers: any causal model of theirs, on the processor or a GPU, adapters through PEFT.

Enters: messages. Leaves: completions.
"""

from __future__ import annotations

import importlib.util
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from doyen.errors import ModelError
from doyen.models.checks import is_whole_model, require_room
from doyen.models.constraints import Choices, Constraint
from doyen.models.engine import (
    CERTAINTY_TOKENS,
    FINETUNE_EXTRA,
    Completion,
    LocalEngine,
    Stream,
    check_adapter,
    chosen,
    first_tokens,
    load_causal_model,
    load_tokenizer,
    quiet_peft,
    quiet_transformers,
    render,
    rope_switch,
    working_dtype,
)
from doyen.models.fitting import require_shapes
from doyen.models.guiding import Guide
from doyen.prompts import Message

_LOSS_TOKENS = 512  # of a batch whose every token's logits are computed: 4 bytes × vocabulary each


class TransformersEngine(LocalEngine):
    """A causal language model and its adapters in this process. Weights are loaded at the first prompt.

    `dtype` is torch's dtype to compute in, None for what is native here. Writing stops at the end of the turn, or where
    a text is `finished`.
    """

    kind = "transformers"

    def __init__(self, folder: Path, *, dtype: Any = None, **options: Any) -> None:
        """Take a model's folder; `options` are those of `LocalEngine`."""
        super().__init__(folder, **options)
        self._dtype = dtype
        self._model: Any = None
        self._adapters: dict[Path, str] = {}
        self._whole: tuple[Path, Any] | None = None  # the last model that was trained whole

    @classmethod
    def around(cls, model: Any, folder: Path, **options: Any) -> TransformersEngine:
        """Return an engine of a model that is loaded already, with the tokenizer of its folder."""
        engine = cls(folder, **options)
        engine.tokenizer  # noqa: B018 - loads it, and the stop tokens
        engine._model = model
        return engine

    # ---- loading

    def _open_tokenizer(self) -> Any:
        return load_tokenizer(self.folder)

    def _load(self) -> Any:
        if self._model is None:
            quiet_transformers()
            self.tokenizer  # noqa: B018 - loads it first, so that a missing template is said before the weights load
            self._model = self._loaded(self.folder)
        return self._model

    def _loaded(self, folder: Path) -> Any:
        """Load a model onto the device; its linears in fewer bits where that is wanted."""
        import torch

        device = "cuda" if torch.cuda.is_available() else "cpu"
        dtype = self._dtype or working_dtype()
        if self._bits == 16:
            return load_causal_model(folder, dtype=dtype).to(device).eval()
        quantised = quantisation(self._bits, dtype)
        return load_causal_model(folder, dtype=dtype, quantization_config=quantised, device_map={"": device}).eval()

    def _load_whole(self, folder: Path) -> Any:
        """Load a model of which all weights were trained, in place of the last such one."""
        folder = folder.resolve()
        if self._whole is None or self._whole[0] != folder:
            self._check_adapter(folder)
            self._whole = None
            self._whole = folder, self._loaded(folder)
        return self._whole[1]

    def _load_adapter(self, folder: Path) -> str:
        """Add an adapter to the loaded model and return the name that PEFT knows it by."""
        folder = folder.resolve()
        if folder in self._adapters:
            return self._adapters[folder]
        self._check_adapter(folder)
        model = self._load()
        require_shapes(folder, model.get_base_model() if self._adapters else model)
        from peft import PeftModel

        name = f"adapter{len(self._adapters)}"
        with quiet_peft():
            if self._adapters:
                model.load_adapter(str(folder), adapter_name=name)
            else:
                self._model = PeftModel.from_pretrained(model, str(folder), adapter_name=name).eval()
        self._adapters[folder] = name
        return name

    def _check_adapter(self, folder: Path) -> None:
        check_adapter(folder, self.folder, self.name, self.tokenizer)

    # ---- the interface

    @property
    def arithmetic(self) -> str:
        """What it computes in: the name of torch's dtype."""
        return str(self._dtype or working_dtype())

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
        """Answer all prompts greedily, in batches of about `batch_tokens` padded prompt tokens.

        `stream` gets each answer in one piece, when its batch is done.

        Raises:
            EngineError: a prompt and its answer do not fit into the model's context, the adapter does not fit, or a
                constraint needs more than `max_tokens`.
            UsageError: a constraint cannot be met.
        """
        if not prompts:
            return []
        self.tokenizer  # noqa: B018 - loads it, and the stop tokens
        guides = self._guides_of(constraints, len(prompts), max_tokens)
        ids = [render(self.tokenizer, p) for p in prompts]
        refusing = first_tokens(self.tokenizer, refusal) if refusal else []
        done: dict[int, Completion] = {}
        with self._adapter_applied(adapter):
            require_room(max(map(len, ids)), max_tokens, self.context_tokens, self.name)
            choices = {i: c for i, c in enumerate(constraints) if isinstance(c, Choices)}
            written = [i for i in range(len(prompts)) if i not in choices]
            groups: list[list[int]] = [[i] for i in choices]
            switch = rope_switch(self._model.config)
            groups += (
                [written[k] for k in batch]
                for batch in _batches([len(ids[i]) for i in written], self.batch_tokens, switch, max_tokens)
            )
            for group in groups:
                if group[0] in choices:
                    found = [self._choose(ids[group[0]], choices[group[0]], refusing)]
                else:
                    rows, own = [ids[i] for i in group], [guides[i] for i in group]
                    found = self._generate_batch(rows, max_tokens, refusing, may_refuse, own)
                done |= dict(zip(group, found, strict=True))
                if progress:
                    progress(len(group))
                for i in group:
                    if stream:
                        stream(i, done[i].text)
        return [done[i] for i in range(len(prompts))]

    def _choose(self, prompt: list[int], choices: Choices, refusing: Sequence[int]) -> Completion:
        """Read every option behind a prompt, as many at a time as `batch_tokens` allow."""
        import torch

        started = time.perf_counter()
        options, device = self._options_of(choices), next(self._model.parameters()).device
        longest = max(map(len, options))
        at_once = max(1, self.batch_tokens // (len(prompt) + longest))
        scores: list[float] = []
        refusal = None
        for start in range(0, len(options), at_once):
            part = options[start : start + at_once]
            rows = torch.tensor([[*prompt, *o, *[self._stops[0]] * (longest - len(o))] for o in part])
            with torch.inference_mode():
                logits = self._model(input_ids=rows.to(device), logits_to_keep=longest + 1).logits.float()
            sure = logits.log_softmax(-1)
            if refusing:
                refusal = float(sure[0, 0, refusing[0]].exp())
            scores += [sum(float(sure[i, k, t]) for k, t in enumerate(o)) for i, o in enumerate(part)]
        read = Completion("", len(prompt), 0, time.perf_counter() - started, refusal)
        return chosen(read, choices, options, scores)

    def next_token_logits(self, messages: Sequence[Message], *, adapter: Path | None = None) -> Any:
        """Return the logits `(vocabulary,) float32` after a prompt, with or without an adapter."""
        import torch

        ids = torch.tensor([render(self.tokenizer, messages)])
        with self._adapter_applied(adapter), torch.inference_mode():
            model = self._model
            return model(input_ids=ids.to(next(model.parameters()).device), logits_to_keep=1).logits[0, -1].float()

    def logits_after(self, prompt: Sequence[int], answer: Sequence[int], *, adapter: Path | None = None) -> Any:
        """Return the logits `(1 + len(answer), vocabulary) float32` after a prompt and after each token of an answer."""
        import torch

        ids = torch.tensor([[*prompt, *answer]])
        with self._adapter_applied(adapter), torch.inference_mode():
            device = next(self._model.parameters()).device
            logits = self._model(input_ids=ids.to(device), logits_to_keep=1 + len(answer)).logits
        return logits[0].float().cpu()

    def text_losses(
        self, texts: Sequence[str], prompts: Sequence[Sequence[Message]] = (), *, adapter: Path | None = None
    ) -> list[float]:
        """Return the negative log-likelihood (nats) of each text: as plain text, or as the answer to its prompt.

        Plain text stands behind the model's beginning-of-text token; of a model that has none, the text's first token
        is not counted.
        """
        tokenizer = self.tokenizer
        bodies = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts]
        begin = [] if tokenizer.bos_token_id is None else [int(tokenizer.bos_token_id)]
        heads = [render(tokenizer, prompt) for prompt in prompts] or [begin] * len(texts)
        rows = [(head + body, max(1, len(head))) for head, body in zip(heads, bodies, strict=True)]
        found = [0.0] * len(rows)
        with self._adapter_applied(adapter):
            switch = rope_switch(self._model.config)
            for group in _batches([len(ids) for ids, _ in rows], min(self.batch_tokens, _LOSS_TOKENS), switch):
                for i, loss in zip(group, self._losses([rows[i] for i in group]), strict=True):
                    found[i] = loss
        return found

    def _losses(self, rows: Sequence[tuple[list[int], int]]) -> list[float]:
        """Return the summed loss of each row of `(token ids, first counted)`; right-padded, so that nothing shifts."""
        import torch

        width = max(len(ids) for ids, _ in rows)
        tokens = torch.tensor([ids + [self._stops[0]] * (width - len(ids)) for ids, _ in rows])
        mask = torch.tensor([[1] * len(ids) + [0] * (width - len(ids)) for ids, _ in rows])
        device = next(self._model.parameters()).device
        with torch.inference_mode():
            logits = self._model(input_ids=tokens.to(device), attention_mask=mask.to(device)).logits
            losses = torch.nn.functional.cross_entropy(
                logits[:, :-1].float().transpose(1, 2), tokens[:, 1:].to(device), reduction="none"
            )
        return [float(losses[i, start - 1 : len(ids) - 1].sum()) for i, (ids, start) in enumerate(rows)]

    @contextmanager
    def _adapter_applied(self, adapter: Path | None) -> Iterator[None]:
        """Have `self._model` be the base model, with an adapter on it, or a model that was trained whole."""
        if adapter is not None and is_whole_model(adapter):
            whole, base = self._load_whole(adapter), self._model
            self._model = whole
            try:
                yield
            finally:
                self._model = base
            return
        self._load()
        if adapter is not None:
            name = self._load_adapter(adapter)
            self._model.set_adapter(name)
            yield
        elif self._adapters:
            with self._model.disable_adapter():
                yield
        else:
            yield

    def _generate_batch(
        self,
        ids: list[list[int]],
        max_tokens: int,
        refusing: Sequence[int],
        may_refuse: bool,
        guides: Sequence[Guide | None],
    ) -> list[Completion]:
        import torch
        from transformers import LogitsProcessorList, StoppingCriteriaList

        started = time.perf_counter()
        width = max(map(len, ids))
        pad = self._stops[0]
        tokens = torch.tensor([[pad] * (width - len(row)) + row for row in ids])
        mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in ids])
        device = next(self._model.parameters()).device
        signs, guided = _Signs(refusing, may_refuse), _Guided(guides, self._stops)
        with torch.inference_mode():
            out = self._model.generate(
                input_ids=tokens.to(device),
                attention_mask=mask.to(device),
                max_new_tokens=max_tokens,
                do_sample=False,
                num_beams=1,
                temperature=None,
                top_p=None,
                top_k=None,
                eos_token_id=self._stops,
                pad_token_id=pad,
                logits_processor=LogitsProcessorList([signs, guided]),
                stopping_criteria=StoppingCriteriaList([self._ends(width, guides)]),
            )
        written = [_until_stop(row, self._stops) for row in out[:, width:].tolist()]
        seconds = (time.perf_counter() - started) / len(ids)
        return [
            Completion(
                self._text(new, guide),
                len(row),
                len(new),
                seconds,
                signs.refusal(i),
                signs.log_probability(i, len(new)) if guide is None else guided.log_probability(i),
                shortened=guide is not None and guide.shortened,
                total_log_probability=guided.total_log_probability(i),
            )
            for i, (row, new, guide) in enumerate(zip(ids, written, guides, strict=True))
        ]

    def _text(self, written: Sequence[int], guide: Guide | None) -> str:
        """Return what is written: exactly, where a grammar rules it, else without white space at its ends."""
        if guide is not None and guide.strict:
            assert self._guides is not None
            return self._guides.text(written)
        text: str = self.tokenizer.batch_decode([written], skip_special_tokens=True)[0]
        return text.strip()

    def _ends(self, width: int, guides: Sequence[Guide | None]) -> Callable[..., Any]:
        """Return a stopping criterion: the rows whose text after `width` prompt tokens is finished; not those of a grammar."""
        import torch

        breaks: dict[int, bool] = {}  # token → whether it holds a line break

        def breaks_line(token: int) -> bool:
            if token not in breaks:
                breaks[token] = "\n" in self.tokenizer.decode([token])
            return breaks[token]

        def ended(input_ids: Any, scores: Any, **options: Any) -> Any:
            rows = input_ids[:, width:].tolist()
            return torch.tensor(
                [
                    not (guide and guide.strict) and breaks_line(row[-1]) and self._finished(self.tokenizer.decode(row))
                    for row, guide in zip(rows, guides, strict=True)
                ],
                device=input_ids.device,
            )

        return ended


def quantisation(bits: int, dtype: Any) -> Any:
    """Return bitsandbytes' settings for 8 or 4 bits, computing in `dtype`: NF4 (arXiv 2305.14314) or LLM.int8 (2208.07339)."""
    if importlib.util.find_spec("bitsandbytes") is None:
        raise ModelError(f"[model] bits = {bits} needs bitsandbytes, which is not installed", hint=FINETUNE_EXTRA)
    from transformers import BitsAndBytesConfig

    if bits == 8:
        return BitsAndBytesConfig(load_in_8bit=True)
    options = {"bnb_4bit_quant_type": "nf4", "bnb_4bit_use_double_quant": True, "bnb_4bit_compute_dtype": dtype}
    return BitsAndBytesConfig(load_in_4bit=True, **options)


class _Signs:
    """A logits processor that notes how sure the model is of refusing and of what it writes, and can rule refusing out."""

    def __init__(self, refusing: Sequence[int], may_refuse: bool) -> None:
        self._refusing = refusing
        self._may_refuse = may_refuse
        self._refusal: list[float] | None = None
        self._steps: list[list[float]] = []

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        import torch

        wide = scores.float()
        if self._refusing and not self._steps:
            self._refusal = wide.softmax(-1)[:, self._refusing[0]].tolist()
            if not self._may_refuse:
                scores, wide = scores.clone(), wide.clone()
                scores[:, self._refusing] = wide[:, self._refusing] = float("-inf")
        # Greedy: the token that is written is the likeliest one.
        if len(self._steps) < CERTAINTY_TOKENS:
            self._steps.append((wide.amax(-1) - torch.logsumexp(wide, -1)).tolist())
        return scores

    def refusal(self, row: int) -> float | None:
        """Return one row's probability of the refusal's first token."""
        return self._refusal[row] if self._refusal is not None else None

    def log_probability(self, row: int, written: int) -> float:
        """Return the mean log-probability of one row's first written tokens, or all and its end of turn."""
        steps = [step[row] for step in self._steps[: written + 1]]
        return sum(steps) / len(steps) if steps else 0.0


class _Guided:
    """A logits processor that leaves each guided row the one token that its guide wants next."""

    def __init__(self, guides: Sequence[Guide | None], stops: Sequence[int]) -> None:
        self._guides, self._stops = guides, stops
        self._waiting: list[list[int]] = [[] for _ in guides]
        self._sure: list[list[float]] = [[] for _ in guides]
        self._running = {i for i, guide in enumerate(guides) if guide is not None}

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        if self._running:
            scores = scores.clone()
        for i in sorted(self._running):
            token = self._next(i, scores[i].float())
            if token in self._stops:
                self._running.discard(i)
            scores[i] = float("-inf")
            scores[i, token] = 0.0
        return scores

    def _next(self, row: int, logits: Any) -> int:
        guide, waiting = self._guides[row], self._waiting[row]
        assert guide is not None
        if not waiting:
            waiting += guide.write(logits.cpu().numpy())
            if guide.strict or len(self._sure[row]) < CERTAINTY_TOKENS:
                self._sure[row].append(float(logits.log_softmax(-1)[waiting[0]]))
        return waiting.pop(0)

    def log_probability(self, row: int) -> float:
        """Return the mean log-probability of a guided row's first tokens that were not forced."""
        sure = self._sure[row][:CERTAINTY_TOKENS]
        return sum(sure) / len(sure) if sure else 0.0

    def total_log_probability(self, row: int) -> float:
        """Return the summed log-probability of all of a row's tokens that were not forced, 0 where no grammar rules it."""
        guide = self._guides[row]
        return math.fsum(self._sure[row]) if guide is not None and guide.strict else 0.0


def _until_stop(row: list[int], stops: Sequence[int]) -> list[int]:
    for i, token in enumerate(row):
        if token in stops:
            return row[:i]
    return row


def _batches(lengths: Sequence[int], budget: int, switch: int | None = None, answer: int = 0) -> Iterator[list[int]]:
    """Group prompts of like length so that rows × longest stays within `budget` tokens; longest first.

    With a `rope_switch`, a batch holds only prompts that are beyond it, or only such that stay within it with their
    `answer`, or only prompts of one length: a prompt's answer must not depend on its neighbours.
    """

    def stage(length: int) -> int:
        if switch is None or length > switch:
            return -1
        return 0 if length + answer <= switch else length

    order = sorted(range(len(lengths)), key=lambda i: -lengths[i])
    batch: list[int] = []
    for i in order:
        first = lengths[batch[0]] if batch else 0
        if batch and ((len(batch) + 1) * first > budget or stage(lengths[i]) != stage(first)):
            yield batch
            batch = []
        batch.append(i)
    if batch:
        yield batch
