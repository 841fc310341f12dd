"""The sample insurer: its question file, its evidence, and that it is built the same way every time."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

import docx
import lxml.html
import pypdfium2
import pytest

INSURER = Path(__file__).resolve().parents[2] / "examples" / "insurer"
DOCUMENTS = INSURER / "documents"
FIELDS = {"id", "question", "answers", "kind", "gold", "split", "answerable", "tags", "fact"}


def flat(text: str) -> str:
    return " ".join(text.split()).casefold()


@cache
def questions() -> list[dict[str, Any]]:
    text = (INSURER / "questions.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


@cache
def pages(document: str) -> list[str]:
    path = DOCUMENTS / document
    if path.suffix == ".pdf":
        pdf = pypdfium2.PdfDocument(path)
        try:
            return [flat(page.get_textpage().get_text_range()) for page in pdf]
        finally:
            pdf.close()
    if path.suffix == ".docx":
        word = docx.Document(str(path))
        texts = [paragraph.text for paragraph in word.paragraphs]
        texts += [cell.text for table in word.tables for row in table.rows for cell in row.cells]
        return [flat("\n".join(texts))]
    if path.suffix == ".html":
        return [flat(lxml.html.fromstring(path.read_bytes()).text_content())]
    return [flat(path.read_text(encoding="utf-8"))]


def gold_texts(row: dict[str, Any]) -> list[str]:
    return [pages(gold["document"])[(gold["page"] or 1) - 1] for gold in row["gold"]]


def test_fields_and_ids() -> None:
    rows = questions()
    assert all(set(row) == FIELDS for row in rows)
    assert len({row["id"] for row in rows}) == len(rows)
    assert len({flat(row["question"]) for row in rows}) == len(rows)
    assert {row["split"] for row in rows} == {"train", "test"}


@pytest.mark.parametrize(("split", "total", "unanswerable"), [("train", 270, 50), ("test", 170, 50)])
def test_counts_and_kinds(split: str, total: int, unanswerable: int) -> None:
    rows = [row for row in questions() if row["split"] == split]
    assert len(rows) >= total
    assert sum(not row["answerable"] for row in rows) >= unanswerable
    answerable = [row for row in rows if row["answerable"]]
    assert Counter(row["kind"] for row in answerable).keys() == {"yesno", "number", "span", "long"}
    tags = Counter(tag for row in rows for tag in row["tags"])
    assert min(tags[tag] for tag in ("terminology", "multi-document", "near-miss", "off-topic", "table")) >= 8
    assert 0.4 < tags["near-miss"] / tags["unanswerable"] < 0.6
    yesno = Counter(row["answers"][0] for row in answerable if row["kind"] == "yesno")
    assert yesno.keys() == {"Yes", "No"}
    assert abs(yesno["Yes"] - yesno["No"]) <= 0.1 * yesno.total()


def test_split_is_by_fact() -> None:
    splits: dict[str, set[str]] = {}
    for row in questions():
        splits.setdefault(row["fact"], set()).add(row["split"])
    assert all(len(found) == 1 for found in splits.values())


def test_no_answer_on_a_page_is_asked_in_both_splits() -> None:
    """Facts under two names would show as the same answer on the same page (values in the register may recur)."""
    seen: dict[str, set[tuple[str, int | None, str]]] = {"train": set(), "test": set()}
    for row in questions():
        if row["kind"] != "yesno":
            places = [gold for gold in row["gold"] if "claims-register" not in gold["document"]]
            seen[row["split"]] |= {(gold["document"], gold["page"], row["answers"][0]) for gold in places}
    assert not seen["train"] & seen["test"]


def test_unanswerable_rows_are_empty() -> None:
    for row in questions():
        assert row["answerable"] == bool(row["answers"]) == bool(row["gold"]) == ("unanswerable" not in row["tags"])


def test_gold_pages_exist_and_hold_the_answer() -> None:
    wrong = []
    for row in questions():
        for gold in row["gold"]:
            assert (gold["page"] is not None) == gold["document"].endswith(".pdf"), row["id"]
        texts = gold_texts(row)
        checked = row["kind"] in ("number", "span") and row["answerable"] and "derived" not in row["tags"]
        if checked and not any(flat(answer) in text for answer in row["answers"] for text in texts):
            wrong.append(row["id"])
    assert wrong == []


def test_multi_document_questions_name_two_documents() -> None:
    for row in questions():
        if "multi-document" in row["tags"]:
            assert len({gold["document"] for gold in row["gold"]}) == 2, row["id"]


def test_long_answers_are_one_sentence_from_the_document() -> None:
    for row in questions():
        if row["kind"] == "long" and row["answerable"]:
            words = flat(row["answers"][0]).rstrip(".").replace(",", "").replace(";", "").split()
            assert 12 <= len(words) <= 30, (row["id"], len(words))
            text = " ".join(gold_texts(row))
            shared = sum(word in text for word in words)
            assert shared >= 0.8 * len(words), row["id"]


def test_short_answers_are_short() -> None:
    for row in questions():
        if row["kind"] in ("number", "span"):
            assert all(len(answer.split()) <= 8 for answer in row["answers"]), row["id"]


def test_every_document_is_asked_about() -> None:
    asked = {gold["document"] for row in questions() for gold in row["gold"]}
    kept = {path.relative_to(DOCUMENTS).as_posix() for path in DOCUMENTS.rglob("*") if path.is_file()}
    assert asked == kept


def test_size_and_pages() -> None:
    files = [path for path in INSURER.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    assert sum(path.stat().st_size for path in files) < 3_000_000
    assert sum(len(pages(path.relative_to(DOCUMENTS).as_posix())) for path in DOCUMENTS.rglob("*.pdf")) >= 60


def test_build_is_reproducible(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-B", str(INSURER / "build.py"), str(tmp_path)], check=True, timeout=120)
    built = {path.relative_to(tmp_path).as_posix(): path for path in tmp_path.rglob("*") if path.is_file()}
    kept = {path.relative_to(INSURER).as_posix(): path for path in DOCUMENTS.rglob("*") if path.is_file()}
    kept["questions.jsonl"] = INSURER / "questions.jsonl"
    assert built.keys() == kept.keys()
    different = [name for name, path in built.items() if path.read_bytes() != kept[name].read_bytes()]
    assert different == []
