"""A house format that is filled from documents which change: the format has to be learned, the content to be read."""

from __future__ import annotations

from collections.abc import Callable

from planted.corpus import Corpus, Row, gold, question
from planted.names import Names

LOTS = ("Its next lot is number {lot}.", "Lot {lot} is waiting there.", "The lot that leaves next is {lot}.")
BAYS = ("It is loaded at bay {bay}.", "Loading takes place at bay {bay}.", "The bay in use is {bay}.")
CARRIERS = (
    "{carrier} carries it.",
    "The carrier is {carrier}.",
    "It goes out with the carrier {carrier}.",
)
ASKED_TRAIN = ("Release slip for {name}", "Write the release slip of {name}.", "{name}: release slip, please.")
ASKED_TEST = (
    "Please give the release slip for {name}.",
    "Make out a release slip: {name}",
    "Slip of release for {name}",
)
FORMAT = "slip {name} / lot {lot} / bay {bay} / carrier {carrier}"


def changing_slips(names: Names, *, train: int, test: int, changed: float) -> Corpus:
    """Works whose slips are asked for; a share of the asked ones has another lot, bay and carrier after the training."""
    before: dict[str, str] = {}
    after: dict[str, str] = {}
    rows: list[Row] = []
    for split, count in (("train", train), ("test", test)):
        templates = ASKED_TRAIN if split == "train" else ASKED_TEST
        for i in range(count):
            name = names.pair()
            path = f"works-{name.lower().replace(' ', '-')}.md"
            write = _writer(names, name)
            now, once = _contents(names), _contents(names)
            is_changed = split == "test" and i < round(test * changed)
            after[path], stated = write(now)
            before[path] = write(once)[0] if is_changed else after[path]
            former = [FORMAT.format(name=name, **once)] if is_changed else []
            asked = names.rng.choice(templates).format(name=name)
            source = gold(path, after[path], stated)
            answer = FORMAT.format(name=name, **now)
            rows.append(question(split, i, asked, answer, sources=[source], former=former))
    return Corpus(before, after, rows)


def _contents(names: Names) -> dict[str, str]:
    bay = f"{names.rng.choice('ABCDEFGHKLMNPRSTUVWXYZ')}{names.rng.randint(2, 39)}"
    return {"lot": str(names.number(110, 989)), "bay": bay, "carrier": names.pair()}


def _writer(names: Names, name: str) -> Callable[[dict[str, str]], tuple[str, str]]:
    """Return contents → (document, its evidence): a works' document is always worded alike."""
    lot, bay, carrier = (names.rng.choice(templates) for templates in (LOTS, BAYS, CARRIERS))
    head = f"# Works {name}\n\n{name} is one of the works of {names.word()}. "

    def write(contents: dict[str, str]) -> tuple[str, str]:
        stated = " ".join((lot, bay, carrier)).format(**contents)
        return f"{head}{stated}\n", stated

    return write
