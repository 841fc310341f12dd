"""Searches that come together find what each of them finds alone, bit for bit."""

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from doyen.index import joint_scan
from doyen.index.joint_scan import JointScan


@pytest.fixture
def vectors():
    rng = np.random.default_rng(3)
    made = rng.standard_normal((20_000, 64)).astype(np.float32)
    made[5000:5040] = made[0]  # copies, of which the first comes first
    return made / np.linalg.norm(made, axis=1, keepdims=True)


def alone(vectors, query, limit, mask=None):
    return JointScan(vectors).nearest(query, limit, mask)


@pytest.fixture
def together(vectors, monkeypatch):
    """Return a scan whose first query holds the turn until `n` others wait, and the sizes of its scans."""
    sizes = []
    many = joint_scan.dots_of_many
    monkeypatch.setattr(
        joint_scan, "dots_of_many", lambda v, queries: (sizes.append(len(queries)), many(v, queries))[1]
    )

    def run(queries, limit, mask=None):
        scan = JointScan(vectors)
        with ThreadPoolExecutor(len(queries)) as pool:
            with scan._turn:
                found = [pool.submit(scan.nearest, query, limit, mask) for query in queries]
                while len(scan._waiting) < len(queries):
                    threading.Event().wait(0.001)
            return [f.result(10) for f in found]

    return run, sizes


@pytest.mark.parametrize("masked", [False, True])
def test_queries_that_wait_are_scanned_together_and_find_the_same(vectors, together, masked):
    run, sizes = together
    mask = np.arange(len(vectors)) % 3 == 0 if masked else None
    queries = [*vectors[[0, 17, 4000]], -vectors[9], vectors[5001]]
    for query, (places, scores) in zip(queries, run(queries, 50, mask), strict=True):
        wanted, cosines = alone(vectors, query, 50, mask)
        assert places.tolist() == wanted.tolist()
        assert scores.tobytes() == cosines.tobytes()
    assert sizes == [5]


def test_more_queries_than_go_together_are_all_answered(vectors, together):
    run, sizes = together
    queries = list(vectors[100:137])
    assert [places[0] for places, _ in run(queries, 3)] == list(range(100, 137))
    assert max(sizes) == joint_scan.MOST_TOGETHER and sum(sizes) in (36, 37)


def test_few_rows_and_none(vectors, together):
    run, _ = together
    nobody = np.zeros(len(vectors), dtype=np.bool_)
    assert all(not len(places) for places, _ in run(list(vectors[:3]), 5, nobody))
    assert all(len(places) == 20_000 for places, _ in run(list(vectors[:2]), 30_000))


def test_a_scan_that_fails_takes_no_other_query_with_it(vectors, together, monkeypatch):
    run, _ = together
    works = joint_scan.dots_of_many
    failed = []

    def fails_once(v, queries):
        if not failed:
            failed.append(1)
            raise MemoryError
        return works(v, queries)

    monkeypatch.setattr(joint_scan, "dots_of_many", fails_once)
    scan = JointScan(vectors)
    with ThreadPoolExecutor(4) as pool:
        with scan._turn:
            found = [pool.submit(scan.nearest, query, 2) for query in vectors[:4]]
            while len(scan._waiting) < 4:
                threading.Event().wait(0.001)
        errors = [f.exception(10) for f in found]
    assert sum(isinstance(error, MemoryError) for error in errors) == 1 and errors.count(None) == 3
    assert not scan._waiting
