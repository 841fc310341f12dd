"""What reads each exported form back: doyen's own engines, or a real llama.cpp where that is installed.

Enters: an export's folder. Leaves: a `scoring.Reader`. Without llama.cpp a GGUF file is dequantised into a temporary model
folder, which checks its numbers but not llama.cpp.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from doyen.errors import EngineError
from doyen.exporting.llama_cpp import LlamaCpp, has_llama_cpp
from doyen.exporting.scoring import Reader, log_softmax
from doyen.finetuning.methods import copy_tokenizer
from doyen.models.chat_tokenizer import open_chat_tokenizer
from doyen.models.engine import Engine, render
from doyen.models.fitting import GOLDEN
from doyen.models.fused import fused_parts, joined_weights
from doyen.models.gguf_file import GgufFile
from doyen.models.openvino_engine import OpenVINOEngine, openvino_faults
from doyen.models.safetensors_writing import write_safetensors
from doyen.models.transformers_engine import TransformersEngine
from doyen.prompts import Message

_LIKELIEST = 2000


class EngineReader:
    """One of doyen's engines, in float32, with an adapter or without."""

    def __init__(self, folder: Path, adapter: Path | None = None, *, how: str = "") -> None:
        """Take a model's folder; `how` says what was done to the export before the engine could read it."""
        self._adapter = adapter
        if openvino_faults(folder):
            import torch

            self.engine: Any = TransformersEngine(folder, dtype=torch.float32)
        else:
            self.engine = OpenVINOEngine(folder, precision="f32")
        self.name = f"doyen's {self.engine.kind} engine{f', {how}' if how else ''}"

    def log_probabilities(
        self, prompt: Sequence[int], answer: Sequence[int]
    ) -> list[tuple[NDArray[np.int64], NDArray[np.float64]]]:
        """Return the log-probabilities of all tokens at each position."""
        logits = np.asarray(self.engine.logits_after(prompt, answer, adapter=self._adapter))
        ids = np.arange(logits.shape[-1])
        return [(ids, row) for row in log_softmax(logits)]

    def write(self, prompts: Sequence[tuple[Sequence[Message], list[int]]], max_tokens: int) -> list[str]:
        """Return the greedy answers."""
        engine: Engine = self.engine
        messages = [row for row, _ in prompts]
        return [made.text for made in engine.generate(messages, max_tokens=max_tokens, adapter=self._adapter)]


class LlamaReader:
    """A GGUF file in llama.cpp."""

    def __init__(self, server: LlamaCpp) -> None:
        self._server = server
        self.name = server.name

    def log_probabilities(
        self, prompt: Sequence[int], answer: Sequence[int]
    ) -> list[tuple[NDArray[np.int64], NDArray[np.float64]]]:
        """Return the log-probabilities of the likeliest tokens at each position."""
        ids = [*prompt, *answer]
        return [self._server.next_token(ids[:end], _LIKELIEST) for end in range(len(prompt), len(ids) + 1)]

    def write(self, prompts: Sequence[tuple[Sequence[Message], list[int]]], max_tokens: int) -> list[str]:
        """Return the greedy answers."""
        return [self._server.write(ids, max_tokens) for _, ids in prompts]


@contextmanager
def open_export(form: str, made: Path, base: Path, file: str, context: int) -> Iterator[Reader]:
    """Open what was exported into `made`; `file` is the GGUF file's name in it, `context` the tokens a prompt may have."""
    with tempfile.TemporaryDirectory(prefix=".reading-", dir=made.parent) as name:
        work = Path(name)
        if form.startswith("gguf") and has_llama_cpp():
            with _in_llama_cpp(form, made / file, base, work, context) as reader:
                yield reader
        else:
            yield _OWN[form](made, base, made / file, work)


@contextmanager
def _in_llama_cpp(form: str, path: Path, base: Path, work: Path, context: int) -> Iterator[Reader]:
    if form == "gguf":
        with LlamaCpp(path, context=context) as server:
            _require_same_prompt(server, open_chat_tokenizer(base))
            yield LlamaReader(server)
        return
    from doyen.exporting.gguf_model import write_gguf
    from doyen.exporting.merging import MergedModel

    write_gguf(MergedModel(base, None), work / "base.gguf", "f16", {"name": base.name}, lambda *_: None)
    with LlamaCpp(work / "base.gguf", lora=path, context=context) as server:
        yield LlamaReader(server)


def _require_same_prompt(server: LlamaCpp, tokenizer: Any) -> None:
    """Refuse a GGUF file of which llama.cpp makes other tokens of a conversation than the expert does."""
    from jinja2 import TemplateError

    messages = [dict(m) for m in GOLDEN[:2]]
    try:
        wanted = render(tokenizer, messages)
    except TemplateError:  # it takes no system message
        messages = messages[1:]
        wanted = render(tokenizer, messages)
    found = server.tokens(server.prompt(messages))
    if found == wanted:
        return
    pairs = enumerate(zip(found, wanted, strict=False))
    at = next((i for i, (a, b) in pairs if a != b), min(len(found), len(wanted)))
    raise EngineError(
        f"llama.cpp makes other tokens of a conversation than the expert: the one at {at + 1} of {len(wanted)} differs",
        hint="--format merged, for engines that read tokenizer.json",
    )


def _merged(made: Path, base: Path, file: Path, work: Path) -> Reader:
    return EngineReader(made)


def _adapter(made: Path, base: Path, file: Path, work: Path) -> Reader:
    return EngineReader(base, made)


def _split(made: Path, base: Path, file: Path, work: Path) -> Reader:
    """Join the parts again, so that an engine of the fused model can read them."""
    from safetensors.numpy import load_file, save_file

    parts = fused_parts(json.loads((base / "config.json").read_text(encoding="utf-8")))
    shutil.copyfile(made / "adapter_config.json", work / "adapter_config.json")
    save_file(joined_weights(load_file(made / _WEIGHTS), parts, np.concatenate), work / _WEIGHTS)
    return EngineReader(base, work, how="its parts joined again")


def _dequantised(made: Path, base: Path, file: Path, work: Path) -> Reader:
    gguf = GgufFile(file)
    shutil.copyfile(base / "config.json", work / "config.json")
    copy_tokenizer(base, work)
    write_safetensors(work, gguf.names, gguf.shape, gguf.tensor, "F32", lambda *_: None)
    return EngineReader(work, how="the GGUF file dequantised")


def _gguf_adapter(made: Path, base: Path, file: Path, work: Path) -> Reader:
    """Write the file's A and B as PEFT has them; the scaling is in them."""
    from safetensors.numpy import save_file

    stored = json.loads((base / "config.json").read_text(encoding="utf-8"))
    heads = int(stored["num_attention_heads"])
    gguf = GgufFile(file, (heads, int(stored.get("num_key_value_heads") or heads)))
    rank = int(gguf["adapter.lora.alpha"])
    config = {"peft_type": "LORA", "r": rank, "lora_alpha": rank, "bias": "none", "use_rslora": False}
    (work / "adapter_config.json").write_text(json.dumps(config), encoding="utf-8")
    save_file({f"base_model.model.{name}": gguf.tensor(name) for name in gguf.names}, work / _WEIGHTS)
    return EngineReader(base, work, how="the GGUF adapter in PEFT's form")


_WEIGHTS = "adapter_model.safetensors"
_OWN: dict[str, Callable[[Path, Path, Path, Path], Reader]] = {
    "merged": _merged,
    "adapter": _adapter,
    "split": _split,
    "gguf": _dequantised,
    "gguf-lora": _gguf_adapter,
}
