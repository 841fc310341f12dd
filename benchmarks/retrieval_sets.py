"""Question sets → the peers' hit lists, kept on disk so that a rerun computes only what changed. Knows no scores."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from doyen.config import write_atomic
from doyen.examples.importing import read_questions
from doyen.records import Question

HERE = Path(__file__).parent
PEERS = ("bm25s", "minilm-200w", "rrf", "llamaindex", "haystack", "txtai")


@dataclass(frozen=True)
class QuestionSet:
    """Questions with gold over the files below `folder`, whose documents are named by their path below `root`."""

    name: str
    root: Path
    folder: Path
    questions: tuple[Question, ...]

    def digest(self) -> str:
        """Return a hash of the questions and of the files' names and sizes."""
        files = [(p.relative_to(self.root).as_posix(), p.stat().st_size) for p in self.folder.rglob("*") if p.is_file()]
        whole = json.dumps([sorted(files), [(q.id, q.question) for q in self.questions]])
        return hashlib.sha256(whole.encode()).hexdigest()[:16]


def sets_of(data: Path) -> list[QuestionSet]:
    """Return a set's questions with gold; one set a language where `docs/` has a folder for each."""
    root = data / "docs"
    questions = [q for q in read_questions(data / "questions.jsonl") if q.gold]
    languages = sorted({q.language for q in questions})
    if len(languages) == 1 or not all((root / language).is_dir() for language in languages):
        return [QuestionSet(data.name, root, root, tuple(questions))]
    return [
        QuestionSet(f"{data.name}.{name}", root, root / name, tuple(q for q in questions if q.language == name))
        for name in languages
    ]


def _run(python: str, job: dict[str, Any]) -> dict[str, Any]:
    command = [python, str(HERE / "retrieval_peers.py")]
    # threads of other libraries would spin beside the embedder's own
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
    done = subprocess.run(
        command, input=json.dumps(job), stdout=subprocess.PIPE, text=True, check=True, env=environment
    )
    result: dict[str, Any] = json.loads(done.stdout.strip().rpartition("\n")[2])
    return result


@lru_cache
def peer_versions(python: str, native: bool) -> dict[str, dict[str, str]]:
    """Return the package versions that each peer's result depends on."""
    return _run(python, {"versions": True, "native": native})


def peer_hits(
    asked: QuestionSet, peer: str, python: str, work: Path, *, model: str, native: bool, fresh: bool
) -> dict[str, Any]:
    """Return a peer's counts and hits (one list of units a question), from disk where nothing changed since.

    `model` is the folder of the embedder.
    """
    folder = work / "peers" / asked.name
    kept = folder / f"{peer}{'.native' if native else ''}.json"
    key = {"versions": peer_versions(python, native)[peer], "set": asked.digest()}
    if kept.exists() and not fresh:
        row: dict[str, Any] = json.loads(kept.read_text(encoding="utf-8"))
        if row["key"] == key:
            return row
    job = {
        "peer": peer,
        "root": str(asked.root),
        "folder": str(asked.folder),
        "kept": str(folder),
        "questions": [q.question for q in asked.questions],
        "model": model,
        "native": native,
    }
    row = {"key": key, **_run(python, job)}
    write_atomic(kept, json.dumps(row))
    return row
