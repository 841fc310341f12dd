"""Render parsed source texts as DOCX, HTML and Markdown, with the same bytes on every run."""

from __future__ import annotations

import datetime
import html
import io
import re
import zipfile
from pathlib import Path

import docx

from source.markup import Block, Document

MOMENT = datetime.datetime(2025, 1, 7, 9, 0, 0)


def _repack(data: bytes, target: Path) -> None:
    """Write the zip archive again with a fixed time stamp on each member."""
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(target, "w") as new:
        for name in sorted(old.namelist(), key=lambda part: (part != "[Content_Types].xml", part)):
            info = zipfile.ZipInfo(name, date_time=(2025, 1, 7, 9, 0, 0))
            info.compress_type = zipfile.ZIP_DEFLATED
            info.create_system = 3
            new.writestr(info, old.read(name))


def render_docx(document: Document, target: Path) -> None:
    """Write the text as a Word file with real headings and tables."""
    word = docx.Document()
    core = word.core_properties
    core.title, core.author, core.last_modified_by = document.title, "Velmarrow Mutual", "Velmarrow Mutual"
    core.created = core.modified = MOMENT
    core.revision = 1
    word.add_heading(document.title, level=0)
    word.add_paragraph(document.subtitle)
    word.sections[0].footer.paragraphs[0].text = document.footer
    for block in document.blocks:
        if block.kind in ("part", "clause"):
            word.add_heading(block.text, level=1 if block.kind == "part" else 2)
        elif block.kind == "table":
            table = word.add_table(rows=0, cols=len(block.rows[0]), style="Light Grid Accent 1")
            for row in block.rows:
                for cell, text in zip(table.add_row().cells, row, strict=True):
                    cell.text = text
        else:
            word.add_paragraph(block.text)
    buffer = io.BytesIO()
    word.save(buffer)
    _repack(buffer.getvalue(), target)


def _html_table(block: Block) -> str:
    rows = []
    for number, row in enumerate(block.rows):
        tag = "th" if number == 0 else "td"
        rows.append("<tr>" + "".join(f"<{tag}>{html.escape(cell, quote=False)}</{tag}>" for cell in row) + "</tr>")
    return "<table>\n" + "\n".join(rows) + "\n</table>"


def render_html(document: Document, target: Path) -> None:
    """Write the text as an intranet page with navigation around the content."""
    parts = [block.text for block in document.blocks if block.kind == "part"]
    nav = "".join(f'<li><a href="#s{number}">{html.escape(part)}</a></li>' for number, part in enumerate(parts))
    lines = [
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
        f"<title>{html.escape(document.title)}</title>",
        "<style>body{font-family:sans-serif;max-width:44em;margin:2em auto}td,th{padding:.2em .8em}</style>",
        f"</head>\n<body>\n<nav><ul>{nav}</ul></nav>\n<main>",
        f"<h1>{html.escape(document.title)}</h1>\n<p><em>{html.escape(document.subtitle)}</em></p>",
    ]
    section = 0
    for block in document.blocks:
        text = html.escape(block.text, quote=False)
        if block.kind == "part":
            lines.append(f'<h2 id="s{section}">{text}</h2>')
            section += 1
        elif block.kind == "table":
            lines.append(_html_table(block))
        else:
            lines.append(f"<h3>{text}</h3>" if block.kind == "clause" else f"<p>{text}</p>")
    lines.append(f"</main>\n<footer>{html.escape(document.footer)}</footer>\n</body>\n</html>\n")
    target.write_text("\n".join(lines), encoding="utf-8", newline="\n")


def render_markdown(document: Document, target: Path) -> None:
    """Write the text as Markdown."""
    lines = [f"# {document.title}", document.subtitle]
    for block in document.blocks:
        if block.kind in ("part", "clause"):
            lines.append(("## " if block.kind == "part" else "### ") + block.text)
        elif block.kind == "table":
            rows = ["| " + " | ".join(row) + " |" for row in block.rows]
            lines.append("\n".join([rows[0], re.sub(r"[^|]+", "---", rows[0]), *rows[1:]]))
        else:
            lines.append(block.text)
    target.write_text("\n\n".join(lines) + "\n", encoding="utf-8", newline="\n")
