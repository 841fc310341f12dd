"""An expert's retrieval × questions with gold → recall, hit rate, MRR and nDCG with intervals, and what each stage adds.

Enters: an expert's folder and questions. Leaves: `report.json` and `hits.jsonl` in a folder. Asks no language model.
"""

from __future__ import annotations

import datetime
import hashlib
import importlib.metadata
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from doyen.answering import Progress
from doyen.config import Settings, load_settings, write_atomic
from doyen.errors import ExamplesError, UsageError
from doyen.evaluation.retrieval_ablation import Stage, ablation, differences, stages_of
from doyen.evaluation.retrieval_scores import Level, gold_grades, has_gold_pages, means, score_hits
from doyen.evaluation.shown import evidence_shown
from doyen.examples.building import held_out_questions
from doyen.examples.importing import documents_of, write_rows
from doyen.expert import open_retriever
from doyen.index.rows import IndexedDocument
from doyen.records import Hit, Question
from doyen.retrieval.hybrid import Retriever

FORMAT = 1
CHUNKS_A_RANK = 3  # chunks of one document or page share a rank: so many are retrieved for each rank that is measured
LEAST_CHUNKS = 30
BATCH = 64  # questions between two reports of progress
LEVELS: tuple[Level, ...] = ("gold", "page", "document")
_TEXT_KEYS = ("text", "section", "record")
_NAMED = 5  # ids that a warning names


def evaluate_retrieval(
    expert: Path | str,
    questions: Sequence[Question] | None = None,
    *,
    k: int = 10,
    out: Path | None = None,
    stages: bool = True,
    against: Path | None = None,
    seed: int = 7,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Search for every question that has gold, score the ranks, and write `report.json` and `hits.jsonl` into `out`.

    `questions` default to the imported ones of the test split; `out` to `evaluations/<hash of the inputs>`. `k` is the
    depth of recall@k. `stages` also measures what each stage of retrieval adds. `against` is the folder of an earlier
    evaluation: the report then holds the paired differences over the questions of both.

    Returns:
        The report (docs/reference/report.md), with its folder under "folder".

    Raises:
        ExamplesError: no question has gold, or no gold document is in the index.
        UsageError: `k` is not 1 to 100, or `against` holds no evaluation.
    """
    if not 1 <= k <= 100:
        raise UsageError(f"k is {k}, expected 1 to 100")
    folder = Path(expert)
    settings = load_settings(folder)
    given = list(questions) if questions is not None else held_out_questions(folder)
    asked = [q for q in given if gold_grades(q)]
    retriever = open_retriever(folder, settings)
    warnings = _check(asked, len(given), retriever.index.documents())
    earlier = _read_report(against, {q.id for q in asked}) if against is not None else None
    manifest = _manifest(settings, asked, retriever, k, seed)
    variants = stages_of(settings) if stages else []
    hits = _search(retriever, asked, k, "searching", progress)
    found = [_stage_scores(folder, stage, asked, k, progress, settings, hits) for stage in variants]
    report = {
        "format": FORMAT,
        "manifest": manifest,
        "seed": seed,
        "k": k,
        "questions": {"total": len(given), "with_gold": len(asked), "without_gold": len(given) - len(asked)},
        "warnings": warnings,
        **_figures(asked, hits, k, seed),
        "stages": ablation(variants, found, seed=seed) if variants else [],
        "shown": evidence_shown(asked, hits, retriever, settings.answer.passages, seed=seed) if variants else None,
        "rows": [
            {"id": q.id, "language": q.language, "kind": q.kind, "scores": score_hits(q, h, k=k)}
            for q, h in zip(asked, hits, strict=True)
        ],
    }
    if earlier is not None:
        report["against"] = _against(earlier, report["rows"], seed)
    target = out or folder / "evaluations" / manifest["id"]
    write_rows(target / "hits.jsonl", _hit_rows(asked, hits))
    write_atomic(target / "report.json", json.dumps(report, ensure_ascii=False, indent=1))
    return report | {"folder": str(target)}


# ---- searching


def _search(
    retriever: Retriever, questions: Sequence[Question], k: int, stage: str, progress: Progress | None
) -> list[list[Hit]]:
    """Return hits enough to rank `k` distinct documents or pages."""
    found: list[list[Hit]] = []
    limit = max(LEAST_CHUNKS, CHUNKS_A_RANK * k)
    for first in range(0, len(questions), BATCH):
        found += retriever.search_many([q.question for q in questions[first : first + BATCH]], limit)
        if progress:
            progress(stage, len(found), len(questions))
    return found


def _stage_scores(
    folder: Path,
    stage: Stage,
    questions: Sequence[Question],
    k: int,
    progress: Progress | None,
    settings: Settings,
    hits: Sequence[Sequence[Hit]],
) -> list[dict[str, float]]:
    """Score one variant; `hits` are those of the settings as they are."""
    if stage.settings != settings:
        hits = _search(open_retriever(folder, stage.settings), questions, k, stage.name, progress)
    return [score_hits(q, h, k=k) for q, h in zip(questions, hits, strict=True)]


# ---- what is wrong with the questions


def _check(asked: Sequence[Question], given: int, documents: Sequence[IndexedDocument]) -> list[str]:
    """Return warnings on gold that cannot be found; raise where nothing can be measured."""
    if not asked:
        raise ExamplesError(
            f"none of the {given} questions has gold, so there is nothing to measure",
            hint='give each question "gold": [{"document": ID, "page": N or null}] (docs/reference/files.md)',
        )
    pages = {d.id: d.pages for d in documents}
    gold = documents_of(asked)
    missing = sorted(gold - pages.keys())
    if len(missing) == len(gold):
        raise ExamplesError(
            f"none of the {len(gold)} gold documents is in the index: gold has '{missing[0]}'"
            + (f", the index has '{_likest(missing[0], list(pages))}'" if pages else ""),
            hint=_naming_hint(missing[0], pages),
        )
    warnings = []
    if missing:
        lost = sum(any(g.document in missing for g in q.gold) for q in asked)
        warnings.append(
            f"{len(missing)} of {len(gold)} gold documents are not in the index ({_named(missing)}); "
            f"{lost} questions name one and lose by it; {_naming_hint(missing[0], pages)}"
        )
    beyond = sorted(
        {f"{g.document} p. {g.page}" for q in asked for g in q.gold if g.page and g.page > pages.get(g.document, 10**9)}
    )
    if beyond:
        warnings.append(f"{len(beyond)} gold pages do not exist in their document ({_named(beyond)})")
    return warnings


def _named(names: Sequence[str]) -> str:
    return ", ".join(names[:_NAMED]) + (", …" if len(names) > _NAMED else "")


def _likest(name: str, known: Sequence[str]) -> str:
    """Return the known id that ends like `name`."""

    def shared(other: str) -> int:
        pairs = zip(reversed(name), reversed(other), strict=False)
        return next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(name), len(other)))

    return max(known, key=shared)


def _naming_hint(name: str, known: dict[str, int]) -> str:
    """Say how ids could be made to match."""
    longer = next((k for k in known if name.endswith(f"/{k}")), None)
    if longer is not None:
        prefix = name.removesuffix(f"/{longer}")
        return f"ingest the folder with --name {prefix}, or leave '{prefix}/' out of the gold"
    shorter = next((k for k in known if k.endswith(f"/{name}")), None)
    if shorter is not None:
        return f"the index knows it as '{shorter}': write that, or ingest without --name"
    return "compare with the ids that `doyen documents` lists"


# ---- the report


@dataclass(frozen=True)
class _Group:
    """Questions that are shown together."""

    name: str
    of: Callable[[Question], str]


GROUPS = (_Group("by_language", lambda q: q.language), _Group("by_kind", lambda q: q.kind))


def _figures(asked: Sequence[Question], hits: Sequence[Sequence[Hit]], k: int, seed: int) -> dict[str, Any]:
    """Return the figures at each level, and at the gold unit by language and by kind."""
    figures: dict[str, Any] = {"levels": {}}
    for level in LEVELS:
        rows = [score_hits(q, h, level=level, k=k) for q, h in zip(asked, hits, strict=True)]
        figures["levels"][level] = _means([row for row in rows if row], seed)
    if not any(map(has_gold_pages, asked)):
        del figures["levels"]["page"]
    scores = [score_hits(q, h, k=k) for q, h in zip(asked, hits, strict=True)]
    for group in GROUPS:
        names = sorted({group.of(q) for q in asked})
        figures[group.name] = {
            name: _means([s for q, s in zip(asked, scores, strict=True) if group.of(q) == name], seed) for name in names
        }
    return figures


def _means(rows: Sequence[dict[str, float]], seed: int) -> dict[str, Any]:
    return {name: interval.as_dict() for name, interval in means(rows, seed=seed).items()}


def _hit_rows(asked: Sequence[Question], hits: Sequence[Sequence[Hit]]) -> Iterator[dict[str, Any]]:
    """Yield a line of `hits.jsonl` a question: places without text, so that a removed document's text stays in no report."""
    for q, found in zip(asked, hits, strict=True):
        rows = (hit.as_dict() for hit in found)
        yield {"id": q.id, "hits": [{k: v for k, v in row.items() if k not in _TEXT_KEYS} for row in rows]}


def _manifest(settings: Settings, asked: Sequence[Question], retriever: Retriever, k: int, seed: int) -> dict[str, Any]:
    """Return what the figures depend on; `id` is its hash."""
    tables = ("embedder", "chunking", "retrieval", "rerank")
    manifest: dict[str, Any] = {
        "doyen": importlib.metadata.version("doyen"),
        "settings": {name: table for name, table in settings.as_dict().items() if name in tables},
        "questions": _hash([[q.id, q.question, [[g.document, g.page, g.grade] for g in q.gold]] for q in asked]),
        "index": _hash(sorted((d.id, d.sha256) for d in retriever.index.documents())),
        "embedder": retriever.index.manifest.fingerprint,
        "k": k,
        "seed": seed,
    }
    identity = _hash(manifest)
    created = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    return manifest | {"id": identity, "created": created}


def _hash(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, ensure_ascii=False, default=str).encode()).hexdigest()[:12]


# ---- an earlier evaluation


def _read_report(folder: Path, asked: set[str]) -> dict[str, Any]:
    """Read an earlier report. Raises UsageError where there is none, one of another form, or none of its questions is asked."""
    path = folder / "report.json"
    try:
        report: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        ids = {row["id"] for row in report["rows"] if row["scores"]} if report["format"] == FORMAT else set()
    except (OSError, ValueError, LookupError, TypeError):
        ids = set()
    if not ids:
        raise UsageError(
            f"{path} is not the report of a retrieval evaluation",
            hint="name the folder that an earlier run wrote: evaluations/ID, or its --out",
        )
    if not ids & asked:
        raise UsageError(f"{path} has no question in common with these", hint="compare on the same questions")
    return report


def _against(earlier: dict[str, Any], rows: Sequence[dict[str, Any]], seed: int) -> dict[str, Any]:
    """Return the paired differences, new minus earlier, of the figures that both have."""
    before = {row["id"]: row["scores"] for row in earlier["rows"]}
    both = [(before[row["id"]], row["scores"]) for row in rows if row["id"] in before]
    names = [name for name in both[0][1] if name in both[0][0]]
    old, new = ([{name: scores[name] for name in names} for scores in side] for side in zip(*both, strict=True))
    about = {name: earlier["manifest"].get(name) for name in ("id", "created")} | {"questions": len(both)}
    return about | {"differences": differences(old, new, seed=seed)}
