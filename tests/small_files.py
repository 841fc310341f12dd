"""Small files of every format, made for the tests: each function returns the bytes of one file."""

import io
import json
import struct
import zipfile
import zlib
from email.message import EmailMessage

import docx
import pyarrow as pa
import pyarrow.parquet as pq
import xlsxwriter
from msoffcrypto.format.ooxml import OOXMLFile
from pptx import Presentation
from pptx.chart.data import CategoryChartData
from pptx.enum.chart import XL_CHART_TYPE
from pptx.util import Inches

ODF = "urn:oasis:names:tc:opendocument:xmlns"


def make_zip(members, compression=zipfile.ZIP_DEFLATED):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, data in members.items() if isinstance(members, dict) else members:
            archive.writestr(zipfile.ZipInfo(name), data, compress_type=compression)
    return buffer.getvalue()


def make_docx(*paragraphs):
    document = docx.Document()
    for text in paragraphs or ("A letter about water damage.",):
        document.add_paragraph(text)
    return saved(document)


def saved(document):
    buffer = io.BytesIO()
    document.save(buffer)
    return buffer.getvalue()


def make_pptx():
    deck = Presentation()
    deck.core_properties.title = "Claims in numbers"
    deck.core_properties.author = "Ann Lee"
    first = deck.slides.add_slide(deck.slide_layouts[1])
    first.shapes.title.text = "Water\vdamage"
    first.placeholders[1].text = "Up to 500 euros\nFrom day one"
    first.notes_slide.notes_text_frame.text = "Mention the leak."
    table = first.shapes.add_table(2, 2, Inches(1), Inches(1), Inches(4), Inches(1)).table
    for r, row in enumerate((("Item", "Limit"), ("Bike", "300"))):
        for c, text in enumerate(row):
            table.cell(r, c).text = text
    deck.slides.add_slide(deck.slide_layouts[6])
    hidden = deck.slides.add_slide(deck.slide_layouts[1])
    hidden.shapes.title.text = "Secret"
    hidden._element.set("show", "0")
    last = deck.slides.add_slide(deck.slide_layouts[5])
    last.shapes.title.text = "Growth"
    group = last.shapes.add_group_shape()
    group.shapes.add_textbox(0, 0, Inches(1), Inches(1)).text_frame.text = "In a group"
    data = CategoryChartData()
    data.categories = ["2023", "2024"]
    data.add_series("Claims", (12, 15.5))
    last.shapes.add_chart(XL_CHART_TYPE.COLUMN_CLUSTERED, 0, 0, Inches(3), Inches(3), data)
    return saved(deck)


def make_xlsx(sheets=None, hidden=(), hidden_row=None, **properties):
    buffer = io.BytesIO()
    workbook = xlsxwriter.Workbook(buffer, {"in_memory": True, "default_date_format": "yyyy-mm-dd"})
    workbook.set_properties(properties)
    for name, rows in (sheets or {"Prices": [["item", "price"], ["Bike", 300], ["Lock", 20.5]]}).items():
        sheet = workbook.add_worksheet(name)
        for r, row in enumerate(rows):
            for c, value in enumerate(row):
                sheet.write(r, c, value)
        if name in hidden:
            sheet.hide()
        if hidden_row is not None:
            sheet.set_row(hidden_row, options={"hidden": True})
    workbook.close()
    return buffer.getvalue()


def make_xls(rows=(("item", "price"), ("Bike", 300.0), ("Lock", 20.5))):
    """Return an Excel 97 workbook of one sheet: BIFF8 records in a compound file ([MS-XLS])."""

    def record(kind, body=b""):
        return struct.pack("<HH", kind, len(body)) + body

    cells = b""
    for r, row in enumerate(rows):
        for c, value in enumerate(row):
            place = struct.pack("<HHH", r, c, 0)
            if isinstance(value, str):
                cells += record(0x0204, place + struct.pack("<HB", len(value), 0) + value.encode("latin-1"))
            else:
                cells += record(0x0203, place + struct.pack("<d", value))
    size = struct.pack("<IIHHH", 0, len(rows), 0, max(map(len, rows)), 0)
    sheet = (
        record(0x0809, struct.pack("<HHHHII", 0x0600, 0x0010, 0, 0, 0, 6)) + record(0x0200, size) + cells + record(0x0A)
    )
    start = record(0x0809, struct.pack("<HHHHII", 0x0600, 0x0005, 0, 0, 0, 6))
    name = struct.pack("<BBBB", 0, 0, 6, 0) + b"Prices"
    offset = len(start) + 4 + 4 + len(name) + 4
    book = start + record(0x0085, struct.pack("<I", offset) + name) + record(0x0A) + sheet
    return make_cfb({"Workbook": book.ljust(4096, b"\0")})


def make_open_document(kind, body, title="", author=""):
    names = ("office", "text", "table", "meta")
    spaces = " ".join(f'xmlns:{name}="{ODF}:{name}:1.0"' for name in names)
    spaces += ' xmlns:dc="http://purl.org/dc/elements/1.1/"'
    meta = f"<dc:title>{title}</dc:title><dc:creator>{author}</dc:creator>"
    manifest = '<manifest:manifest xmlns:manifest="urn:oasis:names:tc:opendocument:xmlns:manifest:1.0"/>'
    return make_zip(
        {
            "mimetype": f"application/vnd.oasis.opendocument.{kind}",
            "content.xml": f"<office:document-content {spaces}><office:body>{body}</office:body></office:document-content>",
            "meta.xml": f"<office:document-meta {spaces}><office:meta>{meta}</office:meta></office:document-meta>",
            "META-INF/manifest.xml": manifest,
        }
    )


def make_odt():
    return make_open_document(
        "text",
        "<office:text><text:tracked-changes><text:p>Deleted words</text:p></text:tracked-changes>"
        '<text:h text:outline-level="1">Cover</text:h><text:p>We <text:span>pay</text:span><text:s/>up to'
        "<text:line-break/>500 euros.</text:p><text:list><text:list-item><text:p>pipes</text:p></text:list-item>"
        "<text:list-item><text:p>roofs</text:p></text:list-item></text:list><table:table><table:table-row>"
        "<table:table-cell><text:p>Bike</text:p></table:table-cell><table:table-cell><text:p>300</text:p>"
        "</table:table-cell></table:table-row></table:table></office:text>",
        title="The policy",
        author="Ann Lee",
    )


def make_ods(repeated_rows=1):
    def row(values, extra=""):
        cells = "".join(
            f'<table:table-cell office:value-type="string"><text:p>{value}</text:p></table:table-cell>'
            for value in values
        )
        return f"<table:table-row {extra}>{cells}</table:table-row>"

    rows = row(("item", "price")) + row(("Bike", "300"), f'table:number-rows-repeated="{repeated_rows}"')
    empty = '<table:table-row table:number-rows-repeated="1048000"><table:table-cell table:number-columns-repeated="16384"/></table:table-row>'
    return make_open_document(
        "spreadsheet",
        f'<office:spreadsheet><table:table table:name="Prices">{rows}{empty}</table:table></office:spreadsheet>',
    )


CONTAINER = '<container><rootfiles><rootfile full-path="OPS/book.opf" /></rootfiles ></container>'
PACKAGE = """<package xmlns="http://www.idpf.org/2007/opf" xmlns:dc="http://purl.org/dc/elements/1.1/"><metadata>
<dc:title>Rain &amp; roofs</dc:title><dc:creator>Ann Lee</dc:creator><dc:creator>Bo Ek</dc:creator><dc:language>en</dc:language>
</metadata><manifest><item id="n" href="nav.xhtml" media-type="application/xhtml+xml" properties="nav"/>
<item id="b" href="two%20b.xhtml" media-type="application/xhtml+xml"/>
<item id="a" href="one.xhtml" media-type="application/xhtml+xml"/><item id="gone" href="gone.xhtml" media-type="text/html"/>
</manifest><spine><itemref idref="n"/><itemref idref="a"/><itemref idref="b"/><itemref idref="gone"/></spine></package>"""


def make_epub(**more):
    page = '<?xml version="1.0" encoding="utf-8"?><html><head><title/></head><body>{}</body></html>'
    return make_zip(
        {
            "mimetype": "application/epub+zip",
            "META-INF/container.xml": CONTAINER,
            "OPS/book.opf": PACKAGE,
            "OPS/nav.xhtml": page.format("<p>Contents</p>"),
            "OPS/two b.xhtml": page.format("<h1>Two</h1><p>The roof held.</p>"),
            "OPS/one.xhtml": page.format("<h1>One</h1><p>It rained.</p>"),
            **more,
        }
    )


def make_eml(text="It rained in.", html="", attachments=(), forwarded=None, **headers):
    mail = EmailMessage()
    known = {"From": "Ann Lee <ann@example.com>", "To": "Bo <bo@example.com>", "Subject": "Größe of the leak"}
    known["Date"] = "Tue, 02 Jan 2024 10:00:00 +0100"
    for name, value in (known | headers).items():
        mail[name] = value
    mail.set_content(text)
    if html:
        mail.add_alternative(html, subtype="html")
    for name, data in attachments:
        mail.add_attachment(data, maintype="application", subtype="octet-stream", filename=name)
    if forwarded is not None:
        mail.add_attachment(forwarded)
    return mail.as_bytes()


def make_parquet(columns=None):
    columns = columns or {
        "item": ["Bike", "Lock"],
        "price": [300.0, 20.5],
        "tags": [["a", "b"], None],
        "raw": [b"\0", b"1"],
    }
    buffer = io.BytesIO()
    pq.write_table(pa.table(columns), buffer)
    return buffer.getvalue()


def encrypted_office(data, password):
    buffer = io.BytesIO()
    OOXMLFile(io.BytesIO(data)).encrypt(password, buffer)
    return buffer.getvalue()


def zipcrypto_zip(name, data, password):
    """Return a ZIP with one member, stored, under PKWARE's traditional encryption (APPNOTE 6.1)."""
    table = [_crc_entry(n) for n in range(256)]
    keys = [0x12345678, 0x23456789, 0x34567890]

    def update(byte):
        keys[0] = (keys[0] >> 8) ^ table[(keys[0] ^ byte) & 0xFF]
        keys[1] = ((keys[1] + (keys[0] & 0xFF)) * 134775813 + 1) & 0xFFFFFFFF
        keys[2] = (keys[2] >> 8) ^ table[(keys[2] ^ (keys[1] >> 24)) & 0xFF]

    for byte in password.encode():
        update(byte)
    crc = zlib.crc32(data)
    locked = bytearray()
    for byte in bytes(11) + bytes((crc >> 24,)) + data:
        mask = keys[2] | 2
        locked.append(byte ^ ((mask * (mask ^ 1) >> 8) & 0xFF))
        update(byte)
    encoded = name.encode()
    fields = (20, 1, 0, 0, 0x21, crc, len(locked), len(data), len(encoded))
    local = struct.pack("<4s5H3I2H", b"PK\x03\x04", *fields, 0) + encoded + bytes(locked)
    central = struct.pack("<4s6H3I5H2I", b"PK\x01\x02", 20, *fields, 0, 0, 0, 0, 0, 0) + encoded
    return local + central + struct.pack("<4s4H2IH", b"PK\x05\x06", 0, 0, 1, 1, len(central), len(local), 0)


def _crc_entry(number):
    for _ in range(8):
        number = (number >> 1) ^ 0xEDB88320 if number & 1 else number >> 1
    return number


JSON = json.dumps(
    [{"item": "Bike", "limit": {"amount": 300, "unit": "EUR"}}, {"item": "Lock", "tags": ["a", "b"]}]
).encode()
RTF = (
    rb"{\rtf1\ansi\ansicpg1252{\fonttbl{\f0\fcharset0 Arial;}}{\stylesheet{\s1\outlinelevel0 heading 1;}}"
    rb"{\info{\title The policy}{\author Ann Lee}}\pard\s1 Cover\par\pard We pay for w\'e4ter \u8211?damage"
    rb"{\v hidden}{\deleted gone}.\par\pard\intbl Item\cell Limit\cell\row\pard{\*\generator X}{\pict\bin4 }}}}}Last\par}"
)
XML = b"<policy source='web'><title>Home</title><limit>500</limit><p>We pay for water damage.</p></policy>"


def every_format():
    """Return a small valid file of every suffix that needs no further program."""
    return {
        ".docx": make_docx(),
        ".pptx": make_pptx(),
        ".xlsx": make_xlsx(),
        ".xls": make_xls(),
        ".ods": make_ods(),
        ".odt": make_odt(),
        ".epub": make_epub(),
        ".eml": make_eml(html="<p>It <b>rained</b></p>", attachments=[("a.txt", b"attached")]),
        ".msg": make_msg(),
        ".rtf": RTF,
        ".json": JSON,
        ".jsonl": b'{"a": 1}\n{"a": 2}\n',
        ".xml": XML,
        ".parquet": make_parquet(),
        ".csv": b"item,price\nBike,300\n",
        ".html": b"<h1>Cover</h1><p>Water damage.</p>",
        ".zip": make_zip({"a/b.txt": b"inside", "c.csv": b"a,b\n1,x\n"}),
    }


def make_msg(subject="The leak", body="It rained in.", attachments=(("a.txt", b"attached"),), embedded="", rtf=b""):
    """Return an Outlook mail with attachments and, by its subject, one mail in it ([MS-OXMSG])."""
    root = _message_streams(subject, body, header=32, more={0x10090102: rtf} if rtf else {})
    for number, (name, data) in enumerate(attachments):
        root[f"__attach_version1.0_#{number:08X}"] = _property_streams({0x3707001F: name, 0x37010102: data}, 8)
    if embedded:
        inner = _message_streams(embedded, "Inner text.", header=24)
        holder = _property_streams({0x3707001F: embedded}, 8) | {"__substg1.0_3701000D": inner}
        root[f"__attach_version1.0_#{len(attachments):08X}"] = holder
    return make_cfb(root)


def _message_streams(subject, body, header, more=None):
    values = {0x0037001F: subject, 0x1000001F: body, 0x0C1A001F: "Ann Lee", 0x0E04001F: "Bo Ek", 0x001A001F: "IPM.Note"}
    return _property_streams(values | (more or {}), header)


def _property_streams(values, header):
    streams, entries = {}, bytes(header)
    for tag, value in values.items():
        data = value if isinstance(value, bytes) else value.encode("utf-16-le")
        streams[f"__substg1.0_{tag:08X}"] = data
        entries += struct.pack("<IIII", tag, 6, len(data) + (0 if isinstance(value, bytes) else 2), 0)
    return streams | {"__properties_version1.0": entries}


def make_cfb(tree):
    """Return a compound file of nested streams ([MS-CFB], version 3); every stream is padded to a mini sector."""
    entries, mini, mini_fat, long = [], bytearray(), [], []

    def add(name, content):
        index = len(entries)
        entries.append(None)
        if isinstance(content, dict):
            children = [add(key, value) for key, value in content.items()]
            for position, child in enumerate(children):  # a list on the right-hand sides: olefile wants no balance
                entries[child][3] = children[position + 1] if position + 1 < len(children) else 0xFFFFFFFF
            entries[index] = [name, 1, children[0] if children else 0xFFFFFFFF, 0xFFFFFFFF, 0, 0]
        else:
            if len(content) >= 4096:  # a stream of its own, placed below
                entries[index] = [name, 2, 0xFFFFFFFF, 0xFFFFFFFF, len(long), len(content)]
                long.append((index, content))
                return index
            start = len(mini) // 64
            sectors = max(1, -(-len(content) // 64))
            mini.extend(content.ljust(sectors * 64, b"\0"))
            mini_fat.extend([*range(start + 1, start + sectors), 0xFFFFFFFE])
            entries[index] = [name, 2, 0xFFFFFFFF, 0xFFFFFFFF, start, len(content)]
        return index

    add("Root Entry", tree)
    sectors = [bytes(mini), struct.pack(f"<{len(mini_fat)}I", *mini_fat)]
    mini_count, fat_count = (max(1, -(-len(part) // 512)) for part in sectors)
    entries[0][1], entries[0][4], entries[0][5] = 5, 0, len(mini)
    directory_count = -(-len(entries) // 4)
    long_counts = [-(-len(content) // 512) for _, content in long]
    for number, (index, _) in enumerate(long):
        entries[index][4] = mini_count + fat_count + directory_count + sum(long_counts[:number])
    directory = b"".join(_cfb_entry(*entry) for entry in entries)
    fat = []
    for count in (mini_count, fat_count, directory_count, *long_counts):
        fat += [*range(len(fat) + 1, len(fat) + count), 0xFFFFFFFE]
    used = len(fat)
    tables = -(-(used + 1) // 128)
    tables = -(-(used + tables) // 128)
    fat += [0xFFFFFFFD] * tables
    fat_bytes = struct.pack(f"<{len(fat)}I", *fat).ljust(tables * 512, b"\xff")
    header = struct.pack("<8s16s5H6x", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", b"", 0x3E, 3, 0xFFFE, 9, 6)
    header += struct.pack("<9I", 0, tables, mini_count + fat_count, 0, 4096, mini_count, fat_count, 0xFFFFFFFE, 0)
    header += struct.pack("<109I", *range(used, used + tables), *[0xFFFFFFFF] * (109 - tables))
    padded = [
        part.ljust(count * 512, b"\xff")
        for part, count in zip(
            (*sectors, directory, *(content for _, content in long)),
            (mini_count, fat_count, directory_count, *long_counts),
            strict=True,
        )
    ]
    return header + b"".join(padded) + fat_bytes


def _cfb_entry(name, kind, child, right, start, size):
    encoded = name.encode("utf-16-le").ljust(64, b"\0")
    fields = struct.pack("<HBB3I", len(name) * 2 + 2, kind, 1, 0xFFFFFFFF, right, child)
    return encoded + fields + bytes(36) + struct.pack("<IQ", start, size)
