"""HTML → visible text, one block a line, with headings and table rows. Runs no script and fetches nothing."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from doyen.documents.extracted import Extracted, clean_block, one_line, table_row
from doyen.documents.plain import clean_text, decode_text, refuse_binary
from doyen.records import Heading

_META_CHARSET = re.compile(rb"<meta[^>]{0,200}?charset\s*=\s*[\"']?\s*([A-Za-z0-9_.:-]+)", re.IGNORECASE)
# The WHATWG encoding standard reads these labels as their supersets.
_SUPERSETS = {"iso-8859-1": "cp1252", "latin1": "cp1252", "us-ascii": "cp1252", "ascii": "cp1252", "gb2312": "gb18030"}
_HIDDEN = frozenset("script style noscript template nav head svg iframe object select".split())
_PARAGRAPHS = frozenset(
    "p h1 h2 h3 h4 h5 h6 table ul ol dl pre blockquote section article aside main header footer form hr figure".split()
)
_LINES = frozenset("div li tr dt dd br caption legend address figcaption details summary body option".split())
_HEADINGS = {f"h{level}": level for level in range(1, 7)}
_CELLS = frozenset(("td", "th"))
# XHTML lets any element be empty; in HTML `<title/>` would open a title that takes in the whole page.
_XHTML_EMPTY = re.compile(
    r"<(title|script|style|a|p|div|span|i|b|em|strong|u|td|th|tr|li|h[1-6]|iframe|textarea|section)\b([^<>]*)/>",
    re.IGNORECASE,
)
_DISPLAY_NONE = re.compile(r"display\s*:\s*none", re.IGNORECASE)


def read_html(data: bytes, path: Path) -> Extracted:
    """Read an HTML file; the title is that of the head, else the first h1."""
    return extract_html(_decode(data, path.name))


def extract_html(markup: str) -> Extracted:
    """Extract what a browser would show of the markup."""
    from selectolax.lexbor import LexborHTMLParser

    markup = clean_text(markup).replace("\f", " ")
    if markup.lstrip().startswith("<?xml"):
        markup = _XHTML_EMPTY.sub(r"<\1\2></\1>", markup)
    tree = LexborHTMLParser(markup)
    named = tree.css_first("head > title")
    writer = _Writer()
    if tree.root is not None:
        _walk(tree.root, writer, _layout_tables(tree.root))
    writer.end_line()
    title = one_line(clean_block(named.text())) if named is not None else ""
    title = title or next((h.title for h in writer.headings if h.level == 1), "")
    return Extracted("".join(writer.parts), title, headings=tuple(writer.headings))


def _decode(data: bytes, name: str) -> str:
    match = _META_CHARSET.search(data[:4096])
    if match and not data.startswith((b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")):
        refuse_binary(data, name)
        label = match.group(1).decode("ascii").lower()
        try:
            return data.decode(_SUPERSETS.get(label, label))
        except (LookupError, UnicodeDecodeError):
            pass  # the label is wrong; the bytes decide
    return decode_text(data, name)


class _Writer:
    """Collects lines; knows where it is in a heading, a preformatted block or a table row."""

    def __init__(self) -> None:
        self.parts: list[str] = []
        self.headings: list[Heading] = []
        self.length = 0
        self.line: list[str] = []
        self.cells: list[list[str]] | None = None  # the open table row
        self.bullet = False
        self.paragraph = False  # a blank line is due before the next line
        self.preformatted = 0
        self.in_heading = False

    def write(self, text: str) -> None:
        if self.cells is not None:
            if not self.cells:
                self.cells.append([])
            self.cells[-1].append(text)
        else:
            self.line.append(text)

    def end_line(self, paragraph: bool = False, level: int = 0) -> None:
        """Close the line; inside a table row a block only parts words."""
        if self.cells is not None:
            self.write(" ")
            return
        raw = "".join(self.line)
        text = raw.strip("\n").rstrip() if self.preformatted else " ".join(raw.split())
        self.line.clear()
        if text.strip():
            self._emit("- " + text if self.bullet else text, level)
            self.bullet = False
        self.paragraph = self.paragraph or paragraph

    def end_row(self) -> None:
        cells, self.cells = self.cells or [], None
        row = table_row(["".join(cell) for cell in cells])
        if row.strip("| "):
            self._emit(row, 0)

    def _emit(self, text: str, level: int) -> None:
        text = clean_block(text)  # a character reference such as &#1; may name any character
        if not text:
            return
        separator = ("\n\n" if self.paragraph else "\n") if self.parts else ""
        if level:
            self.headings.append(Heading(self.length + len(separator), level, one_line(text)))
        self.parts.append(separator + text)
        self.length += len(separator) + len(text)
        self.paragraph = False


def _walk(root: Any, writer: _Writer, layout: set[int]) -> None:
    tables: list[bool] = []  # for every open table: does it hold data?
    for node, entering in _events(root):
        tag = node.tag
        if tag == "-text":
            if entering:
                writer.write(node.text_content or "")
        elif tag == "table":
            writer.end_line(paragraph=True)
            if entering:
                tables.append(node.mem_id not in layout)
            else:
                tables.pop()
        elif tables and tables[-1] and (tag == "tr" or tag in _CELLS):
            _row(tag, writer, entering)
        else:
            _block(tag or "", writer, entering)


def _row(tag: str, writer: _Writer, entering: bool) -> None:
    if tag == "tr" and entering:
        writer.end_line()
        writer.cells = []
    elif tag == "tr":
        writer.end_row()
    elif entering and writer.cells is not None:
        writer.cells.append([])


def _block(tag: str, writer: _Writer, entering: bool) -> None:
    if writer.in_heading and tag not in _HEADINGS:
        if tag in _PARAGRAPHS or tag in _LINES:
            writer.write(" ")
    elif tag in _PARAGRAPHS:
        writer.end_line(paragraph=True, level=0 if entering else _HEADINGS.get(tag, 0))
        writer.in_heading = entering and tag in _HEADINGS and writer.cells is None
        writer.preformatted += (1 if entering else -1) if tag == "pre" else 0
    elif tag in _LINES or tag in _CELLS:
        writer.end_line()
        if tag == "li":
            writer.bullet = entering


def _layout_tables(root: Any) -> set[int]:
    """Return the ids of tables that hold tables: layout, whose cells are blocks."""
    layout: set[int] = set()
    open_tables: list[int] = []
    for node, entering in _events(root):
        if node.tag == "table" and entering:
            layout.update(open_tables[-1:])
            open_tables.append(node.mem_id)
        elif node.tag == "table":
            open_tables.pop()
    return layout


def _events(root: Any) -> Iterator[tuple[Any, bool]]:
    """Yield every visible node on entering and on leaving; iterative, since nesting may exceed Python's stack."""
    node, depth = root, 0
    while True:
        visible = not _is_hidden(node)
        if visible:
            yield node, True
        child = node.child if visible else None
        if child is not None:
            node, depth = child, depth + 1
            continue
        if visible:
            yield node, False
        while depth and node.next is None:
            node, depth = node.parent, depth - 1
            yield node, False
        if not depth:
            return
        node = node.next


def _is_hidden(node: Any) -> bool:
    tag = node.tag
    if tag in _HIDDEN or tag in ("-comment", "!doctype"):
        return True
    if tag == "-text":
        return False
    attributes = node.attributes
    return "hidden" in attributes or bool(_DISPLAY_NONE.search(attributes.get("style") or ""))
