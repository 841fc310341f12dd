"""`doyen plan` against the measured peaks of short trainings on the processor; LoRA's and QLoRA's pace beside each other.

    python benchmarks/finetune_plan.py --work DIR [--steps N] [--only TEXT] [--note TEXT]

Two models (SmolLM2-135M-Instruct with its weights; a Phi-3 shape of 0.33 billion random ones), LoRA and QLoRA, two
lengths and batches: each is trained for a few steps by doyen's own loop in a process of its own. The peak is the
process's highest resident memory from its start to the end of training, loading included. Bar: within 15%.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from measuring import parser, save

PHI = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 16, "num_attention_heads": 16,
       "num_key_value_heads": 16, "vocab_size": 32064, "max_position_embeddings": 4096, "pad_token_id": 0}  # fmt: skip
SMOLLM2 = "smollm2-135m-instruct"
LENGTHS = ((256, 1024), (1024, 2048))
"""(tokens of a row, tokens of a micro-batch)"""
SUPERVISED = 0.1
BAR = 0.15


def phi_folder(work: Path) -> Path:
    """Make the random Phi-3 once, in bf16."""
    folder = work / "phi-3-random-0.33b"
    if not (folder / "config.json").exists():
        import torch
        from transformers import Phi3Config, Phi3ForCausalLM

        torch.manual_seed(7)
        Phi3ForCausalLM(Phi3Config(**PHI)).to(torch.bfloat16).save_pretrained(str(folder))
    return folder


def resident_gib(key: str = "VmHWM") -> float:
    """Return this process's highest (VmHWM) or present (VmRSS) resident memory."""
    rows = Path("/proc/self/status").read_text().splitlines()
    return next(int(row.split()[1]) for row in rows if row.startswith(key)) / 2**20


def random_examples(count: int, length: int, vocabulary: int) -> list[Any]:
    """Return examples of random tokens, the last SUPERVISED of each an answer."""
    from doyen.finetuning.data import TokenisedExample

    rng = random.Random(7)
    answer = length - round(length * SUPERVISED)
    return [TokenisedExample(tuple(rng.randrange(vocabulary) for _ in range(length)), answer, i) for i in range(count)]


def train(job: dict[str, Any]) -> dict[str, Any]:
    """Train for a few steps; return memory at the stages and the pace of the steps after the first."""
    from doyen.config import FinetuneSettings
    from doyen.finetuning.methods import trained_model
    from doyen.finetuning.preparing import Prepared
    from doyen.finetuning.steps import train_steps

    rows = job["tokens"] // job["length"]
    settings = FinetuneSettings(
        method=job["method"], learning_rate=1e-4, batch_size=rows, micro_batch_tokens=job["tokens"], epochs=1.0
    )
    examples = random_examples(rows * job["steps"], job["length"], 30_000)
    prepared = Prepared(examples, [], "", {}, {}, [])
    model = trained_model(Path(job["folder"]), settings, prepared, lambda _: None)
    found: dict[str, Any] = {"loaded_gib": resident_gib("VmRSS"), "peak_after_loading_gib": resident_gib()}
    times: list[float] = []
    with tempfile.TemporaryDirectory(dir=job["work"]) as run:
        report = lambda _: times.append(time.perf_counter())  # noqa: E731
        train_steps(model, prepared, settings, Path(run), "plan", report, lambda _: None, 1e9)
    found["peak_gib"] = resident_gib()
    found["tokens_per_s"] = job["tokens"] * (len(times) - 1) / (times[-1] - times[0])
    return found


def measured(job: dict[str, Any]) -> dict[str, Any]:
    """Run one job in a process of its own."""
    done = subprocess.run(
        [sys.executable, __file__, "--job", json.dumps(job)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"{job['method']} ended with {done.returncode}:\n{done.stderr[-2000:]}")
    row: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return row


def beside_the_plan(row: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Put the plan for this machine, at the matrix rate found just before, beside a measured configuration."""
    from doyen.planning import plan_training
    from doyen.planning.devices import Device, Machine
    from doyen.planning.memory import Training
    from doyen.planning.shapes import find_shape

    machine = Machine(Device("here", 1024.0, row["tera_flops"], 0.0, "measured here", kind="cpu"))
    shape = find_shape(str(folder))
    how = Training(
        tokens=row["tokens"], length=row["length"], supervised_share=SUPERVISED, gpu=False, method=row["method"]
    )
    planned = plan_training(shape, how, machine, (row["method"],)).methods[0]
    error = planned.way.total_gib / row["peak_gib"] - 1
    print(
        f"{row['name']}: planned {planned.way.total_gib:.2f} GiB, measured {row['peak_gib']:.2f} ({error:+.1%}); "
        f"{row['tokens_per_s']:.0f} tokens/s, planned {planned.tokens_per_s:.0f}",
        flush=True,
    )
    return row | {
        "parameters": shape.parameters,
        "planned_gib": planned.way.total_gib,
        "planned_parts_gib": planned.way.parts_gib,
        "planned_tokens_per_s": planned.tokens_per_s,
        "error": round(error, 4),
        "within_bar": abs(error) <= BAR,
    }


def main() -> None:
    """Measure all configurations."""
    if len(sys.argv) == 3 and sys.argv[1] == "--job":
        print(json.dumps(train(json.loads(sys.argv[2]))))
        return
    made = parser(__doc__ or "")
    made.add_argument("--steps", type=int, default=5)
    made.add_argument("--only", default="", help="configurations whose name holds this")
    made.add_argument("--note", default="", help="a remark that stands in the result, as on other programs beside it")
    arguments = made.parse_args()
    from doyen.models.fetching import require_model
    from doyen.planning.devices import this_machine

    arguments.work.mkdir(parents=True, exist_ok=True)
    folders = {"smollm2-135m": require_model(SMOLLM2), "phi-3-0.33b": phi_folder(arguments.work)}
    rows, kept = [], arguments.work / "rows"
    kept.mkdir(exist_ok=True)
    for model, folder in folders.items():
        for length, tokens in LENGTHS:
            for method in ("lora", "qlora"):
                name = f"{model} {method} {tokens // length}x{length}"
                job = {"method": method, "tokens": tokens, "length": length, "folder": str(folder)}
                job |= {"steps": arguments.steps, "work": str(arguments.work)}
                path = kept / f"{name}.json"
                if arguments.only in name:
                    row = {"name": name, **{k: job[k] for k in ("method", "tokens", "length")}}
                    row |= {"tera_flops": round(this_machine().device.tera_flops, 4)}
                    row |= {key: round(value, 3) for key, value in measured(job).items()}
                    path.write_text(json.dumps(row), encoding="utf-8")
                if path.exists():
                    rows.append(beside_the_plan(json.loads(path.read_text(encoding="utf-8")), folder))
    save(
        "finetune_plan",
        {
            "threads": int(os.environ.get("OMP_NUM_THREADS", os.cpu_count() or 1)),
            "steps": arguments.steps,
            "note": arguments.note,
            "bar": BAR,
            "largest_error": max(abs(r["error"]) for r in rows),
            "within_bar": all(r["within_bar"] for r in rows),
            "configurations": rows,
        },
        arguments.out,
    )


if __name__ == "__main__":
    main()
