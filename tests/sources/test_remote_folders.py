"""Remote folders through fsspec: in memory, and on an FTP server of this machine."""

import threading
import time
import warnings

import fsspec
import pytest
from small_stores import write_files

from doyen.errors import DocumentError
from doyen.sources import SourceOptions, open_source
from doyen.sources.remote import RemoteSource, without_credentials

SUFFIXES = frozenset({".txt", ".md"})


@pytest.fixture
def memory():
    """A file system in memory with a few files; emptied afterwards, since it is one for the whole process."""
    files = fsspec.filesystem("memory")
    for name in ("b.txt", "a/deep/c.md", "photo.jpg", ".hidden/x.txt", "a/~$lock.txt"):
        files.pipe_file(f"/docs/{name}", name.encode())
    yield files
    files.store.clear()
    files.pseudo_dirs[:] = [""]


def open_remote(url, **more):
    return open_source(url, suffixes=SUFFIXES, **more)


def test_files_below_the_prefix_are_items(memory):
    source = open_remote("memory://docs", name="team")
    items = list(source.items())
    assert [(i.id, i.name, i.source, i.read()) for i in items] == [
        ("team/a/deep/c.md", "c.md", "memory://docs/a/deep/c.md", b"a/deep/c.md"),
        ("team/b.txt", "b.txt", "memory://docs/b.txt", b"b.txt"),
    ]
    assert source.skipped == ["memory://docs/photo.jpg"]
    assert source.complete and source.root == "memory://docs"
    assert source.covers("memory://docs/gone.txt") and not source.covers("memory://docs2/gone.txt")


def test_the_stamp_tells_a_changed_file_without_reading_it(memory):
    stamps = {i.id: i.stamp for i in open_remote("memory://docs").items()}
    assert all(stamps.values())
    assert {i.id: i.stamp for i in open_remote("memory://docs").items()} == stamps
    memory.pipe_file("/docs/b.txt", b"other")
    changed = {i.id: i.stamp for i in open_remote("memory://docs").items()}
    assert [name for name in stamps if stamps[name] != changed[name]] == ["b.txt"]


def test_one_file_is_a_source_that_says_nothing_about_others(memory):
    source = open_remote("memory://docs/b.txt")
    (item,) = source.items()
    assert (item.id, item.root, item.read()) == ("b.txt", "memory://docs", b"b.txt")
    assert not source.complete


def test_a_prefix_without_documents_and_one_that_is_not_there_are_refused(memory):
    memory.pipe_file("/photos/a.jpg", b"x")
    with pytest.raises(DocumentError, match="memory://photos holds no document"):
        list(open_remote("memory://photos").items())
    with pytest.raises(DocumentError, match="memory://docs/none: it does not exist"):
        list(open_remote("memory://docs/none").items())


def test_a_file_over_the_limit_and_one_that_is_gone_fail_by_themselves(memory):
    big, gone = RemoteSource("memory://docs", suffixes=SUFFIXES, options=SourceOptions(max_bytes=6)).items()
    with pytest.raises(DocumentError, match="more than the 6"):
        big.read()
    memory.rm_file("/docs/b.txt")
    with pytest.raises(DocumentError, match=r"memory://docs/b.txt cannot be fetched \(it does not exist"):
        gone.read()


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("s3://bucket/a b/c", "s3://bucket/a b/c"),
        ("ftp://me:pw@host:21/x", "ftp://host:21/x"),
        ("smb://dom;me:p@w@host/share?x=pw#f", "smb://host/share"),
    ],
)
def test_credentials_are_no_part_of_what_is_shown(url, shown):
    assert without_credentials(url) == shown


# ---- over the network


@pytest.fixture
def ftp(tmp_path):
    """An FTP server on this machine; gives its port."""
    with warnings.catch_warnings():  # it stands on modules of Python 3.11 that later ones have no more
        warnings.simplefilter("ignore", DeprecationWarning)
        from pyftpdlib.authorizers import DummyAuthorizer
        from pyftpdlib.handlers import FTPHandler
        from pyftpdlib.servers import FTPServer

    authorizer = DummyAuthorizer()
    authorizer.add_user(
        "reader", "se@cret", str(write_files(tmp_path / "ftp", {"docs/a/b.txt": "b", "docs/c.md": "c"}))
    )
    handler = type("Handler", (FTPHandler,), {"authorizer": authorizer, "auth_failed_timeout": 0})
    server = FTPServer(("127.0.0.1", 0), handler)
    stop = threading.Event()

    def serve():
        while not stop.is_set():
            server.serve_forever(timeout=0.05, blocking=False)

    thread = threading.Thread(target=serve)
    thread.start()
    yield server.address[1]
    stop.set()
    thread.join()
    server.close_all()


def test_an_ftp_folder_is_listed_and_read(ftp, tmp_path):
    source = open_remote(f"ftp://reader:se%40cret@127.0.0.1:{ftp}/docs")
    items = list(source.items())
    assert [(i.id, i.source, i.read()) for i in items] == [
        ("a/b.txt", f"ftp://127.0.0.1:{ftp}/docs/a/b.txt", b"b"),
        ("c.md", f"ftp://127.0.0.1:{ftp}/docs/c.md", b"c"),
    ]
    assert abs(items[0].modified_at - time.time()) < 3600
    assert [i.stamp for i in open_remote(f"ftp://reader:se%40cret@127.0.0.1:{ftp}/docs").items()] == [
        i.stamp for i in items
    ]
    assert "cret" not in repr(items) + source.root


def test_a_wrong_password_is_refused_and_not_repeated(ftp):
    with pytest.raises(DocumentError) as caught:
        list(open_remote(f"ftp://reader:wr0ng@127.0.0.1:{ftp}/docs").items())
    assert "wr0ng" not in str(caught.value)
