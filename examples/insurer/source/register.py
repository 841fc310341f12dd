"""The claims register: invented rows drawn by a fixed arithmetic rule, so that every run gives the same rows."""

from __future__ import annotations

import csv
import datetime
from collections.abc import Iterator
from pathlib import Path

HEADER = ["claim_no", "product", "date_of_loss", "date_notified", "place", "cause"]
HEADER += ["status", "reserve", "paid", "handler"]
ROWS = 96
PLACES = ["Corriden", "Saltby Quay", "Hollin", "Merrowford", "Teasel Cross", "Upper Brann", "Lower Brann", "Fennick"]
LINES: list[tuple[str, list[str], int, list[str]]] = [
    ("Hearthwell Home", ["escape of water", "storm", "burglary", "fire"], 6400, ["Ida Brockholt", "Jasper Lind"]),
    ("Tollgate Motor", ["collision", "glass", "marten bite", "vandalism"], 5200, ["Corin Adlam", "Petra Voss"]),
    ("Skiffguard Small Craft", ["stranding", "theft of outboard", "storm"], 7800, ["Nils Ebbesen"]),
    ("Orchardline", ["hail", "spring frost", "storm"], 18600, ["Greta Moorfoot"]),
    ("Counterhand", ["burglary", "power cut", "water", "robbery"], 7100, ["Jasper Lind", "Selma Oakes"]),
    ("Fernstep Travel", ["cancellation", "late luggage", "treatment abroad"], 1900, ["Rufus Tamsin"]),
    ("Whiskerstone Pet", ["illness", "accident", "lost animal"], 1300, ["Rufus Tamsin", "Wilma Greave"]),
]
ORDER = [0, 1, 0, 4, 1, 3, 6, 2, 1, 5, 0, 6, 1, 4]
CAPS = {"power cut": 2600, "late luggage": 240, "lost animal": 300, "theft of outboard": 2900, "marten bite": 2000}
CAPS |= {"glass": 1150}
FROST_DAYS = [datetime.date(2024, 4, 22), datetime.date(2024, 4, 23)]


def _numbers() -> Iterator[int]:
    state = 20240117
    while True:
        state = (state * 1103515245 + 12345) % 2**31
        yield state >> 8


def rows() -> list[list[str]]:
    """All rows of the register, in the order of the claim numbers."""
    draw = _numbers()
    result = []
    for index in range(ROWS):
        product, causes, top, handlers = LINES[ORDER[index % len(ORDER)]]
        cause = causes[next(draw) % len(causes)]
        notified = datetime.date(2024, 1, 8) + datetime.timedelta(days=index * 362 // ROWS)
        loss = notified - datetime.timedelta(days=next(draw) % 2 + 1)
        if product == "Orchardline":
            if not 4 <= notified.month <= 9:
                cause = "storm"
            elif cause == "spring frost" and notified.month > 5:
                cause = "hail"
            elif cause == "spring frost":
                loss = FROST_DAYS[next(draw) % 2]
                notified = loss + datetime.timedelta(days=1)
        amount = 60 + next(draw) % (min(top, CAPS.get(cause, top)) - 60)
        state = ["paid", "paid", "paid", "open", "refused"][next(draw) % 5]
        paid = f"EUR {amount:,}" if state == "paid" else "EUR 0"
        reserve = f"EUR {amount // 10 * 10:,}" if state == "open" else "EUR 0"
        number = f"VM-24-{101 + index * 7:04d}"
        places = ["Hollin", "Upper Brann"] if product == "Orchardline" else PLACES
        place, handler = places[next(draw) % len(places)], handlers[next(draw) % len(handlers)]
        dates = [loss.isoformat(), notified.isoformat()]
        result.append([number, product, *dates, place, cause, state, reserve, paid, handler])
    return result


def write_register(target: Path) -> None:
    """Write the register as CSV."""
    with target.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(HEADER)
        writer.writerows(rows())
