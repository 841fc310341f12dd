"""A GGUF file and its base's chat template → Ollama's Modelfile.

Its template is written only where one of the known forms gives, letter by letter, what the model's own gives; else Ollama
reads the one in the GGUF file. Form: https://docs.ollama.com/modelfile
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from doyen.prompts import SYSTEM_CLOSED_BOOK

_MOST_CONTEXT = 4096
_PROBE = ({"role": "system", "content": "Be brief."}, {"role": "user", "content": "How many days?\n2"})


@dataclass(frozen=True, slots=True)
class _Marks:
    """What stands before and after a message; `{role}` is its role. `begin` is added by llama.cpp itself."""

    before: str
    after: str
    begin: str = ""

    def prompt(self) -> str:
        turns = [self.before.format(role=m["role"]) + m["content"] + self.after for m in _PROBE]
        return self.begin + "".join(turns) + self.before.format(role="assistant")

    def go(self) -> str:
        """Return the same in Go's template language."""
        turn = self.before.format(role="{{ .Role }}") + "{{ .Content }}" + self.after
        return "{{ range .Messages }}" + turn + "{{ end }}" + self.before.format(role="assistant")


_FORMS = {
    "chatml": _Marks("<|im_start|>{role}\n", "<|im_end|>\n"),
    "phi3": _Marks("<|{role}|>\n", "<|end|>\n"),
    "phi4": _Marks("<|{role}|>", "<|end|>"),
    "llama3": _Marks("<|start_header_id|>{role}<|end_header_id|>\n\n", "<|eot_id|>", "<|begin_of_text|>"),
}


def known_form(tokenizer: Any) -> str | None:
    """Return the name of the form that a tokenizer's chat template writes, None where none gives the same text."""
    from jinja2 import TemplateError

    try:
        text = tokenizer.apply_chat_template(list(_PROBE), add_generation_prompt=True, tokenize=False)
    except TemplateError:  # it takes no system message
        return None
    return next((name for name, marks in _FORMS.items() if marks.prompt() == text), None)


def modelfile(gguf: str, tokenizer: Any, stops: Sequence[str], context: int) -> str:
    """Return a Modelfile for the GGUF file of that name beside it.

    `stops` are the tokens that end a turn, `context` the tokens that the model takes.
    """
    lines = [f"FROM ./{gguf}"]
    form = known_form(tokenizer)
    if form:
        lines.append(f'TEMPLATE """{_FORMS[form].go()}"""')
    lines.append(f"SYSTEM {SYSTEM_CLOSED_BOOK}")  # one line, with quotation marks in it
    lines += [f'PARAMETER stop "{stop}"' for stop in stops]
    lines += ["PARAMETER temperature 0", f"PARAMETER num_ctx {min(context, _MOST_CONTEXT)}"]
    return "\n".join(lines) + "\n"
