import threading

import pytest

from doyen.errors import UsageError
from doyen.workflows.opening import open_setup
from doyen.workflows.reading import load_workflow
from doyen.workflows.watching import watch_folder

HEADER = "claim,text,amount\n"


@pytest.fixture
def watch(flow_file, expert, engine, tmp_path):
    """Let the watcher look until it has no more work; return what became of each file."""
    inbox, outbox = tmp_path / "in", tmp_path / "out"
    inbox.mkdir()

    def run():
        stop, idle = threading.Event(), []

        def count():
            idle.append(1)
            if len(idle) == 2:  # the first look only notes what is there
                stop.set()

        setup = open_setup(expert, load_workflow(flow_file()), engine=engine)
        return list(watch_folder(setup, inbox, outbox, every_s=0.01, stop=stop, idle=count))

    return inbox, outbox, run


def test_each_file_once(watch):
    inbox, outbox, run = watch
    (inbox / "a.csv").write_text(HEADER + "C1,water 3,1\n")
    (inbox / "b.csv").write_text("nothing,here\n1,2\n")
    (inbox / ".hidden.csv").write_text(HEADER)
    (inbox / "c.txt").write_text("no table")
    found = run()
    assert [(w.file.name, w.report and w.report.done) for w in found] == [("a.csv", 1), ("b.csv", None)]
    assert "has no column 'claim'" in str(found[1].error)
    assert [w.file.name for w in run()] == ["b.csv"]  # a new watcher knows what is done, and tells what is not


def test_another_content_under_the_same_name_has_an_output_of_its_own(watch):
    inbox, outbox, run = watch
    (inbox / "a.csv").write_text(HEADER + "C1,water 3,1\n")
    run()
    (inbox / "a.csv").write_text(HEADER + "C2,storm 3,1\n")
    assert run()[0].report.done == 1
    outputs = sorted(p.name for p in outbox.glob("*.csv"))
    assert len(outputs) == 2 and "C1" in (outbox / "a.csv").read_text()


def test_folders_that_do_not_go_together(watch, flow_file, expert, engine):
    inbox, _, _ = watch
    setup = open_setup(expert, load_workflow(flow_file()), engine=engine)
    with pytest.raises(UsageError, match="is within"):
        next(watch_folder(setup, inbox, inbox / "out"))
    with pytest.raises(UsageError, match="there is no folder"):
        next(watch_folder(setup, inbox / "none", inbox))
