"""The benchmarks' own arithmetic."""

import importlib.util
import sys
from pathlib import Path

import pytest

from doyen.records import Chunk, Hit

FOLDER = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def markdown_corpus(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    spec = importlib.util.spec_from_file_location("markdown_corpus", FOLDER / "markdown_corpus.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    sys.modules.pop("measuring", None)


def test_a_document_ranks_by_its_best_passage(markdown_corpus):
    hits = [Hit(Chunk(document, 0, 1, "x"), score) for document, score in [("a", 9), ("b", 8), ("c", 7), ("a", 1)]]
    assert [(h.chunk.document, h.score) for h in markdown_corpus.one_hit_a_document(hits)] == [
        ("a", 9),
        ("b", 8),
        ("c", 7),
    ]
