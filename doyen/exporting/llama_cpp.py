"""A GGUF file, and perhaps an adapter's, in a real llama.cpp in this process (the package xllamacpp).

Enters: token ids. Leaves: the probabilities of the next token, or what it writes. Its server listens on 127.0.0.1 on a
free port, which its tokenizer and template are asked through.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from doyen.embedding.runtime import cores
from doyen.errors import EngineError

EXPORT_EXTRA = "pip install 'doyen[export]'"


def has_llama_cpp() -> bool:
    """Whether llama.cpp is installed here."""
    return importlib.util.find_spec("xllamacpp") is not None


class LlamaCpp:
    """One loaded GGUF file; use it in a `with`, which frees its memory and port."""

    def __init__(self, gguf: Path, *, lora: Path | None = None, context: int = 4096) -> None:
        """Load the file. Raises EngineError where llama.cpp cannot."""
        import xllamacpp

        self.name = f"llama.cpp (xllamacpp {importlib.metadata.version('xllamacpp')})"
        params = xllamacpp.CommonParams()
        params.model.path = str(gguf)
        params.n_ctx, params.n_parallel, params.warmup, params.verbosity = context, 1, False, -1
        params.cpuparams.n_threads = params.cpuparams_batch.n_threads = cores()
        # As exact as it can: this judges the file, not a cache in half precision.
        params.cache_type_k = params.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
        if lora is not None:
            params.lora_adapters = [xllamacpp.CommonAdapterLoraInfo(str(lora), 1.0)]
        try:
            self._server: Any = xllamacpp.Server(params)
        except (RuntimeError, ValueError) as error:
            raise EngineError(f"llama.cpp cannot load {gguf.name}: {error}") from error

    def __enter__(self) -> LlamaCpp:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server = None

    def _post(self, path: str, body: Mapping[str, Any]) -> Any:
        import httpx

        with httpx.Client(trust_env=False, timeout=60) as client:
            return client.post(f"{self._server.listening_address}{path}", json=dict(body)).raise_for_status().json()

    def tokens(self, text: str) -> list[int]:
        """Return the token ids of a text in which special tokens are written out."""
        body = {"content": text, "add_special": False, "parse_special": True}
        return [int(i) for i in self._post("/tokenize", body)["tokens"]]

    def prompt(self, messages: Sequence[Mapping[str, str]]) -> str:
        """Return a conversation as the file's own chat template writes it, with the opening of the next turn."""
        return str(self._post("/apply-template", {"messages": [dict(m) for m in messages]})["prompt"])

    def _complete(self, ids: Sequence[int], tokens: int, probabilities: int = 0) -> Any:
        wanted: dict[str, Any] = {"prompt": list(ids), "max_tokens": tokens, "temperature": 0.0, "cache_prompt": True}
        if probabilities:
            # A token that is half a character, or ends the text, is not reported: a letter is written whatever is likely.
            # The probabilities are those before that.
            wanted |= {"n_probs": probabilities, "logit_bias": [[self.tokens("a")[0], 1000.0]]}
        made = self._server.handle_completions(wanted)
        if "choices" not in made:
            raise EngineError(f"llama.cpp does not answer: {made}")
        return made["choices"][0]

    def next_token(self, ids: Sequence[int], most: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Return the ids and natural log-probabilities of the `most` likeliest next tokens."""
        rows = self._complete(ids, 1, most)["logprobs"]["content"][0]["top_logprobs"]
        return np.array([r["id"] for r in rows]), np.array([r["logprob"] for r in rows], np.float64)

    def write(self, ids: Sequence[int], max_tokens: int) -> str:
        """Return what it writes greedily after a prompt, to the end of its turn."""
        return str(self._complete(ids, max_tokens)["text"])
