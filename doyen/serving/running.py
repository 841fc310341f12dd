"""`doyen serve`: the application on a port, with JSON logs, until it is told to stop."""

from __future__ import annotations

import datetime
import json
import logging
import sys
from collections.abc import Callable
from pathlib import Path

from doyen import tracing
from doyen.errors import UsageError
from doyen.models.endpoint import is_loopback
from doyen.serving.keys import load_keys

EXTRA = "pip install 'doyen[serve]'"


MOST_HEAD = 256 << 10
"""Bytes of a request's address and headers: what the endpoints take, written with percent signs, fits into it."""


class JsonLines(logging.Formatter):
    """One JSON object a line: time, level, logger, event, and the fields of the record."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        moment = datetime.datetime.fromtimestamp(record.created, datetime.UTC).isoformat(timespec="milliseconds")
        row = {"time": moment, "level": record.levelname.lower(), "logger": record.name, "event": record.getMessage()}
        row |= getattr(record, "fields", {})
        if record.exc_info:
            row["error"] = self.formatException(record.exc_info)
        return json.dumps(row, ensure_ascii=False, default=str)


def serve_api(
    expert: Path, *, host: str = "127.0.0.1", port: int = 8000, say: Callable[[str], None] = lambda _: None
) -> None:
    """Serve an expert over HTTP until SIGINT or SIGTERM; answers at work are finished first.

    Raises:
        UsageError: the server's packages are missing, or others could reach it without a key.
        ExpertError, ConfigError, ModelError: the expert cannot be opened.
    """
    if not is_loopback(f"http://{f'[{host}]' if ':' in host else host}") and not load_keys(expert):
        raise UsageError(
            f"on {host} others can reach the expert, and no keys are set",
            hint="doyen keys add NAME, or --host 127.0.0.1",
        )
    try:
        import uvicorn

        from doyen.serving.api import STOPPING_S, make_app
        from doyen.serving.service import Service
    except ImportError as error:
        raise UsageError(f"doyen serve needs a web server, which is not here ({error})", hint=EXTRA) from None
    _log_json()
    tracing.start()
    service = Service.of(expert)
    failure: list[BaseException] = []

    def failed(error: BaseException) -> None:
        failure.append(error)
        server.should_exit = True

    config = uvicorn.Config(
        make_app(service, failed=failed),
        host=host,
        port=port,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=int(STOPPING_S) + 5,
        h11_max_incomplete_event_size=MOST_HEAD,
    )
    server = uvicorn.Server(config)
    say(f"http://{host}:{port} (OpenAI-compatible: /v1); Ctrl-C stops it")
    try:
        server.run()
    finally:
        tracing.stop()
    if failure:
        raise failure[0]


def _log_json() -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    for name, level in (("doyen", logging.INFO), ("uvicorn", logging.INFO)):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [handler], False
        logger.setLevel(level)
