"""Long answers and their known answers → cosines of their embeddings, by the expert's own embedder.

Enters: texts. Leaves: the cosine to the nearest known answer. It sees other words for the same thing, which token F1 does not;
it also finds a text near that says the opposite, so it decides nothing alone.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from doyen.embedding import Embedder


def nearest_cosines(embedder: Embedder, texts: Sequence[str], known: Sequence[Sequence[str]]) -> list[float]:
    """Return for each text the largest cosine, -1..1, to one of its known answers; every text is embedded once.

    Raises:
        ValueError: a text has no known answer.
    """
    if not all(known):
        raise ValueError("a text without known answers has no nearest one")
    different = list(dict.fromkeys([*texts, *(answer for answers in known for answer in answers)]))
    if not different:
        return []
    vectors = dict(zip(different, embedder.embed(different, kind="passage"), strict=True))
    return [
        round(float(max(np.dot(vectors[text], vectors[answer]) for answer in answers)), 4)
        for text, answers in zip(texts, known, strict=True)
    ]
