"""The dispatch, the language, and the listing of a folder."""

import hashlib
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from doyen.documents import SUFFIXES, read_document
from doyen.documents.language import detect_language
from doyen.errors import DocumentError
from doyen.sources.folder import list_files


def test_a_document_carries_hash_source_time_and_language(tmp_path):
    path = tmp_path / "Haus.TXT"
    path.write_text("Wir zahlen bei Schäden durch Wasser und durch Feuer.", encoding="utf-8")
    document = read_document(path, "set/Haus.TXT")
    assert document.id == "set/Haus.TXT"
    assert document.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert document.source == str(path)
    assert document.modified_at == path.stat().st_mtime
    assert (document.language, document.media_type) == ("de", "text/plain")


def test_language_needs_letters():
    assert detect_language("12 34 56 abc " * 3) == ""
    assert detect_language("This policy covers water damage and fire in your home.") == "en"


def test_faults_are_named(tmp_path):
    (tmp_path / "empty.txt").touch()
    for name, reason in (("empty.txt", "is empty"), ("gone.txt", "does not exist"), ("a.exe", "unknown suffix")):
        with pytest.raises(DocumentError, match=reason):
            read_document(tmp_path / name, name)
    with pytest.raises(DocumentError, match="no text"):
        read_document(tmp_path / "a.html", "a", b"<script>1</script>")
    (tmp_path / "folder.txt").mkdir()
    with pytest.raises(DocumentError, match="cannot be opened"):
        read_document(tmp_path / "folder.txt", "f")


@given(data=st.binary(max_size=300), suffix=st.sampled_from(sorted(SUFFIXES)))
def test_no_bytes_bring_out_a_library_exception(tmp_path_factory, data, suffix):
    try:
        document = read_document(tmp_path_factory.getbasetemp() / f"x{suffix}", "x", data)
    except DocumentError as error:
        assert "\n" not in str(error)
    else:
        assert document.text.strip() and document.title


def test_list_files_sorts_and_skips_hidden_and_outside(tmp_path):
    root, outside = tmp_path / "root", tmp_path / "outside"
    names = ["b.txt", unicodedata.normalize("NFD", "é.txt"), "ê.md", "sub/a.PDF", "x.bin", ".hidden.txt", ".git/a.txt"]
    for path in (*(root / name for name in names), outside / "o.txt", root / "~$lock.docx"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x")
    (root / "loop").symlink_to(root)
    (root / "away").symlink_to(outside)
    (root / "away.txt").symlink_to(outside / "o.txt")
    (root / "dangling.txt").symlink_to(root / "nowhere")
    (root / "self.txt").symlink_to(root / "self.txt")
    (root / "inside.txt").symlink_to(root / "b.txt")
    supported, unsupported, unreadable = list_files(root, SUFFIXES)
    found = [unicodedata.normalize("NFC", p.relative_to(root).as_posix()) for p in supported]
    assert found == ["b.txt", "inside.txt", "sub/a.PDF", "é.txt", "ê.md"]
    assert [p.name for p in unsupported] == ["x.bin"] and not unreadable


def test_list_files_wants_a_folder(tmp_path):
    with pytest.raises(DocumentError, match="not a folder"):
        list_files(tmp_path / "nowhere", SUFFIXES)
