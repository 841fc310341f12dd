"""A retriever and questions → what a search takes alone, and of several that go together as they do in a busy server."""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from doyen.retrieval.hybrid import TOGETHER, Retriever

_SEARCHES = 3 * TOGETHER
_QUESTION_WORDS = 12


def questions_of(passages: Sequence[str], most: int = 96) -> list[str]:
    """Return questions in the documents' own words: the first words of some passages, each once."""
    texts = [passage.split() for passage in passages]
    texts = [words for words in texts if len(words) >= _QUESTION_WORDS] or texts
    chosen = np.random.default_rng(11).permutation(len(texts))[:most]
    return [" ".join(texts[int(i)][:_QUESTION_WORDS]) + "?" for i in chosen]


def measure_search(retriever: Retriever, questions: Sequence[str], count: int = _SEARCHES) -> dict[str, Any]:
    """Return seconds of a search: by the clock, of the processor, and of the processor where TOGETHER go together.

    Both ways search for the same `count` questions: alone first, so that what is read for the first time counts there.
    """
    asked = list(itertools.islice(itertools.cycle(questions), count))
    retriever.search(asked[0])
    seconds, began = [], time.process_time()
    for question in asked:
        started = time.perf_counter()
        retriever.search(question)
        seconds.append(time.perf_counter() - started)
    between = time.process_time()
    for first in range(0, count, TOGETHER):
        retriever.search_many(asked[first : first + TOGETHER])
    return {
        "search_s": statistics.median(seconds),
        "search_cpu_s": (between - began) / count,
        "search_together_cpu_s": (time.process_time() - between) / count,
    }
