"""The three flows over the sample insurer: their files are what the generator makes, and their labels agree with the documents."""

from __future__ import annotations

import csv
import re
import subprocess
import sys
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

import pypdfium2
import pytest

INSURER = Path(__file__).resolve().parents[2] / "examples" / "insurer"
FLOWS = INSURER / "flows"
TABLES = {"triage": "claims", "mails": "mails", "compliance": "texts"}
VERDICTS = {"p": "paid", "n": "not paid", "d": "desk lead"}
MOST_ALIKE = 0.4  # shared fives of letters, of all that both texts have
Row = dict[str, str]


def flat(text: str) -> str:
    return " ".join(text.split())


@cache
def table(path: Path) -> list[Row]:
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def rows(flow: str, split: str = "") -> list[Row]:
    return [row for row in table(FLOWS / flow / f"{TABLES[flow]}.csv") if row["split"] == split or not split]


@cache
def page_text(path: Path, page: int) -> str:
    pdf = pypdfium2.PdfDocument(path)
    try:
        return str(pdf[page - 1].get_textpage().get_text_range())
    finally:
        pdf.close()


@cache
def cases() -> dict[str, str]:
    """The case of a cover sheet that each written event is of, by the event's number; "" for those of no sheet."""
    found = {}
    for path in (FLOWS / "text" / "claims").glob("*.txt"):
        label, numbers = "", {"": 0, "m": 0}
        for line in path.read_text(encoding="utf-8").splitlines():
            if line.startswith("= "):
                label = line[2:].partition(" :: ")[0]
            elif re.match(r"[thm](de|fr)? ", line):
                series = "m" if line[0] == "m" else ""
                numbers[series] += 1
                other = line.rpartition(" :: ")[2] if line[1] != " " else label
                found[f"{path.stem}-{series}{numbers[series]:03d}"] = "" if other == "-" else other
    return found


def fives(text: str) -> set[str]:
    small = flat(text).casefold()
    return {small[at : at + 5] for at in range(len(small) - 4)}


def test_files_are_what_the_generator_makes(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-B", str(FLOWS / "build.py"), str(tmp_path)], check=True, timeout=120)
    built = {path.relative_to(tmp_path).as_posix(): path for path in tmp_path.rglob("*") if path.is_file()}
    kept = {path.relative_to(FLOWS).as_posix() for path in (FLOWS / "documents").rglob("*.pdf")}
    kept |= {path.relative_to(FLOWS).as_posix() for flow in TABLES for path in (FLOWS / flow).glob("*.csv")}
    assert set(built) == kept
    assert [name for name, path in built.items() if path.read_bytes() != (FLOWS / name).read_bytes()] == []


@pytest.mark.parametrize(("flow", "train", "test"), [("triage", 400, 200), ("mails", 100, 50), ("compliance", 100, 50)])
def test_counts_ids_and_splits(flow: str, train: int, test: int) -> None:
    assert len(rows(flow, "train")) >= train
    assert len(rows(flow, "test")) >= test
    assert len(rows(flow, "train")) + len(rows(flow, "test")) == len(rows(flow))
    key = next(iter(rows(flow)[0]))
    assert len({row[key] for row in rows(flow)}) == len(rows(flow))
    assert all(row["text"].strip() and row["expected.decision"] for row in rows(flow))
    assert {row["expected.decision"] for row in rows(flow, "train")} == {
        row["expected.decision"] for row in rows(flow, "test")
    }


@pytest.mark.parametrize("flow", list(TABLES))
def test_no_test_text_is_nearly_one_for_training(flow: str) -> None:
    known = [(row["text"], fives(row["text"])) for row in rows(flow, "train")]
    for row in rows(flow, "test"):
        mine = fives(row["text"])
        for text, theirs in known:
            shared = len(mine & theirs)
            assert shared < MOST_ALIKE * (len(mine) + len(theirs) - shared), (row["text"], text)


def test_no_event_frame_or_sentence_is_in_both_splits() -> None:
    events = {
        split: {one for row in rows("triage", split) for one in row["wording"].split("+")}
        for split in ("train", "test")
    }
    assert not events["train"] & events["test"]
    lines: dict[str, set[str]] = {"t": set(), "h": set()}
    for line in (FLOWS / "text" / "messages.txt").read_text(encoding="utf-8").splitlines():
        if line[:2] in ("t ", "h "):
            lines[line[0]].add(line[2:])
    assert not lines["t"] & lines["h"]
    assert len(lines["t"]) > 100


def test_every_clause_decides_rows_of_both_splits() -> None:
    clauses = {split: {row["clause"] for row in rows("triage", split)} for split in ("train", "test")}
    assert clauses["train"] == clauses["test"]
    sheets = {
        f"{row['product'].split()[0]} {row['plan']}: {row['basket']}" for row in table(FLOWS / "triage" / "limits.csv")
    }
    assert sheets <= clauses["train"]


def test_no_decision_is_the_common_one() -> None:
    for split in ("train", "test"):
        decisions = Counter(row["expected.decision"] for row in rows("triage", split))
        assert decisions.keys() == {"pay", "part", "reject", "refer", "ask"}
        assert max(decisions.values()) < 0.4 * decisions.total()


def test_the_deciding_clause_is_on_its_page() -> None:
    for row in rows("triage"):
        text = flat(page_text(FLOWS / "documents" / row["document"], int(row["page"])))
        assert row["clause"] in text, row["claim"]


def sheet_pages() -> dict[tuple[str, str, str], str]:
    """The text of each cover sheet by product, plan and basket."""
    found = {}
    for path in (FLOWS / "documents" / "cover-sheets").glob("*.pdf"):
        with pypdfium2.PdfDocument(path) as pdf:
            count = len(pdf)
        for page in range(2, count + 1):
            text = page_text(path, page)
            product = next(line for line in text.splitlines() if "cover sheets for the desk" in line).partition(",")[0]
            heading = re.search(r"^\S+ (\S+): (\w+)\s*$", text, re.MULTILINE)
            assert heading, text
            found[product, heading[1], heading[2]] = flat(text)
    return found


def test_limits_are_those_of_the_sheets() -> None:
    pages = sheet_pages()
    limits = table(FLOWS / "triage" / "limits.csv")
    assert len(limits) == len(pages) == 47
    for row in limits:
        said = f"Limit EUR {int(row['limit_eur']):,} for each event."
        assert said in pages[row["product"], row["plan"], row["basket"]]


def decided(row: Row, policy: Row | None, limit: int) -> tuple[str, int]:
    """Decision and payment by the triage rules, from the labels of the other steps."""
    amount = int(row["expected.facts.amount"])
    if not row["expected.facts.policy"]:
        return "ask", 0
    if policy is None or policy["status"] == "overdue":
        return "refer", 0
    if policy["status"] == "lapsed":
        return "reject", 0
    if row["expected.basket"] == "Double":
        return "refer", 0
    if row["expected.facts.date"] and row["expected.facts.date"] < policy["begins"]:
        return "reject", 0
    if amount == 0:
        return "ask", 0
    if row["expected.cover.says"] != "paid":
        return ("refer" if row["expected.cover.says"] == "desk lead" else "reject"), 0
    left = amount - int(policy["excess_eur"])
    if left <= 0:
        return "reject", 0
    if min(left, limit) > 5000:
        return "refer", 0
    return ("part", limit) if left > limit else ("pay", left)


def test_decisions_follow_from_register_sheets_and_rules() -> None:
    policies = {row["policy_no"]: row for row in table(FLOWS / "triage" / "policies.csv")}
    limits = {
        (r["product"], r["plan"], r["basket"]): int(r["limit_eur"]) for r in table(FLOWS / "triage" / "limits.csv")
    }
    for row in rows("triage"):
        policy = policies.get(row["expected.facts.policy"])
        limit = limits.get((policy["product"], policy["plan"], row["expected.basket"]), 0) if policy else 0
        assert decided(row, policy, limit) == (row["expected.decision"], int(row["payment"])), row["claim"]


def test_cover_is_what_the_sheet_says_of_the_event() -> None:
    pages = sheet_pages()
    policies = {row["policy_no"]: row for row in table(FLOWS / "triage" / "policies.csv")}
    read = [row for row in rows("triage") if row["expected.cover.says"]]
    assert len(read) > 400
    for row in read:
        policy = policies[row["expected.facts.policy"]]
        text = pages[policy["product"], policy["plan"], row["expected.basket"]]
        case = cases()[row["wording"]]
        said = [verdict for verdict in VERDICTS.values() if case and f"{case}: {verdict}." in text]
        assert (said or ["desk lead"]) == [row["expected.cover.says"]], row["claim"]
        assert row["expected.cover.line"] == case, row["claim"]


def test_labels_stand_in_the_messages() -> None:
    for row in rows("triage"):
        assert "{" not in row["text"], row["claim"]
        digits = re.sub(r"\D", "", row["text"])
        assert row["expected.facts.policy"].removeprefix("VP-") in digits, row["claim"]
        plain = row["expected.facts.amount"] in digits or "hundred" in row["text"].lower()
        assert row["expected.facts.amount"] == "0" or plain, row["claim"]
        day = row["expected.facts.date"]
        assert day <= row["received"], row["claim"]
        assert not day or re.search(rf"\b0?{int(day[8:])}(?!\d)", row["text"]), row["claim"]


def test_mails_are_answered_from_the_booklets() -> None:
    for row in rows("mails"):
        known = row["expected.known"] == "yes"
        assert known == bool(row["expected.reply"]) == bool(row["document"]) == (row["expected.decision"] == "send")
        assert (row["expected.desk"] == "Warden") == (row["expected.known"] == "")
        if known:
            page = flat(page_text(INSURER / "documents" / row["document"], int(row["page"])))
            assert row["evidence"].casefold() in page.casefold(), row["mail"]
            assert row["key"] in row["expected.reply"], row["mail"]
            for number in re.findall(r"\d[\d,.]*\d|\d", row["expected.reply"]):
                assert number in page, (row["mail"], number)
    facts = {split: {row["evidence"] for row in rows("mails", split)} - {""} for split in ("train", "test")}
    assert not facts["train"] & facts["test"]


def test_findings_are_those_of_the_rule_book() -> None:
    rules = {row["expected.rule"] for row in rows("compliance")}
    assert len(rules) == 13
    for row in rows("compliance"):
        assert row["sentence"] in row["text"].splitlines(), row["item"]
        if row["expected.rule"] == "None":
            assert (row["expected.finding"], row["expected.decision"], row["page"]) == ("", "release", "")
            continue
        page = page_text(FLOWS / "documents" / row["document"], int(row["page"]))
        assert f"Rule {row['expected.rule']}" in page
        assert f": {row['expected.finding']}." in page
        assert row["expected.decision"] == row["expected.finding"]


@pytest.mark.parametrize("flow", list(TABLES))
def test_workflow_files_are_valid_and_their_labels_fit(flow: str) -> None:
    from doyen.workflows.labels import read_labelled
    from doyen.workflows.reading import load_workflow

    found = load_workflow(FLOWS / flow)
    labelled = read_labelled(found, FLOWS / flow / f"{TABLES[flow]}.csv")
    assert found.name == flow
    assert len(labelled) == len(rows(flow))
    assert all(found.decision in row.labels for row in labelled)


def test_rules_of_the_triage_file_decide_as_labelled() -> None:
    """With the labels of the other steps, the file's lookups and rules give the labelled decision and payment."""
    from doyen.workflows.definition import Decide, Lookup
    from doyen.workflows.lookup import tables_for
    from doyen.workflows.reading import load_workflow

    flow = load_workflow(FLOWS / "triage")
    decision, cover = flow.step("decision"), flow.step("cover")
    lookups = [step for step in flow.steps if isinstance(step, Lookup)]
    tables = tables_for((step.sql for step in lookups), flow.tables, None)
    assert isinstance(decision, Decide) and cover.when is not None
    for row in rows("triage"):
        facts = {name: row[f"expected.facts.{name}"] or None for name in ("policy", "amount", "date")}
        values: dict[str, Any] = {name: row[name] for name in flow.columns} | {"basket": row["expected.basket"]}
        values |= {
            "facts": facts | {"amount": int(row["expected.facts.amount"])},
            "cover": {"line": row["expected.cover.line"] or None, "says": row["expected.cover.says"] or None},
        }
        for step in lookups:
            values[step.name] = None
            if step.when is None or step.when.evaluate(values):
                found = tables.rows(step.sql, {name: one.evaluate(values) for name, one in step.parameters.items()}, 1)
                values[step.name] = found[0] if found else {}
        then = next((rule.then for rule in decision.rules if rule.when.evaluate(values)), decision.otherwise)
        assert then == row["expected.decision"], row["claim"]
        assert cover.when.evaluate(values) == bool(row["expected.cover.says"]), row["claim"]
        if int(row["payment"]):
            assert values["limit"]["payable"] == int(row["payment"]), row["claim"]
    tables.close()
