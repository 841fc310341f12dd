"""`doyen finetune --on ray`: processes on the machines of a Ray cluster; a lost one costs what came after the last checkpoint.

Enters: what `finetune` was called with, with the adapter's name. Leaves: the manifest. The processes are those of `--processes`,
so that the same arithmetic gives the same adapter. Loads no torch.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from doyen.adapters import AdapterManifest, interrupted_runs, read_adapter
from doyen.cluster.connecting import connected
from doyen.cluster.machines import look_at_machines
from doyen.cluster.training import Seats, Team, seats
from doyen.config import Settings
from doyen.errors import ClusterError, DoyenError, ProcessError
from doyen.finetuning.launching import Run, arguments_of, follow
from doyen.finetuning.preparing import Say
from doyen.finetuning.steps import Report

RESTARTS = 3


def launch_on(
    on: str,
    processes: int,
    expert: Path,
    settings: Settings,
    given: dict[str, Any],
    report: Report | None,
    say: Say | None,
) -> AdapterManifest:
    """Fine-tune in `processes` processes on a cluster (0: one a GPU, else one a machine).

    Where a process or its machine is lost, all are started again, at most RESTARTS times, from the last checkpoint. Ctrl-C is handed
    on: all stop after the step, and a checkpoint is kept.

    Raises:
        ClusterError: the cluster does not answer, has no room, or a machine does not see the expert's folder or lacks the model.
            Or processes were lost again and again.
        DoyenError: what stopped the run, as in one process.
    """
    expert = expert.resolve()
    with connected(on) as machines:
        began = time.time()
        places = seats(machines, processes or settings.cluster.workers, settings.cluster.worker_cores)
        for restarts in range(RESTARTS + 1):
            with Team(places) as team:
                try:
                    team.check(expert, settings.model.name)
                    return _followed(team, expert, given, report, say)
                except DoyenError as error:
                    if team.lost and (made := _made_since(expert, given["name"], began)):
                        return made  # what was lost had nothing left to do
                    if not (team.lost or isinstance(error, ProcessError)) or restarts == RESTARTS:
                        raise _told(error, given["name"], places) from error
                    lost = ", ".join(team.lost) or str(error).splitlines()[0]
            places = seats(look_at_machines(), places.processes, settings.cluster.worker_cores)
            given = given | {"resume": given["name"] in interrupted_runs(expert)}
            if say:
                begun = (
                    "from the last checkpoint" if given["resume"] else "from the beginning: there was no checkpoint yet"
                )
                say(f"lost: {lost}; going on {begun} (start {restarts + 2} of {RESTARTS + 1})")
    raise AssertionError("the last start returns or raises")


def _made_since(expert: Path, name: str, began: float) -> AdapterManifest | None:
    """Return the adapter's manifest where it was put into its place after that time."""
    made = expert / "adapters" / name
    written = made / "manifest.json"
    return read_adapter(made) if written.exists() and written.stat().st_mtime >= began else None


def _followed(
    team: Team, expert: Path, given: dict[str, Any], report: Report | None, say: Say | None
) -> AdapterManifest:
    run = Run(team.start(arguments_of(expert, given)))
    follow(run, report, say)
    return AdapterManifest(**run.made)


def _told(error: DoyenError, name: str, places: Seats) -> DoyenError:
    """Return the error; one that says that processes are gone gets a hint for the cluster."""
    if not isinstance(error, ProcessError):
        return error
    hint = f"ray status; doyen finetune --resume --name {name} --on ray --processes {places.processes} goes on"
    return ClusterError(str(error), hint=hint)
