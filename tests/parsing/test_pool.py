"""The pool of workers: what a task breaks costs only itself, and no process outlives its parent."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from pool_tasks import Job, work

from doyen.parsing import Limits, WorkerPool

TESTS = Path(__file__).parents[1]
QUICK = Limits(seconds=0.5, memory_gib=0.25)


def outcomes(jobs, *, workers=1, limits=QUICK):
    with WorkerPool(work, workers=workers, limits=limits) as pool:
        return list(pool.run(jobs))


def reason(job, **options):
    """Run a hostile job between two good ones; return why it failed."""
    first, bad, last = outcomes([Job("echo", 1), job, Job("echo", 2)], **options)
    assert (first.result[0], last.result[0]) == (1, 2)
    assert bad.result is None
    return bad.reason


def alive(process):
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    return state != "Z"


def gone(process, seconds=10):
    end = time.monotonic() + seconds
    while alive(process) and time.monotonic() < end:
        time.sleep(0.02)
    return not alive(process)


def test_every_task_comes_back_once():
    found = outcomes([Job("echo", n) for n in range(100)], workers=3, limits=Limits())
    assert sorted(o.result[0] for o in found) == list(range(100))
    assert all(o.task.value == o.result[0] for o in found)


def test_a_handful_of_small_tasks_gets_a_single_worker_and_many_get_all():
    assert len({o.result[1] for o in outcomes([Job("echo")] * 3, workers=3)}) == 1
    with WorkerPool(work, workers=2) as pool:
        for _ in pool.run([Job("echo")] * 50):
            pass
        assert len(pool.processes) == 2


def test_no_worker_starts_without_a_task():
    with WorkerPool(work) as pool:
        assert list(pool.run([])) == []
        assert pool.processes == []


@pytest.mark.parametrize("kind", ["hang", "spin"])
def test_a_hanging_task_is_killed(kind):
    began = time.monotonic()
    assert reason(Job(kind)) == "took longer than 0.5 s"
    assert time.monotonic() - began < 20


def test_larger_inputs_get_more_time():
    limits = Limits(seconds=30)
    assert [limits.seconds_for(n << 20) for n in (0, 8, 108)] == [30, 30, 230]


def test_a_crash_is_named():
    assert reason(Job("exit", 3)) == "the reader crashed (exit code 3)"
    assert reason(Job("abort")) == "the reader crashed (SIGABRT)"


def test_a_memory_hog_is_stopped():
    assert reason(Job("hog"), limits=Limits(memory_gib=0.25)) == "needs more than 0.25 GiB of memory"


def test_faults_are_reasons():
    assert reason(Job("fail", "is no table")) == "is no table"
    assert reason(Job("raise", ValueError("two\nlines"))) == "cannot be read (ValueError: two lines)"
    assert reason(Job("nest")) == "is nested too deeply"


def test_noise_of_a_parser_stays_inside(capfd):
    assert outcomes([Job("noise", 5)])[0].result[0] == 5
    assert capfd.readouterr() == ("", "")


def test_a_worker_is_replaced_after_so_many_tasks():
    found = outcomes([Job("echo", n) for n in range(9)], limits=Limits(tasks=3))
    assert len({o.result[1] for o in found}) == 3


def test_a_worker_that_has_swollen_is_replaced():
    first, second = outcomes([Job("swell", 100 << 20), Job("echo")], limits=Limits(keep_mib=64))
    assert first.result[1] != second.result[1]


def test_tasks_are_taken_only_as_there_is_room():
    taken = []

    def jobs():
        for n in range(200):
            taken.append(n)
            yield Job("echo", n)

    with WorkerPool(work, workers=1) as pool:
        running = pool.run(jobs())
        next(running)
        assert len(taken) < 40
        assert len(list(running)) == 199


def test_large_tasks_wait_for_one_another():
    found = outcomes([Job("echo", n, size=50 << 20) for n in range(4)], workers=2, limits=Limits())
    assert len(found) == 4


def test_leaving_early_ends_the_workers_and_what_they_started(tmp_path):
    note = tmp_path / "child"
    with WorkerPool(work, limits=Limits()) as pool, pytest.raises(KeyboardInterrupt):
        running = pool.run(iter([Job("echo"), Job("orphan", str(note)), *[Job("echo")] * 40]))
        for _ in running:
            if note.exists() and note.read_text():
                raise KeyboardInterrupt
            time.sleep(0.05)
        raise AssertionError
    assert pool.processes == []
    assert gone(int(note.read_text()))


PARENT = """
import sys
sys.path.insert(0, sys.argv[1])
from pool_tasks import Job, work
from doyen.parsing import Limits, WorkerPool
try:
    with WorkerPool(work, workers=2, limits=Limits()) as pool:
        list(pool.run([Job("report", sys.argv[2], size=2 << 20)] * 2))
except KeyboardInterrupt:
    sys.exit(130)
"""


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGKILL, signal.SIGTERM])
def test_workers_die_with_their_parent(tmp_path, stop):
    with subprocess.Popen([sys.executable, "-c", PARENT, TESTS, tmp_path], stderr=subprocess.PIPE) as parent:
        end = time.monotonic() + 60
        while len(list(tmp_path.iterdir())) < 2:
            assert time.monotonic() < end and parent.poll() is None
            time.sleep(0.02)
        parent.send_signal(stop)
        _, err = parent.communicate(timeout=30)
    assert parent.returncode == (130 if stop == signal.SIGINT else -stop)
    assert b"Traceback" not in err
    assert all(gone(int(p.name)) for p in tmp_path.iterdir())
