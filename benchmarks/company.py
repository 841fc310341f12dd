"""The sample company: ingest → examples → LoRA → four arms on all 258 held-out questions.

    python benchmarks/company.py --work DIR

Bars: rag > base; rag+finetuned ≥ rag + 15 points of token F1 (paired intervals above zero); unanswerable questions
refused ≥ 70% with ≤ 15% false refusals on rag+finetuned. `make demo` runs a shorter preset of the same.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from measuring import adapter_figures, figures, parser, save, show_arms

import doyen
from doyen.cli.output import Bar
from doyen.config import load_settings
from doyen.expert import open_retriever

COMPANY = Path(__file__).parents[1] / "examples" / "insurer"


def main() -> None:
    arguments = parser(__doc__ or "").parse_args()
    expert = arguments.work
    if not (expert / "doyen.toml").exists():
        doyen.init(expert)
    doyen.ingest(expert, [COMPANY / "documents"])
    doyen.import_file(expert, COMPANY / "questions.jsonl")
    examples = doyen.build_examples(expert, open_retriever(expert, load_settings(expert)))
    if not (expert / "adapters" / "company" / "manifest.json").exists():
        with Bar("steps") as bar:
            doyen.finetune(
                expert,
                name="company",
                say=print,
                report=lambda p: bar("training", p.step, p.steps, f"loss {p.loss:.3f} {p.tokens_per_s:.0f} tokens/s"),
            )
    with Bar("questions") as bar:
        report = doyen.compare(expert, adapter="company", progress=bar)
    show_arms(report)
    folder = Path(__file__).parent / "results" / "company"
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(Path(report["folder"]) / "report.html", folder / "report.html")
    adapter = adapter_figures(expert, "company")
    metrics = report["arms"]["rag+finetuned"]["metrics"]
    gains = {(d["a"], d["b"]): d["metrics"]["token_f1"] for d in report["differences"]}
    bars = {
        "rag - base, token F1": gains["base", "rag"],
        "rag+finetuned - rag, token F1 (bar: 0.15)": gains["rag", "rag+finetuned"],
        "unanswerable refused, rag+finetuned (bar: 0.70)": metrics["unanswerable_refused"],
        "false refusals, rag+finetuned (bar: at most 0.15)": metrics["false_refusal_rate"],
    }
    for name, value in bars.items():
        print(f"{name}: {value['value']:.3f} [{value['low']:.3f}, {value['high']:.3f}]")
    save(
        "company",
        {
            "bars": bars,
            "chunks": doyen.status(expert)["chunks"],
            "examples": examples.variants,
            "adapter": adapter,
            "comparison": figures(report),
        },
        arguments.out,
    )


if __name__ == "__main__":
    main()
