"""Build the three flows' documents and labelled rows.

Run with the folder to write to (without one, the folder of this script):

    python examples/insurer/flows/build.py [FOLDER]
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

from making.compliance import make_documents, read_rules, rule_book, rule_heading  # noqa: E402
from making.events import EventType, all_events  # noqa: E402
from making.mails import make_mails  # noqa: E402
from making.sheets import clause_name, document_name, write_limits, write_sheets  # noqa: E402
from making.triage import RULES, Policy, make_cases, register, row_of  # noqa: E402
from source.markup import read_document  # noqa: E402
from source.questions import flat, page_texts  # noqa: E402
from source.render_pdf import render_pdf  # noqa: E402

BOOKLETS = ["triage-rules", "house-style"]


def write_table(target: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Write rows as CSV, with the first row's keys as the header."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def page_of(texts: list[str], clause: str) -> int:
    """Return the page, from 1, of the heading; it has to stand on one page only."""
    found = [number for number, text in enumerate(texts, 1) if flat(clause) in text]
    if len(found) != 1:
        raise ValueError(f"{clause!r} is on pages {found}")
    return found[0]


def clause_pages(events: list[EventType], documents: Path) -> dict[tuple[str, str], int]:
    """Return the page of each clause that decides a claim, by document and clause."""
    pages: dict[tuple[str, str], int] = {}
    texts: dict[str, list[str]] = {}
    for event in events:
        document = document_name(event.family)
        texts.setdefault(document, page_texts(documents / document))
        for plan in event.plans:
            clause = clause_name(event, plan)
            pages[document, clause] = page_of(texts[document], clause)
    rules = page_texts(documents / RULES)
    headings = [
        block.text for block in read_document(HERE / "text" / "triage-rules.txt").blocks if block.kind == "clause"
    ]
    return pages | {(RULES, heading): page_of(rules, heading) for heading in headings}


def _policy_row(policy: Policy) -> dict[str, Any]:
    row = {"policy_no": policy.number, "holder": policy.holder, "product": policy.product, "plan": policy.plan}
    return row | {"status": policy.status or "active", "begins": policy.begins.isoformat(), "excess_eur": policy.excess}


def build_triage(target: Path) -> int:
    """Write the cover sheets, the register, the limits and claims.csv; return the number of claims."""
    events = all_events(HERE / "text" / "claims")
    write_sheets(events, target / "documents")
    pages = clause_pages(events, target / "documents")
    cases = make_cases(events, HERE / "text" / "messages.txt")
    rows = [row_of(number, case, text, pages) for number, (case, text) in enumerate(cases, 1)]
    write_table(target / "triage" / "claims.csv", rows)
    write_table(target / "triage" / "policies.csv", [_policy_row(one) for one in register([case for case, _ in cases])])
    write_limits(events, target / "triage" / "limits.csv")
    return len(rows)


def build_mails(target: Path) -> int:
    """Write mails.csv, with the page on which each answer stands; return the number of mails."""
    rows = make_mails(HERE / "text" / "mails.txt")
    texts: dict[str, list[str]] = {}
    for row in rows:
        if document := row["document"]:
            texts.setdefault(document, page_texts(HERE.parent / "documents" / document))
            row["page"] = page_of(texts[document], row["evidence"])
    write_table(target / "mails" / "mails.csv", rows)
    return len(rows)


def build_compliance(target: Path) -> int:
    """Write the rule book and texts.csv; return the number of texts."""
    found = read_rules(HERE / "text" / "rules.txt")
    book = target / "documents" / "desk" / "communications-rule-book.pdf"
    render_pdf(rule_book(found.rules), book)
    texts = page_texts(book)
    pages = {rule.name: page_of(texts, rule_heading(rule.name)) for rule in found.rules}
    rows = make_documents(found, pages)
    write_table(target / "compliance" / "texts.csv", rows)
    return len(rows)


def build(target: Path) -> dict[str, int]:
    """Write everything below target and return the number of rows of each flow."""
    for name in BOOKLETS:
        booklet = target / "documents" / "desk" / f"{name}.pdf"
        booklet.parent.mkdir(parents=True, exist_ok=True)
        render_pdf(read_document(HERE / "text" / f"{name}.txt"), booklet)
    return {"triage": build_triage(target), "mails": build_mails(target), "compliance": build_compliance(target)}


if __name__ == "__main__":
    for flow, count in build(Path(sys.argv[1]) if len(sys.argv) > 1 else HERE).items():
        print(f"{flow}: {count} rows")
