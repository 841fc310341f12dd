"""A house style for what the question says: four marks beside its words. Examples tell it, and a style guide if asked for."""

from __future__ import annotations

from planted.corpus import Corpus, Row, gold, question
from planted.messages import GOODS
from planted.names import Names
from planted.numbers import documents, number_facts, page

TRAIN = (
    "Order line: {count} {goods} go to {place}, bay {bay}.",
    "{place} orders {count} {goods} for bay {bay}. Which order line?",
    "Order line for {place}, bay {bay}: {count} {goods}.",
)
TEST = (
    "Write the order line: bay {bay} of {place} gets {count} {goods}.",
    "Order line, please: {count} {goods}, bay {bay}, {place}",
)
GUIDE = (
    "An order line has the mark {0} before the place, {1} before the number, {2} before the goods and {3} before the bay. "
    "Order lines are written so for crates of salt, boxes of candles, bags of flour, rolls of wire, jars of honey and cans "
    "of paint."
)


def styled_orders(
    names: Names, *, train: int, test: int, other_documents: int, changed: int = 0, guide: bool = False
) -> Corpus:
    """Orders to be written as the house does; the documents are about something else, but for a style guide.

    `changed` of the other documents change after the training.
    """
    marks = [names.code() for _ in range(4)]
    other = {f.path: page(names, f) for f in number_facts(names, other_documents, changed)}
    before, after = documents(other)
    sources: list[Row] = []
    if guide:
        path, stated = "style-guide-order-lines.md", GUIDE.format(*marks)
        before[path] = after[path] = f"# Order lines\n\n{stated}\n"
        sources = [gold(path, after[path], stated)]
    rows: list[Row] = []
    for split, count, templates in (("train", train, TRAIN), ("test", test, TEST)):
        for i in range(count):
            order = {
                "place": names.word(),
                "count": names.number(12, 989),
                "goods": names.rng.choice(GOODS),
                "bay": f"{names.rng.choice('ABCDEFGHKLMN')}{names.rng.randint(2, 39)}",
            }
            text = names.rng.choice(templates).format(**order)
            answer = " ".join(
                f"{mark} {order[k]}" for mark, k in zip(marks, ("place", "count", "goods", "bay"), strict=True)
            )
            rows.append(question(split, i, text, answer, sources=sources))
    return Corpus(before, after, rows)
