"""`--on ray[://HOST:PORT]` → a connection to a Ray cluster whose machines were looked at.

Without an address it is the cluster of $RAY_ADDRESS, else the one that `ray start` started on this machine, else one of this
machine's cores for the time of the run. Knows nothing of the work.
"""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from doyen.cluster.machines import Machine, look_at_machines
from doyen.errors import ClusterError, UsageError

EXTRA = "pip install 'doyen[ray]'"
ANSWER_S = 5.0
"""How long an address has to take a connection."""
_PLACE = re.compile(r"(?P<client>ray://)?(?P<host>\[[^\]]+\]|[^:/\s]+):(?P<port>\d+)/?")
_HEAD = "on the head machine: ray start --head --ray-client-server-port=10001"


@contextmanager
def connected(on: str) -> Iterator[list[Machine]]:
    """Connect to the cluster, and let go of it at the end; one that was started for this run ends with it.

    Raises:
        UsageError: `on` names no cluster.
        ClusterError: Ray is not installed, the address does not answer, or the machines do not fit together.
    """
    address = address_of(on)
    ray = require_ray()
    if ray.is_initialized():  # by the program that calls doyen
        if on != "ray":
            raise UsageError(
                f"on={on!r}: this program is connected to a cluster already", hint="on='ray' takes that one"
            )
        yield look_at_machines()
        return
    _require_answer(address)
    _connect(ray, address)
    try:
        yield look_at_machines()
    finally:
        ray.shutdown()


def address_of(on: str) -> str | None:
    """Return Ray's address of what `--on` names; None where this machine's cores are to be used.

    Raises:
        UsageError: it names no cluster.
    """
    if on != "ray":
        if not on.startswith("ray://") or not _PLACE.fullmatch(on):
            raise UsageError(f"--on {on} names no cluster", hint="--on ray, or --on ray://HOST:10001")
        return on
    if (named := os.environ.get("RAY_ADDRESS", "").strip()) and named not in ("auto", "local"):
        return named
    if named == "local":
        return None
    started = Path(os.environ.get("RAY_TMPDIR", "/tmp"), "ray", "ray_current_cluster")
    try:
        return started.read_text(encoding="utf-8").strip() or None
    except OSError:
        return None


def require_ray() -> Any:
    """Import Ray, without its reports to its makers. Raises ClusterError where it is not installed."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ.setdefault("RAY_CLIENT_INITIAL_CONNECTION_TIMEOUT_S", "3")
    os.environ.setdefault("RAY_CLIENT_MAX_CONNECTION_TIMEOUT_S", "5")
    os.environ.setdefault("RAY_DEDUP_LOGS_SKIP_REGEX", "^")  # Ray tells of ended workers on stdout, where results go
    try:
        import ray
    except ImportError as error:
        raise ClusterError("work on a cluster needs Ray, which is not installed", hint=EXTRA) from error
    return ray


def _require_answer(address: str | None) -> None:
    """Raise ClusterError where nothing takes a connection: Ray itself would try for half a minute and longer."""
    if address is None:
        return
    place = _PLACE.fullmatch(address)
    if place is None:
        raise ClusterError(f"RAY_ADDRESS={address} is no address", hint="RAY_ADDRESS=HOST:6379, or ray://HOST:10001")
    try:
        socket.create_connection((place["host"].strip("[]"), int(place["port"])), timeout=ANSWER_S).close()
    except (OSError, OverflowError) as error:
        raise _silent(address, getattr(error, "strerror", None) or str(error)) from error
    if os.environ.get("RAY_USE_TLS", "0") in ("0", ""):
        _require_speech(address, f"{place['host']}:{place['port']}")


def _require_speech(address: str, place: str) -> None:
    """Raise ClusterError where what takes connections does not speak gRPC: it is not Ray."""
    try:
        import grpc
    except ImportError as error:
        raise ClusterError(f"{address} needs Ray's client, which is not installed ({error})", hint=EXTRA) from error
    with grpc.insecure_channel(place) as channel:
        try:
            grpc.channel_ready_future(channel).result(timeout=ANSWER_S)
        except grpc.FutureTimeoutError as error:
            raise _silent(address, "something takes connections there, but does not answer as Ray does") from error


def _silent(address: str, why: str) -> ClusterError:
    if address.startswith("ray://"):
        return ClusterError(f"no Ray cluster answers at {address} ({why})", hint=_HEAD)
    return ClusterError(
        f"no Ray cluster answers at {address} ({why})",
        hint="ray start --head starts one; ray stop forgets one that is gone; or unset RAY_ADDRESS",
    )


def _connect(ray: Any, address: str | None) -> None:
    given: dict[str, Any] = {"logging_level": "ERROR", "log_to_driver": False, "namespace": "doyen"}
    if address is None:
        given |= {"address": "local", "include_dashboard": False}
    else:
        given["address"] = address
    try:
        ray.init(**given)
    except Exception as error:  # Ray raises bare ones, where its processes do not start in half a minute
        said = " ".join(str(error).split())
        said = said if len(said) < 300 else f"{said[:100]} … {said[-200:]}"
        if "ersion mismatch" in said:
            raise ClusterError(
                f"the cluster at {address} is of another version: {said}",
                hint="install the cluster's versions of Python and Ray here, or this one's there",
            ) from error
        if address is None:
            hint = "run it again: Ray waits half a minute for its processes, which is short on a busy machine"
            raise ClusterError(f"Ray does not start on this machine: {said}", hint=hint) from error
        raise _silent(address, said) from error
