"""What speaks of many documents at once, a job's report and the expert's status → as one who asks may see it.

Where nothing has labels, or to an admin, all is shown. Else lists lose what is hidden, and what cannot be told is left out.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import PurePath
from typing import Any

from doyen.serving.desk import ModelName
from doyen.serving.viewing import Viewer

_IDS = ("new", "changed", "moved", "relabelled")
_TOLD = ("format", "models", "recall")
"""Of a status, what speaks of no document."""
_UNTOLD = ("removed", "unsupported")
"""Of which nothing says any more who might see them."""


def seen_job(row: dict[str, Any], viewer: Viewer) -> dict[str, Any]:
    """Return a job without documents that are hidden, and failures of others' files."""
    if viewer.sees_others_work:
        return row
    report = row["report"]
    if report:
        report = {key: value for key, value in report.items() if key not in _UNTOLD}
        hidden = viewer.hidden([document for key in _IDS for document in report.get(key, ())])
        report |= {key: [d for d in report.get(key, ()) if d not in hidden] for key in _IDS}
        report["duplicates"] = _groups(report.get("duplicates", ()), viewer)
        report["failed"] = [f for f in report["failed"] if _is_of(f["file"], row["files"])]
        report["warnings"] = [w for w in report["warnings"] if _is_of(w["document"], row["files"])]
        report["counts"] = {key: len(value) for key, value in report.items() if isinstance(value, list)}
    error = (
        row["error"] if row["files"] or not row["error"] else "the ingest failed; doyen status on the server says why"
    )
    return row | {"report": report, "error": error}


def _groups(groups: Collection[Collection[str]], viewer: Viewer) -> list[list[str]]:
    hidden = viewer.hidden({document for group in groups for document in group})
    left = [[document for document in group if document not in hidden] for group in groups]
    return [group for group in left if len(group) > 1]


def _is_of(place: str, files: Collection[str]) -> bool:
    return not {*PurePath(place).parts}.isdisjoint(files)


def seen_status(row: dict[str, Any], viewer: Viewer, models: Collection[ModelName]) -> dict[str, Any]:
    """Return the expert's status without what is hidden; `models` are those that they may use."""
    if viewer.sees_others_work:
        return row
    documents = viewer.documents()
    own = {model.adapter for model in models if model.adapter}
    return {key: row[key] for key in _TOLD} | {
        "documents": len(documents),
        "pages": sum(d.pages for d in documents),
        "chunks": sum(d.chunks for d in documents),
        "summaries": None,
        "duplicates": _duplicates(row["duplicates"], viewer),
        "failed": [],
        "warnings": [],
        "examples": None,
        "adapters": [adapter for adapter in row["adapters"] if adapter["name"] in own],
        "interrupted_runs": [],
        "comparison": row["comparison"] if viewer.sees_all else None,
    }


def _duplicates(groups: Collection[Mapping[str, Any]], viewer: Viewer) -> list[dict[str, Any]]:
    hidden = viewer.hidden({document for group in groups for document in group["documents"]})
    left = [{**g, "documents": [d for d in g["documents"] if d not in hidden]} for g in groups]
    return [group for group in left if len(group["documents"]) > 1]
