"""Damaged, mislabelled and malicious files: a DocumentError or a sound document, whatever the bytes."""

import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from small_files import every_format, make_zip

from doyen.documents.reading import READERS, read_documents
from doyen.errors import DocumentError

FILES = every_format()


def read(data, suffix):
    """Read the bytes; check every promise that a document makes, and return how many there are."""
    try:
        result = read_documents(data, f"x{suffix}", f"x{suffix}")
    except DocumentError as error:
        assert "\n" not in str(error) and "\n" not in (error.hint or "")
        return 0
    for document in result.documents:
        check(document)
    for where, reason in (*result.failures, *result.warnings):
        assert where.startswith(f"x{suffix}") and "\n" not in reason
    return len(result.documents)


def check(document):
    """Assert the laws of a document: the map lies within the text and in order, and the text can be stored."""
    text, end = document.text, 0
    assert text.strip() and document.title and "\n" not in document.title and "\n" not in document.id
    text.encode("utf-8"), document.title.encode("utf-8")
    assert not set(text) & {chr(n) for n in (*range(9), 11, 12, *range(14, 32), 127)}
    for span in document.records:
        assert end <= span.start < span.end <= len(text) and text[span.start : span.end].strip()
        end = span.end
    starts = [heading.start for heading in document.headings]
    assert starts == sorted(starts) and all(0 <= start < len(text) for start in starts)
    assert all(text.startswith(h.title, h.start) for h in document.headings if document.media_type != "text/markdown")
    end = 0
    for number, page in enumerate(document.pages, start=1):
        assert page.number == number and end <= page.start <= page.end <= len(text)
        end = page.end
    assert all(isinstance(value, str) and "\n" not in value for pair in document.metadata for value in pair)


@pytest.mark.parametrize("suffix", FILES)
def test_the_whole_file_is_read_and_keeps_the_laws(suffix):
    assert read(FILES[suffix], suffix) >= 1


@pytest.mark.parametrize("suffix", FILES)
def test_truncated_files(suffix):
    data = FILES[suffix]
    for share in (0, 0.05, 0.3, 0.6, 0.9, 0.99):
        read(data[: int(len(data) * share)], suffix)


@pytest.mark.parametrize("suffix", FILES)
def test_flipped_bits(suffix):
    generator = random.Random(suffix)
    for count in (1, 3, 10, 100) * 5:
        data = bytearray(FILES[suffix])
        for _ in range(count):
            data[generator.randrange(len(data))] ^= 1 << generator.randrange(8)
        read(bytes(data), suffix)


@pytest.mark.parametrize("suffix", sorted(READERS))
def test_wrong_suffixes(suffix):
    for data in FILES.values():
        read(data, suffix)


@pytest.mark.parametrize(
    ("suffix", "data", "reason"),
    [
        (".docx", b"%PDF-1.7 rest", "x.docx seems to be a PDF, not what its suffix says"),
        (".docx", FILES[".xlsx"], r"seems to be a spreadsheet \(.xlsx\)"),
        (".pdf", FILES[".docx"], r"seems to be a Word document \(.docx\)"),
        (".xls", b"<html><table></table></html>", "seems to be an HTML file"),
        (".xlsx", b"<?xml version='1.0'?><Workbook/>", "seems to be an XML file"),
        (".zip", b"Rar!\x1a\x07", "seems to be a RAR archive"),
        (".docx", FILES[".msg"], "old Office file|encrypted with a password"),
        (".txt", FILES[".zip"], "binary file"),
    ],
)
def test_the_error_says_what_a_file_seems_to_be(suffix, data, reason):
    with pytest.raises(DocumentError, match=reason):
        read_documents(data, f"x{suffix}", f"x{suffix}")


DEEP = 10_000
NESTED = {
    ".html": b"<div>" * DEEP + b"x" + b"</div>" * DEEP,
    ".xml": b"<a>" * DEEP + b"x" + b"</a>" * DEEP,
    ".json": b"[" * DEEP + b"1" + b"]" * DEEP,
    ".jsonl": b'{"a":' * DEEP + b"1" + b"}" * DEEP,
    ".rtf": b"{\\rtf1 " + b"{" * DEEP + b"x" + b"}" * DEEP + b"}",
    ".md": b"> " * DEEP + b"x",
    ".eml": b"".join(b"Content-Type: multipart/mixed; boundary=b%d\n\n--b%d\n" % (n, n) for n in range(DEEP)),
    ".odt": make_zip({"content.xml": b"<a>" * DEEP + b"</a>" * DEEP, "META-INF/manifest.xml": b""}),
    ".epub": make_zip({"META-INF/container.xml": b"<a>" * DEEP + b"</a>" * DEEP}),
}


@pytest.mark.parametrize("suffix", NESTED)
def test_deep_nesting(suffix):
    read(NESTED[suffix], suffix)


@settings(max_examples=300, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(data=st.binary(max_size=300), suffix=st.sampled_from(sorted(READERS)), start=st.sampled_from(sorted(FILES)))
def test_no_bytes_bring_out_a_library_exception(data, suffix, start):
    read(data, suffix)
    read(FILES[start][:200] + data, start)
    read(data + FILES[start][-200:], start)


TEXT = st.text(max_size=40)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.dictionaries(TEXT, st.one_of(TEXT, st.floats(), st.lists(TEXT, max_size=3)), max_size=4), max_size=6)
)
def test_json_rows_of_any_text_keep_the_laws(rows):
    import json

    read(json.dumps(rows).encode(), ".json")
    read("\n".join(map(json.dumps, rows)).encode(), ".jsonl")
