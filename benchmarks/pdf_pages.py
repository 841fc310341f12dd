"""PDF reading: pages a second against pypdfium2's bare text and pypdf, and whether evidence is on the page it is given.

    pip install pypdf
    python benchmarks/pdf_pages.py --data DIR [--evidence FILE] [--pypdf-files N]

DIR is a set with `docs/*.pdf` and `questions.jsonl` whose `gold` names documents and pages. FILE is FinanceBench's own
`financebench_open_source.jsonl`, which has the evidence's text; without it, what pypdf reads on a gold page is the
evidence (pypdf shares no code with PDFium).

How the pages are counted: a text is turned into words, Unicode NFKC in lower case. A page holds an evidence text where it
has at least 95% of its words; a word counts that is among the page's words, or whose letters are in the page's text
with the spaces taken out (evidence texts run words together). Running heads and page numbers count as missing: doyen
leaves them out. `first` is the share of evidence texts that no other page of the document has more words of.
"""

from __future__ import annotations

import argparse
import json
import re
import time
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from measuring import save

HOLDS = 0.95
_WORD = re.compile(r"\w+")
Reader = Callable[[Path], list[str]]
Evidence = tuple[str, int, str]  # document, page, text


def read_doyen(path: Path) -> list[str]:
    from doyen.documents.pdf import read_pdf

    read = read_pdf(path.read_bytes(), path)
    return [read.text[page.start : page.end] for page in read.pages]


def read_pdfium(path: Path) -> list[str]:
    import pypdfium2

    pdf = pypdfium2.PdfDocument(path.read_bytes())
    pages = []
    for index in range(len(pdf)):
        page = pdf[index]
        text = page.get_textpage()
        pages.append(text.get_text_range())
        text.close()
        page.close()
    pdf.close()
    return pages


def read_pypdf(path: Path) -> list[str]:
    import pypdf

    return [page.extract_text() for page in pypdf.PdfReader(path).pages]


def count_pages(path: Path) -> int:
    """Read a file as ingest does; the text stays in the worker."""
    return len(read_doyen(path))


def timed(reader: Reader, files: Sequence[Path]) -> tuple[dict[str, Any], dict[str, list[str]]]:
    """Read the files one after the other and return the rate with the pages of each."""
    reader(min(files, key=lambda path: path.stat().st_size))  # imports, and the file system's cache
    started, cpu = time.perf_counter(), time.process_time()
    pages = {path.name: reader(path) for path in files}
    return rate(sum(map(len, pages.values())), started, cpu), pages


def rate(pages: int, started: float, cpu: float | None = None) -> dict[str, Any]:
    seconds = time.perf_counter() - started
    row = {"pages": pages, "seconds": round(seconds, 2), "pages_per_second": round(pages / seconds, 1)}
    return row if cpu is None else row | {"pages_per_cpu_second": round(pages / (time.process_time() - cpu), 1)}


def timed_in_processes(files: Sequence[Path], processes: int) -> dict[str, Any]:
    """Read the files in a pool, the largest first; workers are started and warm before the clock."""
    ordered = sorted(files, key=lambda path: -path.stat().st_size)
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        list(pool.map(count_pages, ordered[-1:] * processes * 2))
        started = time.perf_counter()
        return rate(sum(pool.map(count_pages, ordered)), started)


def words(text: str) -> list[str]:
    return _WORD.findall(unicodedata.normalize("NFKC", text).lower())


class PageWords:
    """A page's words and its letters without spaces."""

    def __init__(self, text: str) -> None:
        found = words(text)
        self.counts = Counter(found)
        self.letters = "".join(found)

    def share(self, wanted: Counter[str]) -> float:
        """Return the share of the wanted words that the page has."""
        total = sum(wanted.values())
        held = 0
        for word, count in wanted.items():
            have = min(count, self.counts[word])
            if have < count and len(word) > 3:
                have = min(count, self.letters.count(word))
            held += have
        return held / total if total else 1.0


def accuracy(pages: dict[str, list[str]], evidence: Sequence[Evidence]) -> dict[str, Any]:
    """Return how many evidence texts stand on their page, and of how many no other page has more."""
    read = {name: [PageWords(text) for text in texts] for name, texts in pages.items()}
    shares, first, missed = [], 0, []
    for document, number, text in evidence:
        if document not in read:
            continue
        wanted = Counter(words(text))
        of_page = [page.share(wanted) for page in read[document]]
        shares.append(of_page[number - 1])
        first += of_page[number - 1] >= max(of_page)
        if of_page[number - 1] < HOLDS:
            missed.append({"document": document, "page": number, "share": round(of_page[number - 1], 3)})
    held = sum(share >= HOLDS for share in shares)
    row = {"evidence_texts": len(shares), "held": round(held / len(shares), 4), "first": round(first / len(shares), 4)}
    return row | {"mean_share": round(sum(shares) / len(shares), 4), "missed": missed}


def evidence_of(data: Path, file: Path | None) -> list[Evidence] | None:
    """Return the evidence texts of the set's questions from FinanceBench's file, None without one."""
    if file is None:
        return None
    wanted = {question["id"] for question in questions(data)}
    rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    return [
        (f"{found.get('doc_name', row['doc_name'])}.pdf", found["evidence_page_num"] + 1, found["evidence_text"])
        for row in rows
        if row["financebench_id"] in wanted
        for found in row["evidence"]
    ]


def questions(data: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (data / "questions.jsonl").read_text(encoding="utf-8").splitlines()]


def gold_pages(data: Path) -> set[tuple[str, int]]:
    found = ((gold["document"], gold["page"]) for question in questions(data) for gold in question["gold"])
    return {(document, page) for document, page in found if page}


def main() -> None:
    made = argparse.ArgumentParser(description=__doc__)
    made.add_argument("--data", type=Path, required=True)
    made.add_argument("--evidence", type=Path, default=None)
    made.add_argument("--pypdf-files", type=int, default=None, help="let pypdf read only so many files, the smallest")
    made.add_argument("--out", type=Path, default=None)
    arguments = made.parse_args()
    files = sorted((arguments.data / "docs").glob("*.pdf"))
    few = sorted(files, key=lambda path: path.stat().st_size)[: arguments.pypdf_files]
    readers: list[tuple[str, Reader, Sequence[Path]]] = [
        ("pypdfium2, bare text", read_pdfium, files),
        ("doyen", read_doyen, files),
        ("pypdf", read_pypdf, few),
    ]
    rows: dict[str, Any] = {}
    texts: dict[str, dict[str, list[str]]] = {}
    for name, reader, chosen in readers:
        rows[name], texts[name] = timed(reader, chosen)
        print(f"{name}: {rows[name]['pages_per_second']} pages/s", flush=True)
    rows["doyen, 2 processes"] = timed_in_processes(files, 2)
    print(f"doyen, 2 processes: {rows['doyen, 2 processes']['pages_per_second']} pages/s", flush=True)
    evidence = evidence_of(arguments.data, arguments.evidence)
    if evidence is None:
        pypdf = texts["pypdf"]
        evidence = [(d, n, pypdf[d][n - 1]) for d, n in sorted(gold_pages(arguments.data)) if d in pypdf]
    for name, pages in texts.items():
        rows[name] |= accuracy(pages, evidence)
        print(f"{name}: held {rows[name]['held']}, first {rows[name]['first']} of {rows[name]['evidence_texts']}")
    source = "FinanceBench's own" if arguments.evidence else "pypdf's text of the gold pages"
    save("pdf_pages", {"files": len(files), "evidence": source, "readers": rows}, arguments.out)


if __name__ == "__main__":
    main()
