"""LoRA fine-tuning of the default model: doyen beside TRL's SFTTrainer with PEFT, on the same examples; LoRA beside QLoRA.

    python -m venv PEERS && PEERS/bin/pip install torch trl peft     # the versions of doyen's constraints.txt
    python benchmarks/finetune.py --data DIR --work DIR --peers PEERS/bin/python [--train N] [--rounds N]

DIR of --data holds docs/ and questions.jsonl with a `split` (PubMedQA here); the examples are those that `doyen examples
build` makes, in RAG form. All runs see the same examples, epochs, examples a step, rank, alpha, target modules, peak
learning rate and bf16, each in a process of its own, in an order that turns. `trl` has TRL's defaults otherwise; `trl-plain`
leaves out gradient checkpointing, which TRL turns on. Seconds run from loading the model to the saved adapter; loss is of
the saved adapter over held-out examples, computed by the same code for all. Memory is the process's largest resident set.

Bars: seconds <= 0.5x `trl`, held-out loss within 1%, memory <= 0.7x. QLoRA <= 1.12x LoRA's seconds, its loss within 2%.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from measuring import parser, save

import doyen
from doyen.config import load_settings
from doyen.examples.importing import read_examples, read_questions, write_rows
from doyen.expert import open_retriever
from doyen.finetuning.methods import LEARNING_RATE
from doyen.models.fetching import require_model
from doyen.records import Example

HERE = Path(__file__).parent
MATRIX = 2048


def make_examples(arguments: Any) -> Path:
    """Ingest the documents and build the training mix once; return the examples folder."""
    expert: Path = arguments.work / "expert"
    if not (expert / "examples" / "train.jsonl").exists():
        if not (expert / "doyen.toml").exists():
            doyen.init(expert)
        doyen.ingest(expert, [arguments.data / "docs"])
        questions = [q for q in read_questions(arguments.data / "questions.jsonl") if q.split == "train"]
        chosen = questions[: arguments.train]
        write_rows(expert / "sampled.jsonl", (_row(q) for q in chosen))
        doyen.import_file(expert, expert / "sampled.jsonl")
        doyen.build_examples(expert, open_retriever(expert, load_settings(expert)))
    return expert / "examples"


def _row(question: Any) -> dict[str, Any]:
    from doyen.examples.importing import question_row

    return question_row(question)


def in_passages(path: Path) -> list[Example]:
    """Return the examples that show passages: the RAG form."""
    return [example for example in read_examples(path) if example.variant != "closed-book"]


def matrix_rate() -> float:
    """Return the machine's bf16 matrix products in FLOP/s: the best of ten."""
    import torch

    a, b = (torch.randn(MATRIX, MATRIX, dtype=torch.bfloat16) for _ in range(2))
    best = float("inf")
    for _ in range(10):
        started = time.perf_counter()
        a @ b
        best = min(best, time.perf_counter() - started)
    return 2 * MATRIX**3 / best


def run(python: str, job: dict[str, Any]) -> dict[str, Any]:
    """Run one system in a process of its own."""
    done = subprocess.run(
        [python, str(HERE / "finetune_systems.py")], input=json.dumps(job), capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"{job['system']} ended with {done.returncode}\n{done.stderr[-2000:]}")
    result: dict[str, Any] = json.loads(done.stdout.strip().rpartition("\n")[2])
    return result


def main() -> None:
    made = parser(__doc__ or "")
    made.add_argument("--data", type=Path, required=True)
    made.add_argument("--peers", default=None, help="the Python of an environment with trl")
    made.add_argument("--train", type=int, default=120, help="training questions")
    made.add_argument("--epochs", type=float, default=1.0)
    made.add_argument("--rounds", type=int, default=1)
    arguments = made.parse_args()
    folder = make_examples(arguments)
    train, held_out = (in_passages(folder / f"{side}.jsonl") for side in ("train", "validation"))
    for side, rows in (("train", train), ("validation", held_out)):
        write_rows(arguments.work / f"{side}.jsonl", (e.as_dict() for e in rows))
    settings = load_settings(arguments.work / "expert").finetune
    job = {
        "model": str(require_model("smollm2-135m-instruct")),
        "train": str(arguments.work / "train.jsonl"),
        "held_out": str(arguments.work / "validation.jsonl"),
        "epochs": arguments.epochs,
        "batch_size": settings.batch_size,
        "rank": settings.rank,
        "alpha": settings.alpha,
        "learning_rate": settings.learning_rate or LEARNING_RATE["lora"],
        "max_tokens": settings.max_tokens,
    }
    systems = ["doyen", "doyen-qlora", *(["trl", "trl-plain"] if arguments.peers else [])]
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in systems}
    for number in range(arguments.rounds):
        shift = number % len(systems)
        for name in systems[shift:] + systems[:shift]:
            saved = str(arguments.work / f"{name}-{number}")
            python = arguments.peers if name.startswith("trl") else sys.executable
            result = run(python, job | {"system": name, "saved": saved})
            loss = run(sys.executable, job | {"system": "loss", "saved": saved})
            runs[name].append(
                result | {"held_out_loss": loss["held_out_loss"]}
            )  # seconds and memory are the training's
            print(f"{name}: {result['seconds']:.1f} s, {result['peak_memory_gib']} GiB, loss {loss['held_out_loss']}")
    base = run(sys.executable, job | {"system": "loss", "saved": None})
    save("finetune", summary(runs, base, len(train), len(held_out), job), arguments.out)


def summary(
    runs: dict[str, list[dict[str, Any]]], base: dict[str, Any], train: int, held_out: int, job: dict[str, Any]
) -> dict[str, Any]:
    """Return medians, the ratios that have bars, and the share of the machine's matrix rate."""
    rate = matrix_rate()
    rows = {}
    for name, found in runs.items():
        middle = {
            key: statistics.median(r[key] for r in found) for key in ("seconds", "peak_memory_gib", "held_out_loss")
        }
        rows[name] = {key: round(value, 4) for key, value in middle.items()} | {
            "all_seconds": [r["seconds"] for r in found]
        }
        for key in ("step_seconds", "tokens", "trained_parameters", "weight_bytes"):
            if key in found[0]:
                rows[name][key] = found[0][key]
    own = rows["doyen"]
    flops = 4 * found_parameters(job["model"]) * own["tokens"]
    ratios = {
        f"doyen / {name}": {
            key: round(own[key] / row[key], 3) for key in ("seconds", "peak_memory_gib", "held_out_loss")
        }
        for name, row in rows.items()
        if name != "doyen"
    }
    return {
        "examples": train,
        "held_out": held_out,
        "settings": {k: v for k, v in job.items() if k not in ("model", "train", "held_out")},
        "base_held_out_loss": round(base["held_out_loss"], 4),
        "systems": rows,
        "ratios": ratios,
        "matrix_gflops": round(rate / 1e9, 1),
        "share_of_matrix_rate": round(flops / own["step_seconds"] / rate, 3),
    }


def found_parameters(model: str) -> int:
    """Return the parameters of a model's linear layers but the vocabulary: each costs 4 FLOP a token in LoRA training
    (2 forward, 2 for the gradient of its input).
    """
    config = json.loads((Path(model) / "config.json").read_text())
    hidden, layers = config["hidden_size"], config["num_hidden_layers"]
    head = hidden // config["num_attention_heads"]
    attention = hidden * head * (2 * config["num_attention_heads"] + 2 * config["num_key_value_heads"])
    return int(layers * (attention + 3 * hidden * config["intermediate_size"]))


if __name__ == "__main__":
    main()
