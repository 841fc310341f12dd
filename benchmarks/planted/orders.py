"""A house style for what the question says: four marks around its words. A style guide tells it; examples do as well."""

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


def styled_orders(names: Names, *, train: int, test: int, other_documents: int) -> Corpus:
    """Orders to be written as the house does; the style guide stands among documents about something else."""
    marks = [names.code() for _ in range(4)]
    other = {f.path: page(names, f) for f in number_facts(names, other_documents, 0)}
    before, after = documents(other)
    path, stated = "style-guide-order-lines.md", GUIDE.format(*marks)
    before[path] = after[path] = f"# Order lines\n\n{stated}\n"
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
            rows.append(question(split, i, text, answer, sources=[gold(path, after[path], stated)]))
    return Corpus(before, after, rows)
