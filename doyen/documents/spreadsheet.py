"""XLSX, XLS, XLSB and ODS → a section a sheet, one line a row, through calamine.

Hidden sheets are left out. Hidden rows and columns are read, with a warning: a filter hides rows, and which ones is the
chance of the last look. Values are those that the file stores: no formula is computed.
"""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import date, datetime, time, timedelta
from pathlib import Path
from typing import Any

from doyen.documents.extracted import Extracted, TextWriter, named_values, one_line, table_row
from doyen.documents.sheet_size import check_sheets, has_hidden_cells, read_member
from doyen.documents.tables import column_names, split_header, write_table
from doyen.documents.zipped import DAMAGED, check_expansion
from doyen.errors import DocumentError

_GENERIC = re.compile(r"(sheet|tabelle|feuil|hoja|foglio|blad|planilha|лист)\s*\d*", re.IGNORECASE)


def read_spreadsheet(data: bytes, path: Path) -> Extracted:
    """Read a workbook; every sheet with cells is a heading, a description of its columns, and its rows.

    The key of a row is its number, after the sheet's name and `!` where several sheets are read.
    """
    check_expansion(data, path.name)
    check_sheets(data, path.name)
    workbook = _open(data, path.name)
    with _damage(f"{path.name} is not a readable spreadsheet (damaged or cut off)"):
        visible, hidden = _sheets(workbook)
    writer = TextWriter()
    warnings = [f"hidden sheets are not read: {', '.join(hidden)}"] if hidden else []
    if has_hidden_cells(data):
        warnings.append("hidden or filtered rows and columns are read too")
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
    from python_calamine import CalamineWorkbook

    with _damage(f"{name} is not a readable spreadsheet (damaged or cut off)"):
        return CalamineWorkbook.from_filelike(io.BytesIO(data))


@contextmanager
def _damage(message: str) -> Iterator[None]:
    """Turn what calamine raises into a DocumentError; its panics are no Exceptions."""
    from python_calamine import CalamineError

    try:
        yield
    except (CalamineError, OSError, ValueError) as error:
        raise DocumentError(message, hint="fetch the file again") from error
    except BaseException as error:
        if type(error).__name__ != "PanicException":
            raise
        raise DocumentError(message, hint="fetch the file again") from error


def _sheets(workbook: Any) -> tuple[list[str], list[str]]:
    """Return the names of the visible and of the hidden sheets with cells."""
    from python_calamine import SheetTypeEnum, SheetVisibleEnum

    sheets = [sheet for sheet in workbook.sheets_metadata if sheet.typ == SheetTypeEnum.WorkSheet]
    visible = [sheet.name for sheet in sheets if sheet.visible == SheetVisibleEnum.Visible]
    return visible, [sheet.name for sheet in sheets if sheet.name not in visible]


def _rows(workbook: Any, sheet: str, name: str) -> list[list[str]]:
    with _damage(f"sheet {one_line(sheet)} of {name} is damaged"):
        values = workbook.get_sheet_by_name(sheet).iter_rows()
        rows = [[_text(value) for value in row] for row in values]
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


def _properties(data: bytes) -> tuple[str, tuple[tuple[str, str], ...]]:
    """Return the title, and author and dates, from the file's properties (Office or OpenDocument)."""
    try:
        archive = zipfile.ZipFile(io.BytesIO(data))
    except DAMAGED:
        return "", ()
    with archive:
        found = dict(_fields(read_member(archive, "docProps/core.xml") or read_member(archive, "meta.xml")))
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
