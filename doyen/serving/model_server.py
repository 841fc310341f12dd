"""An expert's model on a server: started or joined, its gates run, and where it is written down for other commands."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from doyen.adapters import list_adapters
from doyen.config import SERVER_FILE, ModelSettings, load_settings, write_atomic
from doyen.errors import DoyenError, UsageError
from doyen.models.catalogue import find_entry
from doyen.models.chat_tokenizer import open_chat_tokenizer
from doyen.models.endpoint import is_loopback
from doyen.models.engine import golden_tokens
from doyen.models.fetching import require_model
from doyen.models.served_adapters import require_served_template
from doyen.models.server_engine import ServerEngine
from doyen.models.serving import server_engine
from doyen.serving.vllm_process import (
    Start,
    VLLMProcess,
    free_port,
    installed_version,
    is_fused,
    needs_split,
    start_vllm,
    unservable,
)

LOG_FILE = "server.log"
Say = Callable[[str], None]


@dataclass(slots=True)
class ServedModelOfExpert:
    """A server that passed its gates. `effects` are by how much each adapter moves log-probabilities there, at most."""

    endpoint: str
    model: str
    kind: str
    effects: dict[str, float] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)
    process: VLLMProcess | None = None
    """None where the server was there before."""

    def as_dict(self) -> dict[str, Any]:
        """Return what `doyen serve --json` prints."""
        row = {"endpoint": self.endpoint, "model": self.model, "server": self.kind, "started": self.process is not None}
        row |= {"adapters": self.effects, "left_out": self.left_out, "remarks": self.remarks}
        return row | ({"log": str(self.process.log)} if self.process else {})


@contextlib.contextmanager
def serve_model(
    expert: Path,
    *,
    endpoint: str = "",
    host: str = "127.0.0.1",
    port: int = 0,
    timeout_s: float = 900.0,
    more: Sequence[str] = (),
    say: Say = lambda _: None,
) -> Iterator[ServedModelOfExpert]:
    """Have the expert's model and adapters served while the context lasts: by the server at `endpoint`, or by a vLLM of its own.

    The gates: the base's and each adapter's template makes the tokens that training saw, and each adapter changes what
    the server writes. While it lasts, `server.json` in the expert's folder says where the server is, if it is on this
    machine; a server that was joined stays in that file.

    Raises:
        UsageError: the port is taken, or others could reach the server without a key.
        ModelError: the model, or vLLM, is not here.
        EngineError: vLLM does not start, or a gate is not passed.
        EndpointError: there is no answer at `endpoint`.
    """
    settings = load_settings(expert)
    own = replace(settings.model, endpoint=endpoint, engine="server")
    adapters, left_out = _adapters(expert)
    with tempfile.TemporaryDirectory(prefix="doyen-split-") as split, contextlib.ExitStack() as after:
        process = None
        if not endpoint:
            _refuse_second(expert)
            process = _started(expert, own, adapters, Path(split), host, port, more, say)
            after.callback(process.stop)
            say(f"vLLM starts as process {process.process.pid}; its log: {process.log}")
            process.wait_ready(timeout_s, say)
            own = replace(own, endpoint=f"{process.url}/v1")
        served = _checked(expert, own, adapters, Path(split), process, say)
        served.left_out = left_out
        if is_loopback(served.endpoint):
            row = {"endpoint": served.endpoint, "model": served.model, "pid": os.getpid() if process else None}
            write_atomic(expert / SERVER_FILE, json.dumps(row, indent=1))
            if process:
                after.callback((expert / SERVER_FILE).unlink, missing_ok=True)
        yield served


def _adapters(expert: Path) -> tuple[list[Path], dict[str, str]]:
    """Return the adapters that a server can have beside the base, and why not the others."""
    faults = {adapter: unservable(adapter) for adapter in list_adapters(expert)}
    return [a for a, fault in faults.items() if not fault], {a.name: fault for a, fault in faults.items() if fault}


def _refuse_second(expert: Path) -> None:
    """Refuse to start a second server beside one that runs for this expert."""
    path = expert / SERVER_FILE
    with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
        row = json.loads(path.read_text(encoding="utf-8"))
        os.kill(int(row["pid"]), 0)
        raise UsageError(
            f"process {row['pid']} serves this expert already, at {row['endpoint']}",
            hint="stop it with Ctrl-C there, or join it with --endpoint",
        )


def _started(
    expert: Path,
    model: ModelSettings,
    adapters: Sequence[Path],
    split: Path,
    host: str,
    port: int,
    more: Sequence[str],
    say: Say,
) -> VLLMProcess:
    key = os.environ.get(model.key_variable, "").strip() if model.key_variable else ""
    if not key and not is_loopback(f"http://{f'[{host}]' if ':' in host else host}"):
        raise UsageError(
            f"others reach {host}, and no key is set",
            hint="[model] key_variable names the environment variable with a key; or --host 127.0.0.1",
        )
    folder = require_model(model.name)
    split_needed = any(map(is_fused, adapters)) and needs_split(installed_version())
    paths = {a.name: _split(expert, a, split, say) if split_needed and is_fused(a) else a for a in adapters}
    environment = {"VLLM_API_KEY": key} if key else {}
    start = Start(folder, find_entry(model.name).name, paths, host, free_port(host, port), more, environment)
    return start_vllm(start, expert / LOG_FILE)


def _split(expert: Path, adapter: Path, into: Path, say: Say) -> Path:
    import doyen  # exporting is loaded when it is needed

    made = into / adapter.name
    if not made.exists():
        say(f"{adapter.name}: Phi's fused modules are split, as vLLM before 0.7 wants them")
        doyen.export_adapter(expert, made, name=adapter.name, form="split")
    return made


def _checked(
    expert: Path, model: ModelSettings, adapters: Sequence[Path], split: Path, process: VLLMProcess | None, say: Say
) -> ServedModelOfExpert:
    """Run the gates."""
    engine: ServerEngine = server_engine(model)
    server = engine.server
    base = server.find(find_entry(model.name).name)
    served = ServedModelOfExpert(model.endpoint, base.name, server.kind, process=process)
    if engine.folder is not None and server.tells_tokens:
        tokenizer = open_chat_tokenizer(engine.folder)
        own = {"name": "(none)", "golden_tokens": golden_tokens(tokenizer)}
        require_served_template(server, base.name, own, tokenizer.convert_ids_to_tokens)
        say(f"gate: {base.name}'s template makes the tokens that it makes here")
    if needs_split(server.version):
        engine.adapters.path_of = lambda a: _split(expert, a, split, say) if is_fused(a) else a
    for adapter in adapters:
        try:
            engine.adapters.fields(adapter)
        except DoyenError as error:
            raise type(error)(f"gate: {error}", hint=error.hint) from error
        effect = engine.adapters.effects.get(adapter.name)
        if effect is not None:
            served.effects[adapter.name] = round(effect, 4)
            say(f"gate: adapter {adapter.name} changes log-probabilities there by up to {effect:.2f}")
    served.remarks = engine.remarks
    return served
