"""Where the workflows of an expert stand: `workflows/NAME.toml`, `workflows/NAME/workflow.toml`."""

from __future__ import annotations

from pathlib import Path

from doyen.errors import UsageError
from doyen.workflows.faults import near
from doyen.workflows.reading import FILE_NAME

FOLDER = "workflows"


def workflows_of(expert: Path) -> dict[str, Path]:
    """Return the files of the expert's workflows by name: that of the file, or of its folder."""
    found = {path.stem: path for path in (expert / FOLDER).glob("*.toml")}
    return dict(sorted((found | {path.parent.name: path for path in (expert / FOLDER).glob(f"*/{FILE_NAME}")}).items()))


def find_workflow(expert: Path, named: str) -> Path:
    """Return a workflow's file: that path, or the expert's workflow of that name. Raises UsageError."""
    path = Path(named)
    if path.is_file() or (path / FILE_NAME).is_file():
        return path if path.is_file() else path / FILE_NAME
    known = workflows_of(expert)
    if named in known:
        return known[named]
    raise UsageError(
        f"there is no workflow file {named}{near(named, known)}", hint="docs/guides/workflows.md tells what is in one"
    )
