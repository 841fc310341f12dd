"""What watches a training: its page, the trackers, and whoever called. Knows no model."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from doyen.adapters import AdapterManifest
from doyen.config import Settings
from doyen.finetuning.preparing import Prepared, Say
from doyen.finetuning.repeating import machine, versions
from doyen.finetuning.steps import Report, TrainingProgress
from doyen.finetuning.tracking import Trackers
from doyen.finetuning.training_page import TrainingPage
from doyen.models.catalogue import find_entry


class Watch:
    """Hands each line of the curve to the page, the trackers and the caller."""

    def __init__(
        self,
        trackers: list[str],
        expert: Path,
        name: str,
        work: Path,
        settings: Settings,
        prepared: Prepared,
        report: Report | None,
        say: Say,
    ) -> None:
        used = dataclasses.asdict(settings.finetune)
        facts: dict[str, Any] = {"name": name, "method": settings.finetune.method}
        facts |= {
            "model": find_entry(settings.model.name).name,
            "settings": used,
            "gates": prepared.gates,
            "examples": prepared.summary,
            "machine": machine(),
        }
        self._page = TrainingPage(work, facts | {"versions": versions()})
        self._trackers = Trackers(trackers, expert, name, work, used, say)
        self._report = report
        say(f"the curve while it trains: {self._page.path}")

    def __call__(self, line: TrainingProgress) -> None:
        """Hand a line on."""
        self._page.update()
        self._trackers.log(line)
        if self._report:
            self._report(line)

    def __enter__(self) -> None:
        """A run that stops, for whatever reason, is closed in the trackers too."""

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        if kind is not None:
            self._trackers.end({})

    def end(self, manifest: AdapterManifest) -> None:
        """Hand the last figures on."""
        found = {"validation_loss": manifest.validation_loss, "forgetting": manifest.forgetting["rise"]}
        self._trackers.end({key: value for key, value in found.items() if value is not None})
