"""The command line: each command parses, calls one function and prints. Heavy imports happen inside the commands."""

from __future__ import annotations

import errno
import sys

import typer

from doyen.cli import (
    answers,
    comparisons,
    documents,
    evaluating,
    examples,
    experts,
    exporting,
    feedback,
    ingesting,
    models,
    planning,
    serving,
    tables,
    training,
    workflows,
)
from doyen.errors import DoyenError

app = typer.Typer(
    name="doyen",
    help="Turn a company's documents into an expert small language model: by retrieval, by fine-tuning, or both, measured.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for module in (
    experts,
    ingesting,
    documents,
    answers,
    tables,
    examples,
    planning,
    training,
    comparisons,
    evaluating,
    exporting,
    serving,
    feedback,
    workflows,
    models,
):
    module.register(app)


def main() -> None:
    """Run the command line; a DoyenError becomes a message, its hint and its exit code."""
    try:
        app(standalone_mode=True)
    except DoyenError as error:
        print(f"error: {error}", file=sys.stderr)
        if error.hint:
            print(f"hint: {error.hint}", file=sys.stderr)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        sys.exit(130)
    except OSError as error:
        print(f"error: {error}", file=sys.stderr)
        if error.errno == errno.ENOSPC:
            print("hint: free disk space, then run the same command again", file=sys.stderr)
        sys.exit(1)
