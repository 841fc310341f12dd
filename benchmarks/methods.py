"""Full fine-tuning, LoRA, QLoRA and QLoRA with LoftQ on the sample company: the same examples and passes; loss, answers, time and memory.

    python benchmarks/methods.py --work DIR [--epochs E] [--questions N]

Each adapter is trained by `doyen finetune` in a process of its own, so that its peak memory is its own. The held-out loss
before training is of the model as it was loaded: of qlora's, NF4 without training. Answers are those of rag+finetuned to a
seeded sample of the held-out questions, compared in pairs with those of lora. One training each: differences within chance
of a seed are not told apart.
"""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path
from typing import Any

from company import COMPANY
from measuring import adapter_figures, parser, save

import doyen
from doyen.adapters import read_adapter
from doyen.cli.output import Bar
from doyen.config import load_settings
from doyen.evaluation.methods import trained_methods, training_advice, won_back
from doyen.evaluation.statistics import paired_difference
from doyen.examples.building import held_out_questions
from doyen.expert import open_retriever
from doyen.records import Question

METHODS = {
    "lora": ("--method", "lora"),
    "qlora": ("--method", "qlora"),
    "loftq": ("--method", "qlora", "--lora-variants", "loftq"),
    "full": ("--method", "full"),  # the last: `trained_methods` shows those with the newest one's settings
}
"""Adapter → how it is trained; the others are compared with the first."""
SEED = 7
SHOWN = ("token_f1", "answer_score", "overall", "unanswerable_refused", "false_refusal_rate", "seconds_p50")


def train(expert: Path, method: str, epochs: float) -> None:
    """Train one adapter in a process of its own, unless it is there."""
    if not (expert / "adapters" / method / "manifest.json").exists():
        command = [str(Path(sys.executable).with_name("doyen")), "finetune", "--expert", str(expert), "--name", method]
        subprocess.run([*command, *METHODS[method], "--epochs", str(epochs)], check=True)


def answers_of(expert: Path, method: str, questions: list[Question]) -> dict[str, Any]:
    """Ask rag+finetuned with one adapter; return the metrics and each question's token F1 and overall score."""
    with Bar("questions") as bar:
        report = doyen.compare(expert, questions, arms=["rag+finetuned"], adapter=method, progress=bar)
    rows = [row["arms"]["rag+finetuned"]["scores"] for row in report["rows"]]
    return {"metrics": report["arms"]["rag+finetuned"]["metrics"], "scores": rows}


def differences(found: dict[str, Any]) -> dict[str, Any]:
    """Return the paired difference of each method's answers to lora's."""
    result: dict[str, Any] = {}
    for method in list(METHODS)[1:]:
        result[f"{method} - lora"] = {}
        for name in ("overall", "token_f1"):
            pairs = zip(found["lora"]["scores"], found[method]["scores"], strict=True)
            both = [(a[name], b[name]) for a, b in pairs if name in a and name in b]
            before, after = map(list, zip(*both, strict=True))
            result[f"{method} - lora"][name] = paired_difference(before, after, seed=SEED).as_dict()
    return result


def main() -> None:
    made = parser(__doc__ or "")
    made.add_argument("--epochs", type=float, default=1.0)
    made.add_argument("--questions", type=int, default=120)
    arguments = made.parse_args()
    expert = arguments.work
    if not (expert / "doyen.toml").exists():
        doyen.init(expert)
    doyen.ingest(expert, [COMPANY / "documents"])
    doyen.import_file(expert, COMPANY / "questions.jsonl")
    doyen.build_examples(expert, open_retriever(expert, load_settings(expert)))
    for method in METHODS:
        train(expert, method, arguments.epochs)
    held_out = held_out_questions(expert)
    asked = random.Random(SEED).sample(held_out, min(arguments.questions, len(held_out)))
    found = {method: answers_of(expert, method, asked) for method in METHODS}
    rows = trained_methods(expert)
    result = {
        "epochs": arguments.epochs,
        "questions": len(asked),
        "methods": rows,
        "won_back_of_what_nf4_costs": won_back(rows),
        "advice": training_advice(rows, ())["reasons"],
        "answers": {m: {n: v for n, v in f["metrics"].items() if n in SHOWN} for m, f in found.items()},
        "differences": differences(found),
        "forgetting": {method: read_adapter(expert / "adapters" / method).forgetting for method in METHODS},
        "adapters": {method: adapter_figures(expert, method) for method in METHODS},
    }
    print("\n".join(result["advice"]))
    save("methods", result, arguments.out)


if __name__ == "__main__":
    main()
