"""What the user names → which source, and what is refused before anything is read."""

import sqlite3

import pytest
from small_stores import write_files

from doyen.errors import DocumentError, UsageError
from doyen.sources import SourceOptions, open_source, open_sources, options_of
from doyen.sources.database import DatabaseSource
from doyen.sources.folder import FileSource, FolderSource
from doyen.sources.remote import RemoteSource
from doyen.sources.web import WebSource

SUFFIXES = frozenset({".txt", ".md"})


@pytest.fixture
def folder(tmp_path):
    return write_files(tmp_path / "docs", {"a.txt": "a", "house/b.md": "b", ".hidden/c.txt": "c", "d.jpg": "d"})


def opened(*specs, **more):
    return open_sources(specs, suffixes=SUFFIXES, **more)


@pytest.mark.parametrize(
    ("spec", "kind"),
    [
        ("{folder}", FolderSource),
        ("{folder}/a.txt", FileSource),
        ("file://{folder}", FolderSource),
        ("memory://docs", RemoteSource),
        ("https://intranet.example/", WebSource),
        ("HTTP://intranet.example/", WebSource),
        ("sqlite:///{folder}/shop.db", DatabaseSource),
        ("postgresql://host/db", DatabaseSource),
        ("mysql+pymysql://host/db", DatabaseSource),
    ],
)
def test_the_scheme_chooses_the_source(folder, spec, kind):
    sqlite3.connect(folder / "shop.db").close()
    assert isinstance(open_source(spec.format(folder=folder), suffixes=SUFFIXES), kind)


@pytest.mark.parametrize("name", ["", "/", "a/", " a", "../a", "a/../b"])
def test_a_name_that_is_none_is_refused(folder, name):
    with pytest.raises(UsageError, match="is not a name"):
        opened(folder, name=name)


def test_nothing_named_and_nothing_there_are_refused(tmp_path):
    with pytest.raises(UsageError, match="no source"):
        opened()
    with pytest.raises(DocumentError, match="there is no file or folder") as caught:
        opened(tmp_path / "nowhere")
    assert caught.value.hint == "check the path"


def ids(sources):
    return [item.id for source in sources for item in source.items()]


@pytest.mark.parametrize("specs", [("", ""), ("", "a.txt"), ("house/b.md", ""), ("", "house"), ("a.txt", "", "a.txt")])
def test_what_lies_within_another_source_counts_once_under_the_longer_id(folder, specs):
    assert ids(opened(*[folder / spec for spec in specs])) == ["a.txt", "house/b.md"]


def test_what_a_folder_passes_over_counts_where_it_is_named_itself(folder):
    assert ids(opened(folder, folder / ".hidden")) == ["a.txt", "house/b.md", "c.txt"]
    assert ids(opened(folder, folder / "d.jpg")) == ["a.txt", "house/b.md", "d.jpg"]


def test_options_of_another_kind_of_source_are_refused(folder):
    with pytest.raises(UsageError, match="--depth, --max-pages: only for web sites"):
        opened(folder, options=SourceOptions(depth=1, max_pages=2))
    with pytest.raises(UsageError, match="--table: only for databases"):
        opened(folder, "https://intranet.example/", options=SourceOptions(depth=1, tables=("a",)))
    assert len(opened(folder, "https://intranet.example/", options=SourceOptions(depth=1))) == 2


def test_a_missing_package_is_named(folder):
    with pytest.raises(DocumentError, match="smb:// needs a package") as caught:
        opened("smb://user:secret@server/share")
    assert caught.value.hint == "pip install smbprotocol"
    assert "secret" not in str(caught.value)


def test_an_unknown_scheme_is_named():
    with pytest.raises(DocumentError, match="gopher:// is not a known kind of source"):
        opened("gopher://server/docs")


def test_a_source_is_opened_again_by_its_spec_with_its_own_options(folder):
    sqlite3.connect(folder / "shop.db").close()
    specs = [
        str(folder),
        str(folder / ".hidden" / "c.txt"),
        "memory://docs/a.txt",
        "https://me:s3cret@h.example/a?page=1",
        f"sqlite:///{folder}/shop.db",
        "postgresql://me:s3cret@host:5433/db?sslmode=require",
    ]
    options = SourceOptions(depth=1, tables=("a",))
    for source in opened(*specs, options=options):
        own = options_of(source, options)
        again = open_source(source.spec, suffixes=SUFFIXES, options=own)
        assert (type(again), again.root, again.spec) == (type(source), source.root, source.spec)
        assert "s3cret" not in source.spec and "me@" not in source.spec
