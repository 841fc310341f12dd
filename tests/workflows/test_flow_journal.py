import json

import pytest

from doyen.errors import StoreError, UsageError
from doyen.workflows.journal import Journal

HEADER = {"doyen_workflow": 1, "identity": "a", "parts": {"input": "x"}}


def record(number, status="done"):
    return {"row": number, "status": status, "text": "ä" * number}


def test_a_trail_cut_anywhere_is_taken_up_with_each_row_once(tmp_path):
    path = tmp_path / "t.jsonl"
    journal = Journal(path)
    with journal.held(HEADER):
        journal.add([record(n) for n in range(1, 5)])
    whole = path.read_bytes()
    for end in range(len(whole) + 1):
        path.write_bytes(whole[:end])
        again = Journal(path)
        with again.held(HEADER):
            missing = [n for n in range(1, 5) if n not in again.done]
            again.add([record(n) for n in missing])
        assert path.read_bytes() == whole, end
        assert [r["row"] for r in again.records()] == [1, 2, 3, 4]


def test_failed_rows_done_again_have_a_second_line_that_counts(tmp_path):
    journal = Journal(tmp_path / "t.jsonl")
    with journal.held(HEADER):
        journal.add([record(1, "failed"), record(2)])
        assert journal.drop_failed() == 1 and list(journal.done) == [2]
        journal.add([record(1)])
    read = Journal(tmp_path / "t.jsonl")
    read.read()
    assert [(r["row"], r["status"]) for r in read.records()] == [(1, "done"), (2, "done")]
    assert len((tmp_path / "t.jsonl").read_text().splitlines()) == 4


def test_another_run_and_another_process_are_refused(tmp_path):
    journal = Journal(tmp_path / "t.jsonl")
    with journal.held(HEADER), pytest.raises(StoreError, match="another doyen is writing"):
        with Journal(tmp_path / "t.jsonl").held(HEADER):
            pass
    with pytest.raises(UsageError, match="other input"):
        with journal.held({"doyen_workflow": 1, "identity": "b", "parts": {"input": "y"}}):
            pass
    with journal.held(HEADER | {"identity": "b"}, again=True):
        assert journal.header["identity"] == "b"


def test_a_file_that_is_no_trail_is_not_touched(tmp_path):
    path = tmp_path / "t.jsonl"
    path.write_text('{"other": 1}\n')
    with pytest.raises(UsageError, match="is no audit trail"), Journal(path).held(HEADER):
        pass
    assert json.loads(path.read_text()) == {"other": 1}
