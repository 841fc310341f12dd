"""Event types → cover sheets: a booklet for each product, one page for each plan and basket; and the table of limits."""

from __future__ import annotations

import csv
import random
from pathlib import Path

from source.markup import Block, Document
from source.render_pdf import render_pdf

from making.events import OUTCOMES, PRODUCTS, EventType

INTRODUCTION = (
    "For the handlers of the claims desks. The wording in the member's booklet says what the contract is; these sheets say, "
    "for each plan and each basket, what the desk does with the cases that come in most. Each case is paid, not paid, or goes "
    "to the desk lead. What a sheet does not name goes to the desk lead. The sheets come out anew every spring; older ones "
    "are not to be used."
)


def clause_name(event: EventType, plan: str) -> str:
    """Return the name of the sheet, `Hearthwell Ember: Water`."""
    return f"{PRODUCTS[event.family][1]} {plan}: {event.basket}"


def document_name(family: str) -> str:
    """Return the booklet's path below the folder of documents."""
    return f"cover-sheets/{PRODUCTS[family][1].lower()}-cover-sheets.pdf"


def clause_line(label: str, outcome: str) -> str:
    """Return a line of a sheet; `outcome` is a letter of `OUTCOMES`."""
    return f"{label}: {OUTCOMES[outcome]}."


def _page(event: EventType, plan: str) -> list[Block]:
    at = event.plans.index(plan)
    lines = [clause_line(one.label, one.outcomes[at]) for one in event.circumstances if one.label]
    random.Random(f"{event.family} {plan} {event.basket}").shuffle(lines)
    limit = f"{event.title}. Limit EUR {event.limits[at]:,} for each event."
    return [Block("part", clause_name(event, plan)), Block("text", limit), *(Block("text", line) for line in lines)]


def write_sheets(events: list[EventType], documents: Path) -> None:
    """Render the booklets below `documents`."""
    for family, (product, _, plans) in PRODUCTS.items():
        title, footer = f"{product}: cover sheets", f"{product}, cover sheets for the desk, spring 2026"
        blocks = [Block("text", INTRODUCTION)]
        mine = [event for event in events if event.family == family]
        blocks += [block for plan in plans for event in mine for block in _page(event, plan)]
        target = documents / document_name(family)
        target.parent.mkdir(parents=True, exist_ok=True)
        render_pdf(Document(target.stem, title, "Desk rules by plan and basket, spring 2026", footer, blocks), target)


def write_limits(events: list[EventType], target: Path) -> None:
    """Write the limits of the sheets as a table."""
    with target.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(["product", "plan", "basket", "limit_eur"])
        for event in events:
            for plan, limit in zip(event.plans, event.limits, strict=True):
                writer.writerow([event.product, plan, event.basket, limit])
