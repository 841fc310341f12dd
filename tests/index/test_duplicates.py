"""Sketches estimate how alike texts are; groups are those at 0.85 or more, and files of the same bytes."""

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_stores import write_texts

from doyen.index.duplicates import BINS, SKETCH_BYTES, duplicate_groups, sketch

STORES = "both"
WORDS = [f"{a}{b}{c}" for a in "bcdfgklmnprst" for b in ("a", "e", "o", "ui") for c in ("n", "ter", "s", "lding")]


def text_of(seed, words):
    return " ".join(random.Random(seed).choices(WORDS, k=words))


def changed(text, words, seed=0):
    """Replace some words by others."""
    parts = text.split(" ")
    for place in random.Random(seed).sample(range(len(parts)), words):
        parts[place] = f"new{place}"
    return " ".join(parts)


def rows(*texts):
    return np.frombuffer(b"".join(map(sketch, texts)), "<u2").reshape(-1, BINS)


def groups(*texts, hashes=None):
    ids = [str(n) for n in range(len(texts))]
    return duplicate_groups(ids, hashes or ids, rows(*texts))


def jaccard(a, b):
    sets = [{tuple(words[i : i + 3]) for i in range(len(words) - 2)} for words in (a.split(), b.split())]
    return len(sets[0] & sets[1]) / len(sets[0] | sets[1])


@given(st.text())
def test_a_sketch_has_its_size_for_any_text_and_is_always_the_same(text):
    assert len(sketch(text)) == SKETCH_BYTES
    assert sketch(text) == sketch(text)


def test_the_estimate_is_near_the_true_similarity():
    errors = []
    for words in (60, 500, 3000):
        for changes in (1, words // 60, words // 20):
            a = text_of(words, words)
            b = changed(a, changes)
            x, y = rows(a, b)
            filled = (x != 0) | (y != 0)
            errors.append(((x == y) & filled).sum() / filled.sum() - jaccard(a, b))
    assert abs(np.mean(errors)) < 0.03
    assert max(map(abs, errors)) < 0.12  # 128 bins: a standard deviation of at most 0.044


def test_case_and_spaces_make_no_difference():
    assert sketch("The  lease\nends IN May.") == sketch("the lease ends in may")


def test_nearly_equal_documents_are_a_group_and_others_are_not():
    lease, manual = text_of(1, 400), text_of(2, 400)
    found = groups(lease, manual, changed(lease, 4), changed(lease, 120), text_of(3, 400))
    assert [(g.documents, g.exact) for g in found] == [(("0", "2"), False)]
    assert 0.85 <= found[0].similarity < 1


def test_equal_bytes_are_an_exact_group_even_without_words():
    found = groups("", "", "???", hashes=["a", "a", "b"])
    assert [(g.documents, g.exact, g.similarity) for g in found] == [(("0", "1"), True, 1.0)]


def test_the_largest_group_comes_first():
    a, b = text_of(1, 300), text_of(2, 300)
    found = groups(a, b, changed(b, 1), b + " more", changed(a, 1))
    assert [g.documents for g in found] == [("1", "2", "3"), ("0", "4")]


@pytest.mark.parametrize("text", ["一二三四五六七八九十百千万" * 4, " ".join(f"слово{n}" for n in range(40))])
def test_languages_without_spaces_or_latin_letters_are_compared_too(text):
    assert [g.documents for g in groups(text, text.upper() + " 。", text_of(1, 30))] == [("0", "1")]


def test_long_texts_are_read_in_blocks():
    text = text_of(5, 100_000)
    assert [g.documents for g in groups(text, changed(text, 300))] == [("0", "1")]


def test_very_many_alike_documents_are_one_group():
    body = text_of(1, 200)
    (found,) = groups(*(f"{body} number {n}" for n in range(500)))
    assert len(found.documents) == 500


def test_the_store_keeps_sketches_and_groups_by_them(index, embedder):
    text = text_of(1, 100)
    write_texts(index, embedder, {"a.txt": text, "b.txt": text_of(2, 100)}, sha256="x")
    write_texts(index, embedder, {"c.txt": text + " end"}, sha256="y")
    write_texts(index, embedder, {"b.txt": text_of(3, 100)}, sha256="z")
    assert [g.documents for g in index.near_duplicates()] == [("a.txt", "c.txt")]


def test_an_empty_store_has_no_duplicates(index):
    assert index.near_duplicates() == []
