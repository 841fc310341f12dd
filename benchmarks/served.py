"""A `doyen serve` in a process of its own, and clients that cost the machine little: what benchmarks/serve.py asks."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

READY_S = 300.0


class Server:
    """The server of an expert; `ready_s` is how long it took from its start until it took questions."""

    def __init__(self, expert: Path, log: Path) -> None:
        with contextlib.closing(socket.socket()) as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        command = [sys.executable, "-m", "doyen", "serve", "--expert", str(expert), "--port", str(self.port)]
        began = time.perf_counter()
        with log.open("ab") as out:
            self.process = subprocess.Popen(command, stdout=out, stderr=out, start_new_session=True)
        while not self._is_ready():
            if self.process.poll() is not None or time.perf_counter() - began > READY_S:
                self.kill()
                raise SystemExit(f"the server of {expert.name} does not come up: see {log.name}")
            time.sleep(0.1)  # each look takes time from what it loads
        self.ready_s = time.perf_counter() - began

    def _is_ready(self) -> bool:
        try:
            return Client(self.port).get("/readyz")[0] == 200
        except OSError:
            return False

    def processor_s(self) -> float:
        """Return the processor time that the server's own process has taken."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def kill(self) -> None:
        """End it at once, with what it started: as a machine that loses its power."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def stop(self) -> None:
        """Tell it to stop, and wait."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(60)


@contextlib.contextmanager
def serving(expert: Path, log: Path) -> Iterator[Server]:
    """Serve an expert while the block runs."""
    server = Server(expert, log)
    try:
        yield server
    finally:
        server.stop()


class Client:
    """One client that keeps its connection."""

    def __init__(self, port: int, timeout_s: float = 180.0) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout_s)

    def get(self, path: str) -> tuple[int, bytes]:
        """Return status and body."""
        self._connection.request("GET", path)
        answer = self._connection.getresponse()
        return answer.status, answer.read()

    def post(self, path: str, row: Any, kind: str = "application/json") -> tuple[int, bytes]:
        """Return status and body."""
        answer = self.begin(path, row, kind)
        return answer.status, answer.read()

    def begin(self, path: str, row: Any, kind: str = "application/json") -> http.client.HTTPResponse:
        """Return an answer whose body is not read yet."""
        body = row if isinstance(row, bytes) else json.dumps(row).encode()
        self._connection.request("POST", path, body, {"content-type": kind})
        return self._connection.getresponse()

    def upload(self, files: dict[str, bytes]) -> tuple[int, Any]:
        """Upload files; return the status and the job."""
        mark = "doyen-benchmark"
        parts = [
            f'--{mark}\r\ncontent-disposition: form-data; name="files"; filename="{name}"\r\n\r\n'.encode() + data
            for name, data in files.items()
        ]
        body = b"\r\n".join([*parts, f"--{mark}--\r\n".encode()])
        status, answer = self.post("/api/upload", body, f"multipart/form-data; boundary={mark}")
        return status, json.loads(answer)


def searching(question: str) -> str:
    """Return the path of a search for 10 hits."""
    return f"/api/search?k=10&q={quote(question)}"


def at_once(count: int, work: Callable[[int], None]) -> None:
    """Run `work(number)` in that many threads. Raises what the first of them raises."""
    errors: list[BaseException] = []

    def one(number: int) -> None:
        try:
            work(number)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=one, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


def spread(seconds: Sequence[float], unit: float = 1.0) -> dict[str, float]:
    """Return median, 95th percentile and largest of some times."""
    ordered = sorted(seconds)
    found = {"p50": statistics.median(ordered), "p95": ordered[int(0.95 * (len(ordered) - 1))], "most": ordered[-1]}
    return {name: round(value * unit, 3) for name, value in found.items()}
