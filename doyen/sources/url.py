"""URLs of web pages: one form for all spellings of a page, what belongs to a site, names and suffixes. Fetches nothing."""

from __future__ import annotations

import mimetypes
import re
from dataclasses import dataclass
from pathlib import PurePosixPath
from urllib.parse import SplitResult, quote, unquote, urljoin, urlsplit

MAX_URL_CHARS = 2000
PORTS = {"http": 80, "https": 443}
SUFFIX_OF = {
    "text/html": ".html",
    "application/xhtml+xml": ".html",
    "application/pdf": ".pdf",
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document": ".docx",
    "application/vnd.openxmlformats-officedocument.presentationml.presentation": ".pptx",
    "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet": ".xlsx",
    "application/vnd.oasis.opendocument.spreadsheet": ".ods",
    "application/rtf": ".rtf",
    "text/rtf": ".rtf",
    "application/epub+zip": ".epub",
    "message/rfc822": ".eml",
    "application/vnd.ms-outlook": ".msg",
    "application/json": ".json",
    "application/x-ndjson": ".jsonl",
    "application/jsonl": ".jsonl",
    "application/xml": ".xml",
    "text/xml": ".xml",
    "text/csv": ".csv",
    "text/tab-separated-values": ".tsv",
    "text/markdown": ".md",
    "application/vnd.apache.parquet": ".parquet",
    "application/zip": ".zip",
    "application/x-zip-compressed": ".zip",
    "image/png": ".png",
    "image/jpeg": ".jpg",
    "image/tiff": ".tif",
}
_VAGUE_TYPES = ("", "text/plain", "application/octet-stream", "binary/octet-stream", "application/force-download")
_INDEX = re.compile(r"/(index|default)\.(html?|php|aspx?|jsp)$", re.IGNORECASE)
_FURNITURE = ("image/", "audio/", "video/", "font/", "text/css", "text/javascript", "application/javascript")


@dataclass(frozen=True, slots=True)
class Site:
    """The pages of one host that a crawl may visit: those whose path is `path` or lies below `folder`."""

    scheme: str
    host: str
    port: int
    path: str
    folder: str

    @property
    def authority(self) -> str:
        """`host`, or `host:port` where the port is not the scheme's own."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if PORTS.get(self.scheme) == self.port else f"{host}:{self.port}"

    def has(self, parts: SplitResult) -> bool:
        """Return whether a URL is on this host and port; http and https on their own ports are one."""
        try:
            port = parts.port or PORTS.get(parts.scheme, 0)
        except ValueError:
            return False
        own = self.port == port or {self.port, port} == set(PORTS.values())
        return parts.scheme in PORTS and (parts.hostname or "") == self.host and own

    def reaches(self, path: str) -> bool:
        """Return whether a path is in the part of the site that is read."""
        return path.startswith(self.folder) or path.rstrip("/") == self.path.rstrip("/")


def site_of(url: str, *, whole: bool = False) -> Site:
    """Return the site that a start page stands for: its folder and all below it, or the whole host.

    Raises:
        ValueError: the URL has no host or a wrong port.
    """
    parts = urlsplit(url)
    if not parts.hostname:
        raise ValueError("no host")
    path = clean_path(parts.path)
    last = path.rpartition("/")[2]
    folder = path.rpartition("/")[0] + "/" if not last or "." in last else path + "/"
    return Site(parts.scheme, parts.hostname, parts.port or PORTS[parts.scheme], path, "/" if whole else folder)


def resolve(base: str, link: str, site: Site) -> str | None:
    """Return a link of a page as an absolute URL in the site's form, without fragment; None where it leads elsewhere."""
    try:
        parts = urlsplit(urljoin(base, link.strip()))
    except ValueError:
        return None
    if not site.has(parts):
        return None
    path = clean_path(parts.path)
    query = "?" + quote(parts.query, safe="/*$?&=+,;:@!'()~%[]") if parts.query else ""
    url = f"{site.scheme}://{site.authority}{path}{query}"
    return url if site.reaches(path) and len(url) <= MAX_URL_CHARS else None


def clean_path(path: str) -> str:
    """Return a path with dot segments resolved and one way of percent-encoding."""
    segments: list[str] = []
    last = ""
    for segment in map(_encode, path.removeprefix("/").split("/")):
        last = segment
        if segment == "..":
            segments = segments[:-1]
        elif segment != ".":
            segments.append(segment)
    if last in (".", ".."):
        segments.append("")
    return "/" + "/".join(segments)


def _encode(segment: str) -> str:
    """Decode what need not be encoded; an encoded slash stays one."""
    pieces = re.split(r"(%2[fF])", segment)
    return "".join("%2F" if n % 2 else quote(unquote(p), safe="~!$&'()*+,;=:@") for n, p in enumerate(pieces))


def page_key(url: str) -> str:
    """Return what names a page: `host/path?query`, the same for `/a`, `/a/` and `/a/index.html`."""
    parts = urlsplit(url)
    path = _INDEX.sub("/", parts.path).rstrip("/")
    return f"{parts.netloc}{path or '/'}{'?' + parts.query if parts.query else ''}"


def suffix_of(content_type: str, url: str, disposition: str = "") -> str:
    """Return the suffix of what a server sent: by its type, or by its name where the type says little."""
    kind = content_type.split(";")[0].strip().lower()
    named = re.search(r"filename\*?=(?:UTF-8'')?\"?([^\";]+)", disposition, re.IGNORECASE)
    by_name = PurePosixPath(unquote(named[1] if named else urlsplit(url).path)).suffix.lower()
    if kind in _VAGUE_TYPES:
        return (
            by_name if re.fullmatch(r"\.\w{1,8}", by_name) else ".txt" if kind == "text/plain" else ".html" * (not kind)
        )
    if kind in SUFFIX_OF:
        return SUFFIX_OF[kind]
    return mimetypes.guess_extension(kind) or by_name


def is_furniture(url: str, suffixes: frozenset[str]) -> bool:
    """Return whether a URL by its suffix is a picture, a script or the like that no reader takes."""
    path = urlsplit(url).path
    kind = mimetypes.guess_type(path)[0] or ""
    return kind.startswith(_FURNITURE) and PurePosixPath(path).suffix.lower() not in suffixes


def page_name(url: str, suffix: str) -> str:
    """Return a file name for a page; its stem is the last part of the path."""
    path = PurePosixPath(unquote(_INDEX.sub("", urlsplit(url).path)))
    stem = (
        path.stem
        if path.suffix.lower() == suffix or re.fullmatch(r"\.(html?|php|aspx?|jsp)", path.suffix)
        else path.name
    )
    return (stem.replace("/", "_") or "index") + suffix
