"""Turn the fact files into questions with gold pages that are looked up in the rendered documents."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import docx
import lxml.html
import pypdfium2

KINDS = {"yesno", "number", "span", "long"}


@dataclass
class Fact:
    """One fact with the ways in which it is asked."""

    identity: str
    split: str
    kind: str
    tags: list[str]
    answers: list[str] = field(default_factory=list)
    evidence: list[tuple[str, str]] = field(default_factory=list)
    questions: list[str] = field(default_factory=list)


def flat(text: str) -> str:
    """The text in lower case with single spaces."""
    return re.sub(r"\s+", " ", text).strip().lower()


def page_texts(path: Path) -> list[str]:
    """The text of each PDF page; for every other format one text for the whole file."""
    if path.suffix == ".pdf":
        pdf = pypdfium2.PdfDocument(path)
        try:
            return [flat(page.get_textpage().get_text_range()) for page in pdf]
        finally:
            pdf.close()
    if path.suffix == ".docx":
        word = docx.Document(str(path))
        cells = [" ".join(cell.text for cell in row.cells) for table in word.tables for row in table.rows]
        return [flat(" ".join([paragraph.text for paragraph in word.paragraphs] + cells))]
    if path.suffix == ".html":
        root = lxml.html.fromstring(path.read_bytes().decode("utf-8"))
        return [flat(" ".join(str(piece) for piece in root.xpath("//main//text()")))]
    return [flat(path.read_text(encoding="utf-8"))]


def read_facts(path: Path) -> list[Fact]:
    """Read a fact file: '@ document' sets the document, '= split kind tags' opens a fact, then e:, a: and q: lines."""
    document, facts, counts = "", [], dict[str, int]()
    for line in path.read_text(encoding="utf-8").splitlines():
        mark, _, rest = line.partition(" ")
        if mark == "@":
            document = rest
        elif mark == "=":
            words = rest.split()
            stem = Path(document).stem or path.stem
            counts[stem] = counts.get(stem, 0) + 1
            facts.append(Fact(f"{path.stem}/{stem}-{counts[stem]:02d}", words[0], words[1], words[2:]))
        elif mark == "e:":
            other, found, text = rest.partition(" :: ")
            facts[-1].evidence.append((other, text) if found else (document, rest))
        elif mark == "a:":
            facts[-1].answers = [answer.strip() for answer in rest.split(" / ")]
        elif mark == "q:":
            facts[-1].questions.append(rest)
        elif line.strip():
            raise ValueError(f"{path.name}: line not understood: {line}")
    return facts


def _gold(fact: Fact, folder: Path, cache: dict[str, list[str]]) -> list[dict[str, Any]]:
    gold = []
    for document, evidence in fact.evidence:
        if document not in cache:
            cache[document] = page_texts(folder / document)
        pages = [number for number, text in enumerate(cache[document], 1) if flat(evidence) in text]
        if len(pages) != 1:
            raise ValueError(f"{fact.identity}: evidence {evidence!r} is on pages {pages} of {document}")
        gold.append({"document": document, "page": pages[0] if document.endswith(".pdf") else None})
    return gold


def _problem(fact: Fact) -> str:
    unanswerable = "unanswerable" in fact.tags
    if fact.kind not in KINDS or fact.split not in ("train", "test"):
        return "bad kind or split"
    if not fact.questions:
        return "no question"
    if unanswerable == bool(fact.answers) or unanswerable == bool(fact.evidence):
        return "answers or evidence do not fit"
    if "multi-document" in fact.tags and len({document for document, _ in fact.evidence}) != 2:
        return "needs two documents"
    return ""


def write_questions(facts: list[Fact], folder: Path, target: Path) -> list[dict[str, Any]]:
    """Write questions.jsonl for the documents in folder and return its rows."""
    cache: dict[str, list[str]] = {}
    result: list[dict[str, Any]] = []
    problems = []
    for fact in facts:
        problem = _problem(fact)
        gold: list[dict[str, Any]] = []
        try:
            gold = _gold(fact, folder, cache)
        except ValueError as error:
            problem = str(error)
        if problem:
            problems.append(f"{fact.identity} {fact.questions[:1]}: {problem}")
        for number, question in enumerate(fact.questions):
            row: dict[str, Any] = {
                "id": f"{fact.identity}{'abcdef'[number]}",
                "question": question,
                "answers": fact.answers,
            }
            row |= {"kind": fact.kind, "gold": gold, "split": fact.split, "answerable": bool(fact.answers)}
            result.append(row | {"tags": fact.tags, "fact": fact.identity})
    if problems:
        raise ValueError("\n".join(problems))
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in result)
    target.write_text(text, encoding="utf-8", newline="\n")
    return result
