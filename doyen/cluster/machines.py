"""The machines of a cluster: what each has, and whether all of them fit together.

Enters: a connection to Ray. Leaves: one `Machine` a node with processors, all with this doyen, Python and Ray, or an error
that names those that differ.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import platform
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from doyen.errors import ClusterError

PROBE_S = 120.0
_PARTS = ("doyen", "python", "ray")


@dataclass(frozen=True, slots=True)
class Machine:
    """A node of the cluster; `versions` are those of doyen (with a hash of its code), Python and Ray there.

    `memory_gib` is what Ray gives to workers there, 0 where it does not say.
    """

    node: str
    name: str
    cores: int
    gpus: int
    versions: Mapping[str, str]
    memory_gib: float = 0.0


def own_versions() -> dict[str, str]:
    """Return the versions of this process: doyen's with a hash of its code, since checkouts share a number."""
    import ray

    version = importlib.metadata.version("doyen")
    return {"doyen": f"{version} ({code_hash()})", "python": platform.python_version(), "ray": ray.__version__}


@functools.cache
def code_hash() -> str:
    """Return a short hash of doyen's Python files."""
    folder = Path(__file__).parents[1]
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*.py")):
        digest.update(path.relative_to(folder).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:8]


def look_at_machines() -> list[Machine]:
    """Ask every node that has processors what it has.

    Raises:
        ClusterError: there is none, one does not answer, or one has another doyen, Python or Ray than this process.
    """
    import ray

    nodes = [n for n in ray.nodes() if n["Alive"] and n["Resources"].get("CPU", 0) >= 1]
    if not nodes:
        raise ClusterError("the cluster has no machine with a processor to give", hint="ray start --address HOST:6379")
    asked = {n["NodeID"]: _ask(n["NodeID"]) for n in nodes}
    ray.wait(list(asked.values()), num_returns=len(asked), timeout=PROBE_S)
    found = []
    for node in nodes:
        name, resources = _name(node), node["Resources"]
        versions = _answer(asked[node["NodeID"]], name)
        memory = resources.get("memory", 0) / 2**30
        found.append(
            Machine(node["NodeID"], name, int(resources["CPU"]), int(resources.get("GPU", 0)), versions, memory)
        )
    require_same(found, own_versions())
    return found


def require_same(machines: Sequence[Machine], here: Mapping[str, str]) -> None:
    """Refuse machines whose doyen, Python (its first two numbers) or Ray is not that of `here`: all are named."""
    faults, parts = [], set()
    for machine in machines:
        for part in _PARTS:
            there = machine.versions.get(part, "")
            if _compared(part, there) != _compared(part, here[part]):
                faults.append(f"{machine.name} has {f'{part} {there}' if there else f'no {part}'}")
                parts.add(part)
    if faults:
        wanted = ", ".join(f"{part} {here[part]}" for part in _PARTS if part in parts)
        version = here["doyen"].split()[0]
        raise ClusterError(
            f"the machines of the cluster do not fit together: {'; '.join(faults)}; here it is {wanted}",
            hint=f"install the same on every machine (pip install 'doyen[ray]=={version}' ray=={here['ray']}), then ray start",
        )


def place_name() -> str:
    """Return how this machine is called in messages: its name, with the address that the cluster knows."""
    import ray

    host, address = socket.gethostname(), ray.util.get_node_ip_address()
    return f"{host} ({address})" if host != address else host


def last_line(error: BaseException) -> str:
    """Return the end of what an error of Ray says: before it stands a traceback of another machine."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[-1][:300]


def _compared(part: str, version: str) -> str:
    return version.rpartition(".")[0] if part == "python" else version


def _ask(node: str) -> Any:
    """Start asking a node for its versions; the question travels as code, since doyen may not be there."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    def versions() -> dict[str, str]:
        try:
            from doyen.cluster.machines import own_versions
        except ImportError:
            import platform

            import ray

            return {"python": platform.python_version(), "ray": ray.__version__}
        return own_versions()

    there = NodeAffinitySchedulingStrategy(node, soft=False)
    return ray.remote(versions).options(num_cpus=0, max_retries=2, scheduling_strategy=there).remote()


def _answer(asked: Any, name: str) -> dict[str, str]:
    import ray

    try:
        found: dict[str, str] = ray.get(asked, timeout=0)
    except ray.exceptions.GetTimeoutError as error:
        hint = f"look at it (ray status); on {name}: ray stop, then ray start again"
        raise ClusterError(
            f"{name}, a machine of the cluster, did not answer within {PROBE_S:g} s", hint=hint
        ) from error
    except ray.exceptions.RayError as error:
        said = last_line(error)
        raise ClusterError(f"{name}, a machine of the cluster, cannot run Python: {said}", hint="ray status") from error
    return found


def _name(node: Mapping[str, Any]) -> str:
    address, host = node["NodeManagerAddress"], node.get("NodeManagerHostname", "")
    return f"{host} ({address})" if host and host != address else str(address)
