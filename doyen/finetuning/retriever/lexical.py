"""BM25 over some hundred passages in memory: what full-text search would give them (Robertson & Zaragoza 2009)."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from doyen.words import words

K1 = 1.2
B = 0.75


class Lexical:
    """Passages, searched by their words."""

    def __init__(self, passages: Sequence[str]) -> None:
        self._count = len(passages)
        self._lists: dict[str, list[tuple[int, int]]] = defaultdict(list)
        lengths = np.zeros(len(passages))
        for i, passage in enumerate(passages):
            found = words(passage)
            lengths[i] = len(found)
            for word, count in Counter(found).items():
                self._lists[word].append((i, count))
        self._norm = K1 * (1 - B + B * lengths / max(lengths.mean(), 1.0))

    def scores(self, query: str) -> NDArray[np.float64]:
        """Return the BM25 score of each passage `(passages,)`."""
        found = np.zeros(self._count)
        for word in set(words(query)):
            own = self._lists.get(word, [])
            rarity = math.log(1 + (self._count - len(own) + 0.5) / (len(own) + 0.5))
            for i, count in own:
                found[i] += rarity * count * (K1 + 1) / (count + self._norm[i])
        return found
