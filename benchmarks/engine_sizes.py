"""A model of Phi-3-mini's shape (3.8 billion random weights) on the processor in 16, 8 and 4 bits: time and memory.

Random weights say nothing of quality; a step's time does not depend on the numbers. Makes 7.6 GB in --work (kept), and
the packed weights in doyen's cache, which is put into --work too. Each row is a process of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import measuring
import numpy as np

PHI3_MINI: dict[str, Any] = {
    "architectures": ["Phi3ForCausalLM"], "model_type": "phi3", "hidden_size": 3072, "intermediate_size": 8192,
    "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 32, "vocab_size": 32064,
    "max_position_embeddings": 4096, "original_max_position_embeddings": 4096, "rms_norm_eps": 1e-5, "hidden_act": "silu",
    "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0}, "tie_word_embeddings": False,
    "sliding_window": 2047, "bos_token_id": 1, "eos_token_id": 32000, "pad_token_id": 32000, "dtype": "bfloat16",
}  # fmt: skip
READ, WRITTEN = 1200, 20


def make_model(folder: Path, layers: int) -> None:
    """Write config.json and random bfloat16 weights, mean 0, deviation 0.02; kept where they are there."""
    from doyen.models.stored_weights import to_bfloat16

    config = PHI3_MINI | {"num_hidden_layers": layers}
    path = folder / "model.safetensors"
    if path.exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config, indent=1))
    hidden, inner, vocabulary = config["hidden_size"], config["intermediate_size"], config["vocab_size"]
    shapes = {"model.embed_tokens.weight": [vocabulary, hidden], "lm_head.weight": [vocabulary, hidden]}
    shapes["model.norm.weight"] = [hidden]
    for i in range(layers):
        layer = f"model.layers.{i}"
        shapes |= {
            f"{layer}.self_attn.qkv_proj.weight": [3 * hidden, hidden],
            f"{layer}.self_attn.o_proj.weight": [hidden, hidden],
            f"{layer}.mlp.gate_up_proj.weight": [2 * inner, hidden],
            f"{layer}.mlp.down_proj.weight": [hidden, inner],
            f"{layer}.input_layernorm.weight": [hidden],
            f"{layer}.post_attention_layernorm.weight": [hidden],
        }
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, shape in shapes.items():
        start, end = end, end + 2 * int(np.prod(shape))
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    generator = np.random.default_rng(0)
    partial = path.with_suffix(".partial")
    with partial.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for shape in shapes.values():
            if len(shape) == 1:
                file.write(to_bfloat16(np.ones(shape, dtype=np.float32)).tobytes())
            else:
                rows = generator.standard_normal(shape, dtype=np.float32) * np.float32(0.02)
                file.write(to_bfloat16(rows).tobytes())
    partial.replace(path)


def openvino_row(folder: Path, bits: int) -> dict[str, Any]:
    """Return the times of one process with the OpenVINO engine's network."""
    from doyen.models.decoder_network import build_decoder, decoder_shape
    from doyen.models.packed_weights import PackedWeights
    from doyen.models.paged import PagedNetwork, Piece
    from doyen.models.rotary import Rotary
    from doyen.models.stored_weights import StoredWeights

    config = json.loads((folder / "config.json").read_text())
    shape = decoder_shape(config)
    rotary = Rotary(config, shape.head_size)
    started = time.perf_counter()
    weights = StoredWeights(folder) if bits == 16 else PackedWeights(folder, None, bits)
    packed_s = time.perf_counter() - started
    network = PagedNetwork(build_decoder(shape, weights, rotary), rotary, 2 * READ)
    loaded_s = time.perf_counter() - started
    ids = np.random.default_rng(1).integers(10, shape.vocabulary, READ + WRITTEN).tolist()
    blocks = network.pool.take(2 * READ // 32)
    assert blocks is not None
    reading, writing = [], []
    for turn in range(3):
        begun = time.perf_counter()
        for start in range(0, READ, 1024):
            network.step([Piece(ids[start : min(READ, start + 1024)], start, blocks)])
        reading.append(time.perf_counter() - begun)
        for i in range(WRITTEN if turn else 2):
            begun = time.perf_counter()
            network.step([Piece(ids[READ + i : READ + i + 1], READ + i, blocks)])
            writing.append(time.perf_counter() - begun)
    return _row(f"openvino-{bits}bit", reading[1:], writing[2:]) | {
        "weights_s": round(packed_s, 1),
        "load_s": round(loaded_s, 1),
    }


def transformers_row(folder: Path) -> dict[str, Any]:
    """Return the times of transformers in bfloat16 with its static cache of keys and values left to itself."""
    import torch

    from doyen.models.engine import load_causal_model

    started = time.perf_counter()
    model = load_causal_model(folder, dtype=torch.bfloat16).eval()
    loaded_s = time.perf_counter() - started
    ids = torch.from_numpy(np.random.default_rng(1).integers(10, 32000, (1, READ + WRITTEN)))
    reading, writing = [], []
    with torch.inference_mode():
        for _ in range(2):
            begun = time.perf_counter()
            out = model(ids[:, :READ], use_cache=True, logits_to_keep=1)
            reading.append(time.perf_counter() - begun)
        cache = out.past_key_values
        for i in range(WRITTEN):
            begun = time.perf_counter()
            cache = model(ids[:, READ + i : READ + i + 1], past_key_values=cache, use_cache=True).past_key_values
            writing.append(time.perf_counter() - begun)
    return _row("transformers bf16", reading[1:], writing[1:]) | {"load_s": round(loaded_s, 1)}


def _row(name: str, reading: list[float], writing: list[float]) -> dict[str, Any]:
    read, write = statistics.median(reading), statistics.median(writing)
    return {
        "engine": name,
        "read_tokens_per_s": round(READ / read, 1),
        "first_token_s": round(read, 2),
        "write_tokens_per_s": round(1 / write, 2),
        "best_write_tokens_per_s": round(1 / min(writing), 2),
        "answer_s": round(read + 59 * write, 1),
        "peak_gib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2),
    }


def main() -> None:
    parser = measuring.parser(__doc__ or "")
    parser.add_argument("--layers", type=int, default=32, help="fewer layers for a trial")
    parser.add_argument("--rows", nargs="*", default=["16", "8", "4", "4", "transformers"])
    parser.add_argument("--row", default="", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    folder = arguments.work / f"phi3-{arguments.layers}"
    os.environ["DOYEN_CACHE"] = str(arguments.work / "cache")
    make_model(folder, arguments.layers)
    if arguments.row:
        row = transformers_row(folder) if arguments.row == "transformers" else openvino_row(folder, int(arguments.row))
        print(json.dumps(row))
        return
    rows = []
    for name in arguments.rows:  # the second time, 4 bits come from the cache
        command = [
            sys.executable,
            __file__,
            "--work",
            str(arguments.work),
            "--layers",
            str(arguments.layers),
            "--row",
            name,
        ]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            rows.append(
                {"engine": name, "failed": f"exit {done.returncode}: {done.stderr[-200:] or 'killed, memory?'}"}
            )
        else:
            rows.append(json.loads(done.stdout.splitlines()[-1]))
        print(rows[-1], flush=True)
    result = {"shape": PHI3_MINI | {"num_hidden_layers": arguments.layers}, "prompt_tokens": READ, "rows": rows}
    measuring.save("engine_sizes", result, arguments.out)


if __name__ == "__main__":
    main()
