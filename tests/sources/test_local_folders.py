"""Local folders and files as sources: what is listed, how it is named, when it counts as unchanged."""

import contextlib
import os
import time
from pathlib import Path

import pytest
from small_stores import write_files

from doyen.errors import DocumentError
from doyen.sources.folder import FileSource, FolderSource, file_item

SUFFIXES = frozenset({".txt", ".md"})


@pytest.fixture
def folder(tmp_path):
    files = {"lease.txt": "thirty days", "house/yard.md": "# Yard", "photo.jpg": b"\xff\xd8", ".git/config.txt": "x"}
    return write_files(tmp_path / "docs", files)


def source_of(folder, prefix=""):
    return FolderSource(folder, suffixes=SUFFIXES, prefix=prefix)


def test_items_are_named_by_their_path_below_the_folder(folder):
    source = source_of(folder, "legal/")
    items = list(source.items())
    assert [(i.id, i.name, i.read()) for i in items] == [
        ("legal/house/yard.md", "yard.md", b"# Yard"),
        ("legal/lease.txt", "lease.txt", b"thirty days"),
    ]
    assert [i.source for i in items] == [str(folder / "house/yard.md"), str(folder / "lease.txt")]
    assert {i.root for i in items} == {str(folder)} == {source.root}
    assert source.skipped == [str(folder / "photo.jpg")]
    assert source.complete


def test_a_folder_that_is_not_gone_through_is_not_complete(folder):
    source = source_of(folder)
    next(source.items())
    assert not source.complete


def test_a_folder_covers_what_lies_below_it_and_nothing_beside_it(folder):
    source = source_of(folder)
    assert source.covers(str(folder / "gone.txt"))
    assert not source.covers(str(folder) + "-2/lease.txt")
    assert not source.covers("https://intranet.example/lease.txt")


def test_a_folder_without_documents_is_refused(tmp_path):
    write_files(tmp_path / "photos", {"a.jpg": "x"})
    with pytest.raises(DocumentError, match="holds no document") as caught:
        list(source_of(tmp_path / "photos").items())
    assert ".md .txt" in caught.value.hint


def test_links_out_of_the_folder_and_loops_are_passed_over(folder, tmp_path):
    write_files(tmp_path, {"secret.txt": "x"})
    (folder / "out.txt").symlink_to(tmp_path / "secret.txt")
    (folder / "loop.txt").symlink_to(folder / "loop.txt")
    (folder / "up").symlink_to(folder)
    (folder / "again.txt").symlink_to(folder / "lease.txt")
    assert [i.id for i in source_of(folder).items()] == ["again.txt", "house/yard.md", "lease.txt"]


def later_stamp(path):
    return file_item(path, "x", "/", now=lambda: time.time() + 10).stamp


def test_the_stamp_of_a_settled_file_changes_with_its_content_even_where_its_time_is_set_back(folder):
    path = folder / "lease.txt"
    (fresh,) = FileSource(path).items()
    assert fresh.stamp == ""  # it may change again within the grain of the clock
    before, again = (later_stamp(path) for _ in range(2))
    assert before == again != ""
    state = path.stat()
    path.write_text("ninety days")
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))
    after = later_stamp(path)
    assert path.stat().st_mtime_ns == state.st_mtime_ns and path.stat().st_size == state.st_size
    assert after != before


def test_a_single_file_is_named_by_its_name_and_says_nothing_about_others(folder):
    source = FileSource(folder / "house/yard.md", prefix="a/")
    (item,) = source.items()
    assert (item.id, item.root, source.complete) == ("a/yard.md", str(folder / "house"), False)
    assert source.covers(str(folder / "house/yard.md")) and not source.covers(str(folder / "house/gate.md"))


def test_a_file_that_went_away_is_a_fault_of_the_source(folder):
    with pytest.raises(DocumentError, match="no file or folder"):
        list(FileSource(folder / "nothing.txt").items())


def test_names_with_newlines_and_foreign_bytes_become_ids_of_one_line(folder):
    write_files(folder, {"two\nlines.txt": "a"})
    Path(os.fsdecode(os.fsencode(folder) + b"/caf\xe9.txt")).write_text("b")
    items = {i.id: i for i in source_of(folder).items()}
    assert items["two%0Alines.txt"].read() == b"a"
    assert items["caf%E9.txt"].read() == b"b"
    assert all((i.id + i.source).encode() for i in items.values())


def test_a_file_that_goes_while_the_folder_is_gone_through_is_left_out(folder):
    items = source_of(folder).items()
    first = next(items)
    listed = [Path(i.source) for i in source_of(folder).items()]
    listed[-1].unlink()
    assert [i.source for i in (first, *items)] == [str(p) for p in listed[:-1]]


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="permissions of POSIX")
def test_a_folder_whose_names_alone_may_be_listed_costs_only_itself(folder):
    write_files(folder, {"locked/a.txt": "x"})
    (folder / "locked").chmod(0o744)
    with as_another_user(folder):
        source = source_of(folder)
        assert [item.id for item in source.items()] == ["house/yard.md", "lease.txt"]
    assert source.warnings == [f"{folder / 'locked'} cannot be listed: its documents stay as they are"]
    assert not source.complete


@contextlib.contextmanager
def as_another_user(folder):
    """Give up the rights of root for a while, under which every folder can be entered."""
    if os.geteuid() != 0:
        (folder / "locked").chmod(0o644)
        yield
        return
    closed = [p for p in folder.parents if p.stat().st_mode & 0o5 != 0o5]
    modes = [p.stat().st_mode for p in closed]
    for path in closed:
        path.chmod(0o755)
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)
        for path, mode in zip(closed, modes, strict=True):
            path.chmod(mode)
