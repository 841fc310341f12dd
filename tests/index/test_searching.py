"""One open index: many threads at once, and a store that goes away."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from small_stores import reopened, write_texts

from doyen.errors import StoreError
from doyen.index.lance import LanceIndex
from doyen.retrieval.hybrid import Retriever

STORES = "both"


@pytest.fixture
def filled(index, embedder):
    write_texts(index, embedder, {f"{i}.txt": f"boiler number{i} of the mill" for i in range(300)})
    index.finish()
    return index


def hits(retriever, question):
    return [(h.chunk.document, h.score) for h in retriever.search(question)]


def test_32_threads_find_what_one_finds_while_another_process_writes(filled, embedder):
    retriever = Retriever(reopened(filled), embedder)
    questions = [f"boiler number{i}" for i in range(64)]
    alone = [hits(retriever, question) for question in questions]
    with ThreadPoolExecutor(32) as pool:
        assert list(pool.map(lambda question: hits(retriever, question), questions)) == alone
        found = pool.map(lambda question: hits(retriever, question)[0][0], questions)
        write_texts(filled, embedder, {f"other{i}.txt": f"pram {i}" for i in range(20)})
        filled.finish()
        assert list(found) == [f"{i}.txt" for i in range(64)]


def test_chunks_are_read_with_all_that_is_known_of_them(filled):
    rows = [row.row for row in filled.matching_rows("boiler", 40)]
    chunks = filled.chunks_at(rows)
    assert set(chunks) == set(rows)
    for chunk in chunks.values():
        assert [chunk] == filled.chunks_of([chunk.document])


def test_rows_that_are_gone_are_absent(filled):
    row = filled.matching_rows("number7", 1)[0].row
    assert set(filled.chunks_at([row, 10**15])) == {row}
    assert filled.chunks_at([]) == {}


@pytest.mark.lance_only
def test_matching_rows_are_the_same_with_and_without_the_snapshot(filled, embedder):
    write_texts(filled, embedder, {f"late{i}.txt": f"boiler number7 pram {i}" for i in range(3)})  # beside the snapshot
    filled.retire(["3.txt"])
    index = LanceIndex.open(filled.folder)
    shown = index.matching_rows("number7 number3 boiler", 400)
    (filled.folder / "vectors" / "manifest.json").unlink()
    plain = LanceIndex.open(filled.folder).matching_rows("number7 number3 boiler", 400)

    def told(rows):
        return sorted((row.row, row.document, row.start, row.score, row.vector.tobytes()) for row in rows)

    assert told(shown) == told(plain)
    documents = {row.document for row in shown}
    assert {"7.txt", "late0.txt", "late1.txt", "late2.txt"} <= documents and "3.txt" not in documents


@pytest.mark.lance_only
def test_a_store_that_goes_away_is_a_clear_error_and_one_that_comes_back_is_read(filled, embedder):
    index = LanceIndex.open(filled.folder)
    question = embedder.embed(["number7"])[0]
    assert index.nearest_rows(question, 1)
    away = filled.folder.with_name("away")
    filled.folder.rename(away)
    for search in (
        lambda: index.nearest_rows(question, 1),
        lambda: index.matching_rows("number7", 1),
        lambda: index.chunks_at([1]),
    ):
        with pytest.raises(StoreError, match="cannot be read") as caught:
            search()
        assert "doyen ingest" in caught.value.hint
    assert not filled.folder.exists()
    away.rename(filled.folder)
    assert [row.document for row in index.nearest_rows(question, 1)] == ["7.txt"]
    assert [row.document for row in index.matching_rows("number7", 1)] == ["7.txt"]
