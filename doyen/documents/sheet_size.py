"""Spreadsheet bytes → the cells of the rectangle around each sheet's cells, before a library allocates all of it.

Two cells in opposite corners of a sheet make calamine ask for 400 GB, and a failed allocation ends the process.
"""

from __future__ import annotations

import io
import re
import struct
import zipfile
from collections.abc import Iterator
from typing import Any

from doyen.documents.compound import OLE_DAMAGED
from doyen.documents.signature import OLE_MAGIC
from doyen.documents.zipped import DAMAGED
from doyen.errors import DocumentError

MAX_CELLS = 17_000_000  # a full sheet of Excel 97 has 16.8 million
_CELL = re.compile(rb'<(?:\w+:)?c [^>]*?r="([A-Z]{1,3})\d')
_ROW = re.compile(rb'<(?:\w+:)?row [^>]*?r="(\d{1,7})"')
_HIDDEN = re.compile(
    rb'<(?:\w+:)?(?:row|col) [^>]*?hidden="(?:1|true)"'
    rb'|<table:table-(?:row|column) [^>]*?table:visibility="(?:collapse|filter)"'
)
_TEXT = "{urn:oasis:names:tc:opendocument:xmlns:text:1.0}"
_TABLE = "{urn:oasis:names:tc:opendocument:xmlns:table:1.0}"
# Records of BIFF8 ([MS-XLS] 2.4) that begin with a row and a column, and four others that matter here.
_CELL_RECORDS = frozenset((0x0006, 0x00FD, 0x0203, 0x0204, 0x0205, 0x0206, 0x027E, 0x0406))
_MULTIPLE_RK, _STRINGS, _DIMENSIONS, _SHEET_START = 0x00BD, 0x00FC, 0x0200, 0x0809


def check_sheets(data: bytes, name: str) -> None:
    """Raise DocumentError where a sheet does not fit in memory; a damaged file is left to its reader."""
    rectangles = _old_workbook(data) if data.startswith(OLE_MAGIC) else _zipped_workbook(data)
    for cells in rectangles:
        if cells > MAX_CELLS:
            raise DocumentError(
                f"{name} has a sheet of {cells:,} cells or spaces, more than {MAX_CELLS:,}",
                hint="save the part that matters as .csv",
            )


def _zipped_workbook(data: bytes) -> Iterator[int]:
    try:
        archive = zipfile.ZipFile(io.BytesIO(data))
    except DAMAGED:
        return
    with archive:
        for member in archive.namelist():
            if member == "content.xml":
                yield from _open_document(read_member(archive, member))
            elif member.endswith(".xml") and "worksheets/" in member:
                yield _office(read_member(archive, member))


def has_hidden_cells(data: bytes) -> bool:
    """Return whether a visible or hidden sheet of a zipped workbook has rows or columns that are not shown."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            sheets = (
                m for m in archive.namelist() if m == "content.xml" or ("worksheets/" in m and m.endswith(".xml"))
            )
            return any(_HIDDEN.search(read_member(archive, sheet)) for sheet in sheets)
    except DAMAGED:
        return False


def read_member(archive: zipfile.ZipFile, name: str) -> bytes:
    """Return a member's bytes, none where it is missing or damaged: its reader says so."""
    try:
        return archive.read(name)
    except DAMAGED:
        return b""


def _office(xml: bytes) -> int:
    columns = {_column_number(column) for column in set(_CELL.findall(xml))}
    rows = [int(row) for row in _ROW.findall(xml)]
    width = max(columns) - min(columns) + 1 if columns else 1
    return width * (max(rows) - min(rows) + 1) if rows else 0


def _column_number(letters: bytes) -> int:
    number = 0
    for letter in letters:
        number = number * 26 + letter - 64
    return number


def _open_document(xml: bytes) -> Iterator[int]:
    from lxml import etree

    try:
        root = etree.fromstring(xml, etree.XMLParser(resolve_entities=False, no_network=True))
    except (etree.XMLSyntaxError, ValueError):
        return  # damaged, or nested beyond reason: calamine says so
    yield sum(_number(space.get(f"{_TEXT}c", "1")) for space in root.iter(f"{_TEXT}s"))  # calamine writes them out
    for table in root.iter(f"{_TABLE}table"):
        height = last = width = 0
        for row in table.iter(f"{_TABLE}table-row"):
            height += _repeated(row, "rows")
            column = 0
            for cell in row:
                column += _repeated(cell, "columns")
                if len(cell) or cell.text:
                    last, width = height, max(width, column)
        yield last * width


def _repeated(element: Any, what: str) -> int:
    return _number(element.get(f"{_TABLE}number-{what}-repeated", "1"))


def _number(count: str) -> int:
    return int(count[:12]) if count.isdecimal() else 1


def _old_workbook(data: bytes) -> Iterator[int]:
    import olefile

    try:
        with olefile.OleFileIO(io.BytesIO(data)) as ole:
            name = next((name for name in ("Workbook", "Book") if ole.exists(name)), "")
            stream = ole.openstream(name).read() if name else b""
    except OLE_DAMAGED:
        return  # calamine says what is wrong
    first_row = first_column = 0x10000
    last_row = last_column = -1
    for kind, place, size in _records(stream):
        if kind == _SHEET_START:
            yield max(0, last_row - first_row + 1) * max(0, last_column - first_column + 1)
            first_row = first_column = 0x10000
            last_row = last_column = -1
        elif kind == _STRINGS and size >= 8 and struct.unpack_from("<I", stream, place + 4)[0] > len(stream):
            yield struct.unpack_from("<I", stream, place + 4)[0]  # more shared strings than bytes
        elif kind == _DIMENSIONS:
            yield _claimed(stream[place : place + size])
        elif (kind in _CELL_RECORDS or kind == _MULTIPLE_RK) and size >= 6:
            row, column = struct.unpack_from("<HH", stream, place)
            end = struct.unpack_from("<H", stream, place + size - 2)[0] if kind == _MULTIPLE_RK else column
            first_row, last_row = min(first_row, row), max(last_row, row)
            first_column, last_column = min(first_column, column), max(last_column, end)
    yield max(0, last_row - first_row + 1) * max(0, last_column - first_column + 1)


def _claimed(dimensions: bytes) -> int:
    """Return the cells of the area that a sheet claims; calamine asks for the memory at once."""
    if len(dimensions) < 10:
        return 0
    first_row, last_row, first_column, last_column = struct.unpack_from(
        "<IIHH" if len(dimensions) >= 14 else "<HHHH", dimensions
    )
    if first_row > last_row or first_column > last_column:
        return MAX_CELLS + 1 if last_row or last_column else 0
    return int((last_row - first_row + 1) * (last_column - first_column + 1))


def _records(stream: bytes) -> Iterator[tuple[int, int, int]]:
    """Yield the kind, the place of the body and the size of every record."""
    place = 0
    while place + 4 <= len(stream):
        kind, size = struct.unpack_from("<HH", stream, place)
        if place + 4 + size > len(stream):
            return
        yield kind, place + 4, size
        place += 4 + size
