import numpy as np
import pytest

from doyen.evaluation.answer_similarity import nearest_cosines


class Axes:
    """Turns each text into a unit vector: of `a` along one axis, of `b` along another, of both between them."""

    def __init__(self):
        self.embedded = []

    def embed(self, texts, *, kind):
        self.embedded += texts
        rows = np.array([[float("a" in t), float("b" in t), 1e-3] for t in texts], dtype=np.float32)
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def test_the_nearest_known_answer_counts_and_nothing_is_embedded_twice():
    axes = Axes()
    found = nearest_cosines(axes, ["a", "b", "a b", "a"], [("b", "a"), ("a",), ("a",), ("a",)])
    assert found == pytest.approx([1, 0, 0.7071, 1], abs=1e-3)
    assert sorted(axes.embedded) == ["a", "a b", "b"]


def test_no_texts_need_no_embedder():
    assert nearest_cosines(None, [], []) == []
    with pytest.raises(ValueError, match="without known answers"):
        nearest_cosines(Axes(), ["a"], [()])
