"""A write that stops before any of its steps, and what `recover` makes of it: the old state or the new one, whole."""

import dataclasses
import shutil

import pytest
from small_stores import nearest, one_chunk_document, write_texts

from doyen.index.lance import LanceIndex
from doyen.index.tables import TABLES
from doyen.sources.item import Item

TEXTS = {
    "lease.txt": "The deposit of the lease is returned within thirty days.",
    "yard.txt": "Bicycles stand in the yard behind the mill.",
    "o'neil.txt": "O'Neil repairs the boiler every autumn.",
}


class Stopped(Exception):
    """The crash."""


class Countdown:
    """Lets `steps` changes of the tables happen, then stops every further one."""

    def __init__(self, steps):
        self.left = steps

    def step(self):
        if not self.left:
            raise Stopped
        self.left -= 1


class StoppingTable:
    """A LanceDB table whose changes count down; reading goes through."""

    def __init__(self, table, countdown):
        self._table = table
        self._countdown = countdown

    def __getattr__(self, name):
        inner = getattr(self._table, name)
        if name not in ("add", "delete", "update", "optimize", "create_index", "drop_index", "merge_insert"):
            return inner

        def call(*args, **kwargs):
            if name != "merge_insert":
                self._countdown.step()
                return inner(*args, **kwargs)
            merge, execute = inner(*args, **kwargs), None
            execute = merge.execute

            def stopping(rows):
                self._countdown.step()
                return execute(rows)

            merge.execute = stopping
            return merge

        return call


def stopping(index, steps):
    """Return the same index over tables that stop after some changes."""
    countdown = Countdown(steps)
    tables = {name: StoppingTable(getattr(index.tables, name), countdown) for name in TABLES}
    index.tables = dataclasses.replace(index.tables, **tables)
    return index


def state(index):
    """Return all rows of the store but for the random numbers and times of the writes."""
    found = {}
    for name in TABLES:
        rows = getattr(index.tables, name).to_arrow().drop_columns(["revision"])
        rows = rows.drop_columns(["retired_at"]) if name == "versions" else rows
        found[name] = sorted(rows.to_pylist(), key=repr)
    return found


def replace(index, embedder):
    write_texts(
        index, embedder, {"yard.txt": "Prams stand in the hall.", "new.txt": "New."}, sha256="b", item="yard.txt"
    )


def lose_a_member(index, embedder):
    write_texts(index, embedder, {"mail.eml": "Mail again."}, sha256="c", item="mail.eml")


def keep_a_member(index, embedder):
    write_texts(index, embedder, {"mail.eml": "Mail again."}, sha256="c", item="mail.eml", keep=["mail.eml/a.txt"])


def retire(index, embedder):
    index.retire(["yard.txt", "o'neil.txt"])


def touch(index, embedder):
    index.touch([Item("yard.txt", "/moved/yard.txt", "/moved", "yard.txt", bytes, "stamp 2", 5.0)])


def erase(index, embedder):
    index.remove(["yard.txt", "mail.eml"])


@pytest.fixture
def filled(index, embedder):
    write_texts(index, embedder, TEXTS)
    write_texts(index, embedder, {"mail.eml": "Mail.", "mail.eml/a.txt": "Attached."}, item="mail.eml", item_sha256="m")
    write_texts(index, embedder, {"lease.txt": "The deposit is returned within sixty days."}, sha256="b")
    index.finish()
    return index


def copy_of(index, name):
    folder = index.folder.with_name(name)
    shutil.copytree(index.folder, folder)
    return LanceIndex.open(folder)


@pytest.mark.parametrize("change", [replace, lose_a_member, keep_a_member, retire, touch])
def test_a_change_stopped_at_any_step_is_the_old_state_or_the_new(filled, embedder, change):
    before = state(filled)
    done = copy_of(filled, "undisturbed")
    change(done, embedder)
    after = state(done)
    assert after != before
    for steps in range(20):
        index = copy_of(filled, f"stopped-{steps}")
        try:
            change(stopping(index, steps), embedder)
            break
        except Stopped:
            again = LanceIndex.open(index.folder)
            again.recover()
            assert state(again) in (before, after)
            change(again, embedder)
            again.finish()
            assert state(again) == after
            assert not again.unfinished
    assert 0 < steps < 19


def test_searches_during_a_write_see_one_state(filled, embedder):
    for steps in range(20):
        index = copy_of(filled, f"stopped-{steps}")
        try:
            replace(stopping(index, steps), embedder)
            break
        except Stopped:
            again = LanceIndex.open(index.folder)
            texts = {c.chunk.text for c in nearest(again, embedder.embed(["stand in the"])[0], 20)}
            old, new = TEXTS["yard.txt"] in texts, "Prams stand in the hall." in texts
            assert old != new
            assert [c.text for c in again.chunks_of(["yard.txt"])] == [
                TEXTS["yard.txt"] if old else "Prams stand in the hall."
            ]


def test_an_erasure_stopped_at_any_step_is_finished_by_recovery(filled, embedder):
    done = copy_of(filled, "undisturbed")
    erase(done, embedder)
    done.finish()
    for steps in range(40):
        index = copy_of(filled, f"stopped-{steps}")
        try:
            stopping(index, steps)
            erase(index, embedder)
            index.finish()
            break
        except Stopped:
            again = LanceIndex.open(index.folder)
            again.recover()
            again.finish()
            assert state(again) == state(done)
            assert (again.unfinished, again.tables.erasing) == (False, [])
    assert 5 < steps < 39


def test_recovering_can_be_stopped_and_done_again(filled, embedder):
    broken = copy_of(filled, "broken")
    with pytest.raises(Stopped):
        replace(stopping(broken, 3), embedder)
    for steps in range(10):
        index = copy_of(broken, f"stopped-{steps}")
        try:
            stopping(index, steps).recover()
            break
        except Stopped:
            again = LanceIndex.open(index.folder)
            again.recover()
            assert again.unfinished  # until finish has brought the full-text index up to date
            again.finish()
            assert again.recover() == 0
    assert steps


def test_nothing_is_recovered_where_nothing_was_interrupted(filled):
    before = filled.tables.chunks.version
    assert (filled.unfinished, filled.recover()) == (False, 0)
    assert filled.tables.chunks.version == before


def test_a_document_that_lost_chunks_is_retired_and_can_come_back(filled, embedder):
    filled.tables.begin()
    filled.tables.chunks.delete("document = 'yard.txt'")
    assert filled.recover() == 1
    assert "yard.txt" not in [d.id for d in filled.documents()]
    assert filled.text("yard.txt", sha256="a")[0] == TEXTS["yard.txt"]
    filled.write([one_chunk_document("yard.txt", TEXTS["yard.txt"])], embedder.embed([TEXTS["yard.txt"]]))
    assert filled.text("yard.txt")[0] == TEXTS["yard.txt"]
