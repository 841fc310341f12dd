"""EPUB → the chapters of the book in reading order, each read as HTML. Books with copy protection are refused."""

from __future__ import annotations

import posixpath
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from doyen.documents.extracted import Extracted, TextWriter, named_values, one_line
from doyen.documents.html import read_html
from doyen.documents.zipped import DAMAGED, check_expansion, open_zip
from doyen.errors import DocumentError

_CHAPTERS = ("application/xhtml+xml", "text/html", "application/x-dtbook+xml")
_FONT_OBFUSCATION = ("http://www.idpf.org/2008/embedding", "http://ns.adobe.com/pdf/enc#RC")
_MAX_CHAPTER_BYTES = 64 << 20


def read_epub(data: bytes, path: Path) -> Extracted:
    """Read a book; title, author, date, language and publisher are those of its package document."""
    check_expansion(data, path.name)
    writer, warnings = TextWriter(), []
    with open_zip(data, path.name, "EPUB book") as archive:
        _refuse_protected(archive, path.name)
        place, package = _package(archive, path.name)
        for name in _spine(package, posixpath.dirname(place)):
            try:
                content = archive.read(name)[:_MAX_CHAPTER_BYTES]
                writer.insert(read_html(content, Path(posixpath.basename(name))))
            except (*DAMAGED, DocumentError):
                warnings.append(f"chapter {name} cannot be read")
    values = {name: _value(package, name) for name in ("title", "creator", "date", "language", "publisher")}
    metadata = named_values(("author", values["creator"]), *((n, values[n]) for n in ("date", "language", "publisher")))
    return writer.extracted(values["title"], metadata=metadata, warnings=tuple(warnings))


def _refuse_protected(archive: zipfile.ZipFile, name: str) -> None:
    encryption = _xml(archive, "META-INF/encryption.xml")
    if encryption is None:
        return
    methods = (element.get("Algorithm", "") for element in encryption.iter("{*}EncryptionMethod"))
    if any(method not in _FONT_OBFUSCATION for method in methods):
        raise DocumentError(f"{name} is copy-protected", hint="get an edition without protection")


def _package(archive: zipfile.ZipFile, name: str) -> tuple[str, Any]:
    """Return the path of the package document in the archive, and its root element."""
    container = _xml(archive, "META-INF/container.xml")
    root = next(container.iter("{*}rootfile"), None) if container is not None else None
    place = unquote(root.get("full-path", "")) if root is not None else ""
    package = _xml(archive, place)
    if package is None:
        raise DocumentError(f"{name} is not a readable EPUB book (damaged or cut off)", hint="fetch the file again")
    return place, package


def _xml(archive: zipfile.ZipFile, name: str) -> Any:
    """Return the root element of a member, None where it is missing or damaged."""
    from lxml import etree

    try:
        return etree.fromstring(archive.read(name), etree.XMLParser(resolve_entities=False, no_network=True))
    except (*DAMAGED, etree.XMLSyntaxError):
        return None


def _spine(package: Any, folder: str) -> Iterator[str]:
    """Yield the archive's names of the chapters in reading order, without the table of contents."""
    items = {item.get("id"): item for item in package.iter("{*}item")}
    seen: set[str] = set()
    for reference in package.iter("{*}itemref"):
        item = items.get(reference.get("idref"))
        if item is None or item.get("media-type") not in _CHAPTERS or "nav" in (item.get("properties") or "").split():
            continue
        name = posixpath.normpath(posixpath.join(folder, unquote(item.get("href", "").partition("#")[0])))
        if name not in seen:
            seen.add(name)
            yield name


def _value(package: Any, name: str) -> str:
    texts = (
        one_line("".join(element.itertext())) for element in package.iter(f"{{http://purl.org/dc/elements/1.1/}}{name}")
    )
    found = [text for text in texts if text]
    return ", ".join(found) if name == "creator" else next(iter(found), "")
