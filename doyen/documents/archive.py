"""ZIP → its members one by one, as parts with safe names, within limits that no decompression bomb passes.

Writes nothing to disk. Knows no format of a member; which members are wanted the caller says by name.
"""

from __future__ import annotations

import io
import re
import unicodedata
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from doyen.documents.extracted import Part
from doyen.documents.office_lock import needs_password
from doyen.documents.zipped import DAMAGED, open_zip
from doyen.errors import DocumentError

MAX_MEMBERS = 10_000
MAX_MEMBER_BYTES = 256 << 20
MAX_TOTAL_BYTES = 1 << 30
MAX_RATIO = 300
_RATIO_FROM_BYTES = 32 << 20  # a small member may be as repetitive as it likes
_MAX_NAME_CHARS = 120
_MAX_PATH_CHARS = 400
_AES = 99
_UTF8_FLAG = 0x800
_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff]+")
_SPACE = re.compile(r"\s+")


@dataclass(slots=True)
class Budget:
    """What may still be unpacked for one item, its nested archives and mails included."""

    bytes_left: int = MAX_TOTAL_BYTES
    members_left: int = MAX_MEMBERS

    def take(self, size: int) -> bool:
        """Count a member; return False where it would exceed what is left."""
        if size > self.bytes_left or self.members_left < 1:
            return False
        self.bytes_left -= size
        self.members_left -= 1
        return True


def members(
    data: bytes, name: str, wanted: Callable[[str], bool], budget: Budget, passwords: Sequence[str] = ()
) -> Iterator[Part | tuple[str, DocumentError]]:
    """Yield every wanted member as a Part, or its safe name and the reason why it cannot be read.

    Raises DocumentError for an archive that is damaged as a whole, and where none of the passwords opens any member.
    """
    with open_zip(data, name) as archive:
        entries = [(safe_name(_name(entry)), entry) for entry in archive.infolist() if not entry.filename.endswith("/")]
        entries = [(path, entry) for path, entry in entries if wanted(path)]
        locked = [entry for _, entry in entries if entry.flag_bits & 1]
        opened = _with_aes(data, archive, locked)
        password = _find_password(opened, locked, passwords)
        if locked and len(locked) == len(entries) and password is None:
            raise needs_password(name, passwords)
        for path, entry in entries:
            try:
                yield Part(path, _read(opened, entry, path, budget, password))
            except DocumentError as error:
                yield path, error


def safe_name(name: str) -> str:
    r"""Return a member's name as a relative POSIX path that leads nowhere else: no `..`, root, drive, `\` or newline.

    >>> safe_name("..\\\\..\\\\C:\\\\secret\\n.txt")
    'secret .txt'
    """
    text = unicodedata.normalize("NFC", _UNSAFE.sub(" ", name)).replace("\\", "/")
    pieces = [_SPACE.sub(" ", piece).strip() for piece in text.split("/")]
    pieces = [_clip(piece) for piece in pieces if piece.strip(". ") and not re.fullmatch(r"[A-Za-z]:", piece)]
    while len(pieces) > 1 and len("/".join(pieces)) > _MAX_PATH_CHARS:
        pieces.pop(0)
    return "/".join(pieces) or "unnamed"


def _clip(piece: str) -> str:
    if len(piece) <= _MAX_NAME_CHARS:
        return piece
    stem, dot, suffix = piece.rpartition(".")
    if not dot or len(suffix) > 10:
        return piece[:_MAX_NAME_CHARS]
    return stem[: _MAX_NAME_CHARS - len(suffix) - 1] + dot + suffix


def _name(entry: zipfile.ZipInfo) -> str:
    """Return a member's name; most archives without the UTF-8 flag hold UTF-8 nevertheless."""
    if entry.flag_bits & _UTF8_FLAG:
        return entry.orig_filename
    try:
        return entry.orig_filename.encode("cp437").decode("utf-8")
    except UnicodeError:
        return entry.orig_filename


def _with_aes(data: bytes, archive: zipfile.ZipFile, locked: Sequence[zipfile.ZipInfo]) -> Any:
    """Return the archive, opened by pyzipper where a member is encrypted with AES."""
    if not any(entry.compress_type == _AES for entry in locked):
        return archive
    import pyzipper

    return pyzipper.AESZipFile(io.BytesIO(data))


def _find_password(archive: Any, locked: Sequence[zipfile.ZipInfo], passwords: Sequence[str]) -> bytes | None:
    """Return the first password that opens the smallest encrypted member."""
    if not locked:
        return None
    entry = min(locked, key=lambda entry: entry.file_size)
    for password in passwords:
        for encoded in dict.fromkeys((password.encode("utf-8"), password.encode("cp437", "replace"))):
            try:
                with archive.open(entry.filename, pwd=encoded) as member:
                    while member.read(1 << 20):
                        pass  # only the checksum at the end tells a wrong password for certain
                return encoded
            except _faults(archive):
                continue
    return None


def _faults(archive: Any) -> tuple[type[Exception], ...]:
    """Return what reading a member may raise; pyzipper has a class of its own for a damaged file."""
    if isinstance(archive, zipfile.ZipFile):
        return DAMAGED
    import pyzipper

    return (*DAMAGED, pyzipper.BadZipFile)


def _read(archive: Any, entry: zipfile.ZipInfo, path: str, budget: Budget, password: bytes | None) -> bytes:
    size = entry.file_size
    if size > MAX_MEMBER_BYTES:
        raise DocumentError(f"{path} has {size >> 20} MiB, more than the {MAX_MEMBER_BYTES >> 20} of a member")
    if size > _RATIO_FROM_BYTES and size > MAX_RATIO * max(entry.compress_size, 1):
        raise DocumentError(f"{path} expands more than {MAX_RATIO}-fold: a decompression bomb?")
    if not budget.take(size):
        raise DocumentError(f"{path} lies beyond the limit of {MAX_MEMBERS} members or {MAX_TOTAL_BYTES >> 20} MiB")
    if entry.flag_bits & 1 and password is None:
        raise needs_password(path, ())
    try:
        with archive.open(entry.filename if entry.flag_bits & 1 else entry, pwd=password) as member:
            data: bytes = member.read(size + 1)
    except NotImplementedError as error:
        raise DocumentError(f"{path} is compressed by a method that is not supported") from error
    except _faults(archive) as error:
        raise DocumentError(f"{path} cannot be unpacked (damaged or cut off)") from error
    if len(data) > size:
        raise DocumentError(f"{path} is larger than the archive says")
    return data
