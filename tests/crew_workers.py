"""A worker of a crew that does what a test asks: it computes, dies, or refuses. Its class travels by its name."""

import os
import signal
import time
from pathlib import Path

from doyen.cluster.answering import AnswerWorker
from doyen.errors import ModelError


class Counting:
    def __init__(self, cores, folder, lacking=False):
        self.folder, self.lacking = Path(folder), lacking

    def where(self):
        return "that machine"

    def ready(self):
        if self.lacking:
            raise ModelError("The model m is not on this machine.", hint="doyen models pull m")
        return os.getpid()

    def square(self, n):
        time.sleep(0.01)
        return n * n

    def refuse(self, n):
        raise ModelError(f"refused {n}", hint="do not")

    def die(self, times):
        """End this process, the first `times` times that it is called by anyone."""
        mark = self.folder / f"{time.time_ns()}.died"
        if len(list(self.folder.glob("*.died"))) < times:
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return times


class Changing(Counting):
    """A worker that says what stands in a file; it dies as it gets ready where that is "die"."""

    def ready(self):
        said = (self.folder / "said").read_text()
        if said == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        return said


class KilledAtThird(AnswerWorker):
    """Is killed at its third call, as if its machine had run out of memory."""

    def __init__(self, cores, settings):
        super().__init__(cores, settings)
        self.calls = 0

    def call(self, *given):
        self.calls += 1
        if self.calls == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().call(*given)
