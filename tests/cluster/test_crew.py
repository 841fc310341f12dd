"""Workers on a cluster: every job is done once for who asked, whatever happens to the workers."""

import os
import signal
import threading
import time

import pytest
from crew_workers import Changing, Counting

from doyen.cluster.connecting import connected
from doyen.cluster.crew import TRIES, Crew, Places
from doyen.errors import ClusterError, ModelError, UsageError

TWO = Places(2, 1)


def test_jobs_are_done_though_workers_are_killed(ray, tmp_path):
    with Crew(Counting, (tmp_path,), TWO, ("work",)) as crew:
        started = crew.start()
        assert len(set(started)) == 2 and crew.start() == started
        asked = [crew.submit("work", "square", n) for n in range(200)]
        time.sleep(0.3)
        os.kill(started[0], signal.SIGKILL)
        died = [crew.submit("work", "die", 2) for _ in range(3)]
        assert [future.result(timeout=300) for future in asked] == [n * n for n in range(200)]
        assert [future.result(timeout=300) for future in died] == [2, 2, 2]


def test_what_a_worker_refuses_comes_back_as_it_is_and_the_worker_stays(ray, tmp_path):
    with Crew(Counting, (tmp_path,), Places(1, 1), ("work",)) as crew:
        with pytest.raises(ModelError, match="refused 3") as caught:
            crew.submit("work", "refuse", 3).result(timeout=60)
        assert caught.value.hint == "do not"
        assert crew.submit("work", "square", 3).result(timeout=60) == 9
        assert crew.start() == [crew.submit("work", "ready").result(timeout=60)]


def test_a_machine_without_the_model_is_named_with_the_command(ray, tmp_path):
    said = "worker on that machine: The model m is not"
    with Crew(Counting, (tmp_path, True), TWO, ("work",)) as crew:
        with pytest.raises(ClusterError, match=said) as caught:
            crew.start()
        assert caught.value.hint == "on that machine: doyen models pull m"
        with pytest.raises(ClusterError, match=said):  # told again: nobody may wait for what nobody does
            crew.submit("work", "square", 3)


def test_closing_ends_what_waits(ray, tmp_path):
    crew = Crew(Counting, (tmp_path,), Places(1, 1), ("work",))
    asked = [crew.submit("work", "square", n) for n in range(1000)]
    threading.Timer(0.3, crew.close).start()
    with pytest.raises(ClusterError, match="have ended"):
        for future in asked:
            future.result(timeout=60)
    with pytest.raises(ClusterError, match="have ended"):
        crew.submit("work", "square", 1).result(timeout=60)


def same(said):
    if len(set(said)) > 1:
        raise ClusterError(f"another model: {said}")


@pytest.mark.parametrize(
    ("then", "told"), [("model 2", "another model"), ("die", f"ended {TRIES} times while it started")]
)
def test_a_worker_in_the_place_of_a_lost_one_is_looked_at_too(ray, tmp_path, then, told):
    (tmp_path / "said").write_text("model 1")
    with Crew(Changing, (tmp_path,), Places(1, 1), ("work",)) as crew:
        assert crew.start(same) == ["model 1"]
        (tmp_path / "said").write_text(then)
        with pytest.raises(ClusterError, match=told):
            crew.submit("work", "die", 1).result(timeout=300)


def test_a_connection_that_ends_leaves_nobody_waiting(ray, tmp_path, monkeypatch):
    with Crew(Counting, (tmp_path,), Places(1, 1), ("work",)) as crew:
        crew.start()

        def ended(*_, **__):
            raise ConnectionError("the cluster is gone")

        monkeypatch.setattr(ray, "get", ended)
        with pytest.raises(ClusterError, match="the connection to the cluster ended: .*the cluster is gone"):
            crew.submit("work", "square", 2).result(timeout=60)
        with pytest.raises(ClusterError, match="the connection to the cluster ended"):
            crew.submit("work", "square", 3)
        monkeypatch.undo()


@pytest.mark.slow
def test_work_that_ends_every_worker_is_given_up(ray, tmp_path):
    with Crew(Counting, (tmp_path,), TWO, ("work",)) as crew:
        with pytest.raises(ClusterError, match=f"ended {TRIES} times at the same piece"):
            crew.submit("work", "die", 100).result(timeout=300)
        assert crew.submit("work", "square", 4).result(timeout=300) == 16


def test_a_program_that_is_connected_stays_so(ray):
    with connected("ray") as machines:
        assert [m.cores for m in machines] == [4]
    assert ray.is_initialized()
    with pytest.raises(UsageError, match="connected to a cluster already"), connected("ray://127.0.0.1:9"):
        pass
