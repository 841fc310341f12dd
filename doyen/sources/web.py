"""A web site → its pages and files as items, found by its sitemap and by links within one host. Runs no scripts.

A crawl goes breadth first from the start page; robots.txt, depth, the number of pages and a delay bound it. It never
leaves the host: a redirect elsewhere is not followed, so that no page can send it to an address the user did not name.
"""

from __future__ import annotations

import email.utils
import time
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from importlib.metadata import version
from urllib.parse import urljoin, urlsplit

from doyen.errors import DocumentError, UsageError
from doyen.sources.crawl_state import Visit, load_visits, save_visits
from doyen.sources.fetching import Fetcher, FetchError, Response
from doyen.sources.hyperlinks import in_utf8, read_links
from doyen.sources.item import Item, printable
from doyen.sources.options import SourceOptions
from doyen.sources.remote import without_credentials
from doyen.sources.robots import Robots, parse_robots
from doyen.sources.sitemap import read_sitemap
from doyen.sources.url import PORTS, is_furniture, page_key, page_name, resolve, site_of, suffix_of

MAX_CRAWL_DELAY_S = 10.0
MAX_FAILURES_IN_A_ROW = 10
MAX_HOPS = 5
MAX_SITEMAPS = 50
REQUESTS_A_PAGE = 5
"""Redirects and missing pages are not pages; this many requests for each page that may be read bound them."""
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_GONE = frozenset({404, 410})


class WebSource:
    """The pages of a site below the start page; an item's id is `host/path`, after `prefix`."""

    def __init__(
        self,
        url: str,
        *,
        suffixes: frozenset[str],
        prefix: str = "",
        options: SourceOptions,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.root = without_credentials(url)
        query = urlsplit(url).query
        self.complete = False
        self.skipped: list[str] = []
        self.warnings: list[str] = []
        try:
            self._site = site_of(self.root, whole=options.whole_site)
        except ValueError as error:
            raise UsageError(f"{self.root} is not a URL of a web site", hint="https://host/path") from error
        self.spec = self._start = self.root + ("?" + query if query else "")
        self._suffixes = suffixes
        self._prefix = prefix
        self._options = options
        self._robots = Robots()
        self._fetcher = Fetcher(
            url,
            agent=f"doyen/{version('doyen')}",
            timeout_s=options.timeout_s,
            delay_s=options.delay_s,
            max_bytes=options.max_bytes,
            sleep=sleep,
        )
        self._before: dict[str, Visit] = {}
        self._visits: dict[str, Visit] = {}
        self._failures = 0
        self._has_failed = False

    def items(self) -> Iterator[Item]:
        """Yield an item a page in the order in which they are found; each is fetched just before.

        Raises:
            DocumentError: the start page cannot be fetched, robots.txt forbids it, or nothing can be read.
        """
        self.complete, self.skipped, self.warnings = False, [], []
        self._before = load_visits(self._options.state, self.root)
        self._visits, self._failures, self._has_failed = {}, 0, False
        start = self._begin()
        found = 0
        try:
            for item in self._crawl(start):
                found += 1
                yield item
        finally:
            kept = self._visits if self.complete else self._before | self._visits
            save_visits(self._options.state, self.root, kept)
            self._fetcher.close()  # an item that is read later connects again
        if not found:
            self.complete = False
            raise DocumentError(
                f"{self.root} has no page that can be read",
                hint="doyen runs no scripts: is the text in the page itself?",
            )

    def covers(self, source: str) -> bool:
        """Return whether a URL is in the part of the site that is read."""
        parts = urlsplit(source)
        return self._site.has(parts) and self._site.reaches(parts.path or "/")

    def _begin(self) -> str:
        """Read robots.txt and find where the start page is; http may turn out as https, and `/docs` as `/docs/`."""
        self._load_robots()
        start = resolve(self._start, "", self._site) or self._start
        for _ in range(MAX_HOPS):
            self._refuse_by_robots(start)
            try:
                answer = self._fetcher.get(start, wanted=lambda _: False)
            except FetchError as error:
                raise DocumentError(
                    str(error), hint="check the address and the network; nothing was changed"
                ) from error
            if answer.status not in _REDIRECTS:
                break
            target = urljoin(start, answer.headers.get("location", ""))
            parts = urlsplit(target)
            if not self._site.has(parts) or (self._site.scheme == "https" and parts.scheme == "http"):
                host = without_credentials(target)
                raise DocumentError(
                    f"{start} leads to another site, {host}", hint=f"if that is meant: doyen ingest {host}"
                )
            if parts.scheme != self._site.scheme:
                self._site = replace(self._site, scheme=parts.scheme, port=PORTS[parts.scheme])
            if not self._site.reaches(parts.path):
                self._site = replace(site_of(without_credentials(target)), scheme=self._site.scheme)
            start = resolve(start, target, self._site) or target
        if answer.status != 200:
            hint = "https://user:password@host/… logs in" if answer.status in (401, 403) else "check the address"
            raise DocumentError(f"{start}: the server answers {answer.status}", hint=hint)
        return start

    def _load_robots(self) -> None:
        url = f"{self._site.scheme}://{self._site.authority}/robots.txt"
        for _ in range(MAX_HOPS):
            try:
                answer = self._fetcher.get(url)
            except FetchError as error:
                raise DocumentError(
                    f"{error}: no page was fetched", hint="check the address and the network"
                ) from error
            target = urljoin(url, answer.headers.get("location", ""))
            if answer.status not in _REDIRECTS or not self._site.has(urlsplit(target)):
                break
            url = target
        if answer.status >= 500:  # RFC 9309, section 2.3.1.4: as if everything were forbidden
            raise DocumentError(
                f"{url}: the server answers {answer.status}: no page was fetched", hint="try again later"
            )
        self._robots = parse_robots(answer.data, "doyen")
        delay_s = self._robots.crawl_delay_s
        self._fetcher.delay_s = max(self._options.delay_s, min(delay_s, MAX_CRAWL_DELAY_S))
        if delay_s > MAX_CRAWL_DELAY_S:
            self.warnings.append(
                f"robots.txt asks to wait {delay_s:g} s between pages: {MAX_CRAWL_DELAY_S:g} s are kept"
            )

    def _refuse_by_robots(self, url: str) -> None:
        if not self._allowed(url):
            raise DocumentError(f"{url}: robots.txt forbids to fetch it", hint="ask who runs the site to allow 'doyen'")

    def _allowed(self, url: str) -> bool:
        parts = urlsplit(url)
        return self._robots.allows((parts.path or "/") + ("?" + parts.query if parts.query else ""))

    def _crawl(self, start: str) -> Iterator[Item]:
        """Visit the frontier, then the pages of the last crawl that the bounds kept out of reach.

        Pages of the sitemap count as linked from the start page.
        """
        options = self._options
        frontier = deque([(start, 0)])
        seen, visited = {page_key(start)}, set()
        pages = requests = cut = 0
        while frontier and pages < options.max_pages and requests < REQUESTS_A_PAGE * options.max_pages:
            url, depth = frontier.popleft()
            requests += 1
            visited.add(page_key(url))
            item, links = self._visit(url)
            links = [*links, *self._mapped()] if url == start and options.depth else links
            if item is not None:
                pages += 1
                yield item
            below = depth + (item is not None)  # a redirect is as near as the page that it leads to
            for link in links:
                if below > options.depth:
                    cut += page_key(link) not in seen
                elif page_key(link) not in seen:
                    seen.add(page_key(link))
                    if self._may_visit(link):
                        frontier.append((link, below))
        cut += len(frontier)
        if cut:
            bounds = f"--max-pages {options.max_pages}, --depth {options.depth}"
            self.warnings.append(f"{self.root}: read {pages} pages ({bounds}); the site has more")
            yield from self._revisit(visited)
        self.complete = not self._has_failed and (not cut or bool(self._before))

    def _revisit(self, visited: Collection[str]) -> Iterator[Item]:
        for key in [key for key in self._before if key not in visited]:
            item, _ = self._visit(self._before[key].url)
            if item is not None:
                yield item

    def _mapped(self) -> Iterator[str]:
        """Yield the site's pages that its sitemaps list: those that robots.txt names, or else `/sitemap.xml`."""
        host = replace(self._site, folder="/")
        top = f"{host.scheme}://{host.authority}/"
        waiting = deque(self._robots.sitemaps or ("sitemap.xml",))
        asked: set[str] = set()
        while waiting and len(asked) < MAX_SITEMAPS:
            url = resolve(top, waiting.popleft(), host)
            if url is None or url in asked or not self._allowed(url):
                continue
            asked.add(url)
            try:
                answer = self._fetcher.get(url)
            except FetchError as error:
                self._note_unmapped(str(error))
                continue
            if answer.status in _REDIRECTS:
                waiting.append(answer.headers.get("location", ""))
            elif answer.status >= 500 or (self._robots.sitemaps and answer.status not in (200, *_GONE)):
                self._note_unmapped(f"{url}: the server answers {answer.status}")
            found = read_sitemap(answer.data)
            waiting.extend(found.sitemaps)
            yield from filter(None, (resolve(top, page, self._site) for page in found.pages))

    def _note_unmapped(self, problem: str) -> None:
        """Note a sitemap that cannot be had: pages that only it lists are not gone for that."""
        self._has_failed = True
        self.warnings.append(f"{problem}: pages that only this sitemap lists are not read, and none is taken out")

    def _may_visit(self, url: str) -> bool:
        if is_furniture(url, self._suffixes):
            self.skipped.append(url)
        elif not self._allowed(url):
            self.skipped.append(f"{url} (robots.txt forbids it)")
        else:
            return True
        return False

    def _visit(self, url: str) -> tuple[Item | None, Sequence[str]]:
        """Return a page's item, None where there is none, and the links to follow."""
        before = self._before.get(page_key(url))
        try:
            answer = self._get(url, before)
            if answer.status in _REDIRECTS:
                target = resolve(answer.url, answer.headers.get("location", ""), self._site)
                if target is None:
                    self.skipped.append(f"{url} (leads out of {self.root})")
                return None, [target] if target else []
            if answer.status == 304 and before is not None:
                self._visits[page_key(url)] = before
                return self._item(before, partial(self._fetch_again, before.url)), before.links
            if answer.status not in (200, *_GONE):
                raise FetchError(f"{url}: the server answers {answer.status}")
        except FetchError as error:
            return self._failed(url, error), []
        self._failures = 0
        if answer.status in _GONE or answer.refused:
            self.skipped.append(url if answer.refused else f"{url} ({answer.status})")
            return None, []
        return self._page(answer)

    def _get(self, url: str, before: Visit | None) -> Response:
        """Fetch a page, through redirects to another spelling of its own address."""
        for _ in range(MAX_HOPS):
            headers = before.headers if before is not None and before.url == url else None
            answer = self._fetcher.get(url, headers=headers, wanted=lambda h: _suffix(url, h) in self._suffixes)  # noqa: B023
            target = resolve(url, answer.headers.get("location", ""), self._site) or ""
            if answer.status not in _REDIRECTS or page_key(target) != page_key(url) or target == url:
                return answer
            url = target
        raise FetchError(f"{url}: more than {MAX_HOPS} redirects")

    def _failed(self, url: str, error: FetchError) -> Item:
        """Return an item that cannot be read: it counts as failed, and its last good version stays."""
        self._has_failed = True
        self._failures += 1
        if self._failures >= MAX_FAILURES_IN_A_ROW:
            hint = "try again later; what was read is kept"
            raise DocumentError(f"{self.root}: {self._failures} pages in a row failed; {error}", hint=hint)

        def read() -> bytes:
            raise DocumentError(str(error))

        return self._item(Visit(url, page_name(url, ".html")), read)

    def _page(self, answer: Response) -> tuple[Item | None, Sequence[str]]:
        suffix = _suffix(answer.url, answer.headers)
        links: tuple[str, ...] = ()
        indexed = "noindex" not in answer.headers.get("x-robots-tag", "").lower()
        data = answer.data
        if suffix in (".html", ".htm"):
            data = in_utf8(data, answer.headers.get("content-type", ""))
            page = read_links(data, answer.url, self._site)
            links, indexed = page.links, indexed and page.indexed
        headers = answer.headers
        visit = Visit(
            answer.url, page_name(answer.url, suffix), headers.get("etag", ""), headers.get("last-modified", ""), links
        )
        if not indexed:
            self.skipped.append(f"{answer.url} (noindex)")
            return None, links
        self._visits[page_key(answer.url)] = visit
        return self._item(visit, _Body(data, partial(self._fetch_again, answer.url)).read, len(data)), links

    def _fetch_again(self, url: str) -> bytes:
        answer = self._fetcher.get(url)
        if answer.status != 200:
            raise DocumentError(f"{url}: the server answers {answer.status}")
        is_html = _suffix(url, answer.headers) in (".html", ".htm")
        return in_utf8(answer.data, answer.headers.get("content-type", "")) if is_html else answer.data

    def _item(self, visit: Visit, read: Callable[[], bytes], size: int = 0) -> Item:
        modified = email.utils.parsedate_tz(visit.modified)
        return Item(
            id=printable(self._prefix + page_key(visit.url)),
            source=visit.url,
            root=self.root,
            name=printable(visit.name),
            read=read,
            stamp=visit.stamp,
            modified_at=float(email.utils.mktime_tz(modified)) if modified else 0.0,
            size=size,
        )


class _Body:
    """A page's bytes, given away once: who reads again fetches again."""

    def __init__(self, data: bytes, fetch: Callable[[], bytes]) -> None:
        self._data: bytes | None = data
        self._fetch = fetch

    def read(self) -> bytes:
        data, self._data = self._data, None
        return self._fetch() if data is None else data


def _suffix(url: str, headers: Mapping[str, str]) -> str:
    return suffix_of(headers.get("content-type", ""), url, headers.get("content-disposition", ""))
