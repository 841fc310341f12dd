r"""RTF → text: paragraphs, table rows, headings by outline level, `\page` as a page break of no consequence.

Hidden (`\v`) and deleted (`\deleted`) text is left out, and so is every destination that is not body text. Follows the
Rich Text Format specification 1.9.1; groups are kept on a list, so nesting costs no recursion.
"""

from __future__ import annotations

import codecs
import re
from dataclasses import dataclass, field, replace
from pathlib import Path

from doyen.documents.extracted import Extracted, TextWriter, named_values, one_line, table_row
from doyen.errors import DocumentError

_TOKEN = re.compile(
    rb"\\([a-zA-Z]{1,32})(-?\d{1,10})? ?|\\'([0-9a-fA-F]{2})|\\([^a-zA-Z])|([{}])|([^\\{}\r\n]+)|[\r\n]+|\\", re.DOTALL
)
_SKIPPED = frozenset(
    "fonttbl colortbl stylesheet info pict object objdata header headerl headerr headerf footer footerl footerr footerf "
    "generator listtable listoverridetable rsidtbl themedata colorschememapping latentstyles datastore xmlnstbl fldinst "
    "bkmkstart bkmkend revtbl filetbl mmathPr nonshppict annotation atnid atnauthor footnote ftnsep template".split()
)
_CHARACTERS = {
    "par": "\n", "sect": "\n", "page": "\n", "line": "\n", "tab": "\t", "emdash": "—", "endash": "–", "bullet": "•",
    "lquote": "‘", "rquote": "’", "ldblquote": "“", "rdblquote": "”", "emspace": " ", "enspace": " ", "qmspace": " ",
}  # fmt: skip
_SYMBOLS = {b"~": "\u00a0", b"_": "-", b"-": "", b"\n": "\n", b"\r": "\n", b"{": "{", b"}": "}", b"\\": "\\"}
_CHARSETS = {
    0: "cp1252", 77: "mac_roman", 128: "cp932", 129: "cp949", 134: "gbk", 136: "big5", 161: "cp1253", 162: "cp1254",
    163: "cp1258", 177: "cp1255", 178: "cp1256", 186: "cp1257", 204: "cp1251", 222: "cp874", 238: "cp1250",
}  # fmt: skip
_MAX_GROUPS = 100_000


@dataclass(slots=True)
class _Group:
    """The state that a closing brace restores."""

    skipped: bool = False
    hidden: bool = False
    unicode_skip: int = 1
    font: int = -1
    field: str = ""  # title, author, fonttbl, stylesheet: where text of this group goes instead of the body


@dataclass(slots=True)
class _State:
    encoding: str = "cp1252"
    font_encodings: dict[int, str] = field(default_factory=dict)
    style_levels: dict[int, int] = field(default_factory=dict)
    fields: dict[str, str] = field(default_factory=dict)
    group: _Group = field(default_factory=_Group)
    stack: list[_Group] = field(default_factory=list)
    pending: bytearray = field(default_factory=bytearray)  # bytes of a character set that is not yet decoded
    to_skip: int = 0  # fallback characters after \u
    line: list[str] = field(default_factory=list)
    cells: list[str] = field(default_factory=list)
    in_table: bool = False
    level: int = 0
    style: int = 0


def read_rtf(data: bytes, path: Path) -> Extracted:
    """Read an RTF file; the title is that of its properties, else the first heading."""
    if not data.lstrip().startswith(b"{\\rtf"):
        raise DocumentError(f"{path.name} is not a readable RTF file", hint="fetch the file again")
    state, writer = _State(), TextWriter()
    position = 0
    while match := _TOKEN.match(data, position):
        word, parameter, byte, symbol, brace, text = match.groups()
        # \bin is followed by raw bytes, which may hold braces
        position = match.end() + (max(int(parameter), 0) if word == b"bin" and parameter else 0)
        if byte is not None:
            _add_bytes(state, bytes((int(byte, 16),)))
        elif text is not None:
            _add_bytes(state, text)
        elif brace is not None:
            _flush(state)
            _brace(state, brace, path.name)
        elif word is not None:
            _flush(state)
            _word(state, writer, word.decode("ascii"), int(parameter) if parameter is not None else None)
        elif symbol is not None:
            _flush(state)
            _symbol(state, writer, symbol)
    _flush(state)
    _end_line(state, writer)
    fields = {name: one_line(text) for name, text in state.fields.items()}
    title = fields.get("title") or next((h.title for h in writer.headings), "")
    return writer.extracted(title, metadata=named_values(("author", fields.get("author"))))


def _brace(state: _State, brace: bytes, name: str) -> None:
    state.to_skip = 0
    if brace == b"{":
        if len(state.stack) >= _MAX_GROUPS:
            raise DocumentError(f"{name} is nested deeper than {_MAX_GROUPS} groups")
        state.stack.append(replace(state.group))
    elif state.stack:
        state.group = state.stack.pop()


def _symbol(state: _State, writer: TextWriter, symbol: bytes) -> None:
    if symbol == b"*":
        state.group.skipped = True  # an optional destination: none of them holds body text
    elif state.to_skip:
        state.to_skip -= 1
    else:
        _add_text(state, writer, _SYMBOLS.get(symbol, ""))


def _word(state: _State, writer: TextWriter, word: str, parameter: int | None) -> None:  # noqa: C901 - a flat list of control words
    group = state.group
    if word in ("fonttbl", "stylesheet", "title", "author"):
        group.field, group.skipped = word, False
    elif word in _SKIPPED:
        group.skipped, group.field = True, ""
    elif word in ("v", "deleted"):
        group.hidden = parameter != 0
    elif word == "plain":
        group.hidden = False
    elif word == "uc":
        group.unicode_skip = max(0, min(parameter or 0, 10))
    elif word == "u" and parameter is not None:
        _add_text(state, writer, chr(parameter % 0x10000))
        state.to_skip = group.unicode_skip
    elif word == "ansicpg" and parameter:
        state.encoding = _known(f"cp{parameter}", state.encoding)
    elif word in ("mac", "pc", "pca"):
        state.encoding = {"mac": "mac_roman", "pc": "cp437", "pca": "cp850"}[word]
    elif word == "f" and parameter is not None:
        group.font = parameter
    elif word == "fcharset" and group.field == "fonttbl":
        state.font_encodings[group.font] = (
            _CHARSETS.get(parameter or 0, state.encoding) if parameter else state.encoding
        )
    elif not group.skipped and group.field in ("", "stylesheet"):
        _layout(state, writer, word, parameter)


def _layout(state: _State, writer: TextWriter, word: str, parameter: int | None) -> None:
    if word == "s":
        state.style = parameter or 0
        state.level = state.style_levels.get(state.style, 0)
    elif word == "outlinelevel":
        level = parameter + 1 if parameter is not None and 0 <= parameter < 9 else 0
        if state.group.field == "stylesheet":
            state.style_levels[state.style] = level
        else:
            state.level = level
    elif state.group.field:
        return
    elif word == "pard":
        state.level, state.in_table = 0, False
    elif word == "intbl":
        state.in_table = True
    elif word in ("cell", "nestcell"):
        state.cells.append("".join(state.line))
        state.line.clear()
    elif word in ("row", "nestrow"):
        row = table_row(state.cells)
        writer.block(row if row.strip("| ") else "", tight=True)
        state.cells.clear()
    elif word in _CHARACTERS:
        _add_text(state, writer, _CHARACTERS[word])


def _known(encoding: str, otherwise: str) -> str:
    if encoding == "cp65001":
        return "utf-8"
    try:
        return codecs.lookup(encoding).name
    except LookupError:
        return otherwise


def _add_bytes(state: _State, data: bytes) -> None:
    if state.to_skip:
        skipped = min(state.to_skip, len(data))
        state.to_skip -= skipped
        data = data[skipped:]
    state.pending += data


def _flush(state: _State) -> None:
    """Decode the bytes that have come in; a character of two bytes may have come in two tokens."""
    if state.pending:
        encoding = state.font_encodings.get(state.group.font, state.encoding)
        text = state.pending.decode(encoding, errors="replace")
        state.pending.clear()
        _keep(state, text)


def _keep(state: _State, text: str) -> None:
    group = state.group
    if group.field in ("title", "author"):
        state.fields[group.field] = state.fields.get(group.field, "") + text
    elif not (group.skipped or group.hidden or group.field):
        state.line.append(text)


def _add_text(state: _State, writer: TextWriter, text: str) -> None:
    if text != "\n" or state.in_table or state.group.skipped or state.group.field:
        _keep(state, " " if text == "\n" else text)
    else:
        _end_line(state, writer)


def _end_line(state: _State, writer: TextWriter) -> None:
    text = " ".join("".join(state.line).split())
    # \u gives the halves of a character beyond U+FFFF as two numbers
    text = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    state.line.clear()
    if state.level and text:
        writer.heading(text, state.level)
    else:
        writer.block(text)
