"""The promises of the documentation: generated pages are current, links lead somewhere, commands and options exist."""

import importlib.util
import json
import re
from pathlib import Path

import pytest
from typer.main import get_command

import doyen
from doyen.cli import app

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PAGES = sorted([*DOCS.rglob("*.md"), *(p for p in [ROOT / "README.md"] if p.exists())])
NOTEBOOK = DOCS / "notebooks" / "expert.ipynb"

LINK = re.compile(r"\]\(([^)\s]+)\)")
FENCE = re.compile(r"^```[^\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"`([^`\n]+)`")
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
MACHINE = re.compile(r"(?<![\w.…~])/(work|root|home|tmp|Users)/")


def name_of(path):
    return path.relative_to(ROOT).as_posix()


@pytest.fixture(scope="module")
def reference():
    spec = importlib.util.spec_from_file_location("build_reference", DOCS / "build_reference.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", ["settings.md", "commands.md"])
def test_generated_pages_are_current(reference, tmp_path, name):
    reference.main(tmp_path)
    made, kept = (folder / name for folder in (tmp_path, DOCS / "reference"))
    assert made.read_text(encoding="utf-8") == kept.read_text(encoding="utf-8"), "run: python docs/build_reference.py"


def anchors(page):
    titles = HEADING.findall(FENCE.sub("", page.read_text(encoding="utf-8")))
    return {re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_to_files_and_headings(page):
    for link in LINK.findall(FENCE.sub("", page.read_text(encoding="utf-8"))):
        if re.match(r"[a-z]+:", link):
            continue
        file, _, anchor = link.partition("#")
        target = (page.parent / file).resolve() if file else page
        assert target.exists(), f"{name_of(page)}: {link}"
        if anchor and target.suffix == ".md":
            assert anchor in anchors(target), f"{name_of(page)}: {link}"


def commands_of(page):
    """Yield each command line (`doyen …`) of a page's code."""
    text = page.read_text(encoding="utf-8")
    code = [line for block in FENCE.findall(text) for line in block.splitlines()]
    for line in [*code, *INLINE.findall(FENCE.sub("", text))]:
        for part in re.split(r"&&|;|: (?=doyen )", line):
            part = part.strip().removeprefix("$ ").removeprefix(".venv/bin/")
            if re.match(r"doyen [a-z]", part):
                yield part.split("  #")[0]


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_commands_and_options_exist(page):
    for line in commands_of(page):
        words = line.split()[1:]
        command = get_command(app)
        while words and getattr(command, "commands", None):
            if words[0] not in command.commands and getattr(command, "invoke_without_command", False):
                break
            assert words[0] in command.commands, f"{name_of(page)}: {line}"
            command = command.commands[words.pop(0)]
        known = {name for parameter in command.params for name in parameter.opts} | {"--help", "-h"}
        own = words[: words.index("--")] if "--" in words else words  # what follows is another program's
        given = {word.split("=")[0] for word in own if re.match(r"--?[a-z]", word)}
        assert given <= known, f"{name_of(page)}: {line}"


def test_every_public_name_is_on_the_python_page():
    text = (DOCS / "reference" / "python.md").read_text(encoding="utf-8")
    missing = [name for name in doyen.__all__ if not re.search(rf"\b{name}\b", text)]
    assert not missing


@pytest.mark.parametrize("page", [*PAGES, NOTEBOOK], ids=name_of)
def test_no_path_of_a_machine(page):
    assert not MACHINE.search(page.read_text(encoding="utf-8"))


def test_the_notebook_was_executed_from_its_source():
    spec = importlib.util.spec_from_file_location("build_notebook", NOTEBOOK.with_name("build_notebook.py"))
    source = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(source)
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    assert ["".join(cell["source"]) for cell in cells] == source.CELLS, "run: python docs/notebooks/build_notebook.py"
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    assert not any(output["output_type"] == "error" for cell in code for output in cell["outputs"])
    assert NOTEBOOK.stat().st_size < 300_000
