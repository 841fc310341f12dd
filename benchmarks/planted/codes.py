"""Stable house terms: what a line says in plain words is written in three invented codes, always the same ones.

They are learned from examples, and no document tells of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

from planted.corpus import Corpus, Row, question
from planted.names import Names
from planted.numbers import documents, number_facts, page

DEVICES = ("pump", "lift", "oven", "mixer", "gate")
PLACES = ("cellar", "yard", "attic", "kitchen", "workshop")
STATES = ("is leaking", "makes a noise", "does not start", "runs hot", "stands still", "smells of smoke")
ASKED_TRAIN = (
    "Log line: the {device} in the {place} {state}.",
    "Code this: {place}, the {device} {state}.",
    "House code? The {device} {state} ({place}).",
    "{reporter} writes that the {device} in the {place} {state}. Log line?",
)
ASKED_TEST = (
    "Write the log line: in the {place} a {device} {state}.",
    "The {device} {state}, says {reporter} from the {place}. Code it.",
    "Please log for {reporter}: {device} in the {place} {state}",
)


@dataclass(frozen=True, slots=True)
class CodeBook:
    """Plain word → code of the house, of devices, places and states."""

    codes: dict[str, str]

    def line(self, device: str, place: str, state: str) -> str:
        """Return a log line: the three codes."""
        return f"{self.codes[device]} {self.codes[place]} {self.codes[state]}"


def code_book(names: Names) -> CodeBook:
    """Draw a code for each word."""
    return CodeBook({word: names.code() for word in (*DEVICES, *PLACES, *STATES)})


def _cases(names: Names, train: int, test: int) -> dict[str, list[tuple[str, str, str]]]:
    """Draw (device, place, state) without repeats, apart for the two splits."""
    cases = list(product(DEVICES, PLACES, STATES))
    names.rng.shuffle(cases)
    if train + test > len(cases):
        raise ValueError(f"{train + test} cases of {len(cases)}")
    return {"train": cases[:train], "test": cases[train : train + test]}


def _lines(names: Names, book: CodeBook, train: int, test: int) -> list[Row]:
    rows: list[Row] = []
    for split, cases in _cases(names, train, test).items():
        templates = ASKED_TRAIN if split == "train" else ASKED_TEST
        for i, (device, place, state) in enumerate(cases):
            text = names.rng.choice(templates).format(device=device, place=place, state=state, reporter=names.word())
            rows.append(question(split, i, text, book.line(device, place, state)))
    return rows


def codes_alone(names: Names, *, train: int, test: int, other_documents: int) -> Corpus:
    """Log lines in codes that no document tells; the documents are about something else."""
    other = {f.path: page(names, f) for f in number_facts(names, other_documents, 0)}
    before, after = documents(other)
    return Corpus(before, after, _lines(names, code_book(names), train, test))
