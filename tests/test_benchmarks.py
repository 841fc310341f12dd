"""The benchmarks' own arithmetic."""

import importlib.util
import sys
from pathlib import Path

import pytest

from doyen.records import Chunk, Hit

FOLDER = Path(__file__).parents[1] / "benchmarks"


def loaded(name, monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
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
