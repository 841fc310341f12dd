"""A training killed with SIGKILL at 20 random steps and resumed each time: the adapter's bytes equal an undisturbed run's.

    python benchmarks/finetune_kill.py --work DIR

It is what the slow test asserts (tests/finetuning/test_training_killed.py), with its figures kept: a Phi-3 of 2 layers
with random weights, LoRA with dropout, replay, and a held-out loss that rises, so that the weights kept from before the
rise, the random state and the optimiser's state all have to survive. Each part runs in a process of its own.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
import time
from pathlib import Path

from measuring import parser, save

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "finetuning"))

from test_training_killed import STEPS, check_kills

KILLS = 20


def main() -> None:
    arguments = parser(__doc__ or "").parse_args()
    folder = arguments.work / "finetune-kill"
    shutil.rmtree(folder, ignore_errors=True)
    began = time.perf_counter()
    killed_at = check_kills(folder, kills=KILLS, seed=KILLS)
    made = folder / "killed" / "adapters" / "a"
    manifest = json.loads((made / "manifest.json").read_text(encoding="utf-8"))
    save(
        "finetune_kill",
        {
            "steps": STEPS,
            "killed_at_steps": killed_at,
            "kills": len(killed_at),
            "equal_to_undisturbed": True,  # check_kills raises otherwise
            "adapter_sha256": hashlib.sha256((made / "adapter_model.safetensors").read_bytes()).hexdigest(),
            "held_out": manifest["held_out"],
            "training_machine": manifest["machine"],
            "seconds": round(time.perf_counter() - began, 1),
        },
        arguments.out,
    )


if __name__ == "__main__":
    main()
