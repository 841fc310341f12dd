"""Encrypted Office file → the bytes of the open one, with one of the given passwords. Knows nothing of their contents."""

from __future__ import annotations

import io
from collections.abc import Sequence

from doyen.documents.compound import check_compound
from doyen.documents.signature import OLE_MAGIC
from doyen.errors import DocumentError

PASSWORD_HINT = "doyen ingest --password-file FILE (one password a line)"
OFFICE_SUFFIXES = frozenset((".docx", ".pptx", ".xlsx", ".xlsm", ".xlsb", ".xls"))
_ZIPPED = OFFICE_SUFFIXES - {".xls"}
_MAX_PASSWORDS = 20  # a wrong password costs 100,000 rounds of hashing: a tenth of a second


def needs_password(name: str, passwords: Sequence[str]) -> DocumentError:
    """Return the error for an encrypted file that none of the passwords opens."""
    tried = f"; none of the {len(passwords)} given opens it" if passwords else ""
    return DocumentError(f"{name} is encrypted and needs a password{tried}", hint=PASSWORD_HINT)


def unlock_office(data: bytes, suffix: str, name: str, passwords: Sequence[str]) -> bytes:
    """Return the decrypted bytes of an Office file; one that is not encrypted comes back as it is.

    Raises DocumentError where no password fits, and for an old binary file under a new suffix.
    """
    if not data.startswith(OLE_MAGIC):
        return data
    import msoffcrypto

    try:
        check_compound(data, name)
        office = msoffcrypto.OfficeFile(io.BytesIO(data))
        encrypted = office.is_encrypted()
    except Exception as error:  # an OLE file of any content may stand here
        if suffix in _ZIPPED:
            raise DocumentError(
                f"{name} is encrypted with a password, or an old Office file under a new name",
                hint="open it in its program and save it in the present format without a password",
            ) from error
        if isinstance(error, DocumentError):
            raise
        return data  # the reader of .xls says what is wrong with it
    if not encrypted:
        if suffix in _ZIPPED:
            raise DocumentError(
                f"{name} is an old Office file (.doc, .xls, .ppt) under a new name",
                hint=f"open it in its program and save it as {suffix}",
            )
        return data
    for password in list(passwords)[:_MAX_PASSWORDS]:
        if opened := _decrypt(office, password):
            return opened
    raise needs_password(name, passwords)


def _decrypt(office: object, password: str) -> bytes:
    """Return the decrypted bytes, b"" where the password is wrong."""
    opened = io.BytesIO()
    try:
        office.load_key(password=password)  # type: ignore[attr-defined]
        office.decrypt(opened)  # type: ignore[attr-defined]
    except Exception:  # msoffcrypto raises anything from InvalidKeyError to struct.error
        return b""
    return opened.getvalue()
