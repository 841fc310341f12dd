"""Searches that come together find what each of them finds alone, bit for bit."""

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from doyen.index import joint_scan
from doyen.index.joint_scan import JointScan
from doyen.index.rough_scores import RoughScores


@pytest.fixture
def vectors():
    rng = np.random.default_rng(3)
    made = rng.standard_normal((20_000, 64)).astype(np.float32)
    made[5000:5040] = made[0]  # copies, of which the first comes first
    return (made / np.linalg.norm(made, axis=1, keepdims=True)).astype(np.float16)


def floats(rows):
    found = np.array(rows, dtype=np.float32)
    return found / np.linalg.norm(found, axis=1, keepdims=True)


def alone(vectors, query, limit, mask=None):
    return JointScan(vectors).nearest(query, limit, mask)


def in_turn(scan, queries, limit, mask=None):
    """Search in threads that all wait before the first of them scans; return their futures, which are done."""
    with ThreadPoolExecutor(len(queries)) as pool:
        with scan._turn:
            found = [pool.submit(scan.nearest, query, limit, mask) for query in queries]
            while len(scan._waiting) < len(queries):
                threading.Event().wait(0.001)
    return found


@pytest.fixture
def together(vectors, monkeypatch):
    """Return a search of queries that wait for each other, and the sizes of its scans."""
    sizes = []
    many = joint_scan.dots_of_many
    monkeypatch.setattr(
        joint_scan, "dots_of_many", lambda v, queries: (sizes.append(len(queries)), many(v, queries))[1]
    )

    def run(queries, limit, mask=None):
        return [f.result() for f in in_turn(JointScan(vectors), queries, limit, mask)]

    return run, sizes


@pytest.mark.parametrize("masked", [False, True])
def test_queries_that_wait_are_scanned_together_and_find_the_same(vectors, together, masked):
    run, sizes = together
    mask = np.arange(len(vectors)) % 3 == 0 if masked else None
    queries = list(floats([*vectors[[0, 17, 4000]], -vectors[9], vectors[5001]]))
    for query, (places, scores) in zip(queries, run(queries, 50, mask), strict=True):
        wanted, cosines = alone(vectors, query, 50, mask)
        assert places.tolist() == wanted.tolist()
        assert scores.tobytes() == cosines.tobytes()
    assert sizes == [5]


def test_more_queries_than_go_together_are_all_answered(vectors, together):
    run, sizes = together
    queries = list(floats(vectors[100:137]))
    assert [places[0] for places, _ in run(queries, 3)] == list(range(100, 137))
    assert max(sizes) == joint_scan.MOST_TOGETHER and sum(sizes) in (36, 37)


def test_few_rows_and_none(vectors, together):
    run, _ = together
    nobody = np.zeros(len(vectors), dtype=np.bool_)
    assert all(not len(places) for places, _ in run(list(floats(vectors[:3])), 5, nobody))
    assert all(len(places) == 20_000 for places, _ in run(list(floats(vectors[:2])), 30_000))


def test_a_scan_that_fails_takes_no_other_query_with_it(vectors, monkeypatch):
    def fails(v, queries):
        raise MemoryError

    monkeypatch.setattr(joint_scan, "dots_of_many", fails)  # the others scan alone afterwards
    scan = JointScan(vectors)
    found = in_turn(scan, floats(vectors[:4]), 2)
    assert sorted(type(f.exception()).__name__ for f in found) == ["MemoryError", *["NoneType"] * 3]
    assert all(f.exception() or f.result()[0][0] == place for place, f in enumerate(found))
    assert not scan._waiting


@pytest.mark.parametrize("masked", [False, True])
def test_the_8_bit_copies_of_a_matrix_that_is_searched_often_change_nothing(vectors, masked):
    mask = np.arange(len(vectors)) % 7 == 0 if masked else None
    rng = np.random.default_rng(5)
    near = vectors[rng.integers(len(vectors), size=30)].astype(np.float32) + 0.1 * rng.standard_normal((30, 64))
    queries = floats([*near, *rng.standard_normal((10, 64))])
    scan = JointScan(vectors, often=1)
    scan.nearest(queries[0], 1)
    while scan._rough is None:
        threading.Event().wait(0.01)
    assert scan._floats is None
    for query in queries:
        (places, scores), (wanted, cosines) = scan.nearest(query, 100, mask), alone(vectors, query, 100, mask)
        assert places.tolist() == wanted.tolist()
        assert scores.tobytes() == cosines.tobytes()


def test_rough_scores_are_within_their_bounds(vectors):
    rough = RoughScores(vectors)
    queries = floats(np.random.default_rng(1).standard_normal((9, 64)))
    wrong = np.abs(rough(queries) - queries @ vectors.astype(np.float32).T)
    assert (wrong <= rough.bounds).all()
    assert wrong.max() > 1e-3 and rough.bounds.max() < 0.02


def test_without_a_network_for_it_searches_stay_in_float32(vectors, monkeypatch, caplog):
    def refused(vectors):
        raise RuntimeError("no such operation")

    monkeypatch.setattr(joint_scan, "RoughScores", refused)
    scan = JointScan(vectors, often=1)
    query = floats(vectors[:1])[0]
    scan.nearest(query, 1)
    while not caplog.records:
        threading.Event().wait(0.01)
    assert scan.nearest(query, 1)[0].tolist() == [0]


def test_several_queries_of_one_thread_find_what_each_finds(vectors, together):
    _, sizes = together
    mask = np.arange(len(vectors)) % 3 == 0
    queries, limits, masks = list(floats(vectors[40:60])), [50, 7] * 10, [mask, None] * 10
    scan = JointScan(vectors)
    found = scan.nearest_many(queries, limits, masks)
    for query, limit, own, (places, scores) in zip(queries, limits, masks, found, strict=True):
        wanted, cosines = alone(vectors, query, limit, own)
        assert (places.tolist(), scores.tobytes()) == (wanted.tolist(), cosines.tobytes())
    assert sizes == [joint_scan.MOST_TOGETHER, 4] and not scan._waiting
    assert scan.nearest_many([], [], []) == []


def test_of_several_queries_whose_scan_fails_none_is_left_behind(vectors, monkeypatch):
    def fails(v, queries):
        raise MemoryError

    monkeypatch.setattr(joint_scan, "dots_of_many", fails)
    scan = JointScan(vectors)
    with pytest.raises(MemoryError):
        scan.nearest_many(list(floats(vectors[:20])), [1] * 20, [None] * 20)
    assert not scan._waiting
