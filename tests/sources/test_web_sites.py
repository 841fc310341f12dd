"""Web sites, on a server of this machine: what is followed, what is left alone, and what a second crawl costs."""

import base64
import gzip
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from doyen.documents import read_document
from doyen.errors import DocumentError, UsageError
from doyen.sources import SourceOptions
from doyen.sources.sitemap import read_sitemap
from doyen.sources.web import WebSource

SUFFIXES = frozenset({".html", ".pdf", ".txt"})


def links(*targets, text="page"):
    return f"<html><title>{text}</title><p>{text}</p>" + "".join(f'<a href="{t}">{t}</a>' for t in targets)


class Site:
    """A server with pages: path → body, or (status, headers, body), or a function of the request's headers."""

    def __init__(self):
        self.pages = {}
        self.requests = []
        site = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):  # noqa: N802
                site.requests.append((self.path, dict(self.headers)))
                page = site.pages.get(self.path, (404, {}, b""))
                page = page(self.headers) if callable(page) else page
                status, headers, body = page if isinstance(page, tuple) else (200, {}, page)
                body = body.encode() if isinstance(body, str) else body
                self.send_response(status)
                for name, value in ({"Content-Type": "text/html", "Content-Length": str(len(body))} | headers).items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.authority = f"127.0.0.1:{self.server.server_port}"
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02})
        self.thread.start()

    def url(self, path="/"):
        return f"http://{self.authority}{path}"

    @property
    def paths(self):
        return [path for path, _ in self.requests]

    def close(self):
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


@pytest.fixture
def site():
    site = Site()
    yield site
    site.close()


def source_of(site, path="/", prefix="", slept=None, **options):
    sleep = slept.append if slept is not None else lambda _: None
    options = SourceOptions(**{"delay_s": 0.0, "timeout_s": 5.0} | options)
    return WebSource(site.url(path), suffixes=SUFFIXES, prefix=prefix, options=options, sleep=sleep)


def crawl(site, path="/", **options):
    source = source_of(site, path, **options)
    return source, {item.id.partition("/")[2]: item for item in source.items()}  # without the host


def test_links_are_followed_within_the_site_each_page_once(site):
    site.pages = {
        "/": links("a.html", "/b/", "b/index.html", "a.html#part", "https://elsewhere.example/", "missing.html"),
        "/a.html": links("/", "b", "guide.pdf", "logo.png", "list.php?page=2", text="about"),
        "/b/": links("../a.html"),
        "/guide.pdf": (200, {"Content-Type": "application/pdf"}, b"%PDF"),
        "/list.php?page=2": links(),
    }
    source = source_of(site, prefix="wiki/")
    items = {item.id: item for item in source.items()}
    assert {name.removeprefix(f"wiki/{site.authority}/"): item.name for name, item in items.items()} == {
        "": "index.html",
        "a.html": "a.html",
        "b": "b.html",
        "guide.pdf": "guide.pdf",
        "list.php?page=2": "list.html",
    }
    assert b"<title>about</title>" in items[f"wiki/{site.authority}/a.html"].read()
    assert source.complete and source.root == site.url()
    assert source.skipped == [f"{site.url()}logo.png", f"{site.url()}missing.html (404)"]
    assert site.paths.count("/b/") == 1 and "/logo.png" not in site.paths
    assert all(headers["User-Agent"].startswith("doyen/") for _, headers in site.requests)


def test_only_what_lies_below_the_start_page_is_read(site):
    site.pages = {
        "/docs/": links("a.html", "/other.html", "../up.html"),
        "/docs/a.html": links("/docs-old/x.html"),
        "/other.html": links(),
    }
    source, items = crawl(site, "/docs/")
    assert list(items) == ["docs", "docs/a.html"]
    assert source.covers(site.url("/docs/gone.html")) and not source.covers(site.url("/other.html"))
    assert not source.covers("http://elsewhere.example/docs/a.html")
    _, items = crawl(site, "/docs/", whole_site=True)
    assert list(items) == ["docs", "docs/a.html", "other.html"]


def test_a_start_page_without_its_slash_is_found(site):
    site.pages = {"/docs": (301, {"Location": "/docs/"}, b""), "/docs/": links("a.html"), "/docs/a.html": links()}
    assert list(crawl(site, "/docs")[1]) == ["docs", "docs/a.html"]


def test_robots_txt_is_obeyed_with_its_delay(site):
    site.pages = {
        "/robots.txt": (200, {"Content-Type": "text/plain"}, "User-agent: *\nDisallow: /private\nCrawl-delay: 99"),
        "/": links("private/a.html", "b.html"),
        "/b.html": links(),
        "/private/a.html": links(),
    }
    slept = []
    source, items = crawl(site, slept=slept)
    assert list(items) == ["", "b.html"] and "/private/a.html" not in site.paths
    assert source.skipped == [f"{site.url()}private/a.html (robots.txt forbids it)"]
    assert max(slept) <= 10 and sum(s > 5 for s in slept) >= 2
    assert "99 s" in source.warnings[0]
    with pytest.raises(DocumentError, match="robots.txt forbids"):
        crawl(site, "/private/a.html")


def test_a_robots_txt_that_cannot_be_had_forbids_everything(site):
    site.pages = {"/robots.txt": (500, {}, b""), "/": links()}
    with pytest.raises(DocumentError, match=r"robots.txt: the server answers 500"):
        crawl(site)
    assert site.paths == ["/robots.txt"]


def test_depth_and_number_of_pages_bound_a_crawl_and_it_is_not_complete(site):
    site.pages = {f"/{n}": links(str(n + 1)) for n in range(1, 30)} | {"/": links("1")}
    source, items = crawl(site, depth=2)
    assert list(items) == ["", "1", "2"]
    assert not source.complete and "--depth 2" in source.warnings[0]
    source, items = crawl(site, depth=100, max_pages=4)
    assert len(items) == 4 and not source.complete
    source, items = crawl(site, depth=100)
    assert len(items) == 30 and source.complete and not source.warnings


def test_a_calendar_without_end_is_bounded(site):
    def month(n):
        return lambda _: links(f"?month={n + 1}", f"?month={n - 1}", f"?month={n}&view=week")

    site.pages = {f"/cal?month={n}": month(n) for n in range(-50, 50)} | {"/cal": links("?month=0")}
    source, items = crawl(site, "/cal", depth=1000, max_pages=20)
    assert len(items) == 20 and len(site.requests) < 120 and not source.complete


@pytest.mark.parametrize(
    "target", ["http://169.254.169.254/latest/meta-data/", "http://localhost:1/", "//other.example/"]
)
def test_a_redirect_to_another_host_is_never_followed(site, target):
    site.pages = {
        "/": links("out", "in"),
        "/out": (302, {"Location": target}, b""),
        "/in": (302, {"Location": "/a"}, b""),
    }
    site.pages["/a"] = links()
    source, items = crawl(site)
    assert list(items) == ["", "a"]
    assert source.skipped == [f"{site.url()}out (leads out of {site.url()})"]
    with pytest.raises(DocumentError, match="leads to another site"):
        crawl(site, "/out")


def test_a_redirect_that_turns_in_a_circle_ends(site):
    site.pages = {
        "/": links("a", "loop"),
        "/a": (302, {"Location": "/b"}, b""),
        "/b": (302, {"Location": "/a"}, b""),
        "/loop": (302, {"Location": "/loop/"}, b""),
        "/loop/": (302, {"Location": "/loop"}, b""),
    }
    source, items = crawl(site)
    assert list(items) == ["", "loop"]
    with pytest.raises(DocumentError, match="redirects"):
        items["loop"].read()
    assert not source.complete


def with_tag(body, tag):
    def page(headers):
        return (304, {"ETag": tag}, b"") if headers.get("If-None-Match") == tag else (200, {"ETag": tag}, body)

    return page


def test_unchanged_pages_are_not_sent_again_and_their_links_still_followed(site, tmp_path):
    site.pages = {"/": with_tag(links("a"), '"1"'), "/a": with_tag(links("b"), '"2"'), "/b": with_tag(links(), '"3"')}
    _, first = crawl(site, state=tmp_path)
    assert [i.stamp for i in first.values()] == ['"1"', '"2"', '"3"']
    site.pages["/a"] = with_tag(links("b", text="new"), '"2b"')
    site.requests.clear()
    source, second = crawl(site, state=tmp_path)
    assert [i.stamp for i in second.values()] == ['"1"', '"2b"', '"3"']
    assert source.complete
    conditional = [path for path, headers in site.requests if headers.get("If-None-Match")]
    assert conditional == ["/", "/a", "/b"]
    assert b"new" in second["a"].read()
    site.requests.clear()
    assert b"page" in second["b"].read()  # asked for in spite of its stamp: fetched
    assert site.paths == ["/b"]
    assert "127.0.0.1" in next(tmp_path.iterdir()).name


def test_last_modified_is_a_stamp_and_a_time(site):
    site.pages = {"/": (200, {"Last-Modified": "Wed, 21 Oct 2015 07:28:00 GMT"}, links())}
    (item,) = crawl(site)[1].values()
    assert item.stamp.startswith("Wed") and item.modified_at == 1445412480.0


def test_a_page_out_of_reach_of_the_bounds_is_asked_for_before_it_counts_as_gone(site, tmp_path):
    site.pages = {"/": links("a", "b"), "/a": links(), "/b": links()}
    assert len(crawl(site, state=tmp_path)[1]) == 3
    site.pages = {"/": links("n1", "n2", "a", "b"), "/n1": links(), "/n2": links(), "/a": links()}
    source, items = crawl(site, state=tmp_path, max_pages=3)
    assert list(items) == ["", "n1", "n2", "a"]  # b is gone, a is not
    assert source.complete


def test_a_page_that_fails_is_listed_and_nothing_counts_as_gone(site):
    site.pages = {"/": links("a", "b"), "/a": (500, {}, b""), "/b": links()}
    source, items = crawl(site)
    assert list(items) == ["", "a", "b"] and not source.complete
    with pytest.raises(DocumentError, match="the server answers 500"):
        items["a"].read()


def test_an_overloaded_server_is_asked_once_more_after_the_time_it_names(site):
    answers = [(503, {"Retry-After": "7"}, b""), (200, {}, links())]
    site.pages = {"/": links("a"), "/a": lambda _: answers.pop(0)}
    slept = []
    source, items = crawl(site, slept=slept)
    assert len(items) == 2 and source.complete and 7.0 in slept


def test_a_site_that_goes_down_ends_the_crawl(site):
    site.pages = {"/": links(*map(str, range(50)))} | {f"/{n}": (500, {}, b"") for n in range(50)}
    source = source_of(site)
    with pytest.raises(DocumentError, match="pages in a row failed"):
        list(source.items())
    assert not source.complete and len(site.requests) < 20


def test_a_page_over_the_size_limit_fails_by_itself(site):
    site.pages = {"/": links("big"), "/big": "x" * 5000}
    _, items = crawl(site, max_bytes=4000)
    with pytest.raises(DocumentError, match="more than the 4000 bytes"):
        items["big"].read()


def test_pages_that_do_not_want_to_be_found_are_only_passed_through(site):
    site.pages = {
        "/": '<meta name="robots" content="noindex"><a href=a>',
        "/a": links("b"),
        "/b": (200, {"X-Robots-Tag": "noindex"}, links()),
    }
    source, items = crawl(site)
    assert list(items) == ["a"] and source.complete
    assert len(source.skipped) == 2


def test_files_of_other_formats_are_not_fetched(site):
    site.pages = {"/": links("film"), "/film": (200, {"Content-Type": "video/mp4"}, b"x" * 100)}
    source, items = crawl(site)
    assert list(items) == [""] and source.skipped == [f"{site.url()}film"]


def test_an_encoding_that_only_the_header_names_is_kept(site):
    body = "<meta charset=utf-8><p>Straße und Größe</p>".encode("latin-1")
    site.pages = {"/": (200, {"Content-Type": "text/html; charset=iso-8859-1"}, body)}
    (item,) = crawl(site)[1].values()
    assert "Straße und Größe" in read_document(Path(item.name), item.id, item.read()).text


def test_credentials_log_in_and_are_shown_nowhere(site, tmp_path):
    expected = "Basic " + base64.b64encode(b"me:p@ss").decode()
    site.pages = {"/": lambda h: links("a") if h.get("Authorization") == expected else (401, {}, b""), "/a": links()}
    url = f"http://me:p%40ss@{site.authority}/"
    options = SourceOptions(delay_s=0, state=tmp_path)
    source = WebSource(url, suffixes=SUFFIXES, options=options, sleep=lambda _: None)
    items = list(source.items())
    assert len(items) == 2
    shown = repr(items) + source.root + "".join(p.name + p.read_text() for p in tmp_path.iterdir())
    assert "ss@" not in shown and "p%40" not in shown
    with pytest.raises(DocumentError, match="answers 401") as caught:
        crawl(site)
    assert "user:password" in caught.value.hint


def test_a_site_that_does_not_answer_and_a_url_that_is_none_are_refused():
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    source = WebSource(f"http://127.0.0.1:{port}/", suffixes=SUFFIXES, options=SourceOptions(), sleep=lambda _: None)
    with pytest.raises(DocumentError, match="cannot be fetched"):
        list(source.items())
    with pytest.raises(UsageError, match="is not a URL"):
        WebSource("https:///path", suffixes=SUFFIXES, options=SourceOptions())


def test_a_site_without_anything_to_read_is_refused(site):
    site.pages = {"/": (200, {"Content-Type": "image/png"}, b"x")}
    with pytest.raises(DocumentError, match="has no page that can be read"):
        crawl(site)


URLSET = "<urlset xmlns='http://www.sitemaps.org/schemas/sitemap/0.9'>{}</urlset>"
XML = {"Content-Type": "application/xml"}


def entries(*urls, tag="url"):
    return "".join(f"<{tag}><loc> {url} </loc><lastmod>2026-01-01</lastmod></{tag}>" for url in urls)


def test_pages_that_only_the_sitemap_lists_are_read(site):
    listed = (site.url("/docs/a?x=1&amp;y=2"), site.url("/elsewhere"), "https://other.example/", site.url("/docs/no"))
    site.pages = {
        "/robots.txt": (200, {"Content-Type": "text/plain"}, "User-agent: *\nDisallow: /docs/no"),
        "/docs/": links(),
        "/docs/a?x=1&y=2": links("deeper"),
        "/docs/deeper": links(),
        "/docs/no": links(),
        "/elsewhere": links(),
        "/sitemap.xml": (200, XML, URLSET.format(entries(*listed))),
    }
    source, items = crawl(site, "/docs/")
    assert list(items) == ["docs", "docs/a?x=1&y=2", "docs/deeper"] and source.complete
    before = len(site.requests)
    crawl(site, "/docs/", depth=0)
    assert "/sitemap.xml" not in site.paths[before:]


def test_robots_txt_names_the_sitemaps_an_index_and_packed_ones_among_them(site):
    index = f"<sitemapindex>{entries(site.url('/maps/2.xml.gz'), site.url('/index.xml'), tag='sitemap')}</sitemapindex>"
    packed = gzip.compress(URLSET.format(entries(site.url("/two"))).encode())
    site.pages = {
        "/robots.txt": (
            200,
            {"Content-Type": "text/plain"},
            f"Sitemap: {site.url('/moved.xml')}\nUser-agent: *\nDisallow:",
        ),
        "/moved.xml": (301, {"Location": "/index.xml"}, b""),
        "/index.xml": (200, XML, index),
        "/maps/2.xml.gz": (200, {"Content-Type": "application/gzip"}, packed),
        "/": links(),
        "/two": links(),
    }
    _, items = crawl(site)
    assert list(items) == ["", "two"]
    assert site.paths.count("/index.xml") == 1 and "/sitemap.xml" not in site.paths


@pytest.mark.parametrize(("status", "named", "fails"), [(500, False, True), (403, False, False), (403, True, True)])
def test_a_sitemap_that_fails_takes_nothing_out(site, status, named, fails):
    site.pages = {"/": links(), "/sitemap.xml": (status, {}, b"")}
    if named:
        site.pages["/robots.txt"] = (200, {"Content-Type": "text/plain"}, f"Sitemap: {site.url('/sitemap.xml')}")
    source, items = crawl(site)
    assert list(items) == [""] and source.complete is not fails
    assert [f"sitemap.xml: the server answers {status}" in warning for warning in source.warnings] == [True] * fails


@pytest.mark.parametrize(
    ("data", "pages"),
    [
        (b"<urlset><url><loc><![CDATA[https://a.example/?a&b]]></loc></url></urlset>", ("https://a.example/?a&b",)),
        (b"https://a.example/1\r\n\r\nhttps://a.example/2\n", ("https://a.example/1", "https://a.example/2")),
        (b"<!DOCTYPE x [<!ENTITY a 'b'>]><urlset><loc>&a;</loc>", ("&a;",)),
        (b"<loc>" * 300_000, ()),
        (b"\x1f\x8b broken", ()),
        (gzip.compress(b"0" * (60 << 20)), ()),
    ],
)
def test_sitemaps_as_they_come(data, pages):
    assert read_sitemap(data).pages == pages


def test_a_crawl_leaves_no_connection_open(site):
    site.pages = {"/": links("a"), "/a": links()}
    source, items = crawl(site)
    assert source._fetcher._client is None
    assert items["a"].size == len(links())  # it holds its bytes: those who list many at once want to know
    assert items["a"].read() == items["a"].read()  # the second time it is fetched again
