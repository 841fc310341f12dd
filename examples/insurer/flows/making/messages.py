"""Facts of a claim → the member's message: frames and sentences of one split, filled, shuffled and sometimes misspelt."""

from __future__ import annotations

import datetime
import random
import re
from dataclasses import dataclass
from pathlib import Path

MONTHS = "January February March April May June July August September October November December".split()
NAMES = (
    "A. Brenner/Tomas Vale/Mrs Ockley/Jonna Rask/P. Harrow/Lene Dahl/Ruben Castell/I. Moorcroft/Signe Holt/"
    "Dr Wendt/Oskar Penrose/Mia Lundy/F. Achard/Bea Tolliver/Karl Immen/Noor Ashdown/E. Quill/Yann Perrec"
).split("/")
_TEENS = {8: "eight", 9: "nine", 11: "eleven", 12: "twelve", 14: "fourteen", 15: "fifteen", 18: "eighteen"}
_NUMBER_WORDS = {"hundred", *_TEENS.values()}


@dataclass(frozen=True)
class Claim:
    """What a message tells; `policy` and `day` are empty and `amount` is 0 where the member leaves them out."""

    event: str
    policy: str
    amount: int
    day: datetime.date | None
    language: str = "en"


class Pool:
    """Sentences and frames of one split, by kind, each drawn in turn from a shuffled pack."""

    def __init__(self, lines: dict[str, list[str]], draw: random.Random) -> None:
        """Keep the lines; `draw` shuffles."""
        self.lines, self.draw = lines, draw
        self.packs: dict[str, list[str]] = {}

    def take(self, kind: str) -> str:
        """Return the next line of a kind."""
        if not self.packs.get(kind):
            self.packs[kind] = self.draw.sample(self.lines[kind], len(self.lines[kind]))
        return self.packs[kind].pop()


def read_pools(path: Path, draw: random.Random) -> dict[str, Pool]:
    """Read the file of sentences: '@' opens a kind, 't' and 'h' lines are for training and test."""
    lines: dict[str, dict[str, list[str]]] = {"train": {}, "test": {}}
    kind = ""
    for line in path.read_text(encoding="utf-8").splitlines():
        mark, _, rest = line.partition(" ")
        if mark == "@":
            kind = rest
        elif rest:
            lines["train" if mark == "t" else "test"].setdefault(kind, []).append(rest)
    return {split: Pool(found, draw) for split, found in lines.items()}


def amount_text(amount: int, language: str, draw: random.Random) -> str:
    """Return the amount as members write it."""
    if language != "en":
        return draw.choice([f"{amount} Euro" if language == "de" else f"{amount} euros", f"{amount},00 €"])
    hundreds = amount // 100
    if amount % 100 == 0 and hundreds in _TEENS and draw.random() < 0.5:
        return f"{_TEENS[hundreds]} hundred euros"
    forms = [f"EUR {amount:,}", f"{amount} euros", f"{amount:,} euros", f"€{amount}", f"{amount} EUR"]
    forms += [f"EUR {amount:,}.00", f"{amount},- euros", f"€ {amount:,}", str(amount)]
    return draw.choice(forms)


def date_text(day: datetime.date, language: str, draw: random.Random) -> str:
    """Return the date as members write it; numbers alone are always day, month, year."""
    if language != "en":
        return f"{day.day:02d}.{day.month:02d}.{day.year}"
    month = MONTHS[day.month - 1]
    suffix = {1: "st", 2: "nd", 3: "rd"}.get(day.day % 10 if day.day not in (11, 12, 13) else 0, "th")
    forms = [f"{day.day} {month}", f"{month} {day.day}{suffix}", f"the {day.day}{suffix} of {month}", day.isoformat()]
    forms += [
        f"{day.day:02d}.{day.month:02d}.{day.year}",
        f"{day.day}/{day.month}/{day.year}",
        f"{day.day} {month[:3]}",
    ]
    return draw.choice([*forms, f"{day.day} {month} {day.year}"])


def policy_text(policy: str, draw: random.Random) -> str:
    """Return the policy number as members write it."""
    digits = policy[-5:]
    forms = [policy, policy, f"VP {digits}", f"VP{digits}", f"vp-{digits}", f"VP-{digits[:2]} {digits[2:]}", digits]
    return draw.choice([*forms, f"VP/{digits}"])


def _slots(claim: Claim, pool: Pool) -> dict[str, str]:
    """The values of the small slots; those that the member leaves out are missing."""
    draw, language = pool.draw, claim.language
    slots = {"e": claim.event, "n": draw.choice(NAMES)}
    if claim.policy:
        slots["p"] = policy_text(claim.policy, draw)
    if claim.amount:
        slots["a"] = amount_text(claim.amount, language, draw)
    if claim.day:
        slots["d"] = date_text(claim.day, language, draw)
    return slots


def _fill(part: str, slots: dict[str, str]) -> str:
    """The part with its slots filled, or nothing where one is missing."""
    if any(name not in slots for name in re.findall(r"\{([a-z])\}", part)):
        return ""
    return re.sub(r"\{([a-z])\}", lambda found: slots[found[1]], part)


def _expanded(frame: str, claim: Claim, pool: Pool) -> list[str]:
    """The frame's parts, with a sentence in place of each large slot."""
    kinds = {"P": "policy", "A": "amount", "D": "date", "O": "opener", "N": "noise", "C": "closer"}
    parts = []
    for part in frame.split("|"):
        found = re.fullmatch(r"\{([A-Z])\}", part)
        if not found:
            parts.append(part)
        elif claim.language == "en" or found[1] in "PADC":
            parts.append(pool.take(kinds[found[1]] + ("" if claim.language == "en" else f".{claim.language}")))
    return parts


def _misspelt(text: str, draw: random.Random) -> str:
    """The text with two letters of some long words exchanged."""
    words = text.split(" ")
    for at, word in enumerate(words):
        if len(word) > 5 and word.isalpha() and word.islower() and draw.random() < 0.12 and word not in _NUMBER_WORDS:
            cut = draw.randrange(1, len(word) - 2)
            words[at] = word[:cut] + word[cut + 1] + word[cut] + word[cut + 2 :]
    return " ".join(words)


def write_message(claim: Claim, pool: Pool) -> str:
    """Return a message that tells the claim, in a frame and with sentences of the pool's split."""
    frame = (
        pool.take("frame")
        if claim.language == "en"
        else pool.draw.choice(["{e}|{D}|{A}|{P}|{C}", "{P}|{e}|{A}|{D}|{C}"])
    )
    slots = _slots(claim, pool)
    parts = [_fill(part, slots) for part in _expanded(frame, claim, pool)]
    text = pool.draw.choice(["\n", " ", " "]).join(part for part in parts if part)
    style = pool.draw.random()
    if style < 0.15:
        return _misspelt(text, pool.draw)
    if style < 0.22 and claim.language == "en":
        return text.lower()
    return text.upper() if "I AM VERY ANGRY" in text and style < 0.5 else text
