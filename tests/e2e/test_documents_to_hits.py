"""From files to hits with the real embedder: the sample company is found, and interruptions leave no trace."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from small_stores import make_expert, matching, read_lines

from doyen.config import ChunkingSettings, Settings, load_settings
from doyen.examples.importing import read_questions
from doyen.expert import open_retriever
from doyen.ingesting import BATCH_CHUNKS, ingest, open_index

pytestmark = pytest.mark.e2e

INSURER = Path(__file__).parents[2] / "examples" / "insurer"
DOYEN = Path(sys.executable).with_name("doyen")


@pytest.fixture(scope="session")
def insurer(tmp_path_factory):
    """An expert that has read the sample company's documents."""
    expert = make_expert(tmp_path_factory.mktemp("insurer") / "expert")
    report = ingest(expert, [INSURER / "documents"])
    assert not report.failed
    return expert


@pytest.fixture(scope="session")
def answered(insurer):
    """(question, its ten hits) for each answerable test question."""
    asked = [q for q in read_questions(INSURER / "questions.jsonl") if q.split == "test" and q.answerable]
    hits = open_retriever(insurer, load_settings(insurer)).search_many([q.question for q in asked], 10)
    return list(zip(asked, hits, strict=True))


def test_every_file_of_the_sample_company_is_indexed(insurer):
    files = {p.relative_to(INSURER / "documents").as_posix() for p in (INSURER / "documents").rglob("*") if p.is_file()}
    documents = open_index(insurer, load_settings(insurer)).documents()
    assert {d.id for d in documents} == files
    assert all(d.chunks for d in documents)
    assert all(d.pages for d in documents if d.id.endswith(".pdf"))


def test_the_gold_document_is_among_the_first_five_hits(answered):
    assert len(answered) >= 100
    found = [any(h.chunk.document in {g.document for g in q.gold} for h in hits[:5]) for q, hits in answered]
    assert sum(found) / len(found) >= 0.9


def test_every_hit_is_the_exact_slice_of_its_document(insurer, answered):
    index = open_index(insurer, load_settings(insurer))
    texts = {d.id: index.text(d.id) for d in index.documents()}
    for _, hits in answered:
        assert len(hits) == 10
        for hit in hits:
            text, pages = texts[hit.chunk.document]
            assert text[hit.chunk.start : hit.chunk.end] == hit.chunk.text
            if pages:
                page = pages[hit.chunk.pages[0] - 1]
                assert page.start <= hit.chunk.start < page.end


def test_the_hits_of_a_file_of_questions_are_those_of_the_contract(insurer, answered, tmp_path):
    questions, out = tmp_path / "q.jsonl", tmp_path / "hits.jsonl"
    some = answered[:20]
    questions.write_text("".join(json.dumps({"id": q.id, "question": q.question}) + "\n" for q, _ in some))
    call = [DOYEN, "search", "--questions", questions, "--out", out, "--expert", insurer, "--json"]
    done = subprocess.run(call, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["questions"] == 20
    rows = read_lines(out)
    assert [r["id"] for r in rows] == [q.id for q, _ in some]
    found, expected = ([h for r in rows for h in r["hits"]], [h.as_dict() for _, hits in some for h in hits])
    assert [h.pop("score") for h in found] == pytest.approx([h.pop("score") for h in expected], abs=1e-4)
    assert found == expected


# ---- interruptions

FILES = 300
SMALL_CHUNKS = Settings(chunking=ChunkingSettings(max_tokens=32))


@pytest.fixture(scope="session")
def library(tmp_path_factory):
    """Some hundred small files: several batches of small chunks."""
    folder = tmp_path_factory.mktemp("library")
    for n in range(FILES):
        lines = [
            f"Shelf {n}, book {i} treats of matter {n * i % 97} and was bought in {1900 + i}.\n\n" for i in range(20)
        ]
        (folder / f"shelf-{n:03}.txt").write_text("".join(lines))
    return folder


def contents(expert):
    index = open_index(expert, load_settings(expert))
    documents = index.documents()
    return [(d.id, d.sha256, d.chunks, index.text(d.id)) for d in documents], index.chunks_of([d.id for d in documents])


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory, library):
    expert = make_expert(tmp_path_factory.mktemp("undisturbed") / "expert", SMALL_CHUNKS)
    report = ingest(expert, [library])
    assert len(report.new) == FILES and report.chunks > 2 * BATCH_CHUNKS
    return contents(expert)


@pytest.mark.slow  # test_kill.py stops a smaller one
@pytest.mark.parametrize(("stop", "code"), [(signal.SIGINT, 130), (signal.SIGKILL, -signal.SIGKILL)])
def test_a_stopped_ingest_goes_on_to_the_same_index(library, undisturbed, tmp_path, stop, code):
    expert = make_expert(tmp_path / "expert", SMALL_CHUNKS)
    call = [DOYEN, "ingest", library, "--expert", expert, "--json"]
    with subprocess.Popen(call, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        _wait_for(expert / "index" / "writing", process)
        process.send_signal(stop)
        _, err = process.communicate(timeout=120)
    assert process.returncode == code, err
    if stop == signal.SIGINT:
        assert "hint: run the same doyen ingest again" in err
        assert "Traceback" not in err
    done = subprocess.run(call, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    row = json.loads(done.stdout)
    assert row["new"] > 0 and row["new"] + row["changed"] + row["unchanged"] == FILES
    assert contents(expert) == undisturbed
    index = open_index(expert, load_settings(expert))
    assert not index.unfinished
    assert len(matching(index, "shelf", FILES)) == FILES
    assert json.loads(subprocess.run(call, capture_output=True, text=True).stdout)["unchanged"] == FILES


def _wait_for(path, process):
    """Wait until the first batch is being written: midway, on any machine."""
    end = time.monotonic() + 120
    while not os.path.exists(path):
        assert process.poll() is None, "the ingest ended before it could be stopped"
        assert time.monotonic() < end
        time.sleep(0.01)
