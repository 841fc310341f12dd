"""What `--processes` makes of what its processes say, and of how they end. The processes here are small scripts."""

import json
import os
import signal
import sys
import threading
import time

import pytest

from doyen.errors import GateError, Interrupted, ProcessError, UsageError
from doyen.finetuning import launching
from doyen.finetuning.launching import MARK, Run, launch, start_here

SAY = f"""
import json, os, signal, sys, time
rank = int(os.environ["RANK"])
def say(**message):
    print({MARK!r} + json.dumps(message), flush=True)
"""


def run(script, count=2, report=None, say=None):
    """Start processes of a script and follow them to their end."""
    started = Run(start_here(count, [sys.executable, "-c", SAY + script, "the call"]))
    launching.follow(started, report, say)
    return started


def test_what_the_main_process_says_arrives():
    said, lines = [], []
    made = run(
        "say(say=f'rank {rank} of ' + os.environ['WORLD_SIZE'] + ' ' + sys.argv[1]) if rank == 0 else None\n"
        "say(progress=dict(step=1, steps=2, loss=0.5, learning_rate=0.1, tokens_per_s=9.0, seconds_left=1.0))\n"
        "print('noise of a library')\n"
        "say(made=dict(name='x')) if rank == 0 else None",
        report=lines.append,
        say=said.append,
    ).made
    assert said == ["rank 0 of 2 the call"] and made == {"name": "x"}
    assert [(line.step, line.loss, line.stage) for line in lines] == [(1, 0.5, None)] * 2


def test_an_error_keeps_its_kind_and_hint():
    lost = "say(error=dict(kind='ProcessError', message='another process is gone', hint=None)); sys.exit(1)"
    script = f"if rank == 0: {lost}\nsay(error=dict(kind='GateError', message='no memory', hint='less')); sys.exit(1)"
    with pytest.raises(GateError, match="no memory") as caught:
        run(script)
    assert caught.value.hint == "less"


def test_a_killed_process_is_named_and_the_rest_is_ended(monkeypatch):
    monkeypatch.setattr(launching, "_GRACE_S", 0.2)
    begun = time.monotonic()
    with pytest.raises(ProcessError, match="process 1 was ended by SIGKILL") as caught:
        run("os.kill(os.getpid(), signal.SIGKILL) if rank == 1 else time.sleep(60)")
    assert "--resume --processes 2" in caught.value.hint
    assert time.monotonic() - begun < 30


def test_a_crash_shows_the_last_lines_of_what_it_wrote():
    with pytest.raises(ProcessError, match=r"(?s)process 0 ended with code 1; process 1 .*ZeroDivisionError"):
        run("1 / 0")


def test_no_result_is_an_error():
    with pytest.raises(ProcessError, match="without a result"):
        run("pass")


def test_ctrl_c_is_handed_on_once_and_waited_for():
    script = (
        "stopped = []\n"
        "signal.signal(signal.SIGINT, lambda *_: stopped.append(1))\n"
        "say(say='ready')\n"
        "while not stopped: time.sleep(0.01)\n"
        "time.sleep(0.3)\n"
        "say(error=dict(kind='Interrupted', message=f'stopped {len(stopped)}', hint='--resume')); sys.exit(130)"
    )
    ready = []

    def say(_):
        ready.append(1)
        if len(ready) == 2:
            threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT)).start()

    with pytest.raises(Interrupted, match="stopped 1"):
        run(script, say=say)


def test_inside_of_torchrun_there_is_nothing_to_launch(monkeypatch, tmp_path):
    for name, value in {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UsageError, match="torchrun"):
        launch(2, tmp_path, {}, None, None)


def test_the_call_is_json():
    assert json.loads(launching.call_of("e", {"name": None, "epochs": 0.5}))["given"] == {"name": None, "epochs": 0.5}
