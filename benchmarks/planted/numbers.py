"""Many facts, each a number in a short document of its own; some change after the training.

What is asked cannot be known without the documents, and a number is right or wrong in whatever words it stands: so only
reading helps.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from planted.corpus import Corpus, Row, gold, question
from planted.names import Names

SITES = ("depot", "clinic", "harbour", "mill", "quarry", "library", "dairy", "garage")
PROPERTIES = (
    ("weekly quota", "crates", 120, 980),
    ("fuel reserve", "barrels", 200, 950),
    ("yearly budget", "crowns", 1200, 9800),
    ("shelf limit", "kilos", 60, 900),
    ("visitor limit", "persons", 30, 400),
    ("daily output", "litres", 110, 990),
)
STATEMENTS = (
    "The {what} of {site} {name} is {value} {unit}.",
    "At {site} {name} the {what} is {value} {unit}.",
    "{Site} {name} has a {what} of {value} {unit}.",
)
QUESTIONS = (
    "What is the {what} of {site} {name}?",
    "What is the current {what} of {site} {name}?",
    "How high is the {what} of {site} {name}?",
    "As for {site} {name}, what is the {what}?",
    "What is the {what} for {site} {name} now?",
    "How large is the {what} of {site} {name}?",
    "What is the {what} at {site} {name}?",
)
OPENINGS = (
    "It stands by the {a} canal and is led by {b}.",
    "{b} runs it, with an office in {a} street.",
    "The house in {a} belongs to the {b} group.",
    "It was built by {b} for the people of {a}.",
)
CLOSINGS = (
    "Letters go to the porter at the {a} gate.",
    "The keys hang with the night watch of {a}.",
    "Its colours are those of the {a} valley.",
    "On feast days it opens with the bells of {a}.",
)


@dataclass(frozen=True, slots=True)
class Fact:
    """A number of a site; `former` is what it was at the training, None where it was not there or is as it was."""

    site: str
    name: str
    what: str
    unit: str
    value: int
    former: int | None = None

    @property
    def path(self) -> str:
        """The document that states it."""
        return f"{self.site}-{self.name.lower().replace(' ', '-')}.md"

    def filled(self, template: str, value: int | None = None) -> str:
        """Return a template with the fact in it."""
        return template.format(
            site=self.site,
            Site=self.site.capitalize(),
            name=self.name,
            what=self.what,
            unit=self.unit,
            value=self.value if value is None else value,
        )


def number_facts(names: Names, count: int, changed: int) -> list[Fact]:
    """Draw facts; the first `changed` of them had another value."""
    found = []
    for i in range(count):
        what, unit, low, high = names.rng.choice(PROPERTIES)
        value = names.number(low, high)
        former = names.number(low, high, apart_from=value) if i < changed else None
        found.append(Fact(names.rng.choice(SITES), names.pair(), what, unit, value, former))
    return found


@dataclass(frozen=True, slots=True)
class Page:
    """A fact's document: its text at both times, and the sentence that states the fact."""

    before: str
    after: str
    stated_before: str
    stated: str


def page(names: Names, fact: Fact) -> Page:
    """Write the document of a fact: a heading, a sentence before, the fact, a sentence after."""
    statement = names.rng.choice(STATEMENTS)
    opening = names.rng.choice(OPENINGS).format(a=names.word(), b=names.pair())
    closing = names.rng.choice(CLOSINGS).format(a=names.word())
    stated = fact.filled(statement)
    stated_before = stated if fact.former is None else fact.filled(statement, fact.former)
    head = f"# {fact.site.capitalize()} {fact.name}\n\n{opening} "
    return Page(f"{head}{stated_before} {closing}\n", f"{head}{stated} {closing}\n", stated_before, stated)


def documents(pages: dict[str, Page], absent_before: Collection[str] = ()) -> tuple[dict[str, str], dict[str, str]]:
    """Return path → text at the training and afterwards."""
    before = {path: p.before for path, p in pages.items() if path not in absent_before}
    return before, {path: p.after for path, p in pages.items()}


def changing_numbers(names: Names, *, train: int, test: int, changed: float) -> Corpus:
    """Sites of which some are trained on and others asked about; a share of the latter's numbers changes in between."""
    asked = number_facts(names, test, round(test * changed))
    learned = number_facts(names, train, 0)
    pages = {f.path: page(names, f) for f in [*asked, *learned]}
    before, after = documents(pages)
    return Corpus(before, after, _rows(names, "train", learned, pages) + _rows(names, "test", asked, pages))


def new_numbers(names: Names, *, train: int, test: int, known: int) -> Corpus:
    """Sites whose documents come after the training, beside `known` ones that were there; few examples."""
    asked, learned = number_facts(names, test, 0), number_facts(names, max(train, known), 0)
    pages = {f.path: page(names, f) for f in [*asked, *learned]}
    before, after = documents(pages, {f.path for f in asked})
    return Corpus(before, after, _rows(names, "train", learned[:train], pages) + _rows(names, "test", asked, pages))


def stale_numbers(names: Names, *, facts: int, phrasings: int, test: int) -> Corpus:
    """Few facts, each trained on in several phrasings, all changed afterwards and asked in phrasings kept apart."""
    found = number_facts(names, facts, facts)
    pages = {f.path: page(names, f) for f in found}
    before, after = documents(pages)
    learned, apart = QUESTIONS[:phrasings], QUESTIONS[phrasings:]
    rows: list[Row] = []
    for template in learned:
        for f in found:
            source = gold(f.path, before[f.path], pages[f.path].stated_before)
            rows.append(
                question("train", len(rows), f.filled(template), str(f.former), kind="number", sources=[source])
            )
    asked = [(f, template) for template in apart for f in found][:test]
    rows += [_asked("test", i, f, template, pages[f.path]) for i, (f, template) in enumerate(asked)]
    return Corpus(before, after, rows)


def _rows(names: Names, split: str, facts: list[Fact], pages: dict[str, Page]) -> list[Row]:
    templates = QUESTIONS[:4] if split == "train" else QUESTIONS[4:]
    return [_asked(split, i, f, names.rng.choice(templates), pages[f.path]) for i, f in enumerate(facts)]


def _asked(split: str, number: int, fact: Fact, template: str, written: Page) -> Row:
    source = gold(fact.path, written.after, written.stated)
    former = [] if fact.former is None else [str(fact.former)]
    return question(
        split, number, fact.filled(template), str(fact.value), kind="number", sources=[source], former=former
    )
