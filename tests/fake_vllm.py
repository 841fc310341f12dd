"""A stand-in for the `vllm` program: `vllm serve` with vLLM's options, a real tiny model behind vLLM's protocol.

FAKE_VLLM says what goes wrong: "dies" while it loads, "hangs" for ever; FAKE_VLLM_VERSION is what it says of itself.
FAKE_VLLM_CALLS is a file to which its command line and environment are added.
"""

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path


def install(folder: Path) -> Path:
    """Write a program `vllm` into a new folder, to be put on the PATH."""
    folder.mkdir()
    program = folder / "vllm"
    here = Path(__file__).parent
    lines = f"#!{sys.executable}\nimport sys\nsys.path[:0] = [{str(here)!r}, {str(here.parent)!r}]\nimport fake_vllm\n"
    program.write_text(f"{lines}fake_vllm.main()\n")
    program.chmod(0o755)
    return folder


def main() -> None:
    version = os.environ.get("FAKE_VLLM_VERSION", "0.11.0")
    if "--version" in sys.argv:
        sys.stdout.write(f"INFO: loading\n{version}\n")
        return
    if calls := os.environ.get("FAKE_VLLM_CALLS"):
        told = {k: v for k, v in os.environ.items() if k.startswith(("VLLM_", "DO_NOT_TRACK", "HF_HUB_OFFLINE"))}
        with open(calls, "a", encoding="utf-8") as f:
            f.write(json.dumps({"arguments": sys.argv[1:], "environment": told, "pid": os.getpid()}) + "\n")
    parser = argparse.ArgumentParser()
    parser.add_argument("command", choices=["serve"])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--served-model-name")
    parser.add_argument("--host")
    parser.add_argument("--port", type=int)
    parser.add_argument("--enable-lora", action="store_true")
    parser.add_argument("--max-loras", type=int)
    parser.add_argument("--max-lora-rank", type=int)
    parser.add_argument("--lora-modules", nargs="*", default=[])
    parser.add_argument("--max-model-len", type=int, default=2048)
    given = parser.parse_args()
    sys.stdout.write("INFO Starting to load model\n")
    sys.stdout.flush()
    match os.environ.get("FAKE_VLLM"):
        case "dies":
            sys.exit("ValueError: no GPU here")
        case "hangs":
            time.sleep(600)
    serve(given, version)


def fused(model: Path, adapter: Path) -> Path:
    """Put an adapter of split modules together again, as vLLM below 0.7 does; refuses one that is fused."""
    import torch
    from safetensors.torch import load_file, save_file

    weights = load_file(str(adapter / "adapter_model.safetensors"))
    if not any(".q_proj." in key for key in weights):
        sys.exit("ValueError: expected target modules in ['q_proj', 'k_proj', 'v_proj', 'gate_proj', 'up_proj', …]")
    made = Path(tempfile.mkdtemp(prefix="fused-")) / adapter.name
    shutil.copytree(adapter, made)
    for whole, parts in (("qkv_proj", ("q_proj", "k_proj", "v_proj")), ("gate_up_proj", ("gate_proj", "up_proj"))):
        for key in [k for k in weights if f".{parts[0]}." in k]:
            cut = [weights.pop(key.replace(parts[0], part)) for part in parts]
            weights[key.replace(parts[0], whole)] = cut[0] if ".lora_A." in key else torch.cat(cut)
    save_file(weights, str(made / "adapter_model.safetensors"), metadata={"format": "pt"})
    config = json.loads((made / "adapter_config.json").read_text())
    config["target_modules"] = ["qkv_proj", "o_proj", "gate_up_proj", "down_proj"]
    (made / "adapter_config.json").write_text(json.dumps(config))
    return made


def serve(given: argparse.Namespace, version: str) -> None:
    import torch
    from chat_server import ChatServer, RealModel

    from doyen.models.transformers_engine import TransformersEngine

    torch.set_num_threads(1)
    real = RealModel(TransformersEngine(given.folder, dtype=torch.float32))
    key = os.environ.get("VLLM_API_KEY", "")
    server = ChatServer(
        real, model=given.served_model_name, context=given.max_model_len, version=version, port=given.port, key=key
    )
    for one in given.lora_modules:
        name, _, path = one.partition("=")
        server.adapters[name] = path
        if os.environ.get("FAKE_VLLM") != "ignores adapters":
            split = version.startswith("0.6")
            real.adapters[name] = fused(given.folder, Path(path)) if split else Path(path)
    while True:
        time.sleep(1)
