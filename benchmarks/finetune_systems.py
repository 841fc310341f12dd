"""One fine-tuning system, one job: train an adapter, or measure one. Run by benchmarks/finetune.py.

Enters: a JSON job on stdin. Leaves: a JSON result as the last line of stdout.
"""

from __future__ import annotations

import dataclasses
import json
import os
import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

SEED = 7


def train_doyen(job: dict[str, Any]) -> dict[str, Any]:
    """Run doyen's training without what it does beyond TRL's: the check on the serving engine and the calibration."""
    from doyen.config import Settings
    from doyen.examples.importing import read_examples
    from doyen.finetuning.methods import resolved, save_trained, trained_model
    from doyen.finetuning.preparing import prepare
    from doyen.finetuning.steps import train_steps

    method = "qlora" if job["system"] == "doyen-qlora" else "lora"
    settings = Settings()
    names = ("epochs", "batch_size", "rank", "alpha", "learning_rate", "max_tokens")
    chosen = {name: job[name] for name in names}
    settings = dataclasses.replace(
        settings, finetune=resolved(dataclasses.replace(settings.finetune, method=method, **chosen))
    )

    def quiet(_: str) -> None:
        pass

    examples = read_examples(Path(job["train"]))
    prepared = prepare(Path(job["model"]), settings, examples, [], quiet)
    model = trained_model(Path(job["model"]), settings.finetune, prepared, quiet)
    with tempfile.TemporaryDirectory() as work:
        state = train_steps(model, prepared, settings.finetune, Path(work), "", None, quiet, 1e9)
    save_trained(model, Path(job["saved"]), Path(job["model"]), prepared)
    quantised = [p for p in model.parameters() if p.dtype.itemsize == 1]
    return {
        "step_seconds": round(state.seconds, 2),
        "tokens": state.tokens,
        "trained_parameters": sum(p.numel() for p in model.parameters() if p.requires_grad),
        "weight_bytes": sum(p.numel() for p in quantised),
    }


def train_trl(job: dict[str, Any]) -> dict[str, Any]:
    from datasets import Dataset  # type: ignore[import-not-found]
    from peft import LoraConfig
    from trl import SFTConfig, SFTTrainer  # type: ignore[import-not-found]

    rows = [json.loads(line) for line in Path(job["train"]).read_text(encoding="utf-8").splitlines()]
    pairs = [{"prompt": r["messages"][:-1], "completion": r["messages"][-1:]} for r in rows]
    options = {"gradient_checkpointing": False} if job["system"] == "trl-plain" else {}
    config = SFTConfig(
        output_dir=job["saved"],
        num_train_epochs=job["epochs"],
        per_device_train_batch_size=job["batch_size"],
        learning_rate=job["learning_rate"],
        max_length=job["max_tokens"],
        bf16=True,
        use_cpu=True,
        report_to=[],
        save_strategy="no",
        seed=SEED,
        **options,
    )
    adapter = LoraConfig(r=job["rank"], lora_alpha=job["alpha"], target_modules="all-linear", task_type="CAUSAL_LM")
    trainer = SFTTrainer(job["model"], args=config, train_dataset=Dataset.from_list(pairs), peft_config=adapter)
    started = time.perf_counter()
    trainer.train()
    seconds = time.perf_counter() - started
    trainer.save_model(job["saved"])
    trained = sum(p.numel() for p in trainer.model.parameters() if p.requires_grad)
    return {"step_seconds": round(seconds, 2), "trained_parameters": trained}


def loss_of(job: dict[str, Any]) -> dict[str, Any]:
    """Return the mean loss a supervised token of a saved adapter (None: of the base model) over the held-out examples."""
    import torch
    from peft import PeftModel

    from doyen.config import Settings
    from doyen.examples.importing import read_examples
    from doyen.finetuning.loss import mean_loss
    from doyen.finetuning.preparing import prepare
    from doyen.models.engine import load_causal_model

    folder = Path(job["model"])
    prepared = prepare(folder, Settings(), read_examples(Path(job["held_out"])), [], lambda _: None)
    model = load_causal_model(folder, dtype=torch.float32)
    if job["saved"]:
        model = PeftModel.from_pretrained(model, job["saved"])
    model.eval()
    return {"held_out_loss": mean_loss(model, prepared.train, 2048)}


def main() -> None:
    job = json.load(sys.stdin)
    os.environ |= {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    systems = {
        "doyen": train_doyen,
        "doyen-qlora": train_doyen,
        "trl": train_trl,
        "trl-plain": train_trl,
        "loss": loss_of,
    }
    started = time.perf_counter()
    result = systems[job["system"]](job)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    result |= {"seconds": round(time.perf_counter() - started, 2), "peak_memory_gib": round(peak, 2)}
    print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
