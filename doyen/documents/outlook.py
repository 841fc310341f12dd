"""MSG (Outlook) → the same mail as from EML. A forwarded mail inside becomes an EML part."""

from __future__ import annotations

import dataclasses
from email.message import EmailMessage
from pathlib import Path
from typing import Any

from doyen.documents.compound import OLE_DAMAGED, check_compound
from doyen.documents.extracted import Extracted, Part
from doyen.documents.mail import attachment_name, html_body, plain_body, write_mail
from doyen.documents.rtf import read_rtf
from doyen.errors import DocumentError

_EMBEDDED = "__substg1.0_3701000D"  # PidTagAttachDataObject ([MS-OXMSG] 2.2.2): a message instead of bytes
_SENDER_NAME, _DISPLAY_TO, _DISPLAY_CC, _SHORT_NAME, _CONTENT_ID = (
    0x0C1A,
    0x0E04,
    0x0E03,
    0x3704,
    0x3712,
)  # [MS-OXPROPS]
_RTF_COMPRESSED = 0x1009
_EMBEDDED_HEADER_BYTES = 24
_MAX_DEPTH = 4


def read_msg(data: bytes, path: Path) -> Extracted:
    """Read an Outlook mail; the title is its subject. Raises DocumentError where it is damaged."""
    from oxmsg import Message

    check_compound(data, path.name)
    try:
        message = Message.load(data)
        headers, body = _headers(message), _body(message)
        parts = _parts(message, depth=1)
    except RecursionError as error:
        raise DocumentError(f"{path.name} is nested too deeply") from error
    except OLE_DAMAGED as error:
        raise DocumentError(
            f"{path.name} is not a readable Outlook mail (damaged or cut off)", hint="fetch the file again"
        ) from error
    mail = write_mail(headers, [body] if body.text.strip() else [], parts)
    return dataclasses.replace(mail, warnings=(*mail.warnings, *body.warnings))


def _headers(message: Any) -> list[tuple[str, str]]:
    sent = message.sent_date
    values = {
        "From": message.sender or message.properties.str_prop_value(_SENDER_NAME),
        "To": message.message_headers.get("To") or message.properties.str_prop_value(_DISPLAY_TO),
        "Cc": message.message_headers.get("Cc") or message.properties.str_prop_value(_DISPLAY_CC),
        "Date": sent.isoformat() if sent else message.message_headers.get("Date"),
        "Subject": message.subject,
    }
    return [(name, " ".join(str(value or "").replace("\x00", "").split())[:1000]) for name, value in values.items()]


def _body(message: Any) -> Extracted:
    plain = (message.body or "").replace("\x00", "")
    if plain.strip():
        return plain_body(plain)
    try:
        html = message.html_body or ""
    except (LookupError, UnicodeDecodeError):
        html = ""
    return html_body(html) if html.strip() else _rtf_body(message)


def _rtf_body(message: Any) -> Extracted:
    """Return the text of a mail that Outlook keeps as compressed RTF alone ([MS-OXRTFCP]); empty where there is none."""
    from compressed_rtf import decompress

    compressed = message.properties.binary_prop_value(_RTF_COMPRESSED)
    if not compressed:
        return Extracted("")
    try:
        return plain_body(read_rtf(decompress(compressed), Path("body.rtf")).text)
    except Exception as error:  # the library raises bare Exception, and struct.error where it is cut off
        return Extracted("", warnings=(f"the text of the mail is damaged RTF and not read ({error})",))


def _parts(message: Any, depth: int) -> list[Part]:
    parts: list[Part] = []
    for attachment in message.attachments:
        embedded = _embedded(attachment)
        if embedded is not None:
            name = f"{embedded.subject or 'forwarded mail'}.eml"
            parts += [Part(name, _as_eml(embedded, depth))] if depth < _MAX_DEPTH else []
            continue
        data = attachment.file_bytes
        shown = attachment.properties.str_prop_value(_CONTENT_ID)  # the text shows it: a logo, a signature
        if data and not (shown and str(attachment.mime_type).startswith("image/")):
            name = attachment.file_name or attachment.properties.str_prop_value(_SHORT_NAME) or ""
            parts.append(Part(attachment_name(name.replace("\x00", ""), str(attachment.mime_type)), data))
    return parts


def _embedded(attachment: Any) -> Any:
    """Return the message that an attachment is, None for a file."""
    from oxmsg import Message
    from oxmsg.properties import Properties

    class Embedded(Message):  # type: ignore[misc]
        """A message within another, whose header is 8 bytes shorter than the one that the library expects."""

        @property
        def properties(self) -> Any:
            return Properties(self._storage, properties_header_offset=_EMBEDDED_HEADER_BYTES)

    storage = next((s for s in attachment._storage.storages if s.name == _EMBEDDED), None)
    return Embedded(storage) if storage is not None else None


def _as_eml(message: Any, depth: int) -> bytes:
    mail = EmailMessage()
    for name, value in _headers(message):
        if value and name != "Date":
            mail[name] = value
    if message.sent_date:
        mail["Date"] = message.sent_date
    mail.set_content(_body(message).text)
    for part in _parts(message, depth + 1):
        mail.add_attachment(part.data, maintype="application", subtype="octet-stream", filename=part.name)
    return mail.as_bytes()
