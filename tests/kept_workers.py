"""Worker processes that outlive one ingest, so that a hundred small ingests do not each start Python anew.

Enters: what `ingest` asks of a `WorkerPool`. Leaves: a real pool with real workers, which the next ingest of the same
process takes over where it asks for the same. Starting one takes most of the time of an ingest of three small files.
"""

import os
import pickle
import sys
from collections import OrderedDict

from doyen.parsing import WorkerPool

MOST = 3
IDLE = OrderedDict()
"""Pools without a task, by what their workers were started with; the longest unused first."""


class KeptPool:
    """Stands where an ingest makes its `WorkerPool`: gives it an idle one, and takes it back unless the ingest failed."""

    def __init__(self, function, *, workers=None, limits=None):
        self._key = (pickle.dumps(function), workers, limits, *surroundings())
        self._make = lambda: WorkerPool(function, workers=workers, limits=limits)

    def __enter__(self):
        self._pool = IDLE.pop(self._key, None) or self._make()
        return self._pool

    def __exit__(self, kind, error, trace):
        earlier = IDLE.pop(self._key, None)  # of an ingest that ran beside this one
        if kind is None:
            IDLE[self._key] = self._pool
        else:
            self._pool.close()
        if earlier:
            earlier.close()
        while len(IDLE) > MOST:
            IDLE.popitem(last=False)[1].close()


def surroundings():
    """Return what a process inherits: a worker may not outlive a change of it."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTEST_CURRENT_TEST"}
    return frozenset(environment.items()), tuple(sys.path), os.getcwd()


def end_workers():
    """End the idle workers."""
    while IDLE:
        IDLE.popitem()[1].close()
