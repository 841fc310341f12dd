"""What the tests have worker processes do: small, hostile on demand. A module of its own, since workers import it."""

import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from doyen.parsing.worker import TaskFailedError


@dataclass(frozen=True)
class Job:
    """A task: what to do, with which value."""

    kind: str
    value: object = None
    size: int = 1


def work(job):
    """Do a job in a worker."""
    return KINDS[job.kind](job.value)


def _echo(value):
    return value, os.getpid()


def _hang(value):
    time.sleep(1000)


def _spin(value):
    while True:
        pass


def _mail(value):
    from doyen.documents.mail import read_eml

    return read_eml(value, Path("a.eml")).text


def _exit(value):
    os._exit(value)


def _abort(value):
    os.abort()


def _hog(value):
    kept = []
    while True:
        kept.append(bytearray(b"x" * (16 << 20)))


def _swell(value):
    """Hold memory without a fault."""
    globals()["_kept"] = b"x" * value
    return value, os.getpid()


def _raise(value):
    raise value


def _fail(value):
    raise TaskFailedError(value)


def _noise(value):
    sys.stdout.write("noise of a parser\n")
    os.write(1, b"more noise")
    os.write(2, b"and on stderr")
    sys.stderr.write("noise")
    return value, os.getpid()


def _nest(value):
    return _nest(value)


def _orphan(value):
    """Start a process of its own, tell its id in a file, then hang."""
    import subprocess

    child = subprocess.Popen(["sleep", "1000"])
    Path(value).write_text(str(child.pid))
    time.sleep(1000)


def _report(value):
    """Tell one's process id in a file, then hang."""
    Path(value, str(os.getpid())).touch()
    time.sleep(1000)


KINDS = {
    "mail": _mail,
    "echo": _echo,
    "hang": _hang,
    "spin": _spin,
    "exit": _exit,
    "abort": _abort,
    "hog": _hog,
    "swell": _swell,
    "raise": _raise,
    "fail": _fail,
    "noise": _noise,
    "nest": _nest,
    "orphan": _orphan,
    "report": _report,
}
