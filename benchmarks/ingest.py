"""End-to-end ingest: doyen beside LlamaIndex and Haystack with the same MiniLM weights; what a second ingest costs; memory.

    python -m venv PEERS && PEERS/bin/pip install -r benchmarks/requirements-peers.txt
    python benchmarks/ingest.py --work DIR --data SET… --peers PEERS/bin/python [--limit N] [--rounds N] [--long-chunks]
    python benchmarks/ingest.py --work DIR --data SET --replicate 10            # memory at 1x and 10x, doyen alone

SET has `docs/` and `questions.jsonl`. All systems run in a process of their own, one after the other, in an order that turns
with each set and round; seconds run from the start of the process's work (imports and models included) to the saved index.
Chunks are 256 tokens for the peers, so that all of the text is embedded; --long-chunks adds their default of 1,024, of which
the model reads 256. Bars: documents/s ≥ 2x the faster peer on PDFs, ≥ 1.5x on Markdown and XML, at the same or better
retrieval; a second ingest of 2,000 unchanged files < 3 s with nothing written, one changed file < 3 s (whole commands);
peak memory ≤ 1.5 GiB, and at ten times the corpus within 20% of that.
"""

from __future__ import annotations

import json
import random
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from measuring import PeakMemory, parser, save

from doyen.evaluation.retrieval_scores import summarise_hits
from doyen.examples.importing import read_questions
from doyen.models.fetching import require_model
from doyen.records import Chunk, Hit, Question

HERE = Path(__file__).parent


def sample(data: Path, folder: Path, limit: int | None, seed: int = 7) -> list[Question]:
    """Copy a set's files (or `limit` of them, those that questions need first); return the questions that they answer."""
    questions = read_questions(data / "questions.jsonl")
    files = sorted(p for p in (data / "docs").rglob("*") if p.is_file())
    if limit and limit < len(files):
        random.Random(seed).shuffle(files)
        gold = {g.document for q in questions for g in q.gold}
        files.sort(key=lambda p: p.relative_to(data / "docs").as_posix() not in gold)
        files = files[:limit]
    for path in files:
        place = folder / path.relative_to(data / "docs")
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, place)
    there = {p.relative_to(data / "docs").as_posix() for p in files}
    return [q for q in questions if q.gold and all(g.document in there for g in q.gold)]


def run(python: str, job: dict[str, Any]) -> dict[str, Any]:
    """Run one system over a folder; return its result with seconds and peak memory of the ingest."""
    command = [python, str(HERE / "ingest_systems.py")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin and process.stdout
        peak = PeakMemory(process.pid)
        process.stdin.write(json.dumps(job))
        process.stdin.close()
        gib, lines = 0.0, []
        for line in process.stdout:
            if not lines and '"ingested"' in line:
                gib = peak.gib()
            lines.append(line)
    if process.returncode:
        raise SystemExit(f"{job['system']} ended with {process.returncode}")
    result: dict[str, Any] = json.loads(lines[-1])
    return result | {"peak_memory_gib": gib}


def scores(questions: list[Question], found: list[list[dict[str, Any]]]) -> dict[str, Any]:
    """Return retrieval scores at the gold unit, with intervals."""
    hits = [[_hit(row, rank) for rank, row in enumerate(rows)] for rows in found]
    return {name: value.as_dict() for name, value in summarise_hits(questions, hits).items()}


def _hit(row: dict[str, Any], rank: int) -> Hit:
    pages = tuple(row.get("pages") or ([row["page"]] if row.get("page") else []))
    return Hit(Chunk(row["document"], 0, 0, "", pages=pages), -float(rank))


# ---- against the peers


def compare(arguments: Any, data: Path, turn: int) -> dict[str, Any]:
    """Run all systems over one set, `--rounds` times, in turning order."""
    folder = arguments.work / data.name / "files"
    shutil.rmtree(folder.parent, ignore_errors=True)
    questions = sample(data, folder, arguments.limit)
    files = sum(p.is_file() for p in folder.rglob("*"))
    model = str(require_model("all-minilm-l6-v2", None))
    jobs: list[tuple[str, str, int]] = [("doyen", "doyen", 0)]
    if arguments.peers:
        sizes = (256, 1024) if arguments.long_chunks else (256,)
        jobs += [(f"{s}-{n}", s, n) for n in sizes for s in ("llamaindex", "haystack")]
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name, _, _ in jobs}
    for number in range(arguments.rounds):
        shift = (turn + number) % len(jobs)
        for name, system, tokens in jobs[shift:] + jobs[:shift]:
            work = folder.parent / f"{name}-{number}"
            job = {"system": system, "folder": str(folder), "work": str(work), "model": model, "chunk_tokens": tokens}
            python = sys.executable if system == "doyen" else arguments.peers
            result = run(python, job | {"questions": [q.question for q in questions] if number == 0 else []})
            print(f"{data.name} {name}: {files / result['seconds']:.2f} documents/s, {result['peak_memory_gib']} GiB")
            runs[name].append(result)
    systems = {name: _figures(found, files, questions) for name, found in runs.items()}
    rates = {name: row["documents_per_s"] for name, row in systems.items()}
    peers = [rate for name, rate in rates.items() if name.endswith("-256")]
    times = {"times_the_faster_peer": round(rates["doyen"] / max(peers), 2)} if peers else {}
    return {"files": files, "questions": len(questions), "systems": systems} | times


def _figures(found: list[dict[str, Any]], files: int, questions: list[Question]) -> dict[str, Any]:
    seconds = [row["seconds"] for row in found]
    return {
        "documents_per_s": round(files / statistics.median(seconds), 2),
        "seconds": [round(s, 2) for s in seconds],
        "chunks": found[0]["chunks"],
        "failed": len(found[0].get("failed", ())),
        "peak_memory_gib": max(row["peak_memory_gib"] for row in found),
        "retrieval": scores(questions, found[0]["hits"]),
    }


# ---- in step


def command_s(*arguments: str | Path) -> tuple[float, dict[str, Any]]:
    """Run a doyen command; return its seconds, start of the interpreter included, and its JSON."""
    doyen = Path(sys.executable).with_name("doyen")
    started = time.perf_counter()
    done = subprocess.run([doyen, *arguments, "--json"], capture_output=True, text=True, check=True)
    return time.perf_counter() - started, json.loads(done.stdout)


def files_state(folder: Path) -> dict[str, tuple[int, int]]:
    return {str(p): (p.stat().st_size, p.stat().st_mtime_ns) for p in folder.rglob("*") if p.is_file()}


def in_step(arguments: Any, data: Path) -> dict[str, Any]:
    """Measure a second ingest of the folder, and one after a change of one file, as whole commands."""
    folder, expert = arguments.work / data.name / "files", arguments.work / data.name / "doyen-0"
    before = files_state(expert)
    second_s, second = command_s("ingest", folder, "--expert", expert)
    written = sum(before.get(name) != state for name, state in files_state(expert).items())
    texts = [p for p in sorted(folder.rglob("*")) if p.suffix in (".md", ".txt", ".xml")]
    changed: dict[str, Any] = {}
    if texts:
        one = texts[len(texts) // 2]
        content = one.read_text(encoding="utf-8")
        head, space, tail = content.rpartition(" ")
        one.write_text(f"{head}{space}changed {tail}", encoding="utf-8")
        changed_s, row = command_s("ingest", folder, "--expert", expert)
        changed = {"seconds": round(changed_s, 2), "changed": row["changed"], "chunks": row["chunks"]}
        changed["chunks_embedded"] = row["chunks"] - row["reused_chunks"]
    return {
        "second_ingest": {"seconds": round(second_s, 2), "unchanged": second["unchanged"], "files_written": written},
        "one_file_changed": changed,
    }


# ---- memory at many times the corpus


def replicate(folder: Path, times: int) -> None:
    """Write the text files again as `times - 1` copies with every 20th word changed: no chunk is as it was."""
    texts = [p for p in sorted(folder.rglob("*")) if p.suffix in (".md", ".txt")]
    for n in range(1, times):
        for path in texts:
            lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
            place = folder / f"copy-{n}" / path.relative_to(folder)
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text("\n".join(_changed(line, n) for line in lines), encoding="utf-8")


def _changed(line: str, n: int) -> str:
    words = line.split(" ")
    return " ".join(f"{w}{n}" if i % 20 == 0 and w.isalpha() else w for i, w in enumerate(words))


def memory(arguments: Any, data: Path) -> dict[str, Any]:
    """Measure doyen's peak memory over the set and over the set replicated."""
    found = {}
    for times in (1, arguments.replicate):
        folder = arguments.work / f"{data.name}-{times}x" / "files"
        shutil.rmtree(folder.parent, ignore_errors=True)
        sample(data, folder, arguments.limit)
        replicate(folder, times)
        files = sum(p.is_file() for p in folder.rglob("*"))
        result = run(sys.executable, {"system": "doyen", "folder": str(folder), "work": str(folder.parent / "expert")})
        found[f"{times}x"] = {
            "files": files,
            "chunks": result["chunks"],
            "documents_per_s": round(files / result["seconds"], 2),
            "peak_memory_gib": result["peak_memory_gib"],
        }
        print(f"{data.name} {times}x: {found[f'{times}x']}")
    one, many = (found[f"{t}x"]["peak_memory_gib"] for t in (1, arguments.replicate))
    return found | {"ratio": round(many / one, 3)}


def main() -> None:
    made = parser(__doc__ or "")
    made.add_argument("--data", type=Path, nargs="+", required=True)
    made.add_argument("--peers", default=None, help="the Python of the peers' environment")
    made.add_argument("--limit", type=int, default=None, help="files of a set")
    made.add_argument("--rounds", type=int, default=1)
    made.add_argument("--long-chunks", action="store_true", help="also the peers' default of 1,024 tokens")
    made.add_argument("--replicate", type=int, default=None, help="only memory, at 1x and this many times the corpus")
    arguments = made.parse_args()
    if arguments.replicate:
        save("ingest_memory", {d.name: memory(arguments, d) for d in arguments.data}, arguments.out)
        return
    result = {d.name: compare(arguments, d, turn) | in_step(arguments, d) for turn, d in enumerate(arguments.data)}
    save("ingest", result, arguments.out)


if __name__ == "__main__":
    main()
