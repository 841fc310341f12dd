"""Stable house terms, always the same: log lines in invented codes, tickets for desks with invented names.

They are learned from examples, and no document tells of them.
"""

from __future__ import annotations

from collections.abc import Mapping
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
DESKS: Mapping[str, tuple[str, ...]] = {
    "heating": ("radiator", "boiler", "chimney", "thermostat"),
    "post": ("parcel", "letter", "stamp", "envelope"),
    "garden": ("hedge", "lawn", "flower bed", "apple tree"),
    "kitchen": ("frying pan", "menu", "kettle", "soup"),
    "wages": ("salary", "overtime", "pay slip", "pension"),
}
TROUBLES = ("is missing", "came too late", "is not as agreed", "must be seen to", "has been damaged", "is wrong again")
TICKETS_TRAIN = (
    "{who} says: the {thing} {trouble}. Which desk?",
    "Desk for this ticket: {thing} {trouble} ({who})",
    "The {thing} {trouble}, writes {who}. Whose desk is it?",
)
TICKETS_TEST = (
    "Ticket of {who}: our {thing} {trouble}. Give the desk.",
    "To which desk goes this: '{thing} {trouble}', from {who}?",
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


def desks_alone(names: Names, *, train: int, test: int, other_documents: int, changed: int = 0) -> Corpus:
    """Tickets for desks with invented names, by what the ticket is about; the documents are about something else.

    `changed` of the documents change after the training.
    """
    desks = {field: names.word() for field in DESKS}
    other = {f.path: page(names, f) for f in number_facts(names, other_documents, changed)}
    before, after = documents(other)
    cases = [(field, thing, trouble) for field, things in DESKS.items() for thing in things for trouble in TROUBLES]
    names.rng.shuffle(cases)
    if train + test > len(cases):
        raise ValueError(f"{train + test} tickets of {len(cases)}")
    rows: list[Row] = []
    for i, (field, thing, trouble) in enumerate(cases[: train + test]):
        split = "train" if i < train else "test"
        template = names.rng.choice(TICKETS_TRAIN if split == "train" else TICKETS_TEST)
        text = template.format(who=names.word(), thing=thing, trouble=trouble)
        rows.append(question(split, len(rows) if split == "train" else i - train, text, desks[field]))
    return Corpus(before, after, rows)
