"""Render a parsed source text as a booklet in A5, with the same bytes on every run."""

from __future__ import annotations

from pathlib import Path
from xml.sax.saxutils import escape

from reportlab.lib import colors
from reportlab.lib.pagesizes import A5
from reportlab.lib.styles import ParagraphStyle
from reportlab.lib.units import mm
from reportlab.pdfgen.canvas import Canvas
from reportlab.platypus import (
    BaseDocTemplate,
    CondPageBreak,
    Flowable,
    Frame,
    PageBreak,
    PageTemplate,
    Paragraph,
    Spacer,
    Table,
    TableStyle,
)

from source.markup import Block, Document

INK = colors.HexColor("#1d3b4f")
PALE = colors.HexColor("#e4edf2")
BODY = ParagraphStyle("body", fontName="Times-Roman", fontSize=10.5, leading=14.5, spaceAfter=5)
CLAUSE = ParagraphStyle("clause", fontName="Helvetica-Bold", fontSize=10.5, leading=14, spaceBefore=8, spaceAfter=3)
PART = ParagraphStyle("part", fontName="Helvetica-Bold", fontSize=15, leading=19, spaceAfter=8, textColor=INK)
TITLE = ParagraphStyle("title", fontName="Helvetica-Bold", fontSize=24, leading=29, spaceAfter=6, textColor=INK)
SUBTITLE = ParagraphStyle("subtitle", fontName="Helvetica", fontSize=12, leading=16, spaceAfter=22, textColor=INK)
CELL = ParagraphStyle("cell", fontName="Times-Roman", fontSize=9.5, leading=11.5)
CELL_HEAD = ParagraphStyle("cellhead", parent=CELL, fontName="Helvetica-Bold", fontSize=8.5)
MARGIN = 18 * mm


def _table(block: Block, width: float) -> Table:
    styles = [CELL_HEAD] + [CELL] * (len(block.rows) - 1)
    cells = [[Paragraph(escape(cell), style) for cell in row] for row, style in zip(block.rows, styles, strict=True)]
    lengths = [min(30, max(11, *map(len, column))) for column in zip(*block.rows, strict=True)]
    table = Table(cells, colWidths=[width * length / sum(lengths) for length in lengths], repeatRows=1)
    table.setStyle(
        TableStyle(
            [
                ("BACKGROUND", (0, 0), (-1, 0), PALE),
                ("LINEBELOW", (0, 0), (-1, -1), 0.4, INK),
                ("VALIGN", (0, 0), (-1, -1), "TOP"),
                ("TOPPADDING", (0, 0), (-1, -1), 2.5),
                ("BOTTOMPADDING", (0, 0), (-1, -1), 3.5),
            ]
        )
    )
    table.spaceBefore, table.spaceAfter = 4, 8
    return table


def _story(document: Document, width: float) -> list[Flowable]:
    story: list[Flowable] = [
        Spacer(1, 22 * mm),
        Paragraph("VELMARROW MUTUAL", CLAUSE),
        Paragraph(escape(document.title), TITLE),
        Paragraph(escape(document.subtitle), SUBTITLE),
    ]
    for block in document.blocks:
        if block.kind == "part":
            story += [PageBreak(), Paragraph(escape(block.text), PART)]
        elif block.kind == "clause":
            story += [CondPageBreak(26 * mm), Paragraph(escape(block.text), CLAUSE)]
        elif block.kind == "table":
            height = 14 * mm if len(block.rows) > 9 else 7 * mm * len(block.rows)
            story += [CondPageBreak(height), _table(block, width)]
        else:
            story.append(Paragraph(escape(block.text), BODY))
    return story


def render_pdf(document: Document, target: Path) -> None:
    """Write the booklet to target."""
    page_width, page_height = A5
    width = page_width - 2 * MARGIN

    def furniture(canvas: Canvas, _template: BaseDocTemplate) -> None:
        canvas.saveState()
        canvas.setFont("Helvetica", 7.5)
        canvas.setFillColor(INK)
        if canvas.getPageNumber() > 1:
            canvas.drawString(MARGIN, page_height - 12 * mm, "Velmarrow Mutual")
        canvas.drawString(MARGIN, 11 * mm, document.footer)
        canvas.drawRightString(page_width - MARGIN, 11 * mm, f"page {canvas.getPageNumber()}")
        canvas.restoreState()

    template = BaseDocTemplate(
        str(target), pagesize=A5, invariant=1, title=document.title, author="Velmarrow Mutual", lang="en"
    )
    frame = Frame(MARGIN, 17 * mm, width, page_height - 34 * mm, leftPadding=0, rightPadding=0)
    template.addPageTemplates([PageTemplate(id="page", frames=[frame], onPage=furniture)])
    template.build(_story(document, width))
