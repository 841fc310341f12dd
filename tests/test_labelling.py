"""Which labels a document gets."""

import pytest

from doyen.config import Settings
from doyen.errors import ConfigError, UsageError
from doyen.labelling import Labeller, fits, read_labels, read_rules, save_upload_labels
from doyen.sources.item import Item


def item(name, source=None, labels=()):
    return Item(name, source or f"/d/{name}", "/d", name, bytes, labels=labels)


def test_labels_are_read_sorted_and_once():
    assert read_labels(" hr,board , hr,") == ("board", "hr") == read_labels(["hr", "board,hr"])
    assert read_labels("") == ()
    for strange in ("a;b", "x'y", "a\nb", "l" * 81):
        with pytest.raises(UsageError, match="no label"):
            read_labels(strange)
    with pytest.raises(UsageError, match="at most"):
        read_labels(str(n) for n in range(60))


def test_rules_with_faults_name_all_of_them():
    assert read_rules("hr/* = hr\n\n a=b/* = board, hr ") == [("hr/*", ("hr",)), ("a=b/*", ("board", "hr"))]
    with pytest.raises(ConfigError) as fault:
        read_rules("hr/* hr\n= hr\nx = \ny = a;b\nfine = ok")
    assert all(line in str(fault.value) for line in ("hr/* hr", "= hr", "x =", "a;b")) and "fine" not in str(
        fault.value
    )


@pytest.mark.parametrize(
    ("pattern", "document", "expected"),
    [
        ("hr", "hr/a.md", True),
        ("hr/", "hr/deep/a.md", True),
        ("HR/*", "hr/a.md", True),
        ("hr", "hr2/a.md", False),
        ("*.pdf", "x/y.PDF", True),
        ("hr/a.zip", "hr/a.zip/b/c.md", True),
        ("a.md", "b/a.md", False),
        ("B\u00fccher", "Bu\u0308cher/a.md", True),  # a file system may write an umlaut as two characters
        ("Bu\u0308cher", "B\u00dcCHER/a.md", True),
    ],
)
def test_patterns(pattern, document, expected):
    assert fits(pattern, document) == expected


@pytest.mark.parametrize(
    ("spec", "root", "source"),
    [
        ("postgresql://db/hr?sslmode=require", "postgresql://db/hr", "postgresql://db/hr/staff/7"),
        ("https://site/docs/?lang=en", "https://site/docs/", "https://site/docs/pay.html?lang=en"),
        ("http://site/docs", "http://site/docs", "https://site/docs/pay.html"),
        ("https://site/docs/start.html", "https://site/docs/start.html", "https://site/docs/pay.html"),
    ],
)
def test_a_source_with_settings_in_its_address_labels_what_it_lists(tmp_path, spec, root, source):
    label = Labeller.of(tmp_path, Settings(), {spec: ("hr",)})
    assert label(Item("a", source, root, "a", bytes)) == ("hr",)
    assert label(Item("a", "https://other/a", "https://other", "a", bytes)) == ()


def test_the_first_place_that_names_labels_counts(tmp_path):
    uploads = tmp_path / "uploads"
    save_upload_labels(uploads, {"a.md": ("legal",), "b.md": ()})
    label = Labeller([("x", ("rule",)), ("x/y", ("late",))], {"/d": ("outer",), "/d/in": ("inner",)}, uploads)
    assert label(item("x/y.md", labels=("z", "b"))) == ("b", "z")
    assert label(item("x/y/z.md")) == ("rule",)
    assert label(item("in/a.md")) == ("inner",) and label(item("inn/a.md")) == ("outer",)
    assert label(item("q", "/e/q")) == () and label(item("d", "/d")) == ("outer",)
    assert label(item("uploads/a.md", str(uploads / "a.md"))) == ("legal",)
    assert label(item("uploads/b.md", str(uploads / "b.md"))) == ()
    save_upload_labels(uploads, {"b.md": ("hr",), "a.md": ()})
    assert label(item("uploads/b.md", str(uploads / "b.md"))) == ("hr",)
    assert label(item("uploads/a.md", str(uploads / "a.md"))) == ()
