"""Searches that wait for each other go together, and are what each of them is alone."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from small_stores import write_texts

from doyen.errors import StoreError
from doyen.retrieval.hybrid import TOGETHER, Retriever, Sought
from doyen.retrieval.search_queue import SearchQueue

STORES = "both"


@pytest.fixture
def retriever(index, embedder):
    write_texts(index, embedder, {f"{i}.txt": f"boiler number{i} of the mill" for i in range(60)})
    index.finish()
    return Retriever(index, embedder)


def found(hits):
    return [(h.chunk, h.also, pytest.approx(h.score, abs=1e-6), h.lexical) for h in hits]


def test_searches_together_find_what_each_finds_alone(retriever):
    where = retriever.index.filter_condition(["title!=7"])
    sought = [Sought(f"boiler number{n}", k, where if n % 3 else None) for n in range(20) for k in (1, 5)]
    sought.append(Sought("?!", 3))
    for one, hits in zip(sought, retriever.search_each(sought), strict=True):
        assert found(retriever.search(one.question, one.k, where=one.where)) == found(hits)
    assert list(retriever.search_each([])) == []


class Slow:
    """A retriever that holds its first search until it is let go, and fails at one question."""

    def __init__(self):
        self.let_go, self.begun, self.sizes = threading.Event(), threading.Event(), []

    def search_each(self, sought):
        self.sizes.append(len(sought))
        self.begun.set()
        self.let_go.wait(10)
        for one in sought:
            if one.question == "bad":
                raise StoreError("gone")
            yield [one.question]


def test_those_that_wait_go_together_and_one_that_fails_fails_alone():
    slow, queue = Slow(), SearchQueue(1)
    with ThreadPoolExecutor(12) as pool:
        first = pool.submit(queue.search, slow, Sought("first"))
        assert slow.begun.wait(10)
        words = [*map(str, range(6)), "bad", *map(str, range(6, 10))]
        others = [pool.submit(queue.search, slow, Sought(word)) for word in words]
        while len(queue._waiting) < len(words):
            threading.Event().wait(0.001)
        slow.let_go.set()
    assert first.result() == ["first"]
    assert [f.exception() or f.result() for f in others if f is not others[6]] == [[w] for w in words if w != "bad"]
    assert isinstance(others[6].exception(), StoreError)
    assert slow.sizes[:2] == [1, TOGETHER]
    assert queue.search(slow, Sought("again")) == ["again"]
    queue.close()
    with pytest.raises(RuntimeError):
        queue.search(slow, Sought("late"))
