"""XML of any vocabulary → text in document order: titles as headings, paragraphs, short values as `Name: value`.

Expands no entity beyond a character's name, loads no DTD and fetches nothing. Knows no schema: what an element is
follows from its name, its text and its children.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

from doyen.documents.extracted import Extracted, TextWriter, named_values, one_line, table_row
from doyen.documents.html import extract_html, read_html
from doyen.errors import DocumentError

_TITLES = frozenset(
    "title name subject headline focus label heading head topic caption articletitle documenttitle doctitle booktitle "
    "pagetitle maintitle displayname productname".split()
)
_PARAGRAPHS = frozenset("p para paragraph text line item li simpara string value td entry body content".split())
_BREAKS = frozenset("p para paragraph br lb list item li table tr row sec section div title head lg l sp quote".split())
_NOISE = re.compile(r"(.*[_.-])?(id|idref|ref|refid|class|style|lang|space|version|type|schemalocation|pid|uuid|guid)")
_SHORT_CHARS = 120
_MAX_ROW_CHARS = 1_000
_MAX_LEVEL = 9
_LIST_IN_LINE = re.compile(r"[ \t]{3,}(?=[-•*] )")  # a list whose line ends were lost: "text    - one    - two"
_MARKUP = re.compile(r"</?(p|br|div|li|ul|b|i|a|span|h[1-6]|table)\b[^>]*>", re.IGNORECASE)
_NAMED_CHARACTER = re.compile(rb"&(?!(?:amp|lt|gt|quot|apos);)[A-Za-z][A-Za-z0-9]{1,30};")
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])|[_.-]+")


def read_xml(data: bytes, path: Path) -> Extracted:
    """Read an XML file; the title is that of the root element, else the first title in it.

    The root's attributes become metadata. Raises DocumentError where the file is not well-formed.
    """
    root = _parse(data, path.name)
    if _local(root) == "html":
        return read_html(data, path)
    writer = TextWriter()
    _write(writer, root)
    heading = writer.headings[0].title if writer.headings else ""
    title = one_line(_title_attribute(root)) or heading
    attributes = ((_words(_local_name(name)).lower(), value) for name, value in root.attrib.items())
    return writer.extracted(
        title, metadata=named_values(*((name, v) for name, v in attributes if name not in ("xsi",)))
    )


def _parse(data: bytes, name: str) -> Any:
    from lxml import etree

    parser = etree.XMLParser(
        resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False, remove_comments=True, remove_pis=True
    )
    try:
        return etree.fromstring(data, parser)
    except etree.XMLSyntaxError as error:
        if "Entity '" not in str(error):
            raise DocumentError(f"{name} is not well-formed XML: {' '.join(str(error).split())}"[:300]) from error
    try:  # HTML's names for characters are common where no DTD defines them
        return etree.fromstring(_NAMED_CHARACTER.sub(_numbered, data), parser)
    except etree.XMLSyntaxError as error:
        reason = " ".join(str(error).split())
        raise DocumentError(f"{name} is not well-formed XML: {reason}"[:300]) from error


def _numbered(match: re.Match[bytes]) -> bytes:
    character = html.unescape(match.group().decode("ascii"))
    return b"".join(b"&#%d;" % ord(c) for c in character) if not character.startswith("&") else match.group()


def _write(writer: TextWriter, root: Any) -> None:
    """Walk the elements in order; iterative, since nesting may exceed Python's stack."""
    stack: list[tuple[Any, int]] = [(root, 1)]
    run: list[Any] = []  # short values of one name that follow each other
    rows = 0
    tight = False  # whether the line before is a short value too
    while stack:
        element, level = stack.pop()
        if run and (element.tag != run[0].tag or element.getparent() is not run[0].getparent()):
            tight = _flush(writer, run, tight)
        kind = _kind(element)
        if kind == "value":
            run.append(element)
            continue
        tight = _flush(writer, run, tight)
        if kind == "row":
            rows += 1
            writer.record(str(rows), _row(element), tight=_follows_row(element))
        elif kind == "text":
            writer.block(_text(element))
        elif kind == "section":
            written = writer.length
            level = _open_section(writer, element, level)
            stack.extend((child, level) for child in reversed(element) if child.get(_USED) is None)
            if writer.length == written:
                continue
        tight = False
    _flush(writer, run, tight)


_USED = "{doyen}used"  # marks the child whose text stands as the heading of its parent


def _kind(element: Any) -> str:
    """Return what an element is: 'value' (a short leaf), 'text', 'row' (a record of values), 'section' or ''."""
    if not isinstance(element.tag, str):
        return ""
    text = element.text and not element.text.isspace()
    if not len(element):
        if not text:
            return "value" if _values(element) else ""
        long = len(element.text) > _SHORT_CHARS and len(element.text.strip()) > _SHORT_CHARS
        return "text" if long or "</" in element.text or _local(element) in _PARAGRAPHS else "value"
    if text or any(child.tail and not child.tail.isspace() for child in element):
        return "text"
    return "row" if _is_row(element) else "section"


def _is_row(element: Any) -> bool:
    """Tell whether an element is one of several of its name beside each other and holds only short values."""
    following, before = element.getnext(), element.getprevious()
    beside = (following is not None and following.tag == element.tag) or (
        before is not None and before.tag == element.tag
    )
    if not beside or len(element) < 2:
        return False
    if any(len(child) or not isinstance(child.tag, str) for child in element):
        return False
    if _is_uniform(element):
        return True
    if any(_local(child) in _PARAGRAPHS or "\n" in (child.text or "").strip() for child in element):
        return False
    return sum(len(child.text or "") for child in element) <= _MAX_ROW_CHARS


def _is_uniform(element: Any) -> bool:
    """Tell whether all children have one name, as the cells of a table's row."""
    return all(child.tag == element[0].tag for child in element)


def _follows_row(element: Any) -> bool:
    before = element.getprevious()
    return before is not None and before.tag == element.tag


def _row(element: Any) -> str:
    if _is_uniform(element) and not element.attrib:
        return table_row([_value(child) for child in element])
    own = [f"{_words(_local_name(name))}: {value}" for name, value in _values(element)]
    fields: dict[str, list[str]] = {}
    for child in element:
        if text := _value(child):
            fields.setdefault(_words(_local_name(child.tag)), []).append(text)
    return "; ".join([*own, *(f"{name}: {', '.join(texts)}" for name, texts in fields.items())])


def _value(element: Any) -> str:
    """Return the text of a leaf on one line, its attributes in brackets."""
    text = " ".join(_text(element).split())
    attributes = "; ".join(f"{_words(_local_name(name)).lower()}: {value}" for name, value in _values(element))
    return f"{text} ({attributes})" if text and attributes else text or attributes


def _flush(writer: TextWriter, run: list[Any], tight: bool) -> bool:
    """Write the short values that follow each other on one line; return whether a value was the last line."""
    if not run:
        return tight
    name, text = _words(_local_name(run[0].tag)), "; ".join(filter(None, map(_value, run)))
    run.clear()
    start = writer.block(f"{name}: {text}" if text else "", tight=tight)
    return start >= 0 or tight


def _open_section(writer: TextWriter, element: Any, level: int) -> int:
    """Write an element's title as heading and its telling attributes; return the level of its children."""
    title, used = _title_attribute(element), None
    for child in element:
        if title:
            break
        if isinstance(child.tag, str) and _local(child) in _TITLES and not len(child):
            text = one_line(child.text or "")
            if text and len(text) <= _SHORT_CHARS * 2 and any(map(str.isalpha, text)):
                title, used = text, child
    if used is not None:
        used.set(_USED, "1")
    if title:
        writer.heading(title, min(level, _MAX_LEVEL))
    attributes = [] if element.getparent() is None else [(n, v) for n, v in _values(element) if v != title]
    if attributes:
        writer.block("; ".join(f"{_words(_local_name(name))}: {value}" for name, value in attributes))
    return level + 1 if title else level


def _title_attribute(element: Any) -> str:
    for name in ("title", "name", "label", "subject", "headline"):
        value = " ".join((element.get(name) or "").split())
        if value and any(map(str.isalpha, value)):
            return str(value)
    return ""


def _values(element: Any) -> list[tuple[str, str]]:
    """Return the attributes that say something: no identifiers, no namespaces, no empty ones."""
    if not element.attrib:
        return []
    pairs = ((name, " ".join(value.split())) for name, value in element.attrib.items())
    return [(n, v) for n, v in pairs if v and n != _USED and not _NOISE.fullmatch(_local_name(n).lower())]


def _text(element: Any) -> str:
    """Return the text of an element and all in it, with its own line structure."""
    text = "".join(_pieces(element)) if len(element) else element.text or ""
    if "<" in text and _MARKUP.search(text):
        return extract_html(text).text
    return _reflow(text)


def _pieces(element: Any) -> Iterator[str]:
    """Yield the pieces of mixed content, with a line break around elements that are blocks by their name."""
    stack: list[Any] = [element]
    while stack:
        node = stack.pop()
        if isinstance(node, str):
            yield node
        elif not isinstance(node.tag, str):
            yield html.unescape(node.text or "")  # an entity that the file does not define, such as &nbsp;
        else:
            is_block = _local(node) in _BREAKS and node is not element
            stack.append("\n\n" if is_block else "")
            for child in reversed(node):
                stack.extend((child.tail or "", child))
            stack.append(("\n\n" if is_block else "") + (node.text or ""))


def _reflow(text: str) -> str:
    """Return the text with its paragraphs and lists, without the indentation and the line ends of pretty-printing."""
    if "\n" not in text and "   " not in text:
        return text.strip()
    lines: list[str] = []
    for raw in _LIST_IN_LINE.sub("\n", text).split("\n"):
        line = " ".join(raw.split())
        if line and lines and lines[-1] and line[0].islower() and lines[-1][-1] not in ".:;!?":
            lines[-1] += " " + line
        elif line or (lines and lines[-1]):
            lines.append(line)
    return "\n".join(lines).strip()


def _local(element: Any) -> str:
    return _key(element.tag)


@lru_cache(maxsize=4096)
def _key(tag: str) -> str:
    return re.sub(r"[_.-]", "", _local_name(tag)).lower()


@lru_cache(maxsize=4096)
def _local_name(tag: str) -> str:
    return tag.rpartition("}")[2]


@lru_cache(maxsize=4096)
def _words(name: str) -> str:
    """Return a name as words: `SemanticGroup` → `Semantic group`, `unit_price` → `Unit price`."""
    words = [word if word.isupper() and len(word) > 1 else word.lower() for word in _CAMEL.split(name) if word]
    text = " ".join(words) or name
    return text[0].upper() + text[1:]
