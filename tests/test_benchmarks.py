"""The benchmarks' own arithmetic."""

import importlib.util
import json
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
    for other in ("measuring", "retrieval_sets"):
        sys.modules.pop(other, None)


@pytest.fixture
def markdown_corpus(monkeypatch):
    yield from loaded("markdown_corpus", monkeypatch)


@pytest.fixture
def pdf_pages(monkeypatch):
    yield from loaded("pdf_pages", monkeypatch)


@pytest.fixture
def retrieval(monkeypatch):
    yield from loaded("retrieval", monkeypatch)


@pytest.fixture
def retrieval_sets(monkeypatch):
    yield from loaded("retrieval_sets", monkeypatch)


@pytest.fixture
def retrieval_peers(monkeypatch):
    yield from loaded("retrieval_peers", monkeypatch)


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


def a_set(folder, *languages, questions=()):
    for language in languages:
        (folder / "docs" / language).mkdir(parents=True)
        (folder / "docs" / language / "a.txt").write_text(f"text {language}")
    rows = [{"id": str(i), "question": "Why?", "lang": lang, "gold": gold} for i, (lang, gold) in enumerate(questions)]
    (folder / "questions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def test_a_set_with_a_folder_a_language_is_one_set_a_language(retrieval_sets, tmp_path):
    gold = [{"document": "en/a.txt"}]
    found = retrieval_sets.sets_of(
        a_set(tmp_path / "s", "en", "hi", questions=[("en", gold), ("hi", gold), ("hi", [])])
    )
    assert [(s.name, s.folder.name, len(s.questions)) for s in found] == [("s.en", "en", 1), ("s.hi", "hi", 1)]
    (one,) = retrieval_sets.sets_of(a_set(tmp_path / "t", "en", questions=[("en", gold), ("hi", gold)]))
    assert (one.name, one.folder.name, len(one.questions)) == ("t", "docs", 2)


def test_kept_hits_are_computed_again_when_versions_or_files_change(retrieval_sets, tmp_path):
    data = a_set(tmp_path / "s", "en", questions=[("en", [{"document": "en/a.txt"}])])
    python, calls = tmp_path / "python", tmp_path / "calls"

    def peer(version):  # a program in the peer's place that notes each call
        python.write_text(
            f"#!{sys.executable}\nimport json, sys\njob = json.load(sys.stdin)\n"
            f"if job.get('versions'): print(json.dumps({{'bm25s': {{'bm25s': '{version}'}}}})); sys.exit()\n"
            f"open({str(calls)!r}, 'a').write('x')\nprint(json.dumps({{'hits': [[]], 'model': job['model']}}))\n"
        )
        python.chmod(0o755)
        retrieval_sets.peer_versions.cache_clear()

    def calls_after(fresh=False):
        (asked,) = retrieval_sets.sets_of(data)
        retrieval_sets.peer_hits(asked, "bm25s", str(python), tmp_path / "work", model="m", native=False, fresh=fresh)
        return len(calls.read_text())

    peer("1")
    assert (calls_after(), calls_after(), calls_after(fresh=True)) == (1, 1, 2)
    peer("2")
    assert (calls_after(), calls_after()) == (3, 3)
    (data / "docs" / "en" / "a.txt").write_text("longer text")
    assert calls_after() == 4


def test_the_mean_gain_weighs_each_set_the_same(retrieval):
    found = retrieval.mean_gain({"many": [0.1] * 50, "few": [0.3] * 2})
    assert (found["value"], found["low"], found["high"]) == (0.2, 0.2, 0.2)


def test_bars_name_the_sets_that_are_certainly_below(retrieval):
    def row(high):
        return {"doyen_minus_best_peer": {"ndcg@10": {"high": high}}}

    gains = {name: [0.0, 0.1] for name in ("a", "b", "dev-it-aws")}
    found = retrieval.bars({"a": row(-0.01), "b": row(0.02), "dev-it-aws": row(-0.5)}, gains)
    assert found["below the best peer by over 0.005"] == ["a"]
    assert found["mean gain (bar: 0.06)"]["sets"] == ["dev-it-aws"]


def test_ranks_are_fused_by_their_reciprocals(retrieval_peers):
    a, b, c = ("a", None), ("b", None), ("c", None)
    assert retrieval_peers.fused([[a, b], [b, c]]) == [b, a, c]
    assert retrieval_peers.units([a, b, a]) == [a, b]


def test_pages_are_joined_by_form_feeds_and_keep_their_numbers(retrieval_peers, tmp_path):
    assert retrieval_peers._with_form_feeds([(1, "one"), (3, "three")]) == "one\f\fthree"
    assert retrieval_peers._with_form_feeds([(None, "whole")]) == "whole"
    (tmp_path / "a.txt").write_text("one\ftwo")
    (tmp_path / "b.md").write_text("one\ftwo")
    assert retrieval_peers.pages_of(tmp_path / "a.txt") == [(1, "one"), (2, "two")]
    assert retrieval_peers.pages_of(tmp_path / "b.md") == [(None, "one\ftwo")]


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


def test_questions_of_an_export_are_spread_and_different(monkeypatch):
    for export in loaded("export", monkeypatch):
        assert export.spread(6, 40) == [0, 1, 2, 3, 4, 5]
        assert export.spread(30, 10) == list(range(0, 30, 3))


def test_what_the_clients_of_serve_say_of_times(monkeypatch):
    for served in loaded("served", monkeypatch):
        assert served.spread([0.3, 0.1, 0.2], 1e3) == {"p50": 200.0, "p95": 200.0, "most": 300.0}
        assert served.searching("a b&c") == "/api/search?k=10&q=a%20b%26c"
        with pytest.raises(ValueError, match="7"):
            served.at_once(3, lambda number: int("7x") if number == 1 else None)
