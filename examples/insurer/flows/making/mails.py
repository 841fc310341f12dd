"""Facts, complaints and questions that no document answers → labelled mails with the reply in house style."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

SEED = 20261129


def reply_text(answer: str, booklet: str, desk: str) -> str:
    """Return the mail that the house style asks for."""
    named = {"Water": "Water and Orchard"}.get(desk, desk)
    return (
        f"Dear member,\n{answer} You find this in the booklet {booklet}.\nYours across the counter,\nthe {named} desk"
    )


def _row(split: str, text: str, desk: str, known: str) -> dict[str, Any]:
    row = {
        "mail": "",
        "split": split,
        "text": text,
        "expected.desk": desk,
        "expected.known": known,
        "expected.reply": "",
    }
    row |= {"expected.decision": "person", "key": "", "document": "", "page": "", "evidence": "", "booklet": ""}
    return row


def read_mails(path: Path) -> list[dict[str, Any]]:
    """Read the mail file.

    '@' opens a booklet, '=' a fact of a split with its evidence (e), answer (a), key (k) and mails (m). Under
    '@ complaint' and '@ unknown' each line is a mail: its split, its desk and its text.
    """
    rows: list[dict[str, Any]] = []
    head: list[str] = []
    fact: dict[str, str] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        mark, _, rest = line.partition(" ")
        if mark == "@":
            head = rest.split(" :: ")
        elif mark == "=":
            fact = {"split": rest}
        elif mark in ("e", "a", "k"):
            fact[mark] = rest
        elif mark == "m":
            document, desk, booklet = head
            row = _row(fact["split"], rest, desk, "yes")
            row |= {"expected.reply": reply_text(fact["a"], booklet, desk), "expected.decision": "send"}
            rows.append(row | {"key": fact["k"], "document": document, "evidence": fact["e"], "booklet": booklet})
        elif mark in ("t", "h"):
            desk, text = rest.split(" :: ")
            complaint = head == ["complaint"]
            split = "train" if mark == "t" else "test"
            rows.append(_row(split, text, "Warden" if complaint else desk, "" if complaint else "no"))
        elif line.strip():
            raise ValueError(f"{path.name}: line not understood: {line}")
    return rows


def make_mails(path: Path) -> list[dict[str, Any]]:
    """Return the rows, those for training first, each split in an order drawn by lot; `page` is left to the caller."""
    draw = random.Random(SEED)
    rows = read_mails(path)
    ordered = []
    for split in ("train", "test"):
        mine = [row for row in rows if row["split"] == split]
        ordered += draw.sample(mine, len(mine))
    return [row | {"mail": f"M-26-{number:03d}"} for number, row in enumerate(ordered, 1)]
