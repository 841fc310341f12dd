"""Facts read from the CSV tables: single cells, asked in one way for training and in another for the test."""

from __future__ import annotations

import csv
from pathlib import Path

from source.questions import Fact
from source.register import rows

REGISTER = "tables/claims-register-extract-2024.csv"
TRAIN_REGISTER = {
    "paid": "What amount was paid on claim {number}?",
    "place": "In which place did the loss of claim {number} happen?",
    "handler": "Who is the handler of claim {number}?",
    "cause": "What is the recorded cause of claim {number}?",
    "date_of_loss": "What is the date of loss of claim {number}?",
}
TEST_REGISTER = {
    "paid": "How much money went out to the member under file {number}?",
    "place": "Which town stands in the register against file {number}?",
    "handler": "Whose desk does file {number} lie on?",
    "cause": "{number}: what led to the damage, according to the 2024 register?",
    "reserve": "I am checking open files; how high is the reserve for {number}?",
}


def _register_fact(row: list[str], field: str, split: str) -> Fact:
    columns = {"date_of_loss": 2, "place": 4, "cause": 5, "reserve": 7, "paid": 8, "handler": 9}
    question = (TRAIN_REGISTER if split == "train" else TEST_REGISTER)[field].format(number=row[0])
    kind = "number" if field in ("paid", "reserve") else "span"
    evidence = [(REGISTER, row[0])]
    return Fact(f"register/{row[0]}-{field}", split, kind, ["table"], [row[columns[field]]], evidence, [question])


def register_facts() -> list[Fact]:
    """One fact for every third row for training and for every sixth of the others for the test."""
    train_fields, test_fields = list(TRAIN_REGISTER), list(TEST_REGISTER)
    facts = []
    for index, row in enumerate(rows()):
        if index % 3 == 0:
            field = train_fields[index // 3 % len(train_fields)]
            if field == "paid" and row[6] != "paid":
                field = "place"
            facts.append(_register_fact(row, field, "train"))
        elif index % 6 == 1:
            field = test_fields[index // 6 % len(test_fields)]
            if field in ("paid", "reserve", "handler"):
                field = {"paid": "paid", "open": "reserve"}.get(row[6], "handler")
            facts.append(_register_fact(row, field, "test"))
    return facts


def _home(row: dict[str, str], split: str) -> str:
    zone = "" if row["flood_zone"] == "any" else f" in flood zone {row['flood_zone']}"
    if split == "train":
        level = f"Hearthwell Home at level {row['cover_level']}"
        return f"What is the yearly base premium of {level} for a {row['dwelling']}{zone}?"
    return f"A customer with a {row['dwelling']}{zone} wants {row['cover_level']}: how high is our base premium a year?"


def _motor(row: dict[str, str], split: str) -> str:
    if split == "train":
        return f"What is the Tollgate full premium for class {row['class_code']} ({row['vehicle']})?"
    return f"Before any milestone share, what would liability cost the owner of a {row['vehicle']} with Tollgate?"


def _travel(row: dict[str, str], split: str) -> str:
    if split == "train":
        return f"What is the price per person of the Fernstep rate {row['rate_code']}?"
    return f"Which price stands behind Fernstep code {row['rate_code']}?"


def tariff_facts(folder: Path) -> list[Fact]:
    """Every third row of each tariff for training, every third (shifted by one) for the test."""
    kinds = [
        ("hearthwell-tariff", _home, "yearly_base_premium", "yearly_base_premium"),
        ("tollgate-tariff", _motor, "full_premium", "liability_base_premium"),
        ("fernstep-tariff", _travel, "price_per_person", "price_per_person"),
    ]
    facts = []
    for name, ask, train_field, test_field in kinds:
        with (folder / f"{name}.csv").open(encoding="utf-8", newline="") as stream:
            table = list(csv.DictReader(stream))
        for index, row in enumerate(table):
            code = next(iter(row.values()))
            if index % 3 == 2 or row.get("dwelling") == "per bicycle":
                continue
            split, field = ("train", train_field) if index % 3 == 0 else ("test", test_field)
            evidence = [(f"tables/{name}.csv", code + ",")]
            identity = f"{name}/{code}-{field}"
            facts.append(Fact(identity, split, "number", ["table"], [row[field]], evidence, [ask(row, split)]))
    return facts
