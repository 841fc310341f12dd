"""The snapshot of the vectors: it gives what the table gives, in every state of the table, and is not needed."""

import json
import shutil

import numpy as np
import pytest
from small_stores import write_texts

from doyen.index.lance import LanceIndex
from doyen.index.vector_matrix import FOLDER, open_matrix
from doyen.index.vector_writing import write_snapshot

NOUNS = "lease deposit boiler yard mill tenant insurer claim flood roof ladder hall pram bicycle court fee".split()


def texts(count, first=0):
    rng = np.random.default_rng(first)
    return {
        f"f{i // 10}/{i:04d}.txt": " ".join(rng.choice(NOUNS, 6)) + f" number{i}" for i in range(first, first + count)
    }


@pytest.fixture
def filled(index, embedder):
    write_texts(index, embedder, texts(60))
    index.finish()
    return index


def truth(index, vector, limit):
    """The nearest by LanceDB's own scan."""
    query = index.tables.chunks.search(vector, vector_column_name="vector").distance_type("cosine").limit(limit)
    return [round(1 - d, 3) for d in query.to_arrow()["_distance"].to_pylist()]


def scores(rows):
    return [round(row.score, 3) for row in rows]


def same(index, embedder, limit=15):
    question = embedder.embed(["the boiler of the mill and its tenant"])[0]
    rows = index.nearest_rows(question, limit)
    assert scores(rows) == pytest.approx(truth(index, question, limit), abs=2e-3)
    chunks = index.chunks_at([row.row for row in rows])
    assert [(chunks[r.row].document, chunks[r.row].start) for r in rows] == [(r.document, r.start) for r in rows]
    assert len({row.row for row in rows}) == len(rows)
    for row in rows:
        assert row.score == pytest.approx(float(row.vector @ question), abs=1e-3)
    return rows


def snapshot(index):
    return open_matrix(index.folder, index.manifest.dim)


def test_the_snapshot_gives_what_the_table_gives(filled, embedder):
    assert snapshot(filled).version == filled.tables.chunks.version
    same(filled, embedder)


def test_rows_written_since_are_found_and_deleted_ones_are_not(filled, embedder):
    other = LanceIndex.open(filled.folder)
    same(other, embedder)
    write_texts(filled, embedder, {"new.txt": "the boiler of the mill and its tenant"})
    before = snapshot(filled)
    assert before.version != filled.tables.chunks.version
    assert same(other, embedder)[0].document == "new.txt"
    best = [row.document for row in same(filled, embedder)]
    filled.retire(best[1:8])
    assert not set(best[1:8]) & {row.document for row in same(other, embedder)}
    filled.finish()
    assert snapshot(filled).version == filled.tables.chunks.version
    assert [r.document for r in same(other, embedder)] == [r.document for r in same(filled, embedder)]


def test_almost_all_deleted_falls_back_to_the_table(filled, embedder):
    ids = [d.id for d in filled.documents()]
    filled.retire(ids[3:])
    assert {row.document for row in same(filled, embedder, limit=10)} == set(ids[:3])


def test_a_rewritten_table_is_found_by_an_open_index(filled, embedder):
    other = LanceIndex.open(filled.folder)
    same(other, embedder)
    for first in (100, 120, 140):
        write_texts(filled, embedder, texts(20, first))
        filled.remove([f"f{first // 10}/{first:04d}.txt"])
        filled.finish()
        assert len(same(other, embedder)) == 15
    assert other.chunk_count() == 117


@pytest.mark.parametrize("harm", ["gone", "short", "torn manifest", "other format", "other dimension", "part missing"])
def test_a_broken_snapshot_is_ignored_and_made_anew(filled, embedder, harm):
    folder = filled.folder / FOLDER
    manifest = folder / "manifest.json"
    state = json.loads(manifest.read_text())
    if harm == "gone":
        shutil.rmtree(folder)
    elif harm == "short":
        path = folder / f"{state['id']}.vectors"
        path.write_bytes(path.read_bytes()[:-2])
    elif harm == "torn manifest":
        manifest.write_text(manifest.read_text()[:-20])
    elif harm == "part missing":
        (folder / f"{state['id']}.starts").unlink()
    else:
        manifest.write_text(json.dumps(state | ({"format": 99} if harm == "other format" else {"dim": 3})))
    again = LanceIndex.open(filled.folder)
    assert snapshot(again) is None
    same(again, embedder)
    again.finish()
    assert snapshot(again) is not None
    same(again, embedder)


def test_an_interrupted_finish_leaves_the_older_snapshot_and_no_litter_after_the_next(filled, embedder):
    (filled.folder / FOLDER / "0123456789abcdef.vectors").write_bytes(b"half")
    same(filled, embedder)
    write_texts(filled, embedder, texts(5, 200))
    filled.finish()
    names = {path.name.split(".")[0] for path in (filled.folder / FOLDER).iterdir()}
    assert names == {"manifest", snapshot(filled).id}


def test_nothing_is_written_where_nothing_changed(filled):
    before = snapshot(filled).id
    write_snapshot(filled.folder, filled.tables.chunks, filled.manifest.dim)
    assert snapshot(filled).id == before


def test_an_emptied_index_has_no_snapshot(filled, embedder):
    filled.remove([d.id for d in filled.documents()])
    filled.finish()
    assert list((filled.folder / FOLDER).iterdir()) == []
    assert filled.nearest_rows(embedder.embed(["mill"])[0], 5) == []


def coded(index):
    shutil.rmtree(index.folder / FOLDER)
    return write_snapshot(index.folder, index.tables.chunks, index.manifest.dim, exact_rows=10)


def test_codes_find_the_nearest_and_their_recall_is_measured(filled, embedder):
    made = coded(filled)
    assert made.codes is not None
    assert (made.recall.value, made.recall.rows, made.recall.queries) == (1.0, 60, 60)
    assert filled.recall() == made.recall
    same(filled, embedder)


def test_a_poor_code_is_told_by_its_recall():
    rng = np.random.default_rng(0)
    from doyen.index.scanning import codes_of, projection
    from doyen.index.vector_matrix import VectorMatrix

    vectors = rng.standard_normal((8000, 64)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    rows = np.arange(8000)
    common = (rows.astype(np.uint64), rows.astype(np.int32), rows, vectors.astype(np.float16))
    good = np.ascontiguousarray(codes_of(vectors, projection(64)).T)
    shuffled = np.ascontiguousarray(good[:, rng.permutation(8000)])
    found, lost = (
        VectorMatrix("x", 1, 0, [], *common, codes=codes, projected=projection(64)).measured(rng)
        for codes in (good, shuffled)
    )
    assert found.value >= 0.99
    assert lost.rescored > found.rescored


def test_recall_is_measured_again_when_a_fifth_has_come(filled, embedder):
    def next_recall(first, count):
        write_texts(filled, embedder, texts(count, first))
        return write_snapshot(filled.folder, filled.tables.chunks, filled.manifest.dim, exact_rows=10).recall

    coded(filled)
    assert next_recall(100, 5).rows == 60
    assert next_recall(200, 30).rows == 95
