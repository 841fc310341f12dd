"""ODT → text in body order: headings, paragraphs, lists, tables. Tracked deletions and hidden text are left out."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from doyen.documents.extracted import Extracted, TextWriter, named_values, one_line, table_row
from doyen.documents.zipped import DAMAGED, check_expansion, open_zip
from doyen.errors import DocumentError

_OFFICE = "{urn:oasis:names:tc:opendocument:xmlns:office:1.0}"
_TEXT = "{urn:oasis:names:tc:opendocument:xmlns:text:1.0}"
_TABLE = "{urn:oasis:names:tc:opendocument:xmlns:table:1.0}"
_DC = "{http://purl.org/dc/elements/1.1/}"
_META = "{urn:oasis:names:tc:opendocument:xmlns:meta:1.0}"
_SKIPPED = frozenset(
    (f"{_TEXT}tracked-changes", f"{_TEXT}table-of-content", f"{_TEXT}hidden-text", f"{_OFFICE}annotation")
)
_SPACES = {f"{_TEXT}tab": "\t", f"{_TEXT}line-break": "\n", f"{_TEXT}s": " "}


def read_odt(data: bytes, path: Path) -> Extracted:
    """Read an OpenDocument text; the title is that of its properties, else of the Title style, else the first h1."""
    check_expansion(data, path.name)
    content, meta = _parts(data, path.name)
    writer = TextWriter()
    styled_title = ""
    for element, depth in _blocks(content):
        if element.tag == f"{_TEXT}h":
            level = element.get(f"{_TEXT}outline-level", "1")
            writer.heading(_text(element), min(int(level), 9) if level.isdecimal() else 1)
        elif element.tag == f"{_TABLE}table":
            writer.block("\n".join(_rows(element)))
        else:
            text = _text(element)
            if element.get(f"{_TEXT}style-name") == "Title":
                styled_title = styled_title or one_line(text)
            writer.block(f"- {text}" if depth and text else text, tight=bool(depth))
    title = _value(meta, f"{_DC}title") or styled_title
    title = title or next((h.title for h in writer.headings if h.level == 1), "")
    author = _value(meta, f"{_DC}creator") or _value(meta, f"{_META}initial-creator")
    dates = ("created", _value(meta, f"{_META}creation-date")), ("modified", _value(meta, f"{_DC}date"))
    return writer.extracted(title, metadata=named_values(("author", author), *dates))


def _parts(data: bytes, name: str) -> tuple[Any, Any]:
    """Return the body and the properties (None without) as elements."""
    from lxml import etree

    parser = etree.XMLParser(resolve_entities=False, no_network=True, remove_comments=True, remove_pis=True)
    with open_zip(data, name, "OpenDocument file") as archive:
        try:
            content = etree.fromstring(archive.read("content.xml"), parser).find(f"{_OFFICE}body")
            meta = etree.fromstring(archive.read("meta.xml"), parser) if "meta.xml" in archive.namelist() else None
        except (*DAMAGED, etree.XMLSyntaxError) as error:
            raise DocumentError(
                f"{name} is not a readable OpenDocument file (damaged, cut off or encrypted)",
                hint="fetch the file again, or save a copy without a password",
            ) from error
    return (content if content is not None else etree.Element("empty")), meta


def _value(meta: Any, tag: str) -> str:
    element = next(meta.iter(tag), None) if meta is not None else None
    return one_line(element.text or "") if element is not None else ""


def _blocks(body: Any) -> Iterator[tuple[Any, int]]:
    """Yield headings, paragraphs and tables in order, each with the number of lists around it."""
    stack = [(body, 0)]
    while stack:
        element, depth = stack.pop()
        if element.tag in (f"{_TEXT}h", f"{_TEXT}p", f"{_TABLE}table"):
            yield element, depth
        elif element.tag not in _SKIPPED:
            inner = depth + (element.tag == f"{_TEXT}list")
            stack.extend((child, inner) for child in reversed(element))


def _text(element: Any) -> str:
    """Return the text of a paragraph, lines and tabs kept."""
    pieces: list[str] = []
    stack: list[Any] = [element]
    while stack:
        node = stack.pop()
        if isinstance(node, str):
            pieces.append(node)
            continue
        if node.tag in _SKIPPED or not isinstance(node.tag, str):
            continue
        pieces.append(_SPACES.get(node.tag, ""))
        for child in reversed(node):
            stack.extend((child.tail or "", child))
        stack.append(node.text or "")
    lines = (" ".join(line.split()) for line in "".join(pieces).split("\n"))
    return "\n".join(filter(None, lines))


def _rows(table: Any) -> Iterator[str]:
    for row in table.iter(f"{_TABLE}table-row"):
        cells = [child for child in row if child.tag == f"{_TABLE}table-cell"]
        text = table_row([" ".join(_text(p) for p in cell.iter(f"{_TEXT}p")) for cell in cells])
        if text.strip("| "):
            yield text
