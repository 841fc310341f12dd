"""Build the sample company: render the documents and write questions.jsonl.

Run with the folder to write to (without one, the folder of this script):

    python examples/insurer/build.py [FOLDER]
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from source.markup import read_document  # noqa: E402
from source.questions import read_facts, write_questions  # noqa: E402
from source.register import write_register  # noqa: E402
from source.register_facts import register_facts, tariff_facts  # noqa: E402
from source.render_other import render_docx, render_html, render_markdown  # noqa: E402
from source.render_pdf import render_pdf  # noqa: E402

PDFS = [
    "hearthwell-home",
    "tollgate-motor",
    "skiffguard-small-craft",
    "orchardline-growers",
    "counterhand-shop",
    "fernstep-travel",
    "whiskerstone-pet",
    "storm-season-bulletin",
    "members-charter",
]
PAGES = ["contacts", "remote-work", "complaints", "linkshops", "frost-weeks"]
GLOSSARIES = ["house-glossary", "trade-glossary"]
TABLES = ["hearthwell-tariff", "tollgate-tariff", "fernstep-tariff"]


def build(target: Path) -> int:
    """Render everything below target and return the number of questions."""
    source, documents = HERE / "source", target / "documents"
    for folder in ("policies", "handbook", "intranet", "glossary", "tables"):
        (documents / folder).mkdir(parents=True, exist_ok=True)
    for name in PDFS:
        render_pdf(read_document(source / "text" / f"{name}.txt"), documents / "policies" / f"{name}.pdf")
    handbook = read_document(source / "text" / "claims-handbook.txt")
    render_docx(handbook, documents / "handbook" / "claims-handbook.docx")
    for name in PAGES:
        page = read_document(source / "text" / f"intranet-{name}.txt")
        render_html(page, documents / "intranet" / f"{name}.html")
    for name in GLOSSARIES:
        render_markdown(read_document(source / "text" / f"{name}.txt"), documents / "glossary" / f"{name}.md")
    for name in TABLES:
        shutil.copyfile(source / "tables" / f"{name}.csv", documents / "tables" / f"{name}.csv")
    write_register(documents / "tables" / "claims-register-extract-2024.csv")
    facts = [fact for path in sorted((source / "facts").glob("*.txt")) for fact in read_facts(path)]
    facts += tariff_facts(source / "tables") + register_facts()
    return len(write_questions(facts, documents, target / "questions.jsonl"))


if __name__ == "__main__":
    print(f"{build(Path(sys.argv[1]) if len(sys.argv) > 1 else HERE)} questions")
