"""A snapshot brought up to date by what came and went: the same hits as one that was written anew, and fewer bytes written."""

import json

import numpy as np
import pytest
from small_stores import write_texts
from test_vector_matrix import same, snapshot, texts

from doyen.index.vector_appending import MOST_ADDED, MOST_GONE
from doyen.index.vector_matrix import FOLDER, open_matrix
from doyen.index.vector_writing import write_snapshot


@pytest.fixture
def filled(index, embedder):
    write_texts(index, embedder, texts(60))
    index.finish()
    return index


def brought_up(index, **options):
    return write_snapshot(index.folder, index.tables.chunks, index.manifest.dim, **options)


def vectors_file(index):
    return index.folder / FOLDER / f"{snapshot(index).id}.vectors"


def test_new_rows_are_appended_to_the_same_file(filled, embedder):
    before = vectors_file(filled)
    inode, size = before.stat().st_ino, before.stat().st_size
    write_texts(filled, embedder, texts(10, 200))
    made = brought_up(filled)
    after = vectors_file(filled)
    assert after != before and after.stat().st_ino == inode
    assert after.stat().st_size == size + 10 * filled.manifest.dim * 2
    assert len(made.rows) == 70 and made.gone == 0
    same(filled, embedder)


def test_deleted_rows_are_marked_and_not_found(filled, embedder):
    best = [row.document for row in same(filled, embedder)]
    filled.retire(best[:3])
    made = brought_up(filled)
    assert made.gone == 3 and len(made.rows) == 60 and made.version == filled.tables.chunks.version
    assert not set(best[:3]) & {row.document for row in same(filled, embedder)}
    where = f"document = '{best[5]}'"
    assert [row.document for row in filled.nearest_rows(embedder.embed(["mill"])[0], 5, where=where)] == [best[5]]


def test_deleted_rows_are_not_found_once_the_snapshot_is_whole(filled, embedder):
    gone = [row.document for row in same(filled, embedder)][:3]
    filled.retire(gone)
    filled.finish()
    made = snapshot(filled)
    assert made.gone == 3 and made.version == filled.tables.chunks.version and not filled.tables.unfinished
    assert not set(gone) & {row.document for row in same(filled, embedder, limit=57)}


def test_replaced_documents_and_a_second_round(filled, embedder):
    for first in (0, 2, 4):
        changed = {name: f"{text} anew" for name, text in list(texts(60).items())[first : first + 2]}
        write_texts(filled, embedder, changed, sha256=str(first))
        brought_up(filled)
        same(filled, embedder)
    made = snapshot(filled)
    assert made.gone == 6 and len(made.rows) == 66
    assert len(json.loads((filled.folder / FOLDER / "manifest.json").read_text())["segments"]) == 4


def test_beyond_the_bounds_it_is_written_anew(filled, embedder):
    inode = vectors_file(filled).stat().st_ino
    filled.retire([d.id for d in filled.documents()][: int(60 * MOST_GONE) + 1])
    assert brought_up(filled).gone == 0 and vectors_file(filled).stat().st_ino != inode
    inode = vectors_file(filled).stat().st_ino
    write_texts(filled, embedder, texts(int(60 * MOST_ADDED) + 5, 300))
    brought_up(filled)
    assert vectors_file(filled).stat().st_ino != inode
    same(filled, embedder)


def test_a_reader_of_the_older_snapshot_goes_on(filled, embedder):
    question = embedder.embed(["the boiler of the mill and its tenant"])[0]
    before = snapshot(filled)
    found = before.nearest(question, 10)
    write_texts(filled, embedder, texts(10, 200))
    brought_up(filled)
    assert np.array_equal(before.nearest(question, 10)[0], found[0])


def test_an_interrupted_append_is_written_over(filled, embedder):
    with vectors_file(filled).open("ab") as file:
        file.write(b"half a vector")
    assert snapshot(filled) is not None
    write_texts(filled, embedder, texts(10, 200))
    assert len(brought_up(filled).rows) == 70
    same(filled, embedder)


def test_erased_rows_leave_no_vector(filled, embedder):
    write_texts(filled, embedder, {"secret.txt": "a secret of the mill"})
    filled.finish()
    vector = filled.vectors_of("secret.txt").astype(np.float16)[0].tobytes()
    assert vector in vectors_file(filled).read_bytes()
    filled.remove(["secret.txt"])
    filled.finish()
    assert all(vector not in path.read_bytes() for path in (filled.folder / FOLDER).iterdir())


def test_codes_are_appended_and_their_recall_counts_live_rows(filled, embedder):
    (filled.folder / FOLDER / "manifest.json").unlink()
    brought_up(filled, exact_rows=10)
    write_texts(filled, embedder, texts(20, 200))
    filled.retire(["f0/0001.txt", "f0/0002.txt"])
    made = brought_up(filled, exact_rows=10)
    assert made.codes.shape[1] == 80 and made.gone == 2 and made.recall.value == 1.0
    again = open_matrix(filled.folder, filled.manifest.dim)
    assert np.array_equal(again.codes, made.codes)
    same(filled, embedder)
