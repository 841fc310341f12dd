"""XLSX, XLS, XLSB and ODS → a section a sheet, one line a row, through calamine.

Hidden sheets are left out; values are those that the file stores: no formula is computed.
"""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Iterator, Sequence
from datetime import date, datetime, time, timedelta
from pathlib import Path
from typing import Any

from doyen.documents.extracted import Extracted, TextWriter, named_values, table_row
from doyen.documents.tables import column_names, split_header, write_table
from doyen.documents.zipped import DAMAGED, check_expansion
from doyen.errors import DocumentError

_MAX_CELLS = 20_000_000  # of the rectangle around a sheet's cells, which calamine keeps in memory
_GENERIC = re.compile(r"(sheet|tabelle|feuil|hoja|foglio|blad|planilha|лист)\s*\d*", re.IGNORECASE)
_CELL = re.compile(rb'<(?:\w+:)?c [^>]*?r="([A-Z]{1,3})\d')
_ROW = re.compile(rb'<(?:\w+:)?row [^>]*?r="(\d{1,7})"')
_TABLE = "{urn:oasis:names:tc:opendocument:xmlns:table:1.0}"


def read_spreadsheet(data: bytes, path: Path) -> Extracted:
    """Read a workbook; every sheet with cells is a heading, a description of its columns, and its rows.

    The key of a row is its number, after the sheet's name and `!` where several sheets are read.
    """
    check_expansion(data, path.name)
    _refuse_sparse(data, path.name)
    workbook = _open(data, path.name)
    visible, hidden = _sheets(workbook)
    writer = TextWriter()
    warnings = [f"hidden sheets are not read: {', '.join(hidden)}"] if hidden else []
    for name in visible:
        rows = _rows(workbook, name, path.name)
        if not rows:
            continue
        if len(visible) > 1 or not _GENERIC.fullmatch(name):
            writer.heading(name, 1)
        warnings += _write_sheet(writer, path.stem if _GENERIC.fullmatch(name) else name, rows, name, len(visible) > 1)
    title, metadata = _properties(data)
    return writer.extracted(title, metadata=metadata, warnings=tuple(warnings))


def _open(data: bytes, name: str) -> Any:
    from python_calamine import CalamineError, CalamineWorkbook, PasswordError

    try:
        return CalamineWorkbook.from_filelike(io.BytesIO(data))
    except PasswordError as error:
        raise DocumentError(f"{name} is encrypted and needs a password") from error
    except (CalamineError, OSError, ValueError) as error:
        raise DocumentError(
            f"{name} is not a readable spreadsheet (damaged or cut off)", hint="fetch the file again"
        ) from error


def _sheets(workbook: Any) -> tuple[list[str], list[str]]:
    """Return the names of the visible and of the hidden sheets with cells."""
    from python_calamine import SheetTypeEnum, SheetVisibleEnum

    sheets = [sheet for sheet in workbook.sheets_metadata if sheet.typ == SheetTypeEnum.WorkSheet]
    visible = [sheet.name for sheet in sheets if sheet.visible == SheetVisibleEnum.Visible]
    return visible, [sheet.name for sheet in sheets if sheet.name not in visible]


def _rows(workbook: Any, sheet: str, name: str) -> list[list[str]]:
    from python_calamine import CalamineError

    try:
        values = workbook.get_sheet_by_name(sheet).iter_rows()
        rows = [[_text(value) for value in row] for row in values]
    except (CalamineError, OSError, ValueError) as error:
        raise DocumentError(f"sheet {sheet} of {name} is damaged", hint="fetch the file again") from error
    return [row for row in rows if any(row)]


def _text(value: Any) -> str:
    if isinstance(value, str):
        return " ".join(value.split())
    if isinstance(value, bool):
        return "TRUE" if value else "FALSE"
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() and abs(value) < 1e15 else f"{value:.15g}"
    if isinstance(value, datetime):
        return value.date().isoformat() if value.time() == time() else value.isoformat(" ")
    return value.isoformat() if isinstance(value, date | time) else str(value) if _is_plain(value) else ""


def _is_plain(value: Any) -> bool:
    return isinstance(value, int | timedelta)


def _write_sheet(writer: TextWriter, table: str, rows: Sequence[Sequence[str]], sheet: str, several: bool) -> list[str]:
    """Write one sheet: a table, or lines where it has one column or no rows below a header."""
    preamble, header, body = split_header(rows)
    width = max(map(len, rows))
    if width == 1 or not body:
        for row in rows:
            writer.block(table_row(row), tight=True)
        return []
    names = column_names(header, width)
    prefix = f"{sheet}!" if several else ""
    return write_table(writer, table, names, body, total=len(body), preamble=preamble, key_prefix=prefix)


def _refuse_sparse(data: bytes, name: str) -> None:
    """Raise DocumentError where the rectangle around a sheet's cells does not fit in memory.

    calamine allocates all of it: two cells in opposite corners would take 400 GB.
    """
    try:
        archive = zipfile.ZipFile(io.BytesIO(data))
    except DAMAGED:
        return  # .xls, whose sheets are small, or damaged
    with archive:
        for member in archive.namelist():
            if member.endswith(".xml") and ("worksheets/" in member or member == "content.xml"):
                cells = _rectangle(_member(archive, member), member == "content.xml")
                if cells > _MAX_CELLS:
                    raise DocumentError(
                        f"{name} has a sheet of {cells:,} cells, more than {_MAX_CELLS:,}",
                        hint="save the part that matters as .csv",
                    )


def _rectangle(xml: bytes, open_document: bool) -> int:
    """Return the number of cells of the rectangle around a sheet's cells (OpenDocument: the largest one)."""
    if open_document:
        return max(_open_document_rectangles(xml), default=0)
    columns = {_column_number(column) for column in set(_CELL.findall(xml))}
    rows = [int(row) for row in _ROW.findall(xml)]
    width = max(columns) - min(columns) + 1 if columns else 1
    return width * (max(rows) - min(rows) + 1) if rows else 0


def _open_document_rectangles(xml: bytes) -> Iterator[int]:
    from lxml import etree

    try:
        root = etree.fromstring(xml, etree.XMLParser(resolve_entities=False, no_network=True))
    except (etree.XMLSyntaxError, ValueError):
        return  # damaged, or nested beyond reason: calamine says so
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
    count = element.get(f"{_TABLE}number-{what}-repeated", "1")
    return int(count[:9]) if count.isdecimal() else 1


def _column_number(letters: bytes) -> int:
    number = 0
    for letter in letters:
        number = number * 26 + letter - 64
    return number


def _member(archive: zipfile.ZipFile, name: str) -> bytes:
    try:
        return archive.read(name)
    except DAMAGED:  # calamine says so, or reads the other sheets
        return b""


def _properties(data: bytes) -> tuple[str, tuple[tuple[str, str], ...]]:
    """Return the title, and author and dates, from the file's properties (Office or OpenDocument)."""
    try:
        archive = zipfile.ZipFile(io.BytesIO(data))
    except DAMAGED:
        return "", ()
    with archive:
        found = dict(_fields(_member(archive, "docProps/core.xml") or _member(archive, "meta.xml")))
    names = {
        "author": ("creator", "initial-creator"),
        "created": ("created", "creation-date"),
        "modified": ("modified",),
    }
    pairs = [(name, next((found[key] for key in keys if found.get(key)), "")) for name, keys in names.items()]
    return found.get("title", ""), named_values(*pairs)


def _fields(xml: bytes) -> Iterator[tuple[str, str]]:
    from lxml import etree

    try:
        root = etree.fromstring(xml, etree.XMLParser(resolve_entities=False, no_network=True))
    except (etree.XMLSyntaxError, ValueError):
        return
    for element in root.iter("{*}*"):
        yield etree.QName(element).localname, element.text or ""
