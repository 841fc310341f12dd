"""The state that a writer has reached → the one that readers see: the record of the index, and the end of what nobody reads any more.

Knows states and generations, no rows.
"""

from __future__ import annotations

import dataclasses
import time
from datetime import timedelta

from doyen.errors import StoreError
from doyen.index.generations import Record, Root, State
from doyen.index.tables import Tables


def publish(root: Root, generation: str, tables: Tables) -> State | None:
    """Make the state of the tables the one that readers see; of an upcoming generation, make it the current one.

    Where documents are erased, the generations beside it go first: they hold them too. Returns the oldest state that a reader
    may still answer from, None where readers see no states or all old ones are to go.

    Raises:
        StoreError: the index was made anew by another process.
    """
    found = root.read()
    assert found is not None, "a held index does not vanish"
    record, mark = found
    home, erasing, current = tables.home, bool(tables.erasing), record.generation == generation
    if current and not home.publishes and not (record.beside if erasing else record.old):
        return None
    if not current and (record.upcoming is None or record.upcoming.id != generation):
        raise StoreError(f"the index {root.name} was made anew meanwhile", hint="run the same command again")
    for one in record.beside if erasing else ():
        root.drop(one)
    snapshot = home.keep_snapshot()
    home.require_hold()  # compacting and sending takes minutes: the tables may be another writer's by now
    shown = tables.shown(snapshot)
    state = shown if home.publishes else None
    if not current:
        record = record.switched(state, shown)
    elif state is not None:
        record = record.published(state, 0.0 if erasing else home.keep.total_seconds())
    record = record.alone() if erasing else _without_old(root, record, home.keep)
    home.require_hold()
    root.write(record, mark)
    oldest = record.shown[0].state if record.shown else state
    home.drop_snapshots(snapshot, oldest.snapshot if oldest else None)
    return None if erasing else oldest


def _without_old(root: Root, record: Record, keep: timedelta) -> Record:
    """Remove the generations that nobody reads any more."""
    least = time.time() - keep.total_seconds()
    for one in record.old:
        if one.since < least:
            root.drop(one.id)
    return dataclasses.replace(record, old=tuple(one for one in record.old if one.since >= least))
