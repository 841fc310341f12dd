"""`doyen serve`."""

from __future__ import annotations

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
    """Add the command."""
    app.command()(serve)


def serve(
    more: Annotated[
        list[str] | None, typer.Argument(metavar="[-- OPTIONS]", help="Options handed on to vLLM.", show_default=False)
    ] = None,
    engine: Annotated[
        str, typer.Option(help="What serves the expert's model and adapters: vllm.", show_default=False)
    ] = "",
    endpoint: Annotated[
        str, typer.Option(help="Join the server at this base URL instead of starting one.", show_default=False)
    ] = "",
    host: Annotated[str, typer.Option(help="Where it listens.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Its port; 0: a free one.")] = 0,
    timeout: Annotated[float, typer.Option(min=1, help="Seconds that it may take to be ready.")] = 900.0,
    expert: ExpertOption = None,
    json_: JsonOption = False,
) -> None:
    """Serve the expert's model and adapters to doyen's other commands, after gates, until Ctrl-C."""
    from doyen.serving.model_server import serve_model

    if engine not in ENGINES:
        asked = f"unknown engine '{engine}'" if engine else "doyen serve needs to know which engine serves the model"
        raise UsageError(asked, hint=f"--engine {' | '.join(ENGINES)}")
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    folder = expert_folder(expert)
    options = {"endpoint": endpoint, "host": host, "port": port, "timeout_s": timeout}
    with serve_model(folder, **options, more=more or (), say=note) as served:  # type: ignore[arg-type]
        show(served.as_dict(), "\n".join(_lines(served, folder)), json_)
        _wait(served)


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
