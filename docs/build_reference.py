"""Generate docs/reference/settings.md and commands.md from the code: `python docs/build_reference.py [FOLDER]`.

Enters: the settings' dataclasses and the command line's objects. Leaves: two pages. tests/test_docs.py compares
them with what stands in the repository.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

from typer.main import get_command

from doyen.cli import app
from doyen.config import Settings, toml_value

MADE = "<!-- Made by docs/build_reference.py: change the code, then run it. -->"
SETTINGS_HEAD = f"""{MADE}
# Settings

An expert's settings stand in its `doyen.toml`, one table a stage. `doyen init` writes the file with every default
commented out. Unknown tables and keys are refused by name, and all faults of a file are reported together.

A change takes effect with the next command, with these exceptions:

- `[embedder] name`, `dimensions` and `passage_prefix`, and `[chunking] max_tokens` belong to the index:
  `doyen ingest --rebuild SOURCE…` makes it anew.
- `[examples]`, `[answer] passages`, `[finetune] validation_share` and `[retrieval]` shape the training examples: run
  `doyen examples build` again.
- `[finetune]` counts for the next `doyen finetune`; an adapter keeps the settings it was trained with in its manifest.
- `[model] name`: an adapter belongs to the model that it was trained on.

The first key of the file, outside the tables, is `format = 1`: the version of this form.
"""
COMMANDS_HEAD = f"""{MADE}
# Commands

Every command but `init` and `models` takes `--expert DIR`; without it, the nearest folder upwards that holds a
`doyen.toml` is the expert. With `--json`, the result is printed as JSON. Results go to stdout; progress, remarks and
errors to stderr.

| exit code | meaning |
| --- | --- |
| 0 | done |
| 1 | a fault that you can mend: `error:` and mostly `hint:` say how; `doctor` found something |
| 2 | arguments that do not go together |
| 130 | stopped (Ctrl-C); what was done is kept |
"""


def settings_page() -> str:
    """Return settings.md."""
    parts = [SETTINGS_HEAD]
    for table in fields(Settings):
        kind: Any = table.default_factory
        parts += [f"## [{table.name}]\n", f"{inspect.getdoc(kind)}\n"]
        parts += ["| key | default | permitted | what it is |", "| --- | --- | --- | --- |"]
        for item in fields(kind):
            meta = item.metadata
            cells = (f"`{item.name}`", f"`{toml_value(item.default)}`", _permitted(item), _cell(meta["doc"]))
            parts.append(f"| {' | '.join(cells)} |")
        parts.append("")
    return "\n".join(parts)


def _permitted(item: Any) -> str:
    meta = item.metadata
    if meta["one_of"] is not None:
        return ", ".join(f"`{value}`" for value in meta["one_of"])
    kind = {"str": "text", "int": "whole number", "float": "number", "bool": "true or false"}[
        type(item.default).__name__
    ]
    low, high = meta["low"], meta["high"]
    if low is not None and high is not None:
        return f"{kind}, {low:g} to {high:g}"
    return f"{kind}, at least {low:g}" if low is not None else kind


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def walk(command: Any, path: str = "doyen") -> Iterator[tuple[str, Any]]:
    """Yield (`doyen examples import`, command) for every command; a group that only lists others is left out."""
    inner = getattr(command, "commands", {})
    if not inner or getattr(command, "invoke_without_command", False):
        yield path, command
    for name, child in inner.items():
        yield from walk(child, f"{path} {name}")


def commands_page() -> str:
    """Return commands.md."""
    parts = [COMMANDS_HEAD]
    for path, command in walk(get_command(app)):
        arguments = [p for p in command.params if p.param_type_name == "argument"]
        options = [p for p in command.params if p.param_type_name == "option" and "--help" not in p.opts]
        usage = " ".join([path, *(_argument(a) for a in arguments), *(["[OPTIONS]"] if options else [])])
        parts += [f"## {path}\n", f"{_cell(command.help or '')}\n", f"```\n{usage}\n```\n"]
        rows = [f"| `{_argument(a)}` | {_cell(a.help)} |" for a in arguments if getattr(a, "help", None)]
        rows += [f"| `{_option(o)}` | {_cell(o.help or '')}{_default(o)} |" for o in options]
        parts += ["| argument or option | what it is |", "| --- | --- |", *rows, ""]
    return "\n".join(parts)


def _argument(parameter: Any) -> str:
    name = parameter.metavar or parameter.name.upper()
    return name if parameter.required else f"[{name}]"


def _option(parameter: Any) -> str:
    names = ", ".join(parameter.opts)
    if parameter.is_flag:
        return names
    if parameter.metavar:
        return f"{names} {parameter.metavar}"
    declared = getattr(parameter, "type_descriptor", None)  # typer 0.29; older versions have click's type
    kind = declared.annotation.__name__ if declared else type(parameter.type).__name__
    shown = next((s for word, s in (("int", "N"), ("float", "X"), ("path", "PATH")) if word in kind.lower()), "TEXT")
    return f"{names} {shown}"


def _default(parameter: Any) -> str:
    return (
        f" Default: `{parameter.default}`."
        if parameter.show_default and parameter.default and not parameter.is_flag
        else ""
    )


PAGES = {"settings.md": settings_page, "commands.md": commands_page}


def main(folder: Path) -> None:
    """Write the pages into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, page in PAGES.items():
        (folder / name).write_text(page().rstrip("\n") + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent / "reference")
