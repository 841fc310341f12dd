"""The benchmarks' own arithmetic."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

from doyen.records import Chunk, Hit

FOLDER = Path(__file__).parents[1] / "benchmarks"


def loaded(name, monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, name, module)  # dataclasses look there
    spec.loader.exec_module(module)
    yield module
    sys.modules.pop("measuring", None)


@pytest.fixture
def markdown_corpus(monkeypatch):
    yield from loaded("markdown_corpus", monkeypatch)


@pytest.fixture
def pdf_pages(monkeypatch):
    yield from loaded("pdf_pages", monkeypatch)


def test_a_document_ranks_by_its_best_passage(markdown_corpus):
    hits = [Hit(Chunk(document, 0, 1, "x"), score) for document, score in [("a", 9), ("b", 8), ("c", 7), ("a", 1)]]
    assert [(h.chunk.document, h.score) for h in markdown_corpus.one_hit_a_document(hits)] == [
        ("a", 9),
        ("b", 8),
        ("c", 7),
    ]


def test_words_that_the_evidence_runs_together_are_found_on_the_page(pdf_pages):
    pages = {"a.pdf": ["Cost of goods sold 29,963", "Cost of the house 12"]}
    row = pdf_pages.accuracy(pages, [("a.pdf", 1, "Costofgoodssold 29,963"), ("a.pdf", 2, "Costofgoodssold 29,963")])
    assert (row["held"], row["first"]) == (0.5, 0.5)
    assert row["missed"] == [{"document": "a.pdf", "page": 2, "share": 0.0}]


def test_synthetic_vectors_keep_the_distance_of_the_tenth_neighbour(monkeypatch):
    (made,) = loaded("synthetic_chunks", monkeypatch)
    rng = np.random.default_rng(5)
    centres = rng.standard_normal((40, 24)).astype(np.float32)
    real = centres[rng.integers(40, size=1500)] + 0.4 * rng.standard_normal((1500, 24)).astype(np.float32)
    synthesis = made.Synthesis.of(real).fitted(4000, rng)
    vectors, queries = synthesis.make(4000, rng), synthesis.make(200, rng)
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(1, abs=1e-5)
    wanted = np.median(made.neighbour_cosines(synthesis.vectors, synthesis.vectors))
    assert np.median(made.nearest_cosines(queries, vectors, 10)[1][:, -1]) == pytest.approx(wanted, abs=0.02)


def test_synthetic_texts_are_made_of_the_words_of_real_ones(monkeypatch):
    (made,) = loaded("synthetic_chunks", monkeypatch)
    rng = np.random.default_rng(5)
    real = [" ".join(f"w{i}" for i in range(n, n + 40)) for n in range(0, 200, 10)]
    texts = made.Texts(real)
    assert set(" ".join(texts.make(50, rng)).split()) <= set(" ".join(real).split())
    assert all(10 <= len(question.split()) <= 20 for question in texts.questions(30, rng))
