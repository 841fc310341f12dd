"""DOCX → text in body order: paragraphs, lists, tables, heading styles, notes. Word files carry no fixed pages.

A footnote or endnote follows the block that refers to it. Comments are left out: they are talk about the text.
"""

from __future__ import annotations

import contextlib
import io
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from doyen.documents.extracted import Extracted, clean_block, named_values, one_line, table_row
from doyen.documents.zipped import DAMAGED, check_expansion
from doyen.errors import DocumentError
from doyen.records import Heading, Table

_HEADING_STYLE = re.compile(r"heading (\d)", re.IGNORECASE)
_W = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"
_FALLBACK = "{http://schemas.openxmlformats.org/markup-compatibility/2006}Fallback"
_NOT_TEXT = frozenset((_FALLBACK, f"{_W}pPr", f"{_W}del", f"{_W}moveFrom"))
_MAX_ELEMENTS = 4_000_000  # of the main part; a book of 1,000 pages has about one million, and each costs 400 bytes
_NOTES = {"footnoteReference": "footnote", "endnoteReference": "endnote"}
_PIECE = 1 << 20
_BREAKS = {f"{_W}tab": "\t", f"{_W}br": "\n", f"{_W}cr": "\n", f"{_W}noBreakHyphen": "-"}


def read_docx(data: bytes, path: Path) -> Extracted:
    """Read a Word document; the title is that of the Title style, else of the properties, else the first heading."""
    document = _open(data, path.name)
    parts: list[str] = []
    headings: list[Heading] = []
    tables: list[Table] = []
    title = ""
    length = 0
    tight = False  # list items follow each other without a blank line
    for text, style in _blocks(document):
        is_item = style == "list"
        separator = "" if not parts else "\n" if tight and is_item else "\n\n"
        if style == "title":
            title = title or one_line(text)
        elif match := _HEADING_STYLE.match(style):
            headings.append(Heading(length + len(separator), int(match.group(1)), one_line(text)))
        elif style == "table":
            start = length + len(separator)
            tables.append(Table(start, start + len(text), text.partition("\n")[0]))
        parts.append(separator + text)
        length += len(separator) + len(text)
        tight = is_item
    properties = document.core_properties
    title = title or one_line(clean_block(properties.title or ""))
    title = title or next((h.title for h in headings if h.level == 1), "")
    dates = ("created", properties.created), ("modified", properties.modified)
    metadata = named_values(("author", properties.author), *dates)
    return Extracted("".join(parts), title, headings=tuple(headings), tables=tuple(tables), metadata=metadata)


def _open(data: bytes, name: str) -> Any:
    import docx
    from docx.opc.exceptions import OpcError

    check_expansion(data, name)
    _refuse_endless(data, name)
    try:
        return docx.Document(io.BytesIO(data))
    except (*DAMAGED, OpcError, SyntaxError) as error:
        raise DocumentError(
            f"{name} is not a readable Word document (damaged or cut off)", hint="fetch the file again"
        ) from error


def _refuse_endless(data: bytes, name: str) -> None:
    """Refuse a document of more elements than fit in memory, before a tree of them is built."""
    with contextlib.suppress(*DAMAGED), zipfile.ZipFile(io.BytesIO(data)) as archive:
        for member in (m for m in archive.namelist() if m.endswith(".xml")):
            with archive.open(member) as xml:
                elements = 0
                while piece := xml.read(_PIECE):
                    elements += piece.count(b"<") - piece.count(b"</")
                    if elements > _MAX_ELEMENTS:
                        raise DocumentError(
                            f"{name} has more than {_MAX_ELEMENTS:,} elements in {member}", hint="split the file"
                        )


def _blocks(document: Any) -> Iterator[tuple[str, str]]:
    """Yield the text and the kind of every non-empty block: 'title', 'heading N', 'list', 'table', 'note' or ''."""
    notes = _notes(document)
    for element in _block_elements(document.element.body):
        if element.tag == f"{_W}tbl":
            text, kind = "\n".join(_rows(element)), "table"
        else:
            text, kind = _paragraph_text(element), _paragraph_kind(element, document)
        if text.strip():
            yield "- " + text if kind == "list" else text, kind
        for reference in element.iter(*(f"{_W}{name}" for name in _NOTES)) if notes else ():
            note = notes.pop((_NOTES[reference.tag.removeprefix(_W)], reference.get(f"{_W}id", "")), "")
            if note:
                yield note, "note"


def _notes(document: Any) -> dict[tuple[str, str], str]:
    """Return the texts of footnotes and endnotes by (kind, id); python-docx has no interface for them."""
    from docx.opc.constants import RELATIONSHIP_TYPE
    from lxml import etree

    found: dict[tuple[str, str], str] = {}
    kinds = {RELATIONSHIP_TYPE.FOOTNOTES: "footnote", RELATIONSHIP_TYPE.ENDNOTES: "endnote"}
    for relation in document.part.rels.values():
        kind = kinds.get(relation.reltype)
        if kind is None or relation.is_external:
            continue
        try:
            root = etree.fromstring(relation.target_part.blob, etree.XMLParser(resolve_entities=False, no_network=True))
        except (etree.XMLSyntaxError, ValueError):
            continue  # damaged notes do not cost the text
        for note in root.iter(f"{_W}{kind}"):
            texts = (_paragraph_text(paragraph) for paragraph in note.iter(f"{_W}p"))
            text = " ".join(" ".join(texts).split())
            if text and note.get(f"{_W}type", "normal") == "normal":
                found[kind, note.get(f"{_W}id", "")] = f"{kind.capitalize()}: {text}"
    return found


def _block_elements(parent: Any) -> Iterator[Any]:
    """Yield paragraphs and tables in order, those inside content controls and tracked insertions too."""
    stack = list(reversed(parent))
    while stack:
        element = stack.pop()
        if element.tag in (f"{_W}p", f"{_W}tbl"):
            yield element
        elif element.tag in (f"{_W}sdt", f"{_W}sdtContent", f"{_W}ins", f"{_W}customXml"):
            stack.extend(reversed(element))


def _paragraph_text(element: Any) -> str:
    r"""Return the visible text: runs, hyperlinks, insertions; no deletions, no hidden runs, no fallback drawings."""
    pieces: list[str] = []
    stack = [element]
    while stack:
        node = stack.pop()
        if node.tag == f"{_W}t":
            pieces.append(node.text or "")
        elif node.tag in _BREAKS:
            pieces.append(_BREAKS[node.tag])
        elif node.tag not in _NOT_TEXT and not _is_hidden(node):
            stack.extend(reversed(node))
    lines = (" ".join(line.split()) for line in "".join(pieces).split("\n"))
    return "\n".join(line for line in lines if line)


def _is_hidden(run: Any) -> bool:
    """Tell whether a run is formatted as hidden (`w:vanish`); what follows a style is not looked up."""
    mark = run.find(f"{_W}rPr/{_W}vanish") if run.tag == f"{_W}r" else None
    return mark is not None and mark.get(f"{_W}val", "1") not in ("0", "false", "off")


def _paragraph_kind(element: Any, document: Any) -> str:
    from docx.text.paragraph import Paragraph

    style = Paragraph(element, document).style
    name = (style.name or "").lower() if style is not None else ""
    if name == "title" or _HEADING_STYLE.match(name):
        return name
    numbered = element.find(f"{_W}pPr/{_W}numPr") is not None
    return "list" if numbered or name.startswith("list ") else ""


def _rows(table: Any) -> Iterator[str]:
    for row in table.iter(f"{_W}tr"):
        if next(row.iterancestors(f"{_W}tbl")) is not table:
            continue  # a row of a nested table: already part of its cell's text
        text = table_row([_cell_text(cell) for cell in row.iter(f"{_W}tc") if _is_cell_of(cell, row)])
        if text.strip("| "):
            yield text


def _is_cell_of(cell: Any, row: Any) -> bool:
    return next(cell.iterancestors(f"{_W}tr")) is row


def _cell_text(cell: Any) -> str:
    """Return the text of a cell on one line; a cell that continues the one above is empty."""
    merge = cell.find(f"{_W}tcPr/{_W}vMerge")
    if merge is not None and merge.get(f"{_W}val", "continue") == "continue":
        return ""
    return " ".join(_paragraph_text(paragraph) for paragraph in cell.iter(f"{_W}p"))
