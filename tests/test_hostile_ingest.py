"""Hostile files in a folder with good ones: none crashes or hangs the ingest, writes elsewhere, or stops the others."""

import os
import time
import unicodedata

import pytest
from hostile_files import GOOD, TEXT, hostile_files, small_selection
from small_stores import HashEmbedder, make_expert, store_state

from doyen.config import IngestSettings, Settings, load_settings
from doyen.documents.reading import read_documents
from doyen.ingesting import ingest, open_index

pytestmark = pytest.mark.e2e  # seconds each: a server, killed processes, hostile files


def check(tmp_path, files, timeout_s):
    """Ingest the files between good ones; return the report."""
    folder = tmp_path / "inner" / "source"
    folder.mkdir(parents=True)
    for name, build in files.items():
        path = os.path.join(os.fsencode(folder), os.fsencode(name.encode("utf-8", "surrogateescape")))
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(build())
    good = {f"{n}-good-{n}.txt": f"{TEXT}\n\nThe password of door {n} is not written here." for n in (0, 5, 9)}
    for name, text in good.items():
        (folder / name).write_text(text)
    if hasattr(os, "mkfifo"):
        os.mkfifo(folder / "pipe.txt")
    (folder / "loop.txt").symlink_to("loop.txt")
    (folder / "elsewhere.txt").symlink_to("/etc/hostname")
    before = store_state(tmp_path / "inner")
    expert = make_expert(tmp_path / "expert", Settings(ingest=IngestSettings(file_timeout_s=timeout_s)))
    began = time.monotonic()
    report = ingest(expert, [folder], embedder=HashEmbedder())
    assert time.monotonic() - began < len(files) * timeout_s
    assert set(good) <= set(report.new)
    assert store_state(tmp_path / "inner") == before
    assert sorted(os.listdir(tmp_path)) == ["expert", "inner"]
    index = open_index(expert, load_settings(expert))
    listed = {d.item for d in index.documents()} | {row for row, _ in report.failed}
    assert len(listed) >= len(files) * 0.9  # every file is indexed or has a reason
    assert not any(d.id == "elsewhere.txt" for d in index.documents())
    for document in index.documents()[:400]:
        assert not any(unicodedata.category(c) == "Cc" for c in document.id)
        assert ".." not in document.id.split("/") and not document.id.startswith("/")
        text, _ = index.text(document.id)
        assert "root:x:0:0" not in text
        assert all(text[c.start : c.end] == c.text for c in index.chunks_of([document.id])[:50])
    assert all("Traceback" not in reason and "\n" not in reason for _, reason in report.failed)
    assert not any("outside" in name for _, _, names in os.walk(expert) for name in names)
    return report


def test_hostile_files_cost_only_themselves(tmp_path):
    report = check(tmp_path, small_selection(), timeout_s=30.0)
    again = ingest(tmp_path / "expert", [tmp_path / "inner" / "source"], embedder=HashEmbedder())
    assert not again.written and not again.new
    assert sorted(again.failed) == sorted(report.failed)


@pytest.mark.parametrize("kind", sorted(set(GOOD) - {"png"}))  # whether a picture is read, OCR decides
def test_what_is_truncated_and_flipped_is_readable_whole(kind):
    read = read_documents(GOOD[kind](), f"a.{kind}", f"a.{kind}")
    assert not read.failures and any("flat 7 pays 49 crowns" in document.text for document in read.documents)


@pytest.mark.slow
def test_two_hundred_hostile_files(tmp_path):
    files = hostile_files()
    assert len(files) == 200
    report = check(tmp_path, files, timeout_s=30.0)
    assert len(report.failed) < 500
    assert len([reason for _, reason in report.failed if "longer than" in reason]) <= 2
