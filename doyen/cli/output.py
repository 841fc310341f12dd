"""What all commands share: options, JSON or text on stdout, progress on stderr."""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Annotated, Any

import typer

from doyen.config import find_expert, load_settings

ExpertOption = Annotated[
    Path | None,
    typer.Option("--expert", help="The expert's folder (default: the nearest one upwards).", show_default=False),
]
FilterOption = Annotated[
    list[str] | None,
    typer.Option(
        "--filter",
        metavar="KEY=VALUE",
        help="Only documents of this folder, type, date, language, title or metadata (also !=, >=, <=; repeatable).",
        show_default=False,
    ),
]
OnOption = Annotated[
    str,
    typer.Option(
        "--on",
        metavar="CLUSTER",
        help="Have the work done by a Ray cluster: ray (that of $RAY_ADDRESS, or of this machine), ray://HOST:10001.",
        show_default=False,
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")  # all but line ends and tabs


def expert_folder(given: Path | None) -> Path:
    """Return the expert's folder; raises ExpertError if there is none."""
    if given is None:
        return find_expert()
    load_settings(given)
    return given.resolve()


def show(value: Any, text: str, as_json: bool) -> None:
    """Print a result: JSON, or the text for people, in which no control code of a user or document reaches a terminal."""
    print(json.dumps(value, ensure_ascii=False, indent=1, default=str) if as_json else _CONTROL.sub("\ufffd", text))


def note(text: str) -> None:
    """Print a remark on stderr."""
    print(text, file=sys.stderr, flush=True)


def duplicate_line(documents: Sequence[str], similarity: float, exact: bool, most: int | None = 4) -> str:
    """Write a group of duplicates on one line, naming `most` of them."""
    more = f" … {len(documents)} in all" if most is not None and len(documents) > most else ""
    return (" = " if exact else " ≈ ").join(documents[:most]) + more + ("" if exact else f" ({similarity:.2f})")


class Bar:
    """A progress bar with rate and time left on stderr; in a log, a line every ten seconds."""

    def __init__(self, unit: str) -> None:
        self._unit = unit
        self._bar: Any = None
        self._tasks: dict[str, Any] = {}
        self._begun: dict[str, tuple[float, int]] = {}
        self._said = 0.0

    def __enter__(self) -> Bar:
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

            columns = (
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[rate]}"),
                TimeRemainingColumn(),
            )
            self._bar = Progress(*columns, console=Console(stderr=True))
            self._bar.start()
        return self

    @property
    def live(self) -> bool:
        """Whether the bar is drawn on a terminal, and not written line by line into a log."""
        return self._bar is not None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def __call__(self, stage: str, done: int, total: int, extra: str = "") -> None:
        """Show that `done` of `total` units of a stage are done."""
        now = time.perf_counter()
        begun, first = self._begun.setdefault(stage, (now, done))
        pace = (done - first) / (now - begun) if now > begun and done > first else 0.0
        rate = extra or (f"{pace:.1f} {self._unit}/s" if pace else "")
        if self._bar is not None:
            if stage not in self._tasks:
                self._tasks[stage] = self._bar.add_task(stage, total=total, rate="")
            self._bar.update(self._tasks[stage], completed=done, total=total, rate=rate)
        elif now - self._said > 10 or done == total:
            left = f", {(total - done) / pace:.0f} s left" if pace and done < total and not extra else ""
            note(f"{stage}: {done}/{total} {rate}{left}")
            self._said = now
