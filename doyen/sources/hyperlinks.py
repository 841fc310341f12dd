"""An HTML page's bytes → the links to follow and whether the page wants to be found. Fetches nothing, runs no scripts."""

from __future__ import annotations

import codecs
import re
from dataclasses import dataclass
from urllib.parse import urljoin

from doyen.sources.url import Site, resolve

MAX_LINKS = 5000
"""A page with more is a trap or a list of everything; the rest is dropped."""
_CHARSET = re.compile(r"charset\s*=\s*[\"']?([\w.:-]+)", re.IGNORECASE)
_LINKS = {"a": "href", "area": "href", "iframe": "src", "frame": "src"}


@dataclass(frozen=True, slots=True)
class Links:
    """The links within the site, in the order of the page; `indexed` is False where the page says noindex."""

    links: tuple[str, ...]
    indexed: bool = True


def read_links(data: bytes, url: str, site: Site) -> Links:
    """Return the links of a page that the site has; those marked nofollow are left out."""
    from selectolax.lexbor import LexborHTMLParser

    tree = LexborHTMLParser(data.decode("utf-8", "replace"))
    contents = (node.attributes.get("content") or "" for node in tree.css('meta[name="robots" i]'))
    wishes = set(re.split(r"[,\s]+", " ".join(contents).lower()))
    indexed = not wishes & {"noindex", "none"}
    if wishes & {"nofollow", "none"}:
        return Links((), indexed)
    base = tree.css_first("base[href]")
    start = urljoin(url, base.attributes.get("href") or "") if base is not None else url
    found: dict[str, None] = {}
    for node in tree.css("a[href], area[href], iframe[src], frame[src]"):
        if "nofollow" in (node.attributes.get("rel") or "").lower().split():
            continue
        link = resolve(start, node.attributes.get(_LINKS[node.tag or "a"]) or "", site)
        if link is not None:
            found[link] = None
        if len(found) >= MAX_LINKS:
            break
    return Links(tuple(found), indexed)


def in_utf8(data: bytes, content_type: str) -> bytes:
    """Return a page in UTF-8 where the server names another encoding: the file alone would not tell it."""
    named = _CHARSET.search(content_type)
    if named is None or named[1].lower() in ("utf-8", "utf8"):
        return data
    try:
        return codecs.BOM_UTF8 + data.decode(named[1], "replace").encode("utf-8", "replace")
    except LookupError:
        return data
