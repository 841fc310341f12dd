"""The error tree: what a user can mend.

DoyenError
├── UsageError          wrong combination of arguments (exit code 2)
├── ConfigError         doyen.toml is wrong: every fault in one message
├── ExpertError         the expert folder is missing, broken, or of another format version
├── DocumentError       one file cannot be read (ingest reports it and goes on)
├── StoreError          the store is missing, empty, or was made by another embedder
├── ModelError          a model is unknown, cannot be fetched, or does not fit
│   └── EndpointError   a model behind an API does not answer, or not as it should
├── EngineError         the model cannot answer (prompt too long, adapter mismatch)
│   └── TimeLimitError  an answer was not finished in its time
├── TableError          a statement over tables is refused, fails, or passes its limits
├── ExamplesError       questions or examples are malformed or overlap with the test set
├── WorkflowError       a workflow file, or the table that it runs over, is wrong: every fault in one message
├── GateError           fine-tuning would run and learn nothing: stopped before the hours are spent
├── ThresholdError      a measured score is under the one asked for (--fail-under)
├── ClusterError        a Ray cluster does not answer, its machines do not fit, or its workers are gone
├── ProcessError        one of several processes that train together is gone
└── Interrupted         long work was stopped by the user; what was done is kept (exit code 130)

A message says what was received, what was expected, and — in `hint` — the command that mends it.
"""

from __future__ import annotations


class DoyenError(Exception):
    """A fault that the user can mend; `hint` is the command or setting that does."""

    exit_code = 1

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint


class UsageError(DoyenError):
    """Arguments that do not go together."""

    exit_code = 2


class ConfigError(DoyenError):
    """`doyen.toml` holds unknown keys or wrong values; the message lists all of them."""


class ExpertError(DoyenError):
    """The expert folder is missing or broken."""


class DocumentError(DoyenError):
    """One document cannot be read."""


class StoreError(DoyenError):
    """The store is missing, empty, or was made with other settings."""


class ModelError(DoyenError):
    """A model is unknown or cannot be had."""


class EndpointError(ModelError):
    """A model behind an API refuses (`status`: with which HTTP status), does not answer, or answers what is no result."""

    def __init__(self, message: str, *, hint: str | None = None, status: int | None = None) -> None:
        super().__init__(message, hint=hint)
        self.status = status


class EngineError(DoyenError):
    """The language model cannot answer."""


class TimeLimitError(EngineError):
    """An answer was not finished in its time."""


class TableError(DoyenError):
    """A statement over ingested tables is refused, cannot be run, or passes its limits."""


class ExamplesError(DoyenError):
    """Questions or training examples are malformed."""


class WorkflowError(DoyenError):
    """A workflow file is wrong (the message lists all faults, each with its step and field), or its input does not fit it."""


class GateError(DoyenError):
    """A fine-tuning gate: the run would finish and be worthless."""


class ThresholdError(DoyenError):
    """A measured score is under the one asked for: the work is done and written, and a build should stop."""


class ClusterError(DoyenError):
    """A cluster does not answer, a machine of it lacks something or is of another version, or no worker is left."""


class ProcessError(DoyenError):
    """One of several processes that train together is gone."""


class BusyError(DoyenError):
    """A server has as many requests as it takes; `retry_after_s` says when to ask again."""

    def __init__(self, message: str, *, retry_after_s: int) -> None:
        super().__init__(message, hint=f"ask again in {retry_after_s} s")
        self.retry_after_s = retry_after_s


class AccessError(DoyenError):
    """A key is missing, wrong or over; with `known`, it is right, but its role may not do this."""

    def __init__(self, message: str, *, hint: str | None = None, known: bool = False) -> None:
        super().__init__(message, hint=hint)
        self.known = known


class Interrupted(DoyenError):
    """The user stopped long work; the hint is the command that goes on."""

    exit_code = 130
