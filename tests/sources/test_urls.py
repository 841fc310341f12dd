"""URLs: one form for all spellings of a page, what belongs to a site, suffixes and names; and robots.txt."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from doyen.sources.hyperlinks import in_utf8, read_links
from doyen.sources.robots import parse_robots
from doyen.sources.url import clean_path, page_key, page_name, resolve, site_of, suffix_of

SITE = site_of("https://intranet.example/docs/")


@pytest.mark.parametrize(
    ("start", "folder"),
    [
        ("https://h", "/"),
        ("https://h/", "/"),
        ("https://h/docs/", "/docs/"),
        ("https://h/docs", "/docs/"),
        ("https://h/docs/intro.html", "/docs/"),
        ("https://h/a.pdf", "/"),
    ],
)
def test_a_start_page_stands_for_its_folder(start, folder):
    assert site_of(start).folder == folder
    assert site_of(start, whole=True).folder == "/"


@pytest.mark.parametrize(
    ("link", "url"),
    [
        ("a.html", "https://intranet.example/docs/sub/a.html"),
        ("../a.html#part", "https://intranet.example/docs/a.html"),
        ("?page=2", "https://intranet.example/docs/sub/x.html?page=2"),
        ("HTTPS://Intranet.Example:443/docs/%7Ebob/caf%c3%a9", "https://intranet.example/docs/~bob/caf%C3%A9"),
        ("/docs/café", "https://intranet.example/docs/caf%C3%A9"),
        ("http://intranet.example/docs/a", "https://intranet.example/docs/a"),
        ("//intranet.example/docs/a%2Fb", "https://intranet.example/docs/a%2Fb"),
        ("https://user:pw@intranet.example/docs/a", "https://intranet.example/docs/a"),
        ("/docs", "https://intranet.example/docs"),
    ],
)
def test_links_within_the_site_have_one_form(link, url):
    assert resolve("https://intranet.example/docs/sub/x.html", link, SITE) == url


@pytest.mark.parametrize(
    "link",
    [
        "https://other.example/docs/a",
        "https://intranet.example.evil.example/docs/",
        "https://intranet.example@evil.example/docs/",
        "http://169.254.169.254/docs/",
        "https://intranet.example:8443/docs/",
        "https://intranet.example:port/docs/",
        "/docs-private/a",
        "/docs/../secret",
        "/docs/%2e%2e/secret",
        "mailto:someone@intranet.example",
        "javascript:void(0)",
        "file:///docs/a",
        "https://[broken/docs/",
        "/docs/" + "a" * 3000,
    ],
)
def test_links_out_of_the_site_are_none(link):
    assert resolve("https://intranet.example/docs/x.html", link, SITE) is None


@given(path=st.text(max_size=60).map(lambda t: "/" + t))
def test_a_cleaned_path_stays_as_it_is(path):
    once = clean_path(path)
    assert once.startswith("/") and clean_path(once) == once
    assert ".." not in once.split("/")


@pytest.mark.parametrize(
    ("url", "key"),
    [
        ("https://h/", "h/"),
        ("https://h/index.html", "h/"),
        ("https://h/a", "h/a"),
        ("https://h/a/", "h/a"),
        ("https://h/a/index.php", "h/a"),
        ("https://h:8443/a/b.html?x=1&y=2", "h:8443/a/b.html?x=1&y=2"),
    ],
)
def test_pages_have_one_key(url, key):
    assert page_key(url) == key


@pytest.mark.parametrize(
    ("content_type", "url", "disposition", "suffix"),
    [
        ("text/html; charset=utf-8", "https://h/a.php", "", ".html"),
        ("application/pdf", "https://h/download?id=3", "", ".pdf"),
        ("application/octet-stream", "https://h/x/Guide.DOCX", "", ".docx"),
        ("application/octet-stream", "https://h/get", 'attachment; filename="tariff.xlsx"', ".xlsx"),
        ("text/plain", "https://h/notes.md", "", ".md"),
        ("text/plain", "https://h/notes", "", ".txt"),
        ("", "https://h/notes", "", ".html"),
        ("image/svg+xml", "https://h/logo", "", ".svg"),
    ],
)
def test_the_type_picks_the_suffix(content_type, url, disposition, suffix):
    assert suffix_of(content_type, url, disposition) == suffix


@pytest.mark.parametrize(
    ("url", "suffix", "name"),
    [
        ("https://h/", ".html", "index.html"),
        ("https://h/a/index.html", ".html", "a.html"),
        ("https://h/a/frost.php?x=1", ".html", "frost.html"),
        ("https://h/v1.2/", ".html", "v1.2.html"),
        ("https://h/get", ".pdf", "get.pdf"),
        ("https://h/r%2Fs.pdf", ".pdf", "s.pdf"),
    ],
)
def test_pages_have_a_file_name(url, suffix, name):
    assert page_name(url, suffix) == name


# ---- links in a page


def links_of(html):
    return read_links(html.encode(), "https://intranet.example/docs/", SITE)


def test_links_are_read_once_and_in_order():
    page = links_of(
        '<a href=b>b</a><a href="a#x">a</a><map><area href=c></map><a href="b#y">b</a><a>none</a><iframe src=d>'
    )
    assert [link.rsplit("/", 1)[1] for link in page.links] == ["b", "a", "c", "d"]


def test_the_base_of_a_page_and_its_wishes_are_kept():
    assert links_of('<base href="/docs/v2/"><a href=a>').links == ("https://intranet.example/docs/v2/a",)
    assert links_of('<a rel="x nofollow" href=a><a href=b>').links == ("https://intranet.example/docs/b",)
    page = links_of('<meta name="ROBOTS" content="NoIndex, follow"><a href=b>')
    assert (len(page.links), page.indexed) == (1, False)
    assert links_of('<meta name=robots content="nofollow,max-image-preview:none"><a href=b>') == links_of("")


def test_a_page_in_an_encoding_that_only_the_server_names_is_turned_to_utf8():
    assert in_utf8("Straße".encode("latin-1"), "text/html; charset=ISO-8859-1").decode("utf-8-sig") == "Straße"
    assert in_utf8(b"a", "text/html; charset=nonsense") == b"a"


# ---- robots.txt

RULES = b"""\xef\xbb\xbf# comment
User-agent: *
Disallow: /

User-agent: other
User-agent: Doyen/1.0
Disallow: /private  # all of it
Allow: /private/open
Disallow: /*?print=
Disallow: /*.cgi$
Disallow:
Crawl-delay: 2.5
"""


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("/", True),
        ("/private/x", False),
        ("/private/open/x", True),
        ("/a/b?print=1", False),
        ("/a.cgi", False),
        ("/a.cgi?x", True),
        ("/%70rivate/", False),
    ],
)
def test_the_longest_rule_of_the_own_group_decides(path, allowed):
    robots = parse_robots(RULES, "doyen")
    assert robots.allows(path) is allowed
    assert robots.crawl_delay_s == 2.5


def test_without_a_group_of_its_own_the_one_for_all_holds():
    assert not parse_robots(RULES, "someone").allows("/a")
    assert parse_robots(b"", "doyen").allows("/a")
    assert parse_robots(b"<html>not found</html>", "doyen").allows("/a")


def test_rules_that_would_take_a_backtracking_matcher_for_ever_are_quick():
    robots = parse_robots(b"User-agent: *\nDisallow: /" + b"*a" * 500 + b"b$", "doyen")
    started = time.perf_counter()
    assert robots.allows("/" + "a" * 2000)
    assert time.perf_counter() - started < 1
