"""Filters: what they mean, and that a search under one is exact."""

import datetime

import numpy as np
import pytest
from small_stores import write_texts

from doyen.errors import UsageError
from doyen.index.filtering import DocumentSet, Filter, Visible, parse_filters
from doyen.index.lance import IndexEntry, LanceIndex
from doyen.records import Chunk, Document, Summary

STORES = "both"


def at(*date):
    return datetime.datetime(*date, tzinfo=datetime.UTC).timestamp()


ROWS = [
    ("contracts/2025/lease.pdf", "application/pdf", "en", at(2025, 12, 31, 23), (("author", "Ito"), ("pages", "12"))),
    (
        "contracts/2026/claim.docx",
        "application/vnd.ms-word",
        "de",
        at(2026, 1, 1),
        (("author", "Müller"), ("pages", "9")),
    ),
    ("contracts-old/claim.pdf", "application/pdf", "en", at(2026, 2, 10), (("date", "2020-05-01"),)),
    ("notes.txt", "text/plain", "", 0.0, ()),
]


@pytest.fixture
def filled(index, embedder):
    entries = []
    for name, media_type, language, moment, metadata in ROWS:
        text = f"the boiler in {name}"
        document = Document(
            name, text, "Title of it", media_type, "a", name, language, modified_at=moment, metadata=metadata
        )
        entries.append(IndexEntry(document, "/", [Chunk(name, 0, len(text), text, language=language)]))
    index.write(entries, embedder.embed([e.document.text for e in entries]))
    index.finish()
    return index


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        (["folder=contracts"], {0, 1}),
        (["folder=contracts/"], {0, 1}),
        (["folder=Contracts/2026"], {1}),
        (["folder=contract*"], {0, 1, 2}),
        (["folder!=contracts"], {2, 3}),
        (["folder=."], {3}),
        (["type=pdf"], {0, 2}),
        (["type=.PDF"], {0, 2}),
        (["type=text/plain"], {3}),
        (["type=application/*"], {0, 1, 2}),
        (["type!=pdf"], {1, 3}),
        (["language=de"], {1}),
        (["date>=2026"], {1, 2}),
        (["date>=2026-01-01"], {1, 2}),
        (["date<=2026-01-01"], {0, 1}),
        (["date<=2025-12"], {0}),
        (["date=2026-01"], {1}),
        (["date!=2026-02-10"], {0, 1, 3}),
        (["author=müller"], {1}),
        (["Author = *t*"], {0}),
        (["author!=Ito"], {1, 2, 3}),
        (["pages>=10"], {0}),
        (["pages<=9"], {1}),
        (["metadata.date>=2020-01-01"], {2}),
        (["title=title*"], {0, 1, 2, 3}),
        (["folder=contracts", "type=pdf"], {0}),
        (["language=fr"], set()),
        ({"type": "pdf", "author": "Ito"}, {0}),
        ([Filter("date", ">=", "2026-02")], {2}),
    ],
)
def test_what_a_filter_means(filled, embedder, filters, expected):
    where = filled.filter_condition(filters)
    assert where.ids == {ROWS[i][0] for i in expected}
    for rows in (
        filled.nearest_rows(embedder.embed(["boiler"])[0], 10, where=where),
        filled.matching_rows("boiler", 10, where=where),
    ):
        assert {row.document for row in rows} == where.ids


@pytest.mark.parametrize("text", ["folder", "=x", "folder=", "folder>x", "", "!="])
def test_a_malformed_filter_is_refused(text):
    with pytest.raises(UsageError, match="is not KEY=VALUE") as caught:
        parse_filters([text])
    assert "folder, type, date" in caught.value.hint


def test_an_unknown_field_is_refused_and_the_known_ones_are_named(filled):
    with pytest.raises(UsageError, match="'writer'") as caught:
        filled.filter_condition(["type=pdf", "writer=Ito"])
    assert "folder, type, date, language, title, author, metadata.date, pages" in caught.value.hint


@pytest.mark.parametrize("date", ["yesterday", "2026-13", "2026-02-30", "0000", "26"])
def test_a_date_that_is_none_is_refused(filled, date):
    with pytest.raises(UsageError, match="is no date"):
        filled.filter_condition([f"date={date}"])


def test_one_text_is_no_list_of_filters(filled):
    with pytest.raises(UsageError, match="list or a mapping"):
        filled.filter_condition("type=pdf")


@pytest.fixture
def many(index, embedder):
    """1,400 documents in two folders: more than a condition can name."""
    for first in range(0, 1400, 700):
        write_texts(index, embedder, {f"f{i % 2}/{i}.txt": f"boiler number{i}" for i in range(first, first + 700)})
    index.finish()
    return index


@pytest.mark.lance_only
@pytest.mark.parametrize("state", ["snapshot", "no snapshot", "written since"])
def test_a_filter_on_many_documents_is_exact(many, embedder, state):
    where = many.filter_condition(["folder=f1"])
    assert where.condition is None
    if state == "no snapshot":
        (many.folder / "vectors" / "manifest.json").unlink()
    elif state == "written since":
        write_texts(many, embedder, {"f1/new.txt": "boiler number1 number3", "f0/new.txt": "boiler number1 number3"})
        where = many.filter_condition(["folder=f1"])
    index = LanceIndex.open(many.folder)
    question = embedder.embed(["boiler number1 number3"])[0]
    rows = index.nearest_rows(question, 650, where=where)
    assert len(rows) == 650
    assert all(row.document.startswith("f1/") for row in rows)
    everything = index.nearest_rows(question, 2000)
    assert [r.score for r in rows] == pytest.approx([r.score for r in everything if r.document in where.ids][:650])
    matched = index.matching_rows("boiler number4 number5", 60, where=where)
    assert len(matched) == 60
    assert {row.document[:3] for row in matched} == {"f1/"}
    assert matched[0].document == "f1/5.txt"


def test_a_condition_in_sql_holds_both_searches(filled, embedder):
    where = "language = 'en'"
    near = filled.nearest_rows(embedder.embed(["boiler"])[0], 10, where=where)
    assert {row.document for row in near} == {ROWS[0][0], ROWS[2][0]}
    assert {row.document for row in filled.matching_rows("boiler", 10, where=where)} == {ROWS[0][0], ROWS[2][0]}


def labelled(name, labels):
    text = f"the boiler in {name}"
    document = Document(name, text, name, "text/plain", "a", name, labels=labels)
    summary = Summary(name, None, 0, len(text), text, ((0, len(text)),), text)
    return IndexEntry(document, "/", [Chunk(name, 0, len(text), text, labels=labels)], summaries=[summary])


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ((), {"free"}),
        (("staff",), {"free", "staff", "both"}),
        (("board",), {"free", "board", "both"}),
        (("staff", "board"), {"free", "staff", "board", "both"}),
        (("o'neil", "nobody"), {"free", "odd"}),
    ],
)
def test_labels_let_through_what_has_none_or_shares_one(index, embedder, labels, expected):
    made = {"free": (), "staff": ("staff",), "board": ("board",), "both": ("board", "staff"), "odd": ("o'neil",)}
    entries = [labelled(*one) for one in made.items()]
    vectors = embedder.embed([e.document.text for e in entries])
    index.write(entries, vectors, summary_vectors=vectors)
    question = embedder.embed(["boiler"])[0]
    for finish in (lambda: None, index.finish):  # before and after there is a snapshot and a full-text index
        finish()
        where = Visible(frozenset(labels))
        assert {row.document for row in index.nearest_rows(question, 9, where=where)} == expected
        assert set(index.nearest_summaries(question, 9, where=where)) == expected
        within = Visible(frozenset(labels), DocumentSet(frozenset({"free", "both"})))
        assert {row.document for row in index.nearest_rows(question, 9, where=within)} == expected & {"free", "both"}
    assert {row.document for row in index.matching_rows("boiler", 9, where=where)} == expected
    assert {row.document for row in index.matching_rows("boiler", 9, where=within)} == expected & {"free", "both"}
    assert set(index.nearest_summaries(question, 9, where=within)) == expected & {"free", "both"}


def test_no_document_is_no_hit(filled, embedder):
    nothing = DocumentSet(frozenset())
    assert filled.nearest_rows(np.ones(embedder.dim, dtype=np.float32), 5, where=nothing) == []
    assert filled.matching_rows("boiler", 5, where=nothing) == []
