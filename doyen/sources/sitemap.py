"""A sitemap's bytes → the URLs that it lists. After the protocol of sitemaps.org; fetches nothing, builds no tree.

The entries are found by their tags, so that neither entities nor nesting cost anything.
"""

from __future__ import annotations

import html
import re
import zlib
from dataclasses import dataclass

MAX_BYTES = 50 << 20
"""The protocol's limit of a file, unpacked; the rest is cut, and so are more than its limit of URLs."""
MAX_URLS = 50_000
_GZIP = b"\x1f\x8b"
_INDEX = re.compile(rb"<(?:[\w-]+:)?sitemapindex[\s>]")
_ENTRY = re.compile(rb"<(?:[\w-]+:)?loc>([^<]{1,4000}|\s*<!\[CDATA\[[^\]]{1,4000}\]\]>\s*)</")
_CDATA = re.compile(r"<!\[CDATA\[(.*)\]\]>", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Sitemap:
    """The pages that a sitemap lists, or, of an index, the further `sitemaps`."""

    pages: tuple[str, ...] = ()
    sitemaps: tuple[str, ...] = ()


def read_sitemap(data: bytes) -> Sitemap:
    """Return the URLs of a sitemap or an index of sitemaps (XML, gzip of it, or a text of one URL a line)."""
    data = _unpacked(data)[:MAX_BYTES]
    if b"<" not in data[:1000]:
        lines = (line.strip() for line in data.decode("utf-8", "replace").splitlines())
        return Sitemap(tuple(line for line in lines if line.startswith(("http://", "https://")))[:MAX_URLS])
    found: list[str] = []
    for entry in _ENTRY.finditer(data):
        found.append(_url(entry[1].decode("utf-8", "replace")))
        if len(found) == MAX_URLS:
            break
    return Sitemap(sitemaps=tuple(found)) if _INDEX.search(data[:2000]) else Sitemap(tuple(found))


def _unpacked(data: bytes) -> bytes:
    if not data.startswith(_GZIP):
        return data
    try:
        return zlib.decompressobj(16 + zlib.MAX_WBITS).decompress(data, MAX_BYTES)
    except zlib.error:
        return b""


def _url(text: str) -> str:
    cdata = _CDATA.search(text)
    return cdata[1].strip() if cdata else html.unescape(text).strip()
