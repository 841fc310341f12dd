"""Which training examples are stale: those whose source text is gone from the documents as they are now."""

import json

import pytest
from small_stores import write_texts

from doyen.lineage import LINEAGE_FILE, read_lineage, stale_examples, write_lineage
from doyen.records import Example, SourceSpan

TEXT = "Rent is due on the first. The deposit is two rents. Pets need consent."


def example(number, *spans):
    chat = ({"role": "user", "content": "?"}, {"role": "assistant", "content": "!"})
    return Example(chat, tuple(spans), question_id=f"q{number}", variant="passages")


def span(text, document="lease.txt", sha256="1"):
    start = TEXT.index(text)
    return SourceSpan(document, sha256, None, start, start + len(text))


@pytest.fixture
def filled(index, embedder):
    write_texts(index, embedder, {"lease.txt": TEXT, "other.txt": TEXT}, sha256="1")
    index.finish()
    return index


@pytest.fixture
def lineage(tmp_path):
    rows = [
        example(1, span("The deposit is two rents.")),
        example(2, span("Pets need consent.")),
        example(3, span("Pets need consent."), span("Rent is due on the first.", "other.txt")),
        example(4),
    ]
    write_lineage(tmp_path, rows)
    return read_lineage(tmp_path / LINEAGE_FILE)


def stale(rows, index):
    return stale_examples(rows, index, {d.id: d.sha256 for d in index.documents()})


def test_a_line_names_the_question_and_every_span(lineage, tmp_path):
    assert len(lineage) == 4
    assert lineage[0] == {
        "question_id": "q1",
        "variant": "passages",
        "source": [{"document": "lease.txt", "sha256": "1", "page": None, "start": 26, "end": 51}],
    }
    assert read_lineage(tmp_path / "none.jsonl") is None
    (tmp_path / "train.jsonl").write_text(json.dumps(example(1, span("Pets need consent.")).as_dict()) + "\n")
    assert read_lineage(tmp_path / "train.jsonl")[0]["source"][0]["document"] == "lease.txt"


def test_nothing_is_stale_while_the_documents_are_the_same(lineage, filled):
    assert stale(lineage, filled) == []


def test_only_examples_whose_text_changed_are_stale(lineage, filled, embedder):
    changed = "Rent is due on the first. The deposit is three rents.\nPets  need consent."
    write_texts(filled, embedder, {"lease.txt": changed}, sha256="2")
    assert stale(lineage, filled) == [
        {
            "line": 1,
            "question_id": "q1",
            "variant": "passages",
            "documents": ["lease.txt"],
            "reason": "changed",
        }
    ]


def test_examples_of_a_vanished_document_are_stale(lineage, filled):
    filled.retire(["other.txt"])
    assert [(r["question_id"], r["reason"], r["documents"]) for r in stale(lineage, filled)] == [
        ("q3", "gone", ["other.txt"])
    ]


def test_where_the_old_version_is_purged_a_changed_hash_is_stale(lineage, filled, embedder):
    write_texts(filled, embedder, {"lease.txt": TEXT + " More."}, sha256="2")
    assert stale(lineage, filled) == []
    filled.finish(keep_versions_days=0)
    assert [r["question_id"] for r in stale(lineage, filled)] == ["q1", "q2", "q3"]


def test_without_an_index_all_with_sources_are_stale(lineage):
    assert [r["question_id"] for r in stale_examples(lineage, None, {})] == ["q1", "q2", "q3"]
