"""Questions that hold their own answer, a number in plain sight: the model needs neither documents nor training."""

from __future__ import annotations

from planted.corpus import Corpus, Row, question
from planted.names import Names
from planted.numbers import documents, number_facts, page

GOODS = ("crates of salt", "boxes of candles", "bags of flour", "rolls of wire", "jars of honey", "cans of paint")
PAPERS = ("note", "list", "letter", "card", "order", "memo")
TRAIN = (
    "The {paper} says {count} {goods} for {place}. How many {goods} does the {paper} say?",
    "The {paper} of {who} says {count} {goods}. How many {goods} are on the {paper}?",
)
TEST = (
    "The {paper} of {who} says: {count} {goods} for {place}. How many {goods} are that?",
    "The {paper} of {who} asks for {count} {goods}. How many {goods} does the {paper} ask for?",
    "{place} wrote a {paper}. The {paper} says {count} {goods}. How many {goods} does the {paper} say?",
)


def messages(names: Names, *, train: int, test: int, other_documents: int) -> Corpus:
    """Messages with a number, which is asked for; the documents are about something else."""
    other = {f.path: page(names, f) for f in number_facts(names, other_documents, 0)}
    before, after = documents(other)
    rows: list[Row] = []
    for split, count, templates in (("train", train, TRAIN), ("test", test, TEST)):
        for i in range(count):
            number = str(names.number(12, 989))
            text = names.rng.choice(templates).format(
                who=names.word(),
                place=names.word(),
                paper=names.rng.choice(PAPERS),
                goods=names.rng.choice(GOODS),
                count=number,
            )
            rows.append(question(split, i, text, number, kind="number"))
    return Corpus(before, after, rows)
