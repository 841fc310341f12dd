"""The ZIP container of Office files, books and archives: opens it, and reads members no larger than they may be.

Knows no format inside. A member is never written to disk.
"""

from __future__ import annotations

import io
import lzma
import struct
import zipfile
import zlib

from doyen.errors import DocumentError

DAMAGED = (
    zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error, EOFError, OSError, ValueError, LookupError,
    RuntimeError,
)  # fmt: skip
"""What the standard library raises on the bytes of a damaged or encrypted archive (NotImplementedError included)."""
MAX_OFFICE_BYTES = 1 << 30
_MAX_MEMBERS = 100_000
_MAX_DEFLATE_RATIO = 1032  # of DEFLATE: no stream can expand further
_LOCAL_HEADER = struct.Struct("<4s5H3I2H")
_PIECE = 1 << 20


def open_zip(data: bytes, name: str, kind: str = "ZIP archive") -> zipfile.ZipFile:
    """Open a ZIP file; raises DocumentError where it is damaged."""
    try:
        return zipfile.ZipFile(io.BytesIO(data))
    except DAMAGED as error:
        raise DocumentError(
            f"{name} is not a readable {kind} (damaged or cut off)", hint="fetch the file again"
        ) from error


def check_expansion(data: bytes, name: str, limit: int = MAX_OFFICE_BYTES) -> None:
    """Raise DocumentError where a zipped document would expand beyond `limit` bytes, whatever its list claims.

    A file so small that even DEFLATE's best ratio keeps it below the limit is only looked up. One that is no ZIP is
    left to its reader.
    """
    try:
        archive = zipfile.ZipFile(io.BytesIO(data))
    except DAMAGED:
        return
    with archive:
        members = archive.infolist()
        total = sum(member.file_size for member in members)
        if total <= limit and len(members) <= _MAX_MEMBERS and len(data) * _MAX_DEFLATE_RATIO > limit:
            total = sum(_expanded(data, member, limit) for member in members)
    if total > limit or len(members) > _MAX_MEMBERS:
        raise DocumentError(f"{name} would expand to more than {limit >> 20} MiB: a decompression bomb?")


def _expanded(data: bytes, member: zipfile.ZipInfo, limit: int) -> int:
    """Return the true size of a member; readers in other languages do not stop at the size that the list claims."""
    if member.compress_type != zipfile.ZIP_DEFLATED:
        return member.file_size
    header = data[member.header_offset : member.header_offset + _LOCAL_HEADER.size]
    if len(header) < _LOCAL_HEADER.size:
        return 0
    *_, name_length, extra_length = _LOCAL_HEADER.unpack(header)
    start = member.header_offset + _LOCAL_HEADER.size + name_length + extra_length
    stream = zlib.decompressobj(-15)
    piece, size = memoryview(data)[start : start + member.compress_size], 0
    try:
        while len(piece) and not stream.eof and size <= limit:
            size += len(stream.decompress(piece, _PIECE))
            piece = memoryview(stream.unconsumed_tail)
    except zlib.error:
        pass  # damaged: its reader says so
    return size
