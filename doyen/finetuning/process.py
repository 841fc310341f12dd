"""One of the processes that `launching` starts: calls `finetune`, and says what happens as lines of JSON on stdout."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any

from doyen.errors import DoyenError
from doyen.finetuning.launching import MARK
from doyen.finetuning.parallel import is_main
from doyen.finetuning.running import finetune


def main(call: str) -> int:
    """Run one process of a call (JSON: the expert's folder and the named arguments); return its exit code."""
    wanted = json.loads(call)
    given: dict[str, Any] = wanted["given"]
    given["examples"] = Path(given["examples"]) if given["examples"] else None
    threading.Thread(target=_stop_when_orphaned, daemon=True).start()
    try:
        made = finetune(
            Path(wanted["expert"]),
            report=lambda progress: _say(progress=dataclasses.asdict(progress)),
            say=lambda line: _say(say=line),
            **given,
        )
    except DoyenError as error:
        _say(error={"kind": type(error).__name__, "message": str(error), "hint": error.hint})
        return error.exit_code
    except KeyboardInterrupt:
        _say(error={"kind": "KeyboardInterrupt"})
        return 130
    if is_main():
        _say(made=dataclasses.asdict(made))
    return 0


def _stop_when_orphaned() -> None:
    """Press Ctrl-C here when the process that started this one is gone, so that a checkpoint is kept."""
    os.read(0, 1)
    os.kill(os.getpid(), signal.SIGINT)


def _say(**message: Any) -> None:
    sys.stdout.write(MARK + json.dumps(message, default=str) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
