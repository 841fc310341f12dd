"""Fine-tuning on one NVIDIA GPU: pace, utilisation and memory of LoRA and QLoRA at full size, and the plan beside them.

    python benchmarks/gpu/finetune.py --work DIR                        # Phi-3-mini and Phi-4-mini: an 80 GB card
    python benchmarks/gpu/finetune.py --work DIR --models llama-70b     # QLoRA alone, on one card of 141 GB
    python benchmarks/gpu/finetune.py --work DIR --device cpu --toy     # the script itself, with a toy shape

NOT YET RUN ON A GPU: no result of it is committed; `--toy` on the processor is what was tested. Weights are random, of
the models' full size and shape, made on the device layer by layer: nothing is fetched, and 70 billion weights never
stand in 16 bits. Each configuration is trained by doyen's own loop in a process of its own. Bars: QLoRA's slowdown
against LoRA ≤ 10% at ≥ 8,192 tokens a step; the plan within 15% of the peak; Llama's 70B shape with QLoRA on one card.
Model-FLOP utilisation counts what training needs (no recomputation), against the data sheet's dense bf16 rate, and
against the rate of large matrix products measured just before.
"""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from finetune_plan import SUPERVISED, random_examples
from measuring import parser, save

from doyen.planning.shapes import SHAPES, ModelShape, find_shape

MODELS = ("phi-3-mini", "phi-4-mini")
TOKENS = (512, 2048, 8192, 16384)
LENGTH = 2048
STEPS = 6
TOY = ModelShape("toy", 2, 64, 160, 4, 2, 16, 500, False, True, 4096)
TOY_TOKENS, TOY_LENGTH = (128, 256), 128


def configuration(shape: ModelShape) -> Any:
    """Return transformers' configuration of a shape."""
    from transformers import AutoConfig

    return AutoConfig.for_model(
        "phi3" if shape.fused else "llama",
        vocab_size=shape.vocabulary,
        hidden_size=shape.hidden,
        intermediate_size=shape.inner,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        head_dim=shape.head_dim,
        max_position_embeddings=max(shape.context, LENGTH),
        tie_word_embeddings=shape.tied,
        pad_token_id=0,
    )


def random_model(shape: ModelShape, method: str, device: str) -> Any:
    """Make a frozen model of random weights on the device, a layer at a time, its linears in NF4 for qlora."""
    import torch
    from transformers import AutoModelForCausalLM

    config = configuration(dataclasses.replace(shape, layers=1))
    dtype = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)
    try:
        with torch.device(device):
            model = AutoModelForCausalLM.from_config(config)
            layers = model.model.layers
            kind = type(layers[0])
            config.num_hidden_layers = shape.layers
            if getattr(config, "layer_types", None):
                config.layer_types = [config.layer_types[0]] * shape.layers
            for i in range(shape.layers):
                layer = layers[0] if i == 0 else kind(config, i)
                if method == "qlora":
                    quantise(layer, device)
                if i:
                    layers.append(layer)
    finally:
        torch.set_default_dtype(dtype)
    model.is_loaded_in_4bit = method == "qlora"  # PEFT asks for it
    return model.requires_grad_(False)


def quantise(layer: Any, device: str) -> None:
    """Put NF4 modules (double quantisation) in place of a layer's linear ones."""
    import torch
    from bitsandbytes.nn import Linear4bit, Params4bit

    for name, module in list(layer.named_modules()):
        if not isinstance(module, torch.nn.Linear):
            continue
        made = Linear4bit(
            1, 1, bias=False, compute_dtype=torch.bfloat16, compress_statistics=True, quant_type="nf4", device=device
        )
        made.in_features, made.out_features = module.in_features, module.out_features
        weight = Params4bit(module.weight.data.cpu(), requires_grad=False, quant_type="nf4", compress_statistics=True)
        made.weight = weight.to(device)  # quantises on the way
        made.quant_state = made.weight.quant_state
        parent, _, last = name.rpartition(".")
        setattr(layer.get_submodule(parent), last, made)


def train(job: dict[str, Any]) -> dict[str, Any]:
    """Train for a few steps; return the pace after the first step and the peak memory of the device."""
    import torch

    from doyen.config import FinetuneSettings
    from doyen.finetuning.gates import linear_modules
    from doyen.finetuning.methods import with_adapter
    from doyen.finetuning.preparing import Prepared
    from doyen.finetuning.steps import train_steps

    shape = TOY if job["model"] == "toy" else find_shape(job["model"])
    rows, device = job["tokens"] // job["length"], job["device"]
    settings = FinetuneSettings(
        method=job["method"],
        learning_rate=1e-4,
        batch_size=rows,
        micro_batch_tokens=job["tokens"],
        epochs=1.0,
        gradient_checkpointing=job["checkpointing"],
    )
    torch.manual_seed(7)
    model = random_model(shape, job["method"], device)
    if job["checkpointing"]:
        enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
        enable({"use_reentrant": False})
    model = with_adapter(model, settings, linear_modules(model))
    prepared = Prepared(random_examples(rows * STEPS, job["length"], shape.vocabulary), [], "", {}, {}, [])
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    times: list[float] = []

    def report(_: Any) -> None:
        if device == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter())

    with tempfile.TemporaryDirectory(dir=job["work"]) as run:
        train_steps(model, prepared, settings, Path(run), "gpu", report, lambda _: None, 1e9)
    found: dict[str, Any] = {"tokens_per_s": round(job["tokens"] * (STEPS - 1) / (times[-1] - times[0]), 1)}
    if device == "cuda":
        free, whole = torch.cuda.mem_get_info()
        context = (whole - free - torch.cuda.memory_reserved()) / 2**30
        found |= {
            "allocated_gib": round(torch.cuda.max_memory_allocated() / 2**30, 3),
            "reserved_gib": round(torch.cuda.max_memory_reserved() / 2**30, 3),
            "context_gib": round(context, 3),
            "peak_gib": round(torch.cuda.max_memory_reserved() / 2**30 + context, 3),
        }
    return found


def compare(job: dict[str, Any], rates: tuple[float, float]) -> dict[str, Any]:
    """Run one configuration in its own process; put the plan and the utilisation beside what was measured."""
    from doyen.planning.devices import Device, Machine
    from doyen.planning.fitting import plan_method
    from doyen.planning.memory import Training
    from doyen.planning.timing import step_flops

    shape = TOY if job["model"] == "toy" else find_shape(job["model"])
    gpu = job["device"] == "cuda"
    how = Training(
        method=job["method"],
        tokens=job["tokens"],
        length=job["length"],
        supervised_share=SUPERVISED,
        checkpointing=job["checkpointing"],
        gpu=gpu,
    )
    machine = Machine(Device("here", 1e6, rates[0], 0.0, "", kind="gpu" if gpu else "cpu"))
    planned = plan_method(shape, how, machine, None)
    row = {k: job[k] for k in ("model", "method", "tokens", "length", "checkpointing")}
    row["planned_gib"] = planned.way.total_gib
    done = subprocess.run([sys.executable, __file__, "--job", json.dumps(job)], capture_output=True, text=True)
    if done.returncode:
        return row | {"failed": done.stderr.strip().splitlines()[-1:]}
    row |= json.loads(done.stdout.splitlines()[-1])
    flops = step_flops(shape, dataclasses.replace(how, checkpointing=False)) * row["tokens_per_s"]
    row |= {
        f"of_{name}_rate": round(flops / (rate * 1e12), 4)
        for name, rate in zip(("sheet", "measured"), rates, strict=True)
        if rate
    }
    if "peak_gib" in row:
        row["plan_error"] = round(row["planned_gib"] / row["peak_gib"] - 1, 4)
    return row


def slowdowns(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return QLoRA's extra time a token against LoRA's, by model and tokens a step."""
    pace = {(r["model"], r["tokens"], r["method"]): r["tokens_per_s"] for r in rows if "tokens_per_s" in r}
    return [
        {"model": model, "tokens": tokens, "slowdown": round(lora / pace[model, tokens, "qlora"] - 1, 4)}
        for (model, tokens, method), lora in pace.items()
        if method == "lora" and (model, tokens, "qlora") in pace
    ]


def jobs(arguments: Any) -> list[dict[str, Any]]:
    """Return what to run: LoRA where its weights fit, QLoRA, checkpointing for models of tens of billions."""
    found = []
    models = ("toy",) if arguments.toy else tuple(arguments.models.split(","))
    for model in models:
        large = model != "toy" and SHAPES[model].parameters > 2e10
        for tokens in TOY_TOKENS if arguments.toy else TOKENS:
            for method in ("qlora",) if large else ("lora", "qlora"):
                length = min(tokens, TOY_LENGTH if arguments.toy else LENGTH)
                job = {"model": model, "method": method, "tokens": tokens, "length": length}
                checkpointing = large or arguments.checkpointing
                job |= {"checkpointing": checkpointing, "device": arguments.device, "work": str(arguments.work)}
                found.append(job)
    return found


def main() -> None:
    """Measure all configurations and save them."""
    if len(sys.argv) == 3 and sys.argv[1] == "--job":
        print(json.dumps(train(json.loads(sys.argv[2]))))
        return
    made = parser(__doc__ or "")
    made.add_argument("--models", default=",".join(MODELS))
    made.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    made.add_argument("--toy", action="store_true", help="a toy shape: tries the script")
    made.add_argument("--checkpointing", action="store_true", help="gradient checkpointing for all models")
    arguments = made.parse_args()
    import torch

    if arguments.device == "cuda" and not torch.cuda.is_available():
        raise SystemExit("there is no NVIDIA GPU here: --device cpu --toy tries the script")
    from doyen.planning.devices import GPUS, this_machine

    arguments.work.mkdir(parents=True, exist_ok=True)
    measured = this_machine().device
    sheet = next((g.tera_flops for key, g in GPUS.items() if key in measured.name), 0.0)
    rows = []
    for job in jobs(arguments):
        rows.append(compare(job, (sheet or measured.tera_flops, measured.tera_flops)))
        print(json.dumps(rows[-1]), flush=True)
    result = {
        "device": measured.name,
        "sheet_tera_flops": sheet,
        "measured_tera_flops": round(measured.tera_flops, 3),
        "toy": arguments.toy,
        "configurations": rows,
        "qlora_slowdowns": slowdowns(rows),
    }
    default = None if not arguments.toy else arguments.work / "gpu_finetune_toy.json"
    save("gpu_finetune", result, arguments.out or default)


if __name__ == "__main__":
    main()
