"""Files that no parser should have to meet: 200 of them, made from scratch, the same for the same seed.

`hostile_files()` gives name → builder; a builder makes the bytes. Names may hold folders, line ends and worse.
"""

import io
import json
import random
import struct
import zipfile
import zlib
from collections.abc import Callable
from email.message import EmailMessage

LINES = [f"Clause {n}: the tenant of flat {n} pays {n * 7} crowns by the fifth of the month." for n in range(60)]
TEXT = "\n\n".join(LINES)

# ---- whole files of each kind


def zipped(members, compression=zipfile.ZIP_DEFLATED):
    """Return a ZIP of name → bytes."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", compression) as archive:
        for name, data in members.items():
            archive.writestr(zipfile.ZipInfo(name), data, compression)
    return out.getvalue()


def pdf(objects, *, trailer=b""):
    """Return a PDF of numbered object bodies (from 1), the first being the catalogue."""
    out = bytearray(b"%PDF-1.7\n")
    places = []
    for number, body in enumerate(objects, 1):
        places.append(len(out))
        out += b"%d 0 obj\n" % number + body + b"\nendobj\n"
    start = len(out)
    out += b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    out += b"".join(b"%010d 00000 n \n" % place for place in places)
    return bytes(
        out + b"trailer\n<< /Size %d /Root 1 0 R %s >>\nstartxref\n%d\n%%%%EOF\n" % (len(objects) + 1, trailer, start)
    )


def stream(data, extra=b""):
    """Return a PDF stream object's body."""
    return b"<< /Length %d %s >>\nstream\n" % (len(data), extra) + data + b"\nendstream"


FONT = b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>"
PAGE = b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents 4 0 R /Resources << /Font << /F1 5 0 R >> >> >>"
CATALOGUE, PAGES = b"<< /Type /Catalog /Pages 2 0 R >>", b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>"


DRAWN = stream(b"BT /F1 9 Tf (text) Tj ET")


def good_pdf():
    text = b"BT /F1 11 Tf 50 740 Td 14 TL " + b" ".join(b"(%s) '" % line.encode() for line in LINES[:40]) + b" ET"
    return pdf([CATALOGUE, PAGES, PAGE, stream(text), FONT])


WORD = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
RELATIONS = "http://schemas.openxmlformats.org/package/2006/relationships"
OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
TYPES = "http://schemas.openxmlformats.org/package/2006/content-types"
SHEET = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"


def office(main_type, target, parts):
    """Return an Office package whose main part is `target`."""
    types = (
        f'<Types xmlns="{TYPES}"><Default Extension="rels" ContentType="application/vnd.openxmlformats-package.'
        f'relationships+xml"/><Default Extension="xml" ContentType="application/xml"/>'
        f'<Override PartName="/{target}" ContentType="{main_type}"/></Types>'
    )
    relations = (
        f'<Relationships xmlns="{RELATIONS}"><Relationship Id="r1" Type="{OFFICE}/officeDocument" '
        f'Target="{target}"/></Relationships>'
    )
    return zipped({"[Content_Types].xml": types, "_rels/.rels": relations} | parts)


def docx(body=None, *, head=""):
    """Return a DOCX; `body` is the XML of its paragraphs, `head` stands before the root element."""
    body = body or "".join(f"<w:p><w:r><w:t>{line}</w:t></w:r></w:p>" for line in LINES)
    kind = "application/vnd.openxmlformats-officedocument.wordprocessingml.document.main+xml"
    xml = f'<?xml version="1.0"?>{head}<w:document xmlns:w="{WORD}"><w:body>{body}</w:body></w:document>'
    return office(kind, "word/document.xml", {"word/document.xml": xml})


def xlsx(rows=None, *, head=""):
    """Return an XLSX with one sheet of inline strings."""
    rows = rows or "".join(
        f'<row r="{n}"><c r="A{n}" t="inlineStr"><is><t>{line}</t></is></c></row>' for n, line in enumerate(LINES, 1)
    )
    kind = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet.main+xml"
    book = f'<workbook xmlns="{SHEET}" xmlns:r="{OFFICE}"><sheets><sheet name="Rent" sheetId="1" r:id="s1"/></sheets></workbook>'
    relations = (
        f'<Relationships xmlns="{RELATIONS}"><Relationship Id="s1" Type="{OFFICE}/worksheet" '
        f'Target="worksheets/sheet1.xml"/></Relationships>'
    )
    sheet = f'<?xml version="1.0"?>{head}<worksheet xmlns="{SHEET}"><sheetData>{rows}</sheetData></worksheet>'
    parts = {"xl/workbook.xml": book, "xl/_rels/workbook.xml.rels": relations, "xl/worksheets/sheet1.xml": sheet}
    return office(kind, "xl/workbook.xml", parts)


def epub(chapter=None):
    """Return an EPUB with one chapter."""
    chapter = chapter or "".join(f"<p>{line}</p>" for line in LINES)
    container = (
        '<container xmlns="urn:oasis:names:tc:opendocument:xmlns:container" version="1.0"><rootfiles>'
        '<rootfile full-path="book.opf" media-type="application/oebps-package+xml"/></rootfiles></container>'
    )
    package = (
        '<package xmlns="http://www.idpf.org/2007/opf" version="3.0"><metadata/><manifest>'
        '<item id="c" href="c.xhtml" media-type="application/xhtml+xml"/></manifest><spine><itemref idref="c"/></spine></package>'
    )
    page = f'<html xmlns="http://www.w3.org/1999/xhtml"><body>{chapter}</body></html>'
    members = {"mimetype": "application/epub+zip", "META-INF/container.xml": container, "book.opf": package}
    return zipped(members | {"c.xhtml": page})


ODS_CELL = '<table:table-cell office:value-type="string">'


def ods(rows=None):
    """Return an OpenDocument spreadsheet with one sheet."""
    rows = rows or "".join(
        f"<table:table-row>{ODS_CELL}<text:p>{line}</text:p></table:table-cell></table:table-row>" for line in LINES
    )
    names = " ".join(f'xmlns:{n}="urn:oasis:names:tc:opendocument:xmlns:{n}:1.0"' for n in ("office", "table", "text"))
    sheet = f'<table:table table:name="Rent">{rows}</table:table>'
    content = (
        f"<office:document-content {names}><office:body><office:spreadsheet>{sheet}</office:spreadsheet></office:body>"
        f"</office:document-content>"
    )
    kind = "application/vnd.oasis.opendocument.spreadsheet"
    manifest = (
        '<manifest:manifest xmlns:manifest="urn:oasis:names:tc:opendocument:xmlns:manifest:1.0">'
        f'<manifest:file-entry manifest:full-path="/" manifest:media-type="{kind}"/></manifest:manifest>'
    )
    return zipped({"mimetype": kind, "content.xml": content, "META-INF/manifest.xml": manifest})


def mail(*, subject="Rent", attachments=()):
    """Return a mail with attachments (name, bytes)."""
    message = EmailMessage()
    message["Subject"], message["From"], message["To"] = subject, "a@example.org", "b@example.org"
    message.set_content(TEXT)
    for name, data in attachments:
        message.add_attachment(data, maintype="application", subtype="octet-stream", filename=name)
    return message.as_bytes()


def parquet():
    import pyarrow as pa
    import pyarrow.parquet as pq

    out = io.BytesIO()
    pq.write_table(pa.table({"clause": LINES, "n": list(range(len(LINES)))}), out)
    return out.getvalue()


def png(width=64, height=64, rows=None):
    """Return a white PNG; `rows` cuts the data short of what the header says."""
    data = zlib.compress(b"".join(b"\0" + b"\xff" * width for _ in range(height if rows is None else rows)))
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", data), (b"IEND", b"")]
    packed = (struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in chunks)
    return b"\x89PNG\r\n\x1a\n" + b"".join(packed)


def page(body):
    return f"<html><head><title>Rent</title></head><body>{body}</body></html>".encode()


GOOD: dict[str, Callable[[], bytes]] = {
    "pdf": good_pdf,
    "docx": docx,
    "xlsx": xlsx,
    "ods": ods,
    "epub": epub,
    "eml": mail,
    "zip": lambda: zipped({"a.txt": TEXT, "b/c.pdf": good_pdf()}),
    "html": lambda: page("".join(f"<p>{line}</p>" for line in LINES)),
    "xml": lambda: ("<rent>" + "".join(f"<clause>{line}</clause>" for line in LINES) + "</rent>").encode(),
    "json": lambda: json.dumps({"clauses": LINES}).encode(),
    "jsonl": lambda: "\n".join(json.dumps({"clause": line}) for line in LINES).encode(),
    "csv": lambda: ("n,clause\n" + "".join(f'{n},"{line}"\n' for n, line in enumerate(LINES))).encode(),
    "rtf": lambda: (r"{\rtf1\ansi " + r"\par ".join(LINES) + "}").encode(),
    "parquet": parquet,
    "md": lambda: ("# Rent\n\n" + TEXT).encode(),
    "png": png,
}

# ---- what is done to them


def truncated(kind, share):
    data = GOOD[kind]()
    return data[: max(1, int(len(data) * share))]


def flipped(kind, seed):
    data = bytearray(GOOD[kind]())
    chance = random.Random(f"{kind}{seed}")
    for _ in range(1 + len(data) // 200):
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    return bytes(data)


LAUGHS = (
    '<!DOCTYPE l [<!ENTITY a0 "lol">' + "".join(f'<!ENTITY a{n} "{f"&a{n - 1};" * 10}">' for n in range(1, 12)) + "]>"
)
QUADRATIC = '<!DOCTYPE q [<!ENTITY a "' + "x" * 100_000 + '">]>'
OUTSIDE = '<!DOCTYPE o [<!ENTITY f SYSTEM "file:///etc/passwd"><!ENTITY u SYSTEM "http://127.0.0.1:9/x">]>'


def nested_zip(depth, data=b"x"):
    for _ in range(depth):
        data = zipped({"inner.zip": data})
    return data


def nested_mail(depth):
    inner = mail()
    for n in range(depth):
        inner = (
            (
                f'MIME-Version: 1.0\nSubject: {n}\nContent-Type: multipart/mixed; boundary="b{n}"\n\n--b{n}\n'
                f"Content-Type: message/rfc822\n\n"
            ).encode()
            + inner
            + f"\n--b{n}--\n".encode()
        )
    return inner


def deflated_pdf(size):
    data = zlib.compress(b"(x) Tj " * (size // 7))
    return pdf([CATALOGUE, PAGES, PAGE, stream(data, b"/Filter /FlateDecode"), FONT])


def outline_loop():
    catalogue = b"<< /Type /Catalog /Pages 2 0 R /Outlines 6 0 R >>"
    entry = b"<< /Title (a) /Parent 6 0 R /Next 7 0 R /First 7 0 R >>"
    return pdf([catalogue, PAGES, PAGE, DRAWN, FONT, b"<< /First 7 0 R /Last 7 0 R >>", entry])


def empty_pages(count):
    kids = b" ".join(b"%d 0 R" % n for n in range(3, 3 + count))
    pages = b"<< /Type /Pages /Kids [" + kids + b"] /Count %d >>" % count
    return pdf([CATALOGUE, pages, *[b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 9 9] >>"] * count])


def deep_dictionary(depth):
    catalogue = b"<< /Type /Catalog /Pages 2 0 R /A " + b"<< /A " * depth + b">>" * depth + b">>"
    return pdf([catalogue, PAGES, PAGE, stream(b""), FONT])


def form_loop():
    form = stream(b"/X Do", b"/Type /XObject /Subtype /Form /BBox [0 0 9 9] /Resources << /XObject << /X 4 0 R >> >>")
    first = (
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 9 9] /Contents 5 0 R /Resources << /XObject << /X 4 0 R >> >> >>"
    )
    return pdf([CATALOGUE, PAGES, first, form, stream(b"/X Do")])


BOMBS: dict[str, Callable[[], bytes]] = {
    # decompression
    "bomb.zip": lambda: zipped({f"{n}.txt": b"0" * (100 << 20) for n in range(8)}),
    "bomb.docx": lambda: docx("<w:p><w:r><w:t>" + "a" * (200 << 20) + "</w:t></w:r></w:p>"),
    "bomb-of-paragraphs.docx": lambda: docx("<w:p/>" * 5_000_000),
    "bomb.xlsx": lambda: xlsx('<row r="1"><c r="A1" t="inlineStr"><is><t>' + "a" * (200 << 20) + "</t></is></c></row>"),
    "bomb-of-rows.xlsx": lambda: xlsx("".join(f'<row r="{n}"><c r="A{n}"><v>1</v></c></row>' for n in range(1, 600_000))),
    "bomb.epub": lambda: epub("<p>" + "a " * (60 << 20) + "</p>"),
    "bomb.pdf": lambda: deflated_pdf(200 << 20),
    "nested-16.zip": lambda: nested_zip(16, zipped({"a.txt": TEXT})),
    "nested-bombs.zip": lambda: zipped({f"{n}.zip": zipped({"a.txt": b"0" * (50 << 20)}) for n in range(10)}),
    "many-members.zip": lambda: zipped({f"{n}.txt": b"x" for n in range(30_000)}),
    "itself-as-member.zip": lambda: zipped({"a.zip": zipped({"a.zip": zipped({"a.zip": zipped({"a.txt": TEXT})})})}),
    "bomb-in-mail.eml": lambda: mail(attachments=[("b.zip", zipped({"a.txt": b"0" * (150 << 20)}))]),
    # names in archives
    "tricks.zip": lambda: zipped(
        {
            "../../outside.txt": TEXT,
            "/tmp/outside-absolute.txt": TEXT,
            "..\\..\\outside-windows.txt": TEXT,
            "C:\\outside-drive.txt": TEXT,
            "a/../../outside-within.txt": TEXT,
            "line\nbreak.txt": TEXT,
            "nul\\x00.txt": TEXT,
            "‮txt.exe.txt": TEXT,
        }
    ),
    "tricks.eml": lambda: mail(attachments=[("../../outside.txt", TEXT.encode()), ("/etc/outside.txt", b"x")]),
    # XML
    "laughs.xml": lambda: (LAUGHS + "<l>&a11;</l>").encode(),
    "laughs.docx": lambda: docx("<w:p><w:r><w:t>&a11;</w:t></w:r></w:p>", head=LAUGHS.replace("DOCTYPE l", "DOCTYPE w:document")),
    "laughs.xlsx": lambda: xlsx('<row r="1"><c t="inlineStr"><is><t>&a11;</t></is></c></row>', head=LAUGHS.replace("DOCTYPE l", "DOCTYPE worksheet")),
    "quadratic.xml": lambda: (QUADRATIC + "<q>" + "&a;" * 20_000 + "</q>").encode(),
    "outside.xml": lambda: (OUTSIDE + "<o>&f;&u; Some text.</o>").encode(),
    "outside.docx": lambda: docx("<w:p><w:r><w:t>&f;</w:t></w:r></w:p>", head=OUTSIDE.replace("DOCTYPE o", "DOCTYPE w:document")),
    "deep.xml": lambda: b"<a>" * 100_000 + b"deep" + b"</a>" * 100_000,
    "wide.xml": lambda: b"<r>" + b"<a b='c'/>" * 500_000 + b"text</r>",
    "attributes.xml": lambda: ("<r " + " ".join(f"a{n}='1'" for n in range(50_000)) + ">text</r>").encode(),
    # HTML
    "deep.html": lambda: page("<div>" * 10_000 + "deep" + "</div>" * 10_000),
    "deep-100000.html": lambda: page("<b>" * 100_000 + "deep"),
    "deep-tables.html": lambda: page("<table><tr><td>" * 3_000 + "deep"),
    "deep-lists.html": lambda: page("<ul><li>" * 10_000 + "deep"),
    "unclosed.html": lambda: page("<p>a" * 300_000),
    "angles.html": lambda: page("<" * 500_000),
    "attribute.html": lambda: page(f'<p title="{"x" * 8_000_000}">text</p>'),
    "table-1000000.html": lambda: page("<table>" + "<tr><td>1<td>2" * 250_000 + "</table>"),
    "spans.html": lambda: page('<table><tr><td rowspan="60000" colspan="60000">x</td></tr><tr><td>y</td></tr></table>'),
    "entities.html": lambda: page("&amp;" * 500_000),
    "comment.html": lambda: b"<html><body>text<!--" + b"-" * 1_000_000,
    # text and marks
    "brackets.md": lambda: b"[" * 200_000,
    "quotes.md": lambda: b"> " * 50_000 + b"deep",
    "stars.md": lambda: b"*a_" * 200_000,
    "ticks.md": lambda: b"`" * 200_001 + b" text",
    "fences.md": lambda: b"```\n" * 100_001 + b"text",
    "headings.md": lambda: b"# a\n" * 100_000,
    "pipes.md": lambda: b"|" * 500_000 + b"\n" + b"|-" * 250_000 + b"\n",
    "one-line.txt": lambda: b"x" * 12_000_000,
    "spaces.txt": lambda: b" " * 3_000_000 + b"x" + b" " * 3_000_000,
    "blank-lines.txt": lambda: b"\n" * 3_000_000 + b"x",
    "form-feeds.txt": lambda: b"x\f" * 200_000,
    "sentences.txt": lambda: b"a. " * 1_000_000,
    "abbreviations.txt": lambda: b"e.g. " * 500_000,
    "combining.txt": lambda: ("a" + "\u0301" * 1_000_000).encode(),
    "zero-width.txt": lambda: ("\u200b" * 1_000_000 + "x").encode(),
    "nul.txt": lambda: b"text\0" * 100_000,
    "surrogates.txt": lambda: b"\xff\xfe" + b"\x00\xd8" * 100_000,
    "utf-32.txt": lambda: TEXT.encode("utf-32"),
    "bom-only.txt": lambda: b"\xef\xbb\xbf",
    "controls.txt": lambda: bytes(range(1, 32)) * 10_000,
    "invalid-utf8.txt": lambda: b"caf\xe9 \xc3\x28 \xf0\x28\x8c\xbc " * 20_000,
    # tables and records
    "columns.csv": lambda: b",".join(b"c%d" % n for n in range(50_000)) + b"\n" + b"1," * 49_999 + b"1\n",
    "open-quote.csv": lambda: b'a,b\n1,"' + b"text, text\n" * 300_000,
    "commas.csv": lambda: b"," * 3_000_000,
    "ragged.csv": lambda: b"a,b\n" + b"".join(b"1" + b"," * (n % 3000) + b"\n" for n in range(3000)),
    "cell.csv": lambda: b"a,b\n1," + b"x" * 8_000_000 + b"\n",
    "quotes.csv": lambda: b'a,b\n' + b'"' * 1_000_001,
    "far-cell.xlsx": lambda: xlsx('<row r="1048576"><c r="XFD1048576"><v>1</v></c></row><row r="1"><c r="A1"><v>2</v></c></row>'),
    "repeated.ods": lambda: ods(
        '<table:table-row table:number-rows-repeated="1048576"><table:table-cell office:value-type="string" table:number-columns-repeated="16384">'
        "<text:p>x</text:p></table:table-cell></table:table-row>"
    ),
    "spaces.ods": lambda: ods(
        f'<table:table-row>{ODS_CELL}<text:p>a<text:s text:c="2000000000"/>b</text:p></table:table-cell></table:table-row>'
    ),
    "deep.json": lambda: b"[" * 100_000 + b"]" * 100_000,
    "deep-objects.json": lambda: b'{"a":' * 50_000 + b"1" + b"}" * 50_000,
    "number.json": lambda: b'{"a": ' + b"9" * 200_000 + b"}",
    "same-keys.json": lambda: b"{" + b'"a": 1,' * 200_000 + b'"a": 2}',
    "infinity.json": lambda: b'{"a": 1e999, "b": NaN, "c": "\\ud800"}',
    "deep.jsonl": lambda: b"[" * 5_000 + b"]" * 5_000 + b"\n" + b'{"a": 1}\n',
    "long-line.jsonl": lambda: b'{"a": "' + b"x" * 8_000_000 + b'"}\n',
    "braces.rtf": lambda: rb"{\rtf1 " + b"{" * 200_000 + b"x",
    "binary.rtf": lambda: rb"{\rtf1 \bin99999999999 abc}",
    "unicode.rtf": lambda: rb"{\rtf1 " + rb"\u-70000?\u99999999999?" * 10_000 + b"}",
    # mail
    "nested-200.eml": lambda: nested_mail(200),
    "header.eml": lambda: b"Subject: " + b"x" * 3_000_000 + b"\n\ntext",
    "headers.eml": lambda: b"".join(b"X-%d: y\n" % n for n in range(100_000)) + b"\ntext",
    "no-boundary.eml": lambda: b"MIME-Version: 1.0\nContent-Type: multipart/mixed\n\n--x\n\ntext\n",
    "charset.eml": lambda: b"Content-Type: text/plain; charset=no-such-thing\n\ntext \xff\xfe",
    "encoded-words.eml": lambda: b"Subject: " + b"=?utf-8?q?=61?= " * 50_000 + b"\n\ntext",
    # PDF
    "kids-loop.pdf": lambda: pdf([CATALOGUE, b"<< /Type /Pages /Kids [2 0 R] /Count 5 >>"]),
    "parent-loop.pdf": lambda: pdf([CATALOGUE, b"<< /Type /Pages /Kids [3 0 R] /Count 1 /Parent 3 0 R >>", b"<< /Type /Page /Parent 3 0 R >>"]),
    "same-page-10000.pdf": lambda: pdf([CATALOGUE, b"<< /Type /Pages /Kids [" + b"3 0 R " * 10_000 + b"] /Count 10000 >>", PAGE, DRAWN, FONT]),
    "count.pdf": lambda: pdf([CATALOGUE, b"<< /Type /Pages /Kids [3 0 R] /Count 999999999 >>", PAGE, DRAWN, FONT]),
    "negative-count.pdf": lambda: pdf([CATALOGUE, b"<< /Type /Pages /Kids [3 0 R] /Count -7 >>", PAGE, stream(b""), FONT]),
    "outline-loop.pdf": lambda: outline_loop(),
    "form-loop.pdf": form_loop,
    "prev-loop.pdf": lambda: good_pdf().replace(b"/Root 1 0 R ", b"/Root 1 0 R /Prev 9 "),
    "length-loop.pdf": lambda: good_pdf().replace(b"/Length ", b"/Length 4 0 R % "),
    "huge-page.pdf": lambda: good_pdf().replace(b"[0 0 612 792]", b"[0 0 99999999 99999999]"),
    "nan-page.pdf": lambda: good_pdf().replace(b"[0 0 612 792]", b"[0 0 0 0]"),
    "deep-arrays.pdf": lambda: pdf([CATALOGUE, PAGES, PAGE, stream(b"[" * 100_000 + b"] TJ"), FONT]),
    "deep-saves.pdf": lambda: pdf([CATALOGUE, PAGES, PAGE, stream(b"q " * 300_000), FONT]),
    "deep-dictionary.pdf": lambda: deep_dictionary(50_000),
    "filters.pdf": lambda: pdf([CATALOGUE, PAGES, PAGE, stream(zlib.compress(b"x"), b"/Filter [" + b"/FlateDecode " * 500 + b"]"), FONT]),
    "empty-pages.pdf": lambda: empty_pages(5000),
    "header-only.pdf": lambda: b"%PDF-1.7\n%%EOF",
    "javascript.pdf": lambda: pdf([b"<< /Type /Catalog /Pages 2 0 R /OpenAction << /S /JavaScript /JS (while(1);) >> >>", PAGES, PAGE, DRAWN, FONT]),
    # images
    "huge.png": lambda: png(60_000, 60_000, rows=10),
    "cut.png": lambda: png(500, 500, rows=3),
}  # fmt: skip

NAMES: dict[str, Callable[[], bytes]] = {
    "line\nbreak.txt": lambda: TEXT.encode(),
    "tab\tand\rreturn.md": lambda: TEXT.encode(),
    "\x1b[31mred.txt": lambda: TEXT.encode(),
    "..\\..\\outside.txt": lambda: TEXT.encode(),
    "%2e%2e%2foutside.txt": lambda: TEXT.encode(),
    "-rf.txt": lambda: TEXT.encode(),
    "'; DROP TABLE documents; --.txt": lambda: TEXT.encode(),
    "$(touch outside).txt": lambda: TEXT.encode(),
    "\"quoted\" and 'quoted'.md": lambda: TEXT.encode(),
    "e\u0301 and é.txt": lambda: TEXT.encode(),
    "‮fdp.txt": lambda: TEXT.encode(),
    "x" * 240 + ".txt": lambda: TEXT.encode(),
    "CON.txt": lambda: TEXT.encode(),
    " .txt": lambda: TEXT.encode(),
    "...txt": lambda: TEXT.encode(),
    "d/" * 60 + "deep.txt": lambda: TEXT.encode(),
    "looks-like.pdf/inside.txt": lambda: TEXT.encode(),
    "null\udcff-byte.txt": lambda: TEXT.encode(),
    "UPPER.PDF": good_pdf,
    "empty.pdf": lambda: b"",
}


def hostile_files() -> dict[str, Callable[[], bytes]]:
    """Return name → builder of all 200 files."""
    found = dict(BOMBS) | NAMES
    kinds = sorted(GOOD)
    for kind in kinds:
        for share in (0.1, 0.6):
            found[f"cut-{int(share * 100)}.{kind}"] = lambda k=kind, s=share: truncated(k, s)
        for seed in range(2):
            found[f"flipped-{seed}.{kind}"] = lambda k=kind, s=seed: flipped(k, s)
    for n, kind in enumerate(kinds):
        other = kinds[(n + 4) % len(kinds)]
        found[f"really-{kind}.{other}"] = GOOD[kind]
    return found


def small_selection() -> dict[str, Callable[[], bytes]]:
    """Return about 40 of them, of every sort, quick to make and to refuse."""
    slow = {name for name in BOMBS if name.startswith(("bomb", "many", "nested-bombs", "quadratic"))}
    found = hostile_files()
    names = [*[n for n in BOMBS if n not in slow][::4], *list(NAMES)[::2]]
    names += [n for n in found if n not in BOMBS and n not in NAMES][::7]
    return {name: found[name] for name in names}
