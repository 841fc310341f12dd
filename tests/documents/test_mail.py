"""EML and MSG: headers, text, attachments."""

import email
from pathlib import Path

import pytest
from compressed_rtf import compress
from pool_tasks import Job, work
from small_files import make_eml, make_msg

from doyen.documents.mail import read_eml
from doyen.documents.outlook import read_msg
from doyen.errors import DocumentError
from doyen.parsing import Limits, WorkerPool

HEAD = """From: Ann Lee <ann@example.com>
To: Bo <bo@example.com>
Date: Tue, 02 Jan 2024 10:00:00 +0100
Subject: Größe of the leak

"""


def test_a_mail_is_its_headers_and_its_text():
    mail = read_eml(make_eml("It rained in.\n"), Path("a.eml"))
    assert mail.text == HEAD + "It rained in."
    assert mail.title == "Größe of the leak"
    assert dict(mail.metadata)["date"] == "2024-01-02T10:00:00+01:00"
    assert dict(mail.metadata)["from"] == "Ann Lee <ann@example.com>"


def test_the_plain_form_is_preferred_and_html_is_read_where_there_is_none():
    assert "plain" in read_eml(make_eml("plain", html="<p>rich</p>"), Path("a.eml")).text
    both = read_eml(make_eml("plain", html="<p>rich</p>"), Path("a.eml"))
    assert "rich" not in both.text and both.parts == ()
    only = read_eml(make_eml(" \n", html='<meta charset="windows-1251"><p>Größe <b>now</b></p>'), Path("a.eml"))
    assert only.text == HEAD + "Größe now"


def test_attachments_are_parts_and_pictures_in_the_text_are_not():
    mail = email.message_from_bytes(make_eml(attachments=[("report.pdf", b"%PDF-"), ("../../x.txt", b"x")]))
    logo = email.message_from_string("Content-Type: image/png\nContent-ID: <logo>\nContent-Disposition: inline\n\nabc")
    unnamed = email.message_from_string("Content-Type: application/pdf\nContent-Disposition: attachment\n\n%PDF")
    mail.attach(logo)
    mail.attach(unnamed)
    parts = read_eml(mail.as_bytes(), Path("a.eml")).parts
    assert [part.name for part in parts] == ["report.pdf", "../../x.txt", "attachment.pdf"]


def test_an_attachment_beside_an_alternative_inside_related_is_kept():
    raw = """From: a@b.c
Subject: x
Content-Type: multipart/alternative; boundary=A

--A
Content-Type: text/plain

plain
--A
Content-Type: multipart/mixed; boundary=B

--B
Content-Type: text/html

<p>rich</p>
--B
Content-Type: text/csv; name=t.csv
Content-Disposition: attachment; filename=t.csv

a,b
--B--
--A--
"""
    mail = read_eml(raw.encode(), Path("a.eml"))
    assert mail.text.endswith("\n\nplain")
    assert [part.name for part in mail.parts] == ["t.csv"]


def test_a_forwarded_mail_is_a_part():
    inner = email.message_from_bytes(make_eml("inner", Subject="First mail"), policy=email.policy.default)
    mail = read_eml(make_eml("outer", forwarded=inner), Path("a.eml"))
    assert [part.name for part in mail.parts] == ["First mail.eml"]
    assert read_eml(mail.parts[0].data, Path("b.eml")).text.endswith("\n\ninner")


@pytest.mark.parametrize(
    "header",
    [
        b"From: =?utf-8?q?=ff?= <<>>@@\nDate: never\nTo: ,;,",
        b"Content-Type: text/plain; charset=no-such\nSubject: =?x-unknown?b?AAA?=",
        b"Content-Type: text/plain; charset*=''\nContent-Disposition: ;;; filename*1*=x",
        b"Subject: " + b"a " * 5000,
    ],
)
def test_malformed_headers_do_not_cost_the_mail(header):
    assert read_eml(header + b"\n\nGr\xfc\xdfe to all", Path("a.eml")).text.endswith("Grüße to all")


def test_what_is_no_mail_is_refused_and_depth_is_bounded():
    with pytest.raises(DocumentError, match="not a readable mail"):
        read_eml(b"Just a text.\n", Path("a.eml"))
    nested = b""
    for n in range(5000):
        nested += b"Content-Type: multipart/mixed; boundary=b%d\n\n--b%d\n" % (n, n)
    with pytest.raises(DocumentError, match="nested too deeply"):
        read_eml(nested + b"\nhello", Path("a.eml"))


def test_msg_is_read_like_eml():
    mail = read_msg(make_msg(embedded="Inner mail"), Path("a.msg"))
    assert mail.text == "From: Ann Lee\nTo: Bo Ek\nSubject: The leak\n\nIt rained in."
    assert [part.name for part in mail.parts] == ["a.txt", "Inner mail.eml"]
    assert mail.parts[0].data == b"attached"
    inner = read_eml(mail.parts[1].data, Path("b.eml"))
    assert (inner.title, inner.text.split("\n\n")[1]) == ("Inner mail", "Inner text.")


def test_a_msg_with_compressed_rtf_alone_has_its_text():
    rtf = rb"{\rtf1\ansi{\fonttbl{\f0 Arial;}}\pard We pay for w\'e4ter damage.\par Up to 300 EUR.\par}"
    mail = read_msg(make_msg(body="", rtf=compress(rtf)), Path("a.msg"))
    assert mail.text.endswith("Subject: The leak\n\nWe pay for wäter damage.\n\nUp to 300 EUR.")


@pytest.mark.parametrize("rtf", [b"short", compress(b"no rtf at all"), compress(b"{\\rtf1 We pay.}")[:-3]])
def test_a_msg_with_damaged_rtf_keeps_the_rest(rtf):
    mail = read_msg(make_msg(body="", rtf=rtf), Path("a.msg"))
    assert mail.text.endswith("Subject: The leak")
    assert [part.name for part in mail.parts] == ["a.txt"]
    assert "damaged RTF" in mail.warnings[0]


@pytest.mark.parametrize("data", [b"not it", make_msg()[:700], b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\0" * 2000])
def test_a_damaged_msg_is_refused(data):
    with pytest.raises(DocumentError, match="a.msg is damaged|a.msg is not a readable Outlook mail"):
        read_msg(data, Path("a.msg"))


def test_a_msg_whose_streams_claim_more_than_the_file_is_refused():
    data = make_msg()
    entry = data.index("__substg1.0_1000001F".encode("utf-16-le"))
    huge = data[: entry + 120] + (1 << 31).to_bytes(8, "little") + data[entry + 128 :]
    with pytest.raises(DocumentError, match="claims to hold 2,147"):
        read_msg(huge, Path("a.msg"))


def test_a_msg_whose_sectors_lead_back_to_themselves_is_refused():
    data = make_msg()
    with pytest.raises(DocumentError, match="no end"):
        read_msg(data[:-512] + bytes(512), Path("a.msg"))


def test_a_header_of_endless_encoded_words_costs_no_time():
    mail = b"Subject: " + b"=?utf-8?q?=61?= " * 50_000 + b"\n\nThe text."
    with WorkerPool(work, limits=Limits(seconds=10)) as pool:
        (outcome,) = pool.run([Job("mail", mail)])
    assert outcome.reason is None and outcome.result.endswith("Subject: " + "a" * 1000 + "\n\nThe text.")
