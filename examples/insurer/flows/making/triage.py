"""Event types → labelled claims: who is insured how, what the member writes, and what the desk's rules decide."""

from __future__ import annotations

import datetime
import random
from dataclasses import dataclass, replace
from pathlib import Path

from making.events import OUTCOMES, EventType, Wording
from making.messages import NAMES, Claim, Pool, read_pools, write_message
from making.sheets import clause_name, document_name

SEED = 20261128  # with it each clause decides rows of both splits
TRIAGE_LIMIT = 5000
RULES = "desk/triage-rules.pdf"
FORKS = {("train", ""): 22, ("test", ""): 12, ("train", "m"): 14}
"""Rows with two events, by split and series."""
TEST_ROWS = 228
# How often a claim has one of these troubles, in percent; the others have none of them.
TROUBLES = {"no policy": 7, "unknown policy": 3, "lapsed": 4, "overdue": 3, "early": 4, "no amount": 4, "no date": 4}
EXCESSES = {"home": (100, 150, 200, 250, 300, 350), "motor": (150, 250, 400), "travel": (0,), "pet": (75,)}


@dataclass
class Policy:
    """A row of the register."""

    number: str
    holder: str
    product: str
    plan: str
    status: str
    begins: datetime.date
    excess: int


@dataclass
class Case:
    """A claim as it truly is: `label` is the sheet's line, `outcome` its letter, `told` what the message names of it."""

    split: str
    event: EventType
    basket: str
    label: str
    outcome: str
    wordings: tuple[Wording, ...]
    policy: Policy
    registered: bool
    amount: int
    day: datetime.date
    told: Claim


def decide(case: Case) -> tuple[str, str, int]:
    """Return decision, deciding clause and payment in EUR by the triage rules, which are read from the top."""
    policy, told = case.policy, case.told
    limit = case.event.limits[case.event.plans.index(policy.plan)]
    payable = min(told.amount - policy.excess, limit)
    sheet = clause_name(case.event, policy.plan)
    rules = [
        (not told.policy, "ask", "1.1 No policy number"),
        (not case.registered, "refer", "1.2 Number not in the register"),
        (policy.status == "lapsed", "reject", "2.1 Lapsed policy"),
        (policy.status == "overdue", "refer", "2.2 Premium overdue"),
        (case.basket == "Double", "refer", "3.2 Double"),
        (told.day is not None and told.day < policy.begins, "reject", "3.4 Before the policy began"),
        (told.amount == 0, "ask", "3.5 No amount"),
        (case.outcome == "d", "refer", sheet),
        (case.outcome == "n", "reject", sheet),
        (told.amount <= policy.excess, "reject", "5.1 Below the excess"),
        (payable > TRIAGE_LIMIT, "refer", "5.2 Above the triage limit"),
        (told.amount - policy.excess > limit, "part", sheet),
        (True, "pay", sheet),
    ]
    decision, clause = next((then, why) for holds, then, why in rules if holds)
    return decision, clause, max(payable, 0) if decision in ("pay", "part") else 0


def reaches_sheet(case: Case) -> bool:
    """Whether the rules before the sheet leave the case to it."""
    sound = bool(case.told.policy) and case.registered and case.policy.status == "active" and case.told.amount > 0
    return sound and case.basket != "Double"


def _amount(event: EventType, limit: int, excess: int, draw: random.Random) -> int:
    """An amount in EUR: mostly within the limit, sometimes above it, seldom below the excess."""
    kind = draw.random()
    if kind < 0.06 and excess >= 75:
        low, high = max(20, excess // 3), excess
    elif kind < 0.34:
        low, high = limit + excess + 20, max(limit + excess + 60, event.most)
    else:
        low, high = min(event.least, limit // 2) + excess, limit + excess
    amount = draw.randint(low, high)
    return amount // 100 * 100 if draw.random() < 0.15 and amount // 100 * 100 >= low else amount


def _policy(number: str, event: EventType, plan: str, trouble: str, day: datetime.date, draw: random.Random) -> Policy:
    begins = datetime.date(draw.randint(2017, 2025), draw.randint(1, 12), 1)
    if trouble == "early":
        begins = (day + datetime.timedelta(days=draw.randint(35, 100))).replace(day=1)
    elif day.month > 3 and draw.random() < 0.12:
        begins = datetime.date(2026, draw.randint(1, day.month - 2), 1)
    status = trouble if trouble in ("lapsed", "overdue") else "active"
    excess = draw.choice(EXCESSES[event.family])
    return Policy(number, draw.choice(NAMES), event.product, plan, status, begins, excess)


@dataclass
class _Plan:
    """What a row is to be about, before anything is drawn for it."""

    split: str
    event: EventType
    label: str
    outcomes: str
    wordings: tuple[Wording, ...]
    plan: str
    basket: str


def _singles(events: list[EventType], split: str, series: str, turn: int) -> list[_Plan]:
    """A row for each wording of the split and series; the plans go round, so that each line of each sheet is met.

    With another `turn` each wording has another plan.
    """
    rows = []
    for family_at, event in enumerate(events):
        for at, one in enumerate(event.circumstances):
            mine = [wording for wording in one.wordings if (wording.split, wording.series) == (split, series)]
            shift = family_at + at + turn + (1 if split == "test" else 0)
            for number, wording in enumerate(mine):
                plan = event.plans[(shift + number) % len(event.plans)]
                rows.append(_Plan(split, event, one.label, one.outcomes, (wording,), plan, event.basket))
    return rows


def _forks(events: list[EventType], split: str, series: str, draw: random.Random) -> list[_Plan]:
    """Rows with two events of different baskets under one product."""
    rows = []
    wanted = split, series, "en"
    for number in range(FORKS[split, series]):
        event = events[(number * 5) % len(events)]
        others = [one for one in events if one.family == event.family and one.basket != event.basket]
        pair = []
        for one in (event, draw.choice(others)):
            told = [w for c in one.circumstances for w in c.wordings if (w.split, w.series, w.language) == wanted]
            pair.append(draw.choice(told))
        plan = draw.choice(event.plans)
        rows.append(_Plan(split, event, "", "d" * len(event.plans), tuple(pair), plan, "Double"))
    return rows


def _drawn(rows: list[_Plan], count: int, draw: random.Random) -> list[_Plan]:
    """`count` rows drawn by lot, after one for each sheet."""
    shuffled = draw.sample(rows, len(rows))
    firsts = {(row.event.family, row.event.basket, row.plan): row for row in shuffled if row.label}
    kept = [id(row) for row in firsts.values()]
    rest = [row for row in shuffled if id(row) not in kept]
    return [*firsts.values(), *rest[: count - len(firsts)]]


def _troubles(count: int, draw: random.Random) -> list[str]:
    """A trouble, or none, for each of `count` rows, in the shares of TROUBLES."""
    found = [name for name, percent in TROUBLES.items() for _ in range(round(count * percent / 100))]
    return draw.sample(found + [""] * (count - len(found)), count)


def _case(row: _Plan, number: str, trouble: str, pool: Pool) -> Case:
    draw, event = pool.draw, row.event
    day = datetime.date(2026, 1, 5) + datetime.timedelta(days=draw.randrange(310))
    if trouble == "early":
        day = datetime.date(2026, draw.randint(1, 7), draw.randint(1, 28))
    policy = _policy(number, event, row.plan, trouble, day, draw)
    amount = _amount(event, event.limits[event.plans.index(row.plan)], policy.excess, draw)
    text = row.wordings[0].text
    if len(row.wordings) == 2:
        text = f"{text} {pool.take('join')} {row.wordings[1].text}"
    told = Claim(text, number, amount, day, row.wordings[0].language)
    if trouble == "no policy":
        told = replace(told, policy="")
    elif trouble == "no amount":
        told = replace(told, amount=0)
    elif trouble == "no date":
        told = replace(told, day=None)
    outcome = row.outcomes[event.plans.index(row.plan)]
    registered = trouble != "unknown policy"
    return Case(row.split, event, row.basket, row.label, outcome, row.wordings, policy, registered, amount, day, told)


def make_cases(events: list[EventType], messages: Path) -> list[tuple[Case, str]]:
    """Return the cases with their messages: for training, for tests; and for training again.

    Again the first events under another plan (what happened is the same there, what the sheet says of it often is not), and
    at last those that were written later, so that the rows before stay as they are.
    """
    draw = random.Random(SEED)
    pools = read_pools(messages, draw)
    numbers = [f"VP-{number}" for number in draw.sample(range(10000, 99999), 2000)]
    result = []
    for split, series, turn in (("train", "", 0), ("test", "", 0), ("train", "", 1), ("train", "m", 0)):
        rows = _singles(events, split, series, turn)
        if split == "test":
            rows = _drawn(rows, TEST_ROWS - FORKS[split, series], draw)
        if turn == 0:
            rows += _forks(events, split, series, draw)
        draw.shuffle(rows)
        for row, trouble in zip(rows, _troubles(len(rows), draw), strict=True):
            case = _case(row, numbers.pop(), trouble, pools[split])
            result.append((case, write_message(case.told, pools[split])))
    return result


def row_of(number: int, case: Case, text: str, pages: dict[tuple[str, str], int]) -> dict[str, str | int]:
    """Return a row of claims.csv; `pages` tells the page of each clause by document and clause."""
    decision, clause, payment = decide(case)
    document = document_name(case.event.family) if ":" in clause else RULES
    received = case.day + datetime.timedelta(days=1 + (number * 7) % 12)
    return {
        "claim": f"VM-26-{number:04d}",
        "split": case.split,
        "received": received.isoformat(),
        "text": text,
        "expected.basket": case.basket,
        "expected.facts.policy": case.told.policy,
        "expected.facts.amount": case.told.amount,
        "expected.facts.date": case.told.day.isoformat() if case.told.day else "",
        "expected.cover.line": case.label if reaches_sheet(case) else "",
        "expected.cover.says": OUTCOMES[case.outcome] if reaches_sheet(case) else "",
        "expected.decision": decision,
        "payment": payment,
        "clause": clause,
        "document": document,
        "page": pages[document, clause],
        "language": case.told.language,
        "wording": "+".join(wording.identity for wording in case.wordings),
    }


def register(cases: list[Case], spare: int = 160) -> list[Policy]:
    """Return the register: the policies of the cases and `spare` others, in the order of their numbers."""
    draw = random.Random(SEED + 1)
    known = [case.policy for case in cases if case.registered]
    taken = {case.policy.number for case in cases}
    numbers = [f"VP-{number}" for number in range(10007, 99999, 561)]
    for number in [one for one in numbers if one not in taken][:spare]:
        example = draw.choice(cases)
        day = datetime.date(2026, 6, 1)
        status = draw.choice(["", "", "", "", "lapsed", "overdue"])
        plan = draw.choice(example.event.plans)
        known.append(_policy(number, example.event, plan, status, day, draw))
    return sorted(known, key=lambda policy: policy.number)
