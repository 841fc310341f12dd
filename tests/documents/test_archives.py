"""Files within files: archives and mails, their limits, names and passwords."""

import io

import pytest
import pyzipper
from hypothesis import given
from hypothesis import strategies as st
from reportlab.lib.pdfencrypt import StandardEncryption
from reportlab.pdfgen.canvas import Canvas
from small_files import encrypted_office, make_docx, make_eml, make_xlsx, make_zip, zipcrypto_zip

from doyen.documents.archive import Budget, members, safe_name
from doyen.documents.reading import MAX_DEPTH, read_documents
from doyen.documents.zipped import check_expansion
from doyen.errors import DocumentError


def ids(result):
    return [document.id for document in result.documents]


def test_members_of_an_archive_are_documents_with_its_id_before_theirs():
    data = make_zip({"docs/a.txt": "one", "b.csv": "x,y\n1,z\n", "docs/": "", "c.exe": "MZ", "__MACOSX/._a.txt": "x"})
    result = read_documents(
        data, "set.zip", "in/set.zip", source="/in/set.zip", modified_at=5.0, labels=("staff",), passwords=["x"]
    )
    assert ids(result) == ["in/set.zip/docs/a.txt", "in/set.zip/b.csv"]
    first = result.documents[0]
    assert (first.text, first.source, first.modified_at, first.labels) == ("one", "/in/set.zip", 5.0, ("staff",))
    assert first.metadata == (("part_of", "in/set.zip"),)
    assert result.warnings == [("in/set.zip", "1 files in it are of other formats: .exe")]
    assert result.failures == []


def test_mail_in_archive_in_mail():
    inner = make_eml(attachments=[("a.docx", make_docx("Deep inside."))])
    outer = make_eml(attachments=[("mails.zip", make_zip({"one.eml": inner})), ("x.bin", b"1")])
    result = read_documents(outer, "m.eml", "m.eml")
    assert ids(result) == ["m.eml", "m.eml/mails.zip/one.eml", "m.eml/mails.zip/one.eml/a.docx"]
    assert result.documents[2].text == "Deep inside."
    assert result.warnings == [("m.eml", "1 files in it are of other formats: .bin")]


def test_a_faulty_member_is_a_failure_beside_the_others():
    data = make_zip({"bad.docx": b"not one", "empty.txt": b"", "good.txt": b"good", "p.pdf": make_zip({"a": "b"})})
    result = read_documents(data, "a.zip", "a.zip")
    assert ids(result) == ["a.zip/good.txt"]
    assert dict(result.failures) == {
        "a.zip/bad.docx": "bad.docx is not a readable Word document (damaged or cut off) (fetch the file again)",
        "a.zip/empty.txt": "empty.txt is empty (0 bytes)",
        "a.zip/p.pdf": "p.pdf seems to be a ZIP archive, not what its suffix says (rename the file)",
    }


def test_an_archive_without_readable_members_and_a_damaged_one_are_faults_of_the_item():
    with pytest.raises(DocumentError, match=r"holds no file that can be read \(2 files .*: \(none\) \.exe"):
        read_documents(make_zip({"a.exe": "x", "b": "y"}), "a.zip", "a.zip")
    for data in (b"PK\x03\x04rest", make_zip({"a.txt": "x" * 100})[:-30]):
        with pytest.raises(DocumentError, match="not a readable ZIP archive"):
            read_documents(data, "a.zip", "a.zip")


def test_members_of_one_name_get_numbers():
    data = make_zip([("a/b.txt", "one"), ("a//b.txt", "two"), ("./a/b.txt", "three")])
    assert ids(read_documents(data, "z.zip", "z.zip")) == [
        "z.zip/a/b.txt",
        "z.zip/a/b (2).txt",
        "z.zip/a/b (3).txt",
    ]


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("../../etc/passwd.txt", "etc/passwd.txt"),
        ("/abs/a.txt", "abs/a.txt"),
        ("C:\\dir\\..\\a.txt", "dir/a.txt"),
        ("a\nb\x1b[31m.txt", "a b [31m.txt"),
        ("\u202etxt.exe", "txt.exe"),
        ("...", "unnamed"),
        ("", "unnamed"),
        ("x" * 300 + ".pdf", "x" * 116 + ".pdf"),
    ],
)
def test_safe_names(name, safe):
    assert safe_name(name) == safe


@given(st.text(max_size=80))
def test_a_safe_name_leads_nowhere_else(name):
    safe = safe_name(name)
    pieces = safe.split("/")
    assert safe and safe == safe_name(safe)
    assert not set(pieces) & {"", ".", ".."} and "\\" not in safe
    assert "\n" not in safe and "\x00" not in safe
    safe.encode("utf-8")


def test_names_in_utf8_without_the_flag_are_read():
    data = make_zip({"Größe.txt": "x"})
    assert ids(read_documents(data, "a.zip", "a.zip")) == ["a.zip/Größe.txt"]
    unflagged = data.replace(b"\x00\x08\x08\x00", b"\x00\x00\x08\x00")  # flags 0x800, method 8
    assert ids(read_documents(unflagged, "a.zip", "a.zip")) == ["a.zip/Größe.txt"]


def test_depth_is_bounded():
    data = make_zip({"a.txt": "deep"})
    for _ in range(MAX_DEPTH):
        data = make_zip({"in.zip": data})
    result = read_documents(data, "a.zip", "a.zip")
    assert result.documents == []
    assert result.failures == [
        ("a.zip" + "/in.zip" * MAX_DEPTH + "/a.txt", f"a.txt lies deeper than {MAX_DEPTH} files within files")
    ]


def test_bombs_are_refused():
    bomb = make_zip({"a.txt": b"0" * (40 << 20), "b.txt": b"fine"})
    result = read_documents(bomb, "a.zip", "a.zip")
    assert ids(result) == ["a.zip/b.txt"]
    assert "decompression bomb" in result.failures[0][1]
    found = list(members(make_zip({f"{n}.txt": b"x" * 60 for n in range(4)}), "a", str, Budget(bytes_left=130)))
    assert [getattr(member, "name", None) for member in found] == ["0.txt", "1.txt", None, None]
    found = list(members(make_zip({f"{n}.txt": b"x" for n in range(4)}), "a", str, Budget(members_left=3)))
    assert "beyond the limit" in str(found[-1][1])


def test_a_member_larger_than_its_entry_says_is_refused():
    data = make_zip({"a.txt": b"A" * 5000})
    lying = data.replace((5000).to_bytes(4, "little"), (50).to_bytes(4, "little"))
    assert read_documents(lying, "a.zip", "a.zip").failures


def test_an_office_file_that_is_a_bomb_is_refused_whatever_its_list_claims():
    office = make_zip({"word/document.xml": b" " * (3 << 20)})
    lying = office.replace((3 << 20).to_bytes(4, "little"), (9).to_bytes(4, "little"))
    for data in (office, lying):
        check_expansion(data, "a.docx", limit=4 << 20)
        with pytest.raises(DocumentError, match="decompression bomb"):
            check_expansion(data, "a.docx", limit=2 << 20)


def aes_zip(password):
    buffer = io.BytesIO()
    with pyzipper.AESZipFile(buffer, "w", compression=pyzipper.ZIP_DEFLATED, encryption=pyzipper.WZ_AES) as archive:
        archive.setpassword(password.encode())
        archive.writestr("a.txt", "The secret text.")
        archive.writestr("b.txt", "Another one.")
    return buffer.getvalue()


def locked_pdf(password):
    buffer = io.BytesIO()
    canvas = Canvas(buffer, encrypt=StandardEncryption(password, ownerPassword="owner", strength=128))
    canvas.drawString(60, 700, "The secret text.")
    canvas.save()
    return buffer.getvalue()


LOCKED = {
    "a.zip": zipcrypto_zip("a.txt", b"The secret text.", "pw ä"),
    "b.zip": aes_zip("pw ä"),
    "a.docx": encrypted_office(make_docx("The secret text."), "pw ä"),
    "a.xlsx": encrypted_office(make_xlsx({"A": [["The secret text."]]}), "pw ä"),
    "a.pdf": locked_pdf("pw"),
}


@pytest.mark.parametrize("name", LOCKED)
def test_every_password_is_tried_and_the_error_names_the_option(name):
    result = read_documents(LOCKED[name], name, name, passwords=["wrong", "pw", "pw ä"])
    assert "The secret text." in result.documents[0].text
    for passwords in ((), ("wrong", "other")):
        with pytest.raises(DocumentError, match="encrypted and needs a password") as caught:
            read_documents(LOCKED[name], name, name, passwords=passwords)
        assert "--password-file" in (caught.value.hint or "")


def test_a_locked_file_within_a_mail_is_a_failure_that_names_the_option():
    result = read_documents(make_eml(attachments=[("a.docx", LOCKED["a.docx"])]), "m.eml", "m.eml")
    assert ids(result) == ["m.eml"]
    assert "--password-file" in result.failures[0][1]
