"""`doyen serve`, `doyen keys`."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from doyen.cli.output import ExpertOption, JsonOption, expert_folder, note, show
from doyen.errors import EngineError, UsageError

if TYPE_CHECKING:
    from doyen.serving.model_server import ServedModelOfExpert

ENGINES = ("vllm",)


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(serve)
    group = typer.Typer(no_args_is_help=True, help="Make, list and revoke the API keys of an expert.")
    group.command("add")(add)
    group.command("list")(list_)
    group.command("revoke")(revoke)
    app.add_typer(group, name="keys")


def serve(
    more: Annotated[
        list[str] | None, typer.Argument(metavar="[-- OPTIONS]", help="Options handed on to vLLM.", show_default=False)
    ] = None,
    engine: Annotated[
        str,
        typer.Option(
            help="Serve only the model and adapters, by this program, to doyen itself: vllm.", show_default=False
        ),
    ] = "",
    endpoint: Annotated[
        str, typer.Option(help="Join the server at this base URL instead of starting one.", show_default=False)
    ] = "",
    host: Annotated[str, typer.Option(help="Where it listens.")] = "127.0.0.1",
    port: Annotated[
        int,
        typer.Option(
            min=-1, max=65535, help="Its port; by default 8000, with --engine a free one.", show_default=False
        ),
    ] = -1,
    timeout: Annotated[float, typer.Option(min=1, help="Seconds that it may take to be ready.")] = 900.0,
    expert: ExpertOption = None,
    json_: JsonOption = False,
) -> None:
    """Serve the expert over HTTP until Ctrl-C: OpenAI-compatible, with documents, jobs and metrics.

    With --engine vllm: serve its model and adapters to doyen's other commands, after gates.
    """
    if engine and engine not in ENGINES:
        raise UsageError(f"unknown engine '{engine}'", hint=f"--engine {' | '.join(ENGINES)}")
    folder = expert_folder(expert)
    if not engine:
        _serve_api(folder, host, port, more, endpoint)
        return
    from doyen.serving.model_server import serve_model

    signal.signal(signal.SIGTERM, signal.default_int_handler)
    options = {"endpoint": endpoint, "host": host, "port": max(port, 0), "timeout_s": timeout}
    with serve_model(folder, **options, more=more or (), say=note) as served:  # type: ignore[arg-type]
        show(served.as_dict(), "\n".join(_lines(served, folder)), json_)
        _wait(served)


def _serve_api(folder: Path, host: str, port: int, more: list[str] | None, endpoint: str) -> None:
    if more or endpoint:
        raise UsageError("options behind -- and --endpoint are for --engine vllm")
    # Before numpy is loaded: its threads wait for more work in a busy loop, at the cost of other requests.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    from doyen.serving.running import serve_api

    serve_api(folder, host=host, port=8000 if port < 0 else port, say=note)


def add(
    name: Annotated[str, typer.Argument(help="Whose key it is.")],
    role: Annotated[str, typer.Option(help="reader (asks), editor (uploads and deletes too), admin.")] = "reader",
    labels: Annotated[
        str, typer.Option(help="Documents with one of these labels may be seen: LABEL,LABEL.", show_default=False)
    ] = "",
    expires: Annotated[str, typer.Option(help="After 12h, 90d or 4w; never by default.", show_default=False)] = "",
    expert: ExpertOption = None,
    json_: JsonOption = False,
) -> None:
    """Make a key and print it, this once: only its hash is kept."""
    from doyen.serving.keys import add_key

    key, secret = add_key(expert_folder(expert), name, role=role, labels=labels, expires=expires)
    note(f"key {key.id} of {key.name} ({key.role}); it is shown this once")
    show(key.as_dict() | {"key": secret}, secret, json_)


def list_(expert: ExpertOption = None, json_: JsonOption = False) -> None:
    """List the keys, without themselves."""
    from doyen.serving.keys import load_keys

    keys = load_keys(expert_folder(expert))
    lines = [
        f"{k.id}  {k.name}  {k.role}  made {k.created}"
        + (f"  sees {', '.join(k.labels)}" if k.labels else "")
        + (f"  revoked {k.revoked}" if k.revoked else f"  until {k.expires}" if k.expires else "")
        for k in keys
    ]
    show([k.as_dict() for k in keys], "\n".join(lines) or "no keys: only this machine's users can ask", json_)


def revoke(
    key: Annotated[str, typer.Argument(help="Its id or name.")], expert: ExpertOption = None, json_: JsonOption = False
) -> None:
    """Revoke a key, at once."""
    from doyen.serving.keys import revoke_key

    gone = revoke_key(expert_folder(expert), key)
    show(gone.as_dict(), f"revoked {gone.id} of {gone.name}", json_)


def _wait(served: ServedModelOfExpert) -> None:
    """Wait until the server ends by itself, or the user stops it."""
    if served.process is None:
        return
    note("Ctrl-C stops it")
    try:
        code = served.process.process.wait()
    except KeyboardInterrupt:
        note("vLLM is being stopped")
        return
    raise EngineError(
        f"vLLM ended with code {code}:\n{served.process.last_lines()}", hint=f"its log: {served.process.log}"
    )


def _lines(served: ServedModelOfExpert, expert: Path) -> list[str]:
    from doyen.config import SERVER_FILE, load_settings

    lines = [f"{served.model} at {served.endpoint} ({served.kind})"]
    lines += [
        f"adapter {name}: log-probabilities change by up to {effect:.2f}" for name, effect in served.effects.items()
    ]
    lines += [f"adapter {name} is not served: {reason}" for name, reason in served.left_out.items()]
    lines += [f"remark: {remark}" for remark in served.remarks]
    if load_settings(expert).model.engine != "server":
        lines += [
            f"for doyen ask and doyen compare to use it, in {expert / 'doyen.toml'}:",
            "[model]",
            'engine = "server"',
        ]
        if not (expert / SERVER_FILE).exists():
            lines.append(f'endpoint = "{served.endpoint}"')
    return lines
