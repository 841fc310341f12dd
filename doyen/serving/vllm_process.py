"""vLLM as a process of its own: how it is started, when it is ready, how it is stopped. Knows no expert.

Options: https://docs.vllm.ai/en/latest/cli/serve/. Runs on Linux; nothing of vLLM is imported here.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from doyen.errors import EngineError, ModelError, UsageError

_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
_SPLIT_BELOW = (0, 7)
_POLL_S = 0.5
_STOP_S = 20.0
_SHOWN_LINES = 12
_INSTALL = (
    "pip install vllm, in an environment of its own with its `vllm` program on the PATH (Linux and a GPU; "
    "docs.vllm.ai says for which); or --endpoint URL joins one that runs elsewhere"
)


@dataclass(slots=True)
class VLLMProcess:
    """A vLLM that was started here."""

    process: subprocess.Popen[bytes]
    url: str
    log: Path

    def wait_ready(self, timeout_s: float, say: Callable[[str], None]) -> None:
        """Wait until it answers; `say` is told how long that has taken, and the log's last line.

        Raises: EngineError where it ends or is not ready in time.
        """
        import httpx

        begun = said = time.monotonic()
        while True:
            if self.process.poll() is not None:
                raise EngineError(
                    f"vLLM ended with code {self.process.returncode} before it was ready:\n{self.last_lines()}",
                    hint=f"its log: {self.log}",
                )
            with contextlib.suppress(httpx.HTTPError):
                if httpx.get(f"{self.url}/health", timeout=5.0).status_code == 200:
                    return
            now = time.monotonic()
            if now - begun > timeout_s:
                raise EngineError(
                    f"vLLM was not ready after {timeout_s:.0f} s:\n{self.last_lines()}",
                    hint=f"--timeout gives it longer; its log: {self.log}",
                )
            if now - said > 10:
                said = now
                say(f"vLLM is starting, {now - begun:.0f} s: {self.last_lines(1)}")
            time.sleep(_POLL_S)

    def last_lines(self, count: int = _SHOWN_LINES) -> str:
        """Return the log's last lines."""
        with contextlib.suppress(OSError):
            lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()
            return "\n".join(line[:300] for line in lines[-count:])
        return ""

    def stop(self) -> None:
        """End it and the processes that it started."""
        for signalled in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signalled)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(_STOP_S)
                return


@dataclass(frozen=True, slots=True)
class Start:
    """What vLLM is to serve: a model's folder under a name, adapters by name, on a host and port; `more` are its own options."""

    folder: Path
    name: str
    adapters: Mapping[str, Path]
    host: str
    port: int
    more: Sequence[str] = ()
    environment: Mapping[str, str] = field(default_factory=dict)

    def command(self, program: str) -> list[str]:
        """Return the command line."""
        made = [program, "serve", str(self.folder), "--served-model-name", self.name]
        made += ["--host", self.host, "--port", str(self.port)]
        if self.adapters:
            ranks = max(_rank(path) for path in self.adapters.values())
            made += ["--enable-lora", "--max-loras", str(len(self.adapters)), "--max-lora-rank", str(ranks)]
            made += ["--lora-modules", *(f"{name}={path}" for name, path in self.adapters.items())]
        return [*made, *self.more]


def start_vllm(start: Start, log: Path) -> VLLMProcess:
    """Start vLLM in a session of its own, its output in `log`; it sends no usage reports and fetches nothing.

    Raises: ModelError where it is not installed.
    """
    program = vllm_program()
    quiet = {"VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1", "HF_HUB_OFFLINE": "1"}
    with log.open("wb") as out:
        process = subprocess.Popen(
            start.command(program),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env={**os.environ, **quiet, **start.environment},
        )
    host = "127.0.0.1" if start.host in ("0.0.0.0", "::", "localhost") else start.host
    return VLLMProcess(process, f"http://{f'[{host}]' if ':' in host else host}:{start.port}", log)


def vllm_program() -> str:
    """Return where the `vllm` program is. Raises ModelError where it is not."""
    found = shutil.which("vllm")
    if found is None:
        raise ModelError("vLLM is not installed here: there is no `vllm` program", hint=_INSTALL)
    return found


def installed_version() -> tuple[int, ...]:
    """Return the installed vLLM's version as numbers, () where it does not tell."""
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        told = subprocess.run([vllm_program(), "--version"], capture_output=True, text=True, timeout=120, check=False)
        if match := re.search(r"(\d+)\.(\d+)", told.stdout):
            return int(match[1]), int(match[2])
    return ()


def needs_split(version: tuple[int, ...]) -> bool:
    """Whether this vLLM wants Phi's fused modules split in adapters.

    Before 0.7 its Phi-3 names q, k, v, gate and up one by one for adapters; since then qkv_proj and gate_up_proj (its
    `phi3.py`, `packed_modules_mapping`), and it refuses split ones.
    """
    return bool(version) and version < _SPLIT_BELOW


def free_port(host: str, wanted: int) -> int:
    """Return the wanted port, or a free one for 0. Raises UsageError where something listens there."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, wanted))
        except OSError as error:
            raise UsageError(
                f"port {wanted} of {host} cannot be had: {error.strerror}",
                hint="another --port; or --endpoint URL to join the vLLM that listens there",
            ) from error
        return int(probe.getsockname()[1])


def unservable(adapter: Path) -> str:
    """Say why vLLM cannot serve an adapter beside the base model; "" where it can."""
    path = adapter / "adapter_config.json"
    if not path.exists():
        return "it is a whole model: doyen export, and serve that"
    config = json.loads(path.read_text(encoding="utf-8"))
    if config.get("use_dora"):
        return "vLLM serves no DoRA: doyen export --format merged, and serve that"
    if config.get("modules_to_save"):
        return "it trains whole modules: doyen export --format merged, and serve that"
    return ""


def is_fused(adapter: Path) -> bool:
    """Whether an adapter adapts Phi's fused modules."""
    targets = json.loads((adapter / "adapter_config.json").read_text(encoding="utf-8")).get("target_modules") or []
    return isinstance(targets, list) and any(t.rpartition(".")[2] in ("qkv_proj", "gate_up_proj") for t in targets)


def _rank(adapter: Path) -> int:
    """Return the least of vLLM's permitted ranks that holds an adapter's."""
    config = json.loads((adapter / "adapter_config.json").read_text(encoding="utf-8"))
    own = max([int(config.get("r", 8)), *map(int, (config.get("rank_pattern") or {}).values())])
    return next((rank for rank in _RANKS if rank >= own), own)
