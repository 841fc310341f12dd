"""Longer documents: sentences of no consequence at the end of each, so that reading several takes time."""

from __future__ import annotations

import dataclasses

from planted.corpus import Corpus
from planted.names import Names

SENTENCES = (
    "The yard was paved anew in the year of the long rain.",
    "A bell is rung when the gate is closed for the night.",
    "The walls are of grey stone and the roof is of slate.",
    "There is a bench by the door for those who have to wait.",
    "Letters are taken in at the window beside the stairs.",
    "The path from the river is steep, and it is swept each morning.",
    "In winter the lamps are lit early and the stove burns all day.",
    "The old well in the middle is covered with a wooden lid.",
    "Visitors leave their coats in the room on the left.",
    "The garden behind it belongs to the people next door.",
    "Swallows nest under the eaves, and nobody drives them away.",
    "The clock over the entrance is a little slow, as everyone knows.",
    "Tea is made at noon, and whoever is there may have a cup.",
    "The carts stand in a row along the wall when they are not in use.",
    "Its signboard was painted by a pupil of the village school.",
    "The cellar stays dry even when the meadows are under water.",
    "A map of the surroundings hangs in the hall, without a date.",
    "The keys are handed over at the end of each shift.",
)


def with_prose(corpus: Corpus, names: Names, sentences: int) -> Corpus:
    """Append a paragraph of `sentences` to each document, the same before and after its change."""
    told = {path: " ".join(names.rng.sample(SENTENCES, sentences)) for path in sorted({*corpus.before, *corpus.after})}
    longer = (
        {path: f"{text}\n{told[path]}\n" for path, text in side.items()} for side in (corpus.before, corpus.after)
    )
    before, after = longer
    return dataclasses.replace(corpus, before=before, after=after)
