"""Does `doyen advise` choose rightly? Twelve planted scenarios whose right arm is known, each trained and compared for real.

    python benchmarks/choice.py --work DIR [--seed 2] [--scenarios codes,slips]

A scenario: init → ingest the documents → examples → LoRA → the documents change → ingest → four arms on the test questions →
advise with the scenario's constraints. What is done is kept in DIR; the same command goes on. Labels: planted/scenarios.py.
Bar: at least 11 of 12 right, and once more with another seed.
"""

from __future__ import annotations

import dataclasses
import json
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from measuring import RESULTS, adapter_figures, machine, parser, save
from planted.corpus import Corpus
from planted.scenarios import AS_FAST_AS_ALONE, DEVELOPMENT_SEEDS, SCENARIOS, Scenario

import doyen
from doyen.cli.output import Bar
from doyen.config import Settings, load_settings, settings_toml, write_atomic
from doyen.evaluation.constraints import Constraints, seconds_p95
from doyen.examples.importing import write_rows
from doyen.expert import open_retriever
from doyen.records import ARMS

ADAPTER = "planted"
BAR = "at least 11 of 12, and once more with another seed"
FIGURES = ("overall", "token_f1", "false_refusal_rate", "citation_precision", "stale", "seconds_p50", "prompt_tokens")


def write_documents(folder: Path, documents: dict[str, str]) -> None:
    """Write documents where they differ from what is there."""
    for path, text in documents.items():
        target = folder / path
        if not target.exists() or target.read_text(encoding="utf-8") != text:
            write_atomic(target, text)


def set_up(scenario: Scenario, corpus: Corpus, folder: Path) -> Path:
    """Make the expert with the documents of before, and the training examples; return its folder."""
    expert = folder / "expert"
    if not (expert / "doyen.toml").exists():
        doyen.init(expert)
        settings = load_settings(expert)
        write_atomic(expert / "doyen.toml", settings_toml(with_recipe(settings, scenario)))
    if not (expert / "adapters" / ADAPTER / "manifest.json").exists():
        write_documents(folder / "documents", corpus.before)
        doyen.ingest(expert, [folder / "documents"])
        write_rows(folder / "questions.jsonl", corpus.questions)
        doyen.import_file(expert, folder / "questions.jsonl")
        doyen.build_examples(expert, open_retriever(expert, load_settings(expert)))
    return expert


def with_recipe(settings: Settings, scenario: Scenario) -> Settings:
    """Return the settings that all scenarios share: each training question with its passages and without, small batches.

    No question is held out from so few: the refusal rule, which is calibrated on those, is left to the model. No answer
    needs 40 tokens: an arm is not slow because it now and then does not stop.
    """
    return dataclasses.replace(
        settings,
        model=dataclasses.replace(settings.model, max_answer_tokens=40),
        answer=dataclasses.replace(settings.answer, passages=scenario.passages),
        examples=dataclasses.replace(settings.examples, closed_book_share=1.0),
        finetune=dataclasses.replace(settings.finetune, epochs=scenario.epochs, batch_size=4, validation_share=0.0),
    )


def train(expert: Path) -> None:
    """Fine-tune, or go on with an interrupted run."""
    if (expert / "adapters" / ADAPTER / "manifest.json").exists():
        return
    resume = (expert / "adapters" / f".{ADAPTER}.training" / "checkpoint.pt").exists()
    with Bar("steps") as bar:
        doyen.finetune(
            expert,
            name=ADAPTER,
            resume=resume,
            say=print,
            report=lambda p: bar("training", p.step, p.steps, f"loss {p.loss:.3f} {p.tokens_per_s:.0f} tokens/s"),
        )


def run(scenario: Scenario, seed: int, work: Path) -> dict[str, Any]:
    """Run a scenario, or take what is kept of it, and judge the advice on its report."""
    folder = work / f"seed-{seed}" / scenario.name
    kept = folder / "measured.json"
    if not kept.exists():
        measure(scenario, scenario.corpus(seed), folder)
    found: dict[str, Any] = json.loads(kept.read_text(encoding="utf-8"))
    report = json.loads((folder / "expert" / found.pop("report")).read_text(encoding="utf-8"))
    return judged(scenario, report) | found


def measure(scenario: Scenario, corpus: Corpus, folder: Path) -> None:
    """Train before the documents change, compare afterwards, and write `measured.json` beside the expert."""
    begun = time.monotonic()
    expert = set_up(scenario, corpus, folder)
    train(expert)
    trained = time.monotonic()
    write_documents(folder / "documents", corpus.after)
    doyen.ingest(expert, [folder / "documents"])
    with Bar("questions") as bar:
        report = doyen.compare(expert, adapter=ADAPTER, progress=bar)
    result = {
        "report": str((Path(report["folder"]) / "report.json").relative_to(expert)),
        "documents": {"before": len(corpus.before), "after": len(corpus.after), "changed": len(corpus.changed())},
        "questions": {split: len(corpus.split(split)) for split in ("train", "test")},
        "arms": {arm: _figures(row["metrics"]) for arm, row in report["arms"].items()},
        "differences": [_pair(row) for row in report["differences"]],
        "adapter": _training(expert),
        "seconds": {"training": round(trained - begun), "comparison": round(time.monotonic() - trained)},
    }
    write_atomic(folder / "measured.json", json.dumps(result, indent=1, ensure_ascii=False))


def judged(scenario: Scenario, report: dict[str, Any]) -> dict[str, Any]:
    """Ask for the advice that a report gives under the scenario's constraints, and compare it with the label."""
    constraints = dict(scenario.constraints)
    if constraints.get("seconds") == AS_FAST_AS_ALONE:
        constraints["seconds"] = round(1.2 * max(_slowest(report, arm) for arm in ("base", "finetuned")), 4)
    advice = doyen.advise(report, constraints=Constraints(**constraints)) if constraints else doyen.advise(report)
    return {
        "scenario": scenario.name,
        "constraints": constraints,
        "right": scenario.right,
        "why": scenario.why,
        "chosen": advice.arm,
        "hit": advice.arm == scenario.right,
        "runner_up": advice.runner_up,
        "reasons": advice.reasons,
    }


def _slowest(report: dict[str, Any], arm: str) -> float:
    """Return the 95th percentile of an arm's seconds an answer, as `advise` reads it."""
    seconds = seconds_p95(report, arm)
    if seconds is None:
        raise ValueError(f"the report has no seconds of {arm}")
    return seconds


def _figures(metrics: dict[str, Any]) -> dict[str, Any]:
    return {name: metrics[name] for name in FIGURES if name in metrics}


def _pair(row: dict[str, Any]) -> dict[str, Any]:
    return {"a": row["a"], "b": row["b"]} | row["metrics"].get("overall", {})


def _training(expert: Path) -> dict[str, Any]:
    found = adapter_figures(expert, ADAPTER)
    return {k: found[k] for k in ("method", "steps", "tokens", "seconds", "peak_memory_gib", "train_loss")}


def show(result: dict[str, Any]) -> None:
    """Print one line a scenario."""
    scores = "  ".join(f"{arm} {100 * row['overall']['value']:.0f}" for arm, row in result["arms"].items())
    verdict = "right" if result["hit"] else f"WRONG, not {result['right']}"
    seconds = sum(result["seconds"].values())
    print(f"{result['scenario']:12s} → {result['chosen']:13s} {verdict:24s} {scores}  ({seconds} s)", flush=True)


def table(results: Sequence[dict[str, Any]]) -> str:
    """Return the results as the Markdown table of docs/guides/comparing.md: overall scores in percent."""
    lines = ["| scenario | demanded | base | rag | finetuned | rag+finetuned | right | chosen |"]
    lines.append("| --- | --- | --: | --: | --: | --: | --- | --- |")
    for r in results:
        scores = [f"{100 * r['arms'][arm]['overall']['value']:.0f}" for arm in ARMS]
        chosen = r["chosen"] if r["hit"] else f"**{r['chosen']}**"
        cells = [r["scenario"], ", ".join(r["constraints"]) or "–", *scores, r["right"], chosen]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def save_run(seed: int, results: Sequence[dict[str, Any]], out: Path | None) -> None:
    """Write the run of a seed into the result file, beside the runs of other seeds that stand there."""
    path = out or RESULTS / "choice.json"
    before = json.loads(path.read_text(encoding="utf-8"))["runs"] if path.exists() else []
    one = {
        "seed": seed,
        "date": time.strftime("%Y-%m-%d"),
        "machine": machine() | {"threads": os.environ.get("OMP_NUM_THREADS", "all")},
        "right": sum(r["hit"] for r in results),
        "of": len(results),
        "minutes": round(sum(sum(r["seconds"].values()) for r in results) / 60, 1),
        "scenarios": list(results),
    }
    runs = sorted([*(r for r in before if r["seed"] != seed), one], key=lambda r: int(r["seed"]))
    save("choice", {"bar": BAR, "development_seeds": list(DEVELOPMENT_SEEDS), "runs": runs}, out)


def main() -> None:
    made = parser(__doc__ or "")
    made.add_argument(
        "--seed", type=int, default=2, help="of the corpora; those of the development give no result file"
    )
    made.add_argument("--scenarios", default="", help="only these, separated by commas; no result file is written")
    arguments = made.parse_args()
    chosen = [s for s in SCENARIOS if not arguments.scenarios or s.name in arguments.scenarios.split(",")]
    results = []
    for number, scenario in enumerate(chosen, 1):
        print(f"--- {number} of {len(chosen)}: {scenario.name}", flush=True)
        results.append(run(scenario, arguments.seed, arguments.work))
        show(results[-1])
    print(f"{table(results)}\n\n{sum(r['hit'] for r in results)} of {len(results)} right")
    if len(results) == len(SCENARIOS) and arguments.seed not in DEVELOPMENT_SEEDS:
        save_run(arguments.seed, results, arguments.out)


if __name__ == "__main__":
    main()
