"""A model folder's tokenizer and chat template without transformers: conversation ↔ token ids.

Enters: tokenizer.json, tokenizer_config.json, the template. Leaves: what `render`, `template_hash` and
`stop_token_ids` of `engine.py` ask of a tokenizer, under transformers' names. Knows no model.
"""

from __future__ import annotations

import datetime
import importlib.util
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from doyen.errors import ModelError

_PLAIN = ("PreTrainedTokenizerFast", "TokenizersBackend")
_SPECIAL = ("bos_token", "eos_token", "unk_token", "pad_token", "sep_token", "cls_token", "mask_token")


def open_chat_tokenizer(folder: Path) -> Any:
    """Open a model's tokenizer: here where tokenizer.json is all of it, else with transformers where that is installed.

    transformers changes the tokenizers of some classes as it loads them (GPT-2's and Llama's pre-tokenizers), and
    fine-tuning reads with transformers; equal template hashes tell whether both read alike.

    Raises:
        ModelError: the folder holds no tokenizer, or one without a chat template.
    """
    config = _read_json(folder / "tokenizer_config.json")
    plain = config.get("tokenizer_class") in _PLAIN or importlib.util.find_spec("transformers") is None
    if plain and (folder / "tokenizer.json").is_file():
        return ChatTokenizer(folder, config)
    from doyen.models.engine import load_tokenizer

    return load_tokenizer(folder)


class ChatTokenizer:
    """tokenizer.json and a Jinja template, with the few methods of a transformers tokenizer that doyen uses."""

    def __init__(self, folder: Path, config: Mapping[str, Any]) -> None:
        """Read the files. Raises ModelError where they are broken or there is no chat template."""
        from tokenizers import Tokenizer

        try:
            self._tokenizer: Any = Tokenizer.from_file(str(folder / "tokenizer.json"))
        except Exception as error:  # tokenizers raises a bare Exception
            raise ModelError(f"{folder} holds no usable tokenizer: {error}") from error
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        self.chat_template = _template_text(folder, config)
        if not self.chat_template:
            raise ModelError(
                f"the tokenizer in {folder} has no chat template", hint="use an instruct model (doyen models)"
            )
        self._special = {key: _content(config[key]) for key in _SPECIAL if config.get(key) is not None}
        self._template: Any = None

    @property
    def backend_tokenizer(self) -> Any:
        """The `tokenizers.Tokenizer`."""
        return self._tokenizer

    def __len__(self) -> int:
        return int(self._tokenizer.get_vocab_size(with_added_tokens=True))

    def __call__(self, text: str, *, add_special_tokens: bool = True) -> dict[str, list[int]]:
        """Return the token ids of a text under "input_ids"."""
        return {"input_ids": self._tokenizer.encode(text, add_special_tokens=add_special_tokens).ids}

    @property
    def bos_token_id(self) -> int | None:
        """The token that begins a text, None where the configuration names none."""
        return self._special_id("bos_token")

    @property
    def eos_token_id(self) -> int | None:
        """The token that ends a text, None where the configuration names none."""
        return self._special_id("eos_token")

    def _special_id(self, name: str) -> int | None:
        found = self._tokenizer.token_to_id(self._special[name]) if name in self._special else None
        return None if found is None else int(found)

    def convert_ids_to_tokens(self, ids: Sequence[int]) -> list[str]:
        """Return the names of token ids."""
        return [self._tokenizer.id_to_token(int(i)) for i in ids]

    def get_added_vocab(self) -> dict[str, int]:
        """Return the tokens that stand apart from the trained vocabulary, with their ids."""
        return {token.content: int(i) for i, token in self._tokenizer.get_added_tokens_decoder().items()}

    def get_vocab(self) -> dict[str, int]:
        """Return all tokens with their ids."""
        vocabulary: dict[str, int] = self._tokenizer.get_vocab(with_added_tokens=True)
        return vocabulary

    def decode(self, ids: Sequence[int], *, skip_special_tokens: bool = False) -> str:
        """Return the text of token ids."""
        text: str = self._tokenizer.decode(list(ids), skip_special_tokens=skip_special_tokens)
        return text

    def batch_decode(self, rows: Sequence[Sequence[int]], *, skip_special_tokens: bool = False) -> list[str]:
        """Return the texts of rows of token ids."""
        return [self.decode(row, skip_special_tokens=skip_special_tokens) for row in rows]

    def apply_chat_template(
        self,
        messages: Sequence[Mapping[str, str]],
        *,
        add_generation_prompt: bool = False,
        tokenize: bool = True,
        return_dict: bool = True,
    ) -> Any:
        """Return a conversation as text, or as token ids (under "input_ids" with `return_dict`)."""
        if self._template is None:
            self._template = _compile(self.chat_template)
        text = self._template.render(
            messages=list(messages),
            add_generation_prompt=add_generation_prompt,
            tools=None,
            documents=None,
            **self._special,
        )
        if not tokenize:
            return text
        encoded = self(text, add_special_tokens=False)
        return encoded if return_dict else encoded["input_ids"]


def _compile(template: str) -> Any:
    """Compile a chat template as transformers does (`utils/chat_template_utils.py`): sandboxed, blocks trimmed."""
    from jinja2 import TemplateError
    from jinja2.ext import loopcontrols
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    def refuse(message: str) -> None:
        raise TemplateError(message)

    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols])
    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = refuse
    environment.globals["strftime_now"] = lambda form: datetime.datetime.now().strftime(form)
    return environment.from_string(template)


def _to_json(value: Any, ensure_ascii: bool = False, indent: int | None = None, **options: Any) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, **options)


def _template_text(folder: Path, config: Mapping[str, Any]) -> str:
    """Return the chat template: its own file goes before the configuration, the one named "default" before others."""
    path = folder / "chat_template.jinja"
    if path.is_file():
        return path.read_text(encoding="utf-8")
    found = config.get("chat_template") or ""
    if isinstance(found, list):
        found = next((t["template"] for t in found if t.get("name") == "default"), "")
    return str(found)


def _content(token: Any) -> str:
    return str(token["content"] if isinstance(token, Mapping) else token)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
