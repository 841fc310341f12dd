"""PDF bytes → a DocumentError for one that would make PDFium draw without end.

PDFium follows forms (drawings within drawings) 40 levels deep; forms that draw themselves or each other several times
grow with that power and take all of the machine's memory before a page is open. This looks at the file's bytes alone, so
resources in compressed object streams are not seen: limit memory and time of a process that reads strangers' files.
"""

from __future__ import annotations

import re
import zlib
from collections import Counter, defaultdict

from doyen.errors import DocumentError

MAX_DRAWN_FORMS = 100_000
_LEVELS = 40
_MAX_DICTIONARY = 20_000
_MAX_CONTENT = 1_000_000
_MAX_FORMS = 50_000
_FORM = re.compile(rb"/Subtype\s*/Form\b")
_OBJECT = re.compile(rb"(\d{1,9})\s+\d{1,5}\s+obj\b")
_STREAM = re.compile(rb"\bstream\r?\n")
_NAMED = re.compile(rb"/([^\s/<>\[\]()]+)\s+(\d{1,9})\s+\d{1,5}\s+R\b")
_DRAWN = re.compile(rb"/([^\s/<>\[\]()]+)\s+Do\b")

Edges = dict[int, Counter[int]]


def refuse_endless_forms(data: bytes, name: str) -> None:
    """Raise DocumentError where one form would draw more than a hundred thousand others."""
    edges = _edges(data)
    if not any(edges.values()):
        return
    drawn = dict.fromkeys(edges, 1)
    for _ in range(_LEVELS):
        counts = {form: 1 + sum(n * drawn.get(child, 0) for child, n in edges[form].items()) for form in edges}
        if max(counts.values()) > MAX_DRAWN_FORMS:
            raise DocumentError(
                f"{name} has drawings that draw themselves without end", hint="print it to a new PDF and ingest that"
            )
        if counts == drawn:
            return
        drawn = counts


def _edges(data: bytes) -> Edges:
    """Return for every form how often it draws which others."""
    bodies: dict[int, list[tuple[bytes, int]]] = defaultdict(list)
    for count, match in enumerate(_FORM.finditer(data)):
        if count >= _MAX_FORMS:
            break
        window = max(0, match.start() - _MAX_DICTIONARY)
        heads = list(_OBJECT.finditer(data, window, match.start()))
        stream = _STREAM.search(data, match.end(), match.end() + _MAX_DICTIONARY)
        if heads and stream:
            bodies[int(heads[-1][1])].append((data[heads[-1].end() : stream.start()], stream.end()))
    drawn = {
        form: [(body, names) for body, start in found if (names := _names(data, body, start))]
        for form, found in bodies.items()
    }
    if not any(drawn.values()):
        return {}
    places = {int(m[1]): m.end() for m in _OBJECT.finditer(data)}
    edges: Edges = {form: Counter() for form in bodies}
    for form, found in drawn.items():
        for body, names in found:
            objects = _objects(data, body, places)
            edges[form].update(objects[name] for name in names if objects.get(name) in bodies)
    return edges


def _names(data: bytes, body: bytes, start: int) -> list[bytes]:
    """Return the name in each drawing operator of a form."""
    return [match[1] for match in _DRAWN.finditer(_content(data, body, start))]


def _objects(data: bytes, body: bytes, places: dict[int, int]) -> dict[bytes, int]:
    """Return the objects that a form has names for."""
    names: dict[bytes, int] = {}
    dictionary = body
    for _ in range(3):  # the resources may be an object of their own, and the list of drawings in them too
        found = {m[1]: int(m[2]) for m in _NAMED.finditer(dictionary)}
        names |= found
        followed = [places[found[key]] for key in (b"Resources", b"XObject") if found.get(key) in places]
        dictionary = b" ".join(data[at : at + _MAX_DICTIONARY].split(b"endobj")[0] for at in followed)
    return names


def _content(data: bytes, body: bytes, start: int) -> bytes:
    raw = data[start : start + _MAX_CONTENT]
    if b"FlateDecode" in body or b"/Fl " in body:
        try:
            return zlib.decompressobj().decompress(raw, _MAX_CONTENT)
        except zlib.error:
            return b""
    return raw.split(b"endstream")[0]
