"""The scans: what they return is what plain arithmetic returns, and codes find what is near."""

import numpy as np
import pytest

from doyen.index.scanning import (
    best,
    codes_of,
    cosines_at,
    hamming,
    near_codes,
    nearest_of_many,
    projection,
)


def unit(rng, count, dim):
    vectors = rng.standard_normal((count, dim)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.mark.parametrize("dim", [8, 100, 384, 1000])
def test_a_projection_gives_whole_words_and_keeps_angles(dim):
    projected = projection(dim)
    assert projected.shape[1] % 64 == 0
    assert projected.shape[1] >= max(dim, 256)
    assert np.allclose(projected[:, :dim].T @ projected[:, :dim], np.eye(dim)[:, : projected.shape[1]], atol=1e-4)
    assert (projection(dim) == projected).all()


def test_hamming_counts_the_bits_that_differ():
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 2**64, (40_000, 5), dtype=np.uint64)
    distances = hamming(np.ascontiguousarray(codes.T), codes[7])
    assert distances[7] == 0
    for place in (0, 1, 32_767, 32_768, 39_999):
        expected = sum(int(a ^ b).bit_count() for a, b in zip(codes[place].tolist(), codes[7].tolist(), strict=True))
        assert distances[place] == expected


def test_near_codes_are_the_least_distances_with_all_of_the_last_one():
    rng = np.random.default_rng(1)
    codes = codes_of(unit(rng, 3000, 64), projection(64))
    distances = hamming(np.ascontiguousarray(codes.T), codes[0])
    places = near_codes(np.ascontiguousarray(codes.T), codes[0], 50)
    assert len(places) >= 50
    others = np.setdiff1d(np.arange(3000), places)
    assert distances[places].max() < distances[others].min()


def test_near_codes_within_a_mask_are_all_of_it_where_it_is_small():
    rng = np.random.default_rng(2)
    codes = np.ascontiguousarray(codes_of(unit(rng, 500, 64), projection(64)).T)
    mask = np.zeros(500, dtype=bool)
    assert near_codes(codes, codes[:, 3], 10, mask).tolist() == []
    mask[[3, 77, 401]] = True
    assert near_codes(codes, codes[:, 3], 10, mask).tolist() == [3, 77, 401]
    mask[:250] = True
    assert mask[near_codes(codes, codes[:, 3], 10, mask)].all()


def test_cosines_of_all_and_of_some_places():
    rng = np.random.default_rng(3)
    vectors, query = unit(rng, 20_000, 16).astype(np.float16), unit(rng, 1, 16)[0]
    expected = vectors.astype(np.float32) @ query
    assert cosines_at(vectors, query) == pytest.approx(expected, abs=1e-6)
    places = np.array([19_999, 0, 5])
    assert cosines_at(vectors, query, places) == pytest.approx(expected[places], abs=1e-6)


def test_the_best_come_in_order_and_ties_by_place():
    scores = np.array([0.1, 0.9, 0.5, 0.9, 0.5], dtype=np.float32)
    assert best(scores, 3).tolist() == [1, 3, 2]
    assert best(scores, 99).tolist() == [1, 3, 2, 4, 0]
    assert best(scores[:0], 3).tolist() == []


def test_the_nearest_of_many_queries_are_those_of_each():
    rng = np.random.default_rng(4)
    vectors, queries = unit(rng, 20_000, 32).astype(np.float16), unit(rng, 7, 32)
    found = nearest_of_many(vectors, queries, 10)
    for query, places in zip(queries, found, strict=True):
        assert places.tolist() == best(vectors.astype(np.float32) @ query, 10).tolist()
