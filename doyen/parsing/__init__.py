"""Parsing in worker processes: a file that crashes, hangs or swells costs only itself."""

from doyen.parsing.limits import Limits
from doyen.parsing.pool import Outcome, WorkerPool

__all__ = ["Limits", "Outcome", "WorkerPool"]
