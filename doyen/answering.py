"""Questions → an answers file, written block by block, so that an interrupted run goes on where it stopped."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from doyen.config import write_atomic
from doyen.expert import Expert
from doyen.models.constraints import Form, constraint_key
from doyen.records import Answer, Citation, Hit, Question

BLOCK = 32
Progress = Callable[[str, int, int], None]


def answer_file(
    expert: Expert,
    questions: Sequence[Question],
    out: Path,
    progress: Progress | None = None,
    *,
    constraint: Form | None = None,
) -> list[Answer]:
    """Answer questions into the answers file `out`, in their order; all answers keep to a `constraint`.

    Until all are answered, the answers stand in a hidden file beside it; the same call takes them up again.
    """
    tuned = (expert.tuning.folder / "manifest.json").read_text(encoding="utf-8") if expert.tuning else None
    index = [[d.id, d.sha256] for d in expert.retriever.index.documents()] if expert.retriever else None
    inputs = [
        expert.arm,
        tuned,
        expert.engine.name,
        expert.settings.shaping(),
        index,
        [[q.id, q.question] for q in questions],
    ]
    inputs += [constraint_key(constraint)] if constraint else []
    identity = hashlib.sha256(json.dumps(inputs).encode()).hexdigest()[:12]
    partial = out.with_name(f".{out.name}.{identity}.partial")
    partial.parent.mkdir(parents=True, exist_ok=True)
    answers = ask_into(expert, questions, None, partial, progress, constraint=constraint)
    rows = (json.dumps(a.as_dict(q.id), ensure_ascii=False) + "\n" for q, a in zip(questions, answers, strict=True))
    write_atomic(out, "".join(rows))
    partial.unlink(missing_ok=True)
    return answers


def ask_into(
    expert: Expert,
    questions: Sequence[Question],
    hits: Sequence[Sequence[Hit]] | None,
    path: Path,
    progress: Progress | None,
    *,
    constraint: Form | None = None,
    block: int = BLOCK,
) -> list[Answer]:
    """Ask what the answers file `path` does not hold yet, block by block; return all answers in the questions' order.

    A block is larger where the engine has several workers.

    `hits` are passages found before, one list a question (None: the expert searches itself).
    """
    block *= getattr(expert.engine, "workers", 1)
    done = _read_answers(path)
    waiting = [i for i, q in enumerate(questions) if q.id not in done]
    for start in range(0, len(waiting), block):
        now = waiting[start : start + block]
        if progress:
            progress(expert.arm, len(questions) - len(waiting) + start, len(questions))
        found = expert.ask_many(
            [questions[i].question for i in now],
            hits=None if hits is None else [hits[i] for i in now],
            constraint=constraint,
        )
        with path.open("a", encoding="utf-8") as f:
            for i, answer in zip(now, found, strict=True):
                f.write(json.dumps(answer.as_dict(questions[i].id), ensure_ascii=False) + "\n")
                done[questions[i].id] = answer
    if progress:
        progress(expert.arm, len(questions), len(questions))
    return [done[q.id] for q in questions]


def _read_answers(path: Path) -> dict[str, Answer]:
    """Read an answers file; a last line cut off by a crash is dropped from the file."""
    if not path.exists():
        return {}
    found: dict[str, Answer] = {}
    whole: list[bytes] = []
    for line in path.read_bytes().split(b"\n"):
        try:
            row = json.loads(line)
        except ValueError:  # not JSON, or cut within a character
            break
        whole.append(line)
        found[row["id"]] = answer_of(row)
    write_atomic(path, b"".join(line + b"\n" for line in whole))
    return found


def answer_of(row: Mapping[str, Any]) -> Answer:
    """Return the answer of one line of an answers file."""
    citations = tuple(Citation(**c | {"rows": tuple(c.get("rows", ()))}) for c in row.get("citations", ()))
    return Answer(
        text=row["answer"],
        answered=row["answered"],
        arm=row["arm"],
        citations=citations,
        seconds=row.get("seconds", 0.0),
        prompt_tokens=row.get("prompt_tokens", 0),
        completion_tokens=row.get("completion_tokens", 0),
        refusal_probability=row.get("refusal_probability"),
        passages_left_out=row.get("passages_left_out", 0),
        choice_probabilities=row.get("choice_probabilities", {}),
        shortened=row.get("shortened", False),
        cached=row.get("cached", False),
    )
