"""A run in a process of its own, for tests that kill it: workflow, expert, input, output; an engine without a model."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from flow_engine import Scripted  # noqa: E402

from doyen.workflows.running import run_workflow  # noqa: E402

if __name__ == "__main__":
    workflow, expert, source, out = map(Path, sys.argv[1:5])
    run_workflow(expert, workflow, source, out, engine=Scripted(seconds=0.004), window=8)
