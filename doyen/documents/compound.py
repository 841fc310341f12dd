"""The OLE compound file, container of old and of encrypted Office files and of Outlook mails: checks that it is sound.

Its libraries follow a chain of sectors for as long as it goes, or as a stream claims to be: in a damaged file for ever,
or for gigabytes. Structure: [MS-CFB].
"""

from __future__ import annotations

import io
import struct
from collections.abc import Sequence
from typing import Any

from doyen.documents.signature import OLE_MAGIC
from doyen.documents.zipped import DAMAGED
from doyen.errors import DocumentError

OLE_DAMAGED = (*DAMAGED, TypeError, AttributeError, ArithmeticError, AssertionError, MemoryError)
"""What the libraries for compound files raise on damaged bytes, which none of them documents."""
_MAX_SHARE = 2  # a short stream's bytes count twice: as its own and within the stream that holds the short ones
_SLACK_BYTES = 4096
_LAST_SECTOR = 0xFFFFFFFA
_SECTOR_SHIFT, _DIRECTORY_START, _MINI_FAT_START, _DIFAT_START = 30, 48, 60, 68  # offsets in the header


def check_compound(data: bytes, name: str) -> None:
    """Raise DocumentError where a compound file's streams claim more bytes than it has, or a chain has no end.

    Other files pass.
    """
    if not data.startswith(OLE_MAGIC):
        return
    import olefile

    try:
        with olefile.OleFileIO(io.BytesIO(data)) as ole:
            ole.loadminifat()
            entries = [entry for entry in ole.direntries if entry is not None]
            claimed = sum(entry.size for entry in entries)
            endless = _has_endless_chain(data, ole, entries)
    except OLE_DAMAGED as error:
        raise _damaged(name, "its list of contents cannot be read") from error
    if claimed > _MAX_SHARE * len(data) + _SLACK_BYTES:
        raise _damaged(name, f"it claims to hold {claimed:,} bytes")
    if endless:
        raise _damaged(name, "a part of it has no end")


def _damaged(name: str, why: str) -> DocumentError:
    return DocumentError(f"{name} is damaged: {why}", hint="fetch the file again")


def _has_endless_chain(data: bytes, ole: Any, entries: Sequence[Any]) -> bool:
    starts = [struct.unpack_from("<I", data, offset)[0] for offset in (_DIRECTORY_START, _MINI_FAT_START)]
    starts += [entry.isectStart for entry in entries if not entry.is_minifat]
    mini_starts = [entry.isectStart for entry in entries if entry.is_minifat and entry.size]
    return (
        _difat_is_endless(data)
        or any(_is_endless(ole.fat, start) for start in starts)
        or any(_is_endless(ole.minifat or (), start) for start in mini_starts)
    )


def _is_endless(table: Sequence[int], sector: int) -> bool:
    for _ in range(len(table) + 1):
        if sector >= len(table):
            return False
        sector = table[sector]
    return True


def _difat_is_endless(data: bytes) -> bool:
    """Tell whether the list of the table's own sectors, which is a chain by itself, leads back to itself."""
    shift = struct.unpack_from("<H", data, _SECTOR_SHIFT)[0]
    if not 7 <= shift <= 16:
        return True
    size = 1 << shift
    sector = struct.unpack_from("<I", data, _DIFAT_START)[0]
    for _ in range(len(data) // size + 1):
        next_place = (sector + 2) * size - 4
        if sector >= _LAST_SECTOR or next_place + 4 > len(data):
            return False
        sector = struct.unpack_from("<I", data, next_place)[0]
    return True
