"""EML → a mail: its headers, its text, and its attachments as parts. Follows no link and fetches no remote image.

The text is the plain one where a mail comes in several forms, else the HTML one. Forwarded mails are parts too.
"""

from __future__ import annotations

import email
import email.policy
import mimetypes
import re
from collections.abc import Iterator, Sequence
from email.errors import HeaderParseError, MessageError
from email.header import decode_header, make_header
from email.message import Message
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

from doyen.documents.extracted import MAX_VALUE_CHARS, Extracted, Part, TextWriter, clean_block, named_values
from doyen.documents.html import extract_html
from doyen.documents.plain import clean_text, refuse_binary
from doyen.errors import DocumentError

_HEADERS = ("From", "To", "Cc", "Date", "Subject")
_MAX_PARTS = 2_000
_MAX_HEADER_CHARS = 16_000  # as written; the parsers of encoded words take time that grows with the square
# The parser of structured headers has known failures on malformed values, of these kinds.
_HEADER_FAULTS = (MessageError, AttributeError, TypeError, ValueError, LookupError, AssertionError)
_IS_HEADER = re.compile(rb"\s*(?:From [^\n]*\r?\n)?[!-9;-~]{1,76}:")
_SUFFIX_OF = {"text/plain": ".txt", "text/html": ".html", "message/rfc822": ".eml", "text/markdown": ".md"}


def read_eml(data: bytes, path: Path) -> Extracted:
    """Read a mail; the title is its subject. Raises DocumentError for what does not begin with a header."""
    return write_mail(*mail_contents(data, path))


def mail_contents(data: bytes, path: Path) -> tuple[list[tuple[str, str]], list[Extracted], list[Part]]:
    """Return a mail's headers (From, To, Cc, Date, Subject), its texts and its attachments. Raises as `read_eml`."""
    refuse_binary(data, path.name)
    if not _IS_HEADER.match(data.removeprefix(b"\xef\xbb\xbf")):
        raise DocumentError(f"{path.name} is not a readable mail: it does not begin with a header")
    try:
        return _read(data, _Clipping())
    except RecursionError as error:
        raise DocumentError(f"{path.name} is nested too deeply") from error
    except _HEADER_FAULTS:
        return _read(data, email.policy.compat32)


class _Clipping(email.policy.EmailPolicy):
    """The structured policy of the standard library, for headers of a bounded length."""

    def header_fetch_parse(self, name: str, value: Any) -> Any:
        """Parse a header when it is asked for."""
        return super().header_fetch_parse(name, value[:_MAX_HEADER_CHARS])


def _read(data: bytes, policy: Any) -> tuple[list[tuple[str, str]], list[Extracted], list[Part]]:
    message = email.message_from_bytes(data, policy=policy)
    bodies, parts = _contents(message)
    return [(name, _header(message, name)) for name in _HEADERS], bodies, parts


def write_mail(headers: Sequence[tuple[str, str]], bodies: Sequence[Extracted], parts: Sequence[Part]) -> Extracted:
    """Return the mail: a line a header that has a value, then the texts."""
    writer = TextWriter()
    for name, value in headers:
        writer.block(f"{name}: {value}" if value else "", tight=True)
    for body in bodies:
        writer.insert(body)
    named = [(name.lower(), _iso_date(value) if name == "Date" else value) for name, value in headers]
    title = dict(headers).get("Subject", "")
    return writer.extracted(title, metadata=named_values(*named), parts=tuple(parts))


def plain_body(text: str) -> Extracted:
    """Return the plain text of a mail."""
    return Extracted(clean_text(text).replace("\f", "\n").strip("\n").rstrip())


def html_body(html: str) -> Extracted:
    """Return the visible text of a mail in HTML."""
    return extract_html(html)


def _contents(message: Message) -> tuple[list[Extracted], list[Part]]:
    bodies: list[Extracted] = []
    parts: list[Part] = []
    for number, node in enumerate(_leaves(message)):
        if number >= _MAX_PARTS:
            break
        kind = node.get_content_type()
        if kind == "message/rfc822":
            parts += _forwarded(node)
        elif _is_body(node, kind, node is message):
            text = _decoded(node)
            bodies.append(html_body(text) if kind == "text/html" else plain_body(text))
        elif part := _attachment(node, kind):
            parts.append(part)
    return [body for body in bodies if body.text.strip()], parts


def _leaves(message: Message) -> Iterator[Message]:
    """Yield the parts that hold content in order; of alternatives the plain one, else the best that follows."""
    stack: list[Any] = [message]
    while stack:
        node = stack.pop()
        kind = node.get_content_type()
        children = node.get_payload() if node.is_multipart() else None
        if not isinstance(children, list) or kind == "message/rfc822":
            yield node
        elif kind == "multipart/alternative":
            stack.extend(_chosen(children))
        else:
            stack.extend(reversed(children))


def _chosen(alternatives: list[Any]) -> list[Any]:
    """Return the form of a mail to read; invitations and the like are forms as well and stay attachments."""
    plain = [node for node in alternatives if node.get_content_type() == "text/plain" and _decoded(node).strip()]
    rest = [node for node in alternatives if node.get_content_type() != "text/plain"]
    if not plain:
        return rest[-1:] or alternatives[:1]
    related = [node for node in rest if node.get_content_type() in ("multipart/related", "multipart/mixed")]
    attached = [child for node in related for child in node.get_payload() if isinstance(child, Message)]
    texts = ("text/html", "multipart/alternative")
    return [*reversed([child for child in attached if child.get_content_type() not in texts]), plain[0]]


def _is_body(node: Message, kind: str, is_whole: bool) -> bool:
    """Tell whether a part is the mail's text: neither an attachment nor named, unless there is nothing else."""
    if kind not in ("text/plain", "text/html"):
        return False
    return is_whole or (node.get_content_disposition() != "attachment" and not _name(node))


def _attachment(node: Message, kind: str) -> Part | None:
    """Return an attachment as a part; pictures that the text shows (logos, signatures) are none."""
    inline = node.get("Content-ID") is not None and node.get_content_disposition() != "attachment"
    if inline and kind.startswith("image/"):
        return None
    data = node.get_payload(decode=True)
    if not isinstance(data, bytes) or not data:
        return None
    return Part(attachment_name(_name(node), kind), data)


def attachment_name(name: str, kind: str) -> str:
    """Return the name of an attachment; one without a suffix gets that of its media type."""
    if "." in name.strip("."):
        return name
    return (name or "attachment") + (_SUFFIX_OF.get(kind) or mimetypes.guess_extension(kind) or "")


def _forwarded(node: Message) -> list[Part]:
    inner = node.get_payload()
    if not isinstance(inner, list) or not inner or not isinstance(inner[0], Message):
        return []
    subject = _header(inner[0], "Subject")
    return [Part(f"{_name(node).removesuffix('.eml') or subject or 'forwarded mail'}.eml", _as_bytes(inner[0]))]


def _as_bytes(message: Message) -> bytes:
    try:
        return message.as_bytes(policy=email.policy.compat32)
    except (UnicodeError, LookupError, ValueError, TypeError, AttributeError):
        return str(message).encode("utf-8", "replace")


def _name(node: Message) -> str:
    try:
        return _unfolded(node.get_filename() or "")
    except _HEADER_FAULTS:
        return ""


def _header(message: Message, name: str) -> str:
    try:
        return _unfolded(str(message.get(name) or ""))
    except _HEADER_FAULTS:
        return ""


def _unfolded(value: str) -> str:
    """Return a header's value on one line, its encoded words (RFC 2047) decoded."""
    value = value[:_MAX_HEADER_CHARS]
    if "=?" in value:
        try:
            value = str(make_header(decode_header(value)))
        except (LookupError, ValueError, UnicodeError, HeaderParseError):
            pass
    return " ".join(clean_block(value).split())[:MAX_VALUE_CHARS]


def _decoded(node: Message) -> str:
    """Return the text of a part, in its own encoding if that is known."""
    data = node.get_payload(decode=True)
    if not isinstance(data, bytes):
        return ""
    try:
        return data.decode(node.get_content_charset() or "utf-8")
    except (LookupError, UnicodeDecodeError):
        return data.decode("utf-8", "replace") if _is_utf8(data) else data.decode("cp1252", "replace")


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _iso_date(value: str) -> str:
    try:
        return parsedate_to_datetime(value).isoformat()
    except (ValueError, TypeError, IndexError, OverflowError):
        return value
