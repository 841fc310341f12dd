"""Event files → event types: what may happen, how each plan decides it, and in which words members tell it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

OUTCOMES = {"p": "paid", "n": "not paid", "d": "desk lead"}
PRODUCTS = {
    "home": ("Hearthwell Home", "Hearthwell", ("Ember", "Hearth", "Beacon")),
    "motor": ("Tollgate Motor", "Tollgate", ("Part", "Full")),
    "travel": ("Fernstep Travel", "Fernstep", ("Twig", "Branch")),
    "pet": ("Whiskerstone Pet", "Whiskerstone", ("Pebble", "Cobble", "Boulder")),
}
BASKETS = ("Water", "Theft", "Fire", "Storm", "Glass", "Accident", "Animals", "Illness", "Cancelled", "Lost", "Double")


@dataclass(frozen=True)
class Wording:
    """One way in which a member tells an event; `split` is train or test, `series` "m" of those written later, `language` en, de or fr."""

    identity: str
    split: str
    series: str
    language: str
    text: str


@dataclass
class Circumstance:
    """A line of the cover sheets: its outcomes (a letter a plan) and its wordings. Without a label: named by no sheet."""

    label: str
    outcomes: str
    wordings: list[Wording] = field(default_factory=list)


@dataclass
class EventType:
    """The events of one basket under one product: amounts from `least` to `most` EUR, a limit a plan in EUR."""

    family: str
    basket: str
    title: str
    least: int
    most: int
    limits: tuple[int, ...]
    circumstances: list[Circumstance] = field(default_factory=list)

    @property
    def product(self) -> str:
        """The product's name in the register."""
        return PRODUCTS[self.family][0]

    @property
    def plans(self) -> tuple[str, ...]:
        """The plans of the product, the least first."""
        return PRODUCTS[self.family][2]


def _event_type(family: str, line: str) -> EventType:
    basket, title, amounts, limits = line[2:].split(" :: ")
    least, most = map(int, amounts.split())
    return EventType(family, basket, title, least, most, tuple(map(int, limits.split())))


def _circumstance(line: str, event: EventType) -> Circumstance:
    label, _, outcomes = line[2:].partition(" :: ")
    if label == "-":
        return Circumstance("", "d" * len(event.plans))
    if len(outcomes) != len(event.plans) or set(outcomes) - set(OUTCOMES):
        raise ValueError(f"{event.family}/{event.basket}: {label!r} needs an outcome for each of {event.plans}")
    return Circumstance(label, outcomes)


def read_events(path: Path) -> list[EventType]:
    """Read an event file: '@' opens a type, '=' a circumstance, 't' and 'h' lines are wordings for training and test.

    A prefix such as `tde` is a wording in another language, which names its circumstance after ` :: `. 'm' lines are for
    training and were written later: they are numbered by themselves, so that the others keep their numbers.
    """
    events: list[EventType] = []
    numbers = {"": 0, "m": 0}
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("@ "):
            events.append(_event_type(path.stem, line))
        elif line.startswith("= "):
            events[-1].circumstances.append(_circumstance(line, events[-1]))
        elif found := re.fullmatch(r"([thm])(de|fr)? (.+)", line):
            mark, language, text = found.groups()
            series = "m" if mark == "m" else ""
            numbers[series] += 1
            target = events[-1].circumstances[-1]
            if language:
                text, label = text.split(" :: ")
                target = next(one for one in events[-1].circumstances if one.label == label)
            identity = f"{path.stem}-{series}{numbers[series]:03d}"
            target.wordings.append(
                Wording(identity, "test" if mark == "h" else "train", series, language or "en", text)
            )
        elif line.strip():
            raise ValueError(f"{path.name}: line not understood: {line}")
    return events


def all_events(folder: Path) -> list[EventType]:
    """All event types of the products, in the order of `PRODUCTS`."""
    return [event for family in PRODUCTS for event in read_events(folder / f"{family}.txt")]
