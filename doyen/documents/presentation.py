"""PPTX → text by slide: title as heading, text boxes, tables, charts and diagrams, then the speaker's notes.

Every slide is a Page. A hidden slide keeps its number and is empty.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from doyen.documents.extracted import Extracted, TextWriter, named_values, one_line, table_row
from doyen.documents.zipped import DAMAGED, check_expansion
from doyen.errors import DocumentError

_FURNITURE = frozenset(("DATE", "FOOTER", "SLIDE_NUMBER", "HEADER", "SLIDE_IMAGE"))
_TITLES = frozenset(("TITLE", "CENTER_TITLE", "VERTICAL_TITLE"))
_DIAGRAM = "http://schemas.openxmlformats.org/drawingml/2006/diagram"
_A = "{http://schemas.openxmlformats.org/drawingml/2006/main}"
_R = "{http://schemas.openxmlformats.org/officeDocument/2006/relationships}"
_MAX_CHART_POINTS = 200


def read_pptx(data: bytes, path: Path) -> Extracted:
    """Read a presentation; its title is that of its properties, else the first slide's."""
    check_expansion(data, path.name)
    presentation = _open(data, path.name)
    writer = TextWriter()
    hidden: list[int] = []
    for number, slide in enumerate(presentation.slides, start=1):
        writer.page()
        if slide.element.get("show") in ("0", "false"):
            hidden.append(number)
        else:
            _write_slide(writer, slide)
    properties = presentation.core_properties
    title = one_line(properties.title or "")
    if not title or title.lower() in ("powerpoint presentation", "powerpoint-präsentation", "présentation powerpoint"):
        title = next((heading.title for heading in writer.headings), "")
    return writer.extracted(
        title,
        metadata=named_values(
            ("author", properties.author), ("created", properties.created), ("modified", properties.modified)
        ),
        warnings=(f"hidden slides are not read: {', '.join(map(str, hidden))}",) if hidden else (),
    )


def _open(data: bytes, name: str) -> Any:
    import pptx
    from pptx.exc import PythonPptxError

    try:
        return pptx.Presentation(io.BytesIO(data))
    except (*DAMAGED, PythonPptxError, SyntaxError) as error:
        raise DocumentError(
            f"{name} is not a readable presentation (damaged or cut off)", hint="fetch the file again"
        ) from error


def _write_slide(writer: TextWriter, slide: Any) -> None:
    shapes = list(_shapes(slide.shapes))
    title = next((shape for shape in shapes if _placeholder(shape) in _TITLES and shape.has_text_frame), None)
    if title is not None:
        writer.heading(title.text_frame.text, 1)
    for shape in shapes:
        if shape is not title and _placeholder(shape) not in _FURNITURE:
            for text in _texts(shape):
                writer.block(text)
    if slide.has_notes_slide and slide.notes_slide.notes_text_frame is not None:
        notes = _lines(slide.notes_slide.notes_text_frame)
        writer.block(f"Notes: {notes}" if notes else "")


def _shapes(shapes: Any) -> Iterator[Any]:
    """Yield the visible shapes in reading order, those of groups in the group's place."""
    stack = list(reversed(list(shapes)))
    while stack:
        shape = stack.pop()
        if _is_hidden(shape):
            continue
        if shape.element.tag.endswith("}grpSp"):
            stack.extend(reversed(list(shape.shapes)))
        else:
            yield shape


def _is_hidden(shape: Any) -> bool:
    properties = next(shape.element.iter("{*}cNvPr"), None)
    return properties is not None and properties.get("hidden") in ("1", "true")


def _placeholder(shape: Any) -> str:
    return str(shape.placeholder_format.type.name) if shape.is_placeholder and shape.placeholder_format.type else ""


def _texts(shape: Any) -> Iterator[str]:
    if shape.has_text_frame:
        yield _lines(shape.text_frame)
    elif getattr(shape, "has_table", False):
        rows = ([_lines(cell.text_frame) for cell in row.cells] for row in shape.table.rows)
        yield "\n".join(filter(None, map(table_row, rows)))
    elif getattr(shape, "has_chart", False):
        yield "\n".join(_chart_lines(shape.chart))
    else:
        yield "\n".join(_diagram_lines(shape))


def _lines(frame: Any) -> str:
    paragraphs = ("".join(_runs(paragraph._p)) for paragraph in frame.paragraphs)
    lines = (" ".join(line.split()) for text in paragraphs for line in text.replace("\v", "\n").split("\n"))
    return "\n".join(filter(None, lines))


def _runs(paragraph: Any) -> Iterator[str]:
    for element in paragraph:
        if element.tag == f"{_A}br":
            yield "\n"
        else:
            yield from (node.text or "" for node in element.iter(f"{_A}t"))


def _chart_lines(chart: Any) -> Iterator[str]:
    """Yield a chart's title and, for every series, its values by category."""
    if chart.has_title and chart.chart_title.has_text_frame:
        yield "Chart: " + one_line(chart.chart_title.text_frame.text)
    for plot in chart.plots:
        categories = [str(category) for category in plot.categories]
        for series in plot.series:
            pairs = list(zip(categories, series.values, strict=False))[:_MAX_CHART_POINTS]
            points = "; ".join(f"{category}: {value:g}" for category, value in pairs if value is not None)
            if points:
                yield f"{one_line(series.name or '') or 'Series'}: {points}"


def _diagram_lines(shape: Any) -> Iterator[str]:
    """Yield the texts of a SmartArt diagram, which stand in a part of their own."""
    link = next(shape.element.iter(f"{{{_DIAGRAM}}}relIds"), None)
    if link is None:
        return
    from lxml import etree

    part = shape.part.related_part(link.get(f"{_R}dm"))
    root = etree.fromstring(part.blob, etree.XMLParser(resolve_entities=False, no_network=True))
    for point in root.iter(f"{{{_DIAGRAM}}}t"):
        text = " ".join("".join(node.text or "" for node in point.iter(f"{_A}t")).split())
        if text:
            yield text
