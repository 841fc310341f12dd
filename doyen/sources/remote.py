"""A folder of a remote file system (`s3://`, `smb://`, `webdav://`, `ftp://`, …) → items, through fsspec.

Lists one folder at a time; a file's stamp is its entity tag, or its time and size, so that unchanged files are not
fetched. Credentials are those of the URL, the environment or fsspec's configuration; none leave this module.
"""

from __future__ import annotations

import datetime
import threading
import unicodedata
from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

from doyen.errors import DocumentError
from doyen.sources.folder import is_hidden
from doyen.sources.item import Item, printable
from doyen.sources.options import SourceOptions

PACKAGES = {
    "abfs": "adlfs",
    "abfss": "adlfs",
    "az": "adlfs",
    "gcs": "gcsfs",
    "gs": "gcsfs",
    "s3": "s3fs",
    "smb": "smbprotocol",
    "webdav": "webdav4",
    "webdav+http": "webdav4",
}
"""Scheme → the package that brings it; others are named by fsspec's own message."""

_TAGS = ("ETag", "etag", "e_tag", "md5Hash", "content_md5", "content_hash", "checksum", "sha256")
_TIMES = ("mtime", "LastModified", "last_modified", "modified", "modify", "updated", "last_write_time", "created")
_MAX_FOLDERS_DEEP = 64
_CONTAINERS = ("abfs", "abfss")
"""Schemes where what stands before the @ is a container, not a user."""


class RemoteSource:
    """The files below a URL; an item's id is its path below it, after `prefix`. One file is a source too."""

    def __init__(self, url: str, *, suffixes: frozenset[str], prefix: str = "", options: SourceOptions) -> None:
        self.complete = False
        self.skipped: list[str] = []
        self.warnings: list[str] = []
        self.root = self.spec = self._base = without_credentials(url).rstrip("/")
        self._secrets = _secrets(url)
        self._suffixes = suffixes
        self._prefix = prefix
        self._max_bytes = options.max_bytes
        self._files, self._top = _file_system(url, self.root)
        self._turn = threading.Lock()  # most file systems have one connection for all threads

    def items(self) -> Iterator[Item]:
        """Yield an item a file, sorted by path within each folder; hidden files and folders are passed over.

        Raises:
            DocumentError: the URL cannot be reached, or holds no file that can be read.
        """
        self.complete, self.skipped, self.warnings = False, [], []
        try:
            single = self._files.isfile(self._top)
            listed = [] if single else self._list(self._top)
        except Exception as error:  # every file system has its own
            hint = "check the URL, the credentials and the network; nothing was changed"
            raise DocumentError(f"{self._base}: {self._reason(error)}", hint=hint) from error
        if single:
            name = PurePosixPath(self._top).name
            self.root = self._base.rpartition("/")[0]
            yield self._item(self._files.info(self._top), name, self._base)
            return
        found = 0
        for entry, path in self._walk(listed, "", 0):
            if PurePosixPath(path).suffix.lower() in self._suffixes:
                found += 1
                yield self._item(entry, path, f"{self._base}/{path}")
            else:
                self.skipped.append(f"{self._base}/{path}")
        if not found:
            raise DocumentError(
                f"{self._base} holds no document that can be read ({len(self.skipped)} other files)",
                hint=f"supported: {' '.join(sorted(self._suffixes))}; nothing was changed",
            )
        self.complete = not self.warnings

    def covers(self, source: str) -> bool:
        """Return whether a URL lies below this one."""
        return source == self._base or source.startswith(self._base + "/")

    def _walk(
        self, entries: list[Mapping[str, Any]], folder: str, depth: int
    ) -> Iterator[tuple[Mapping[str, Any], str]]:
        for entry in entries:
            name = PurePosixPath(entry["name"].rstrip("/")).name
            if is_hidden(name):
                continue
            path = folder + name
            if entry["type"] == "file":
                yield entry, path
            elif entry["type"] == "directory" and depth < _MAX_FOLDERS_DEEP:
                try:
                    below = self._list(entry["name"])
                except Exception as error:  # every file system has its own
                    self.warnings.append(f"{self._base}/{path} cannot be listed ({self._reason(error)})")
                    continue
                yield from self._walk(below, path + "/", depth + 1)

    def _list(self, folder: str) -> list[Mapping[str, Any]]:
        """Return the entries of a folder, sorted; S3's markers of the folder itself are none."""
        with self._turn:
            entries = self._files.ls(folder, detail=True)
        own = folder.strip("/")
        entries = [e for e in entries if e["name"].strip("/") != own]
        return sorted(entries, key=lambda e: unicodedata.normalize("NFC", e["name"]))

    def _item(self, entry: Mapping[str, Any], path: str, source: str) -> Item:
        stamp, modified_at = _stamp(entry)
        name, size = entry["name"], entry.get("size")

        def read() -> bytes:
            if size is not None and size > self._max_bytes:
                raise DocumentError(f"{source} has {size} bytes, more than the {self._max_bytes} allowed (max_bytes)")
            try:
                with self._turn:
                    return bytes(self._files.cat_file(name))
            except Exception as error:  # every file system has its own
                raise DocumentError(f"{source} cannot be fetched ({self._reason(error)})") from error

        return Item(
            id=printable(self._prefix + path),
            source=printable(source),
            root=self.root,
            name=printable(PurePosixPath(path).name),
            read=read,
            stamp=stamp,
            modified_at=modified_at,
        )

    def _reason(self, error: Exception) -> str:
        """Return an error in one line, without the credentials that a library may quote."""
        if isinstance(error, FileNotFoundError):
            return "it does not exist"
        text = " ".join(str(error).split())[:300]
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return f"{type(error).__name__}: {text}" if text else type(error).__name__


def without_credentials(url: str) -> str:
    """Return a URL without user, password, query and fragment."""
    scheme, _, rest = url.partition("://")
    rest = rest.split("?")[0].split("#")[0]
    authority, slash, path = rest.partition("/")
    if scheme.lower() not in _CONTAINERS:
        authority = authority.rpartition("@")[2]
    return f"{scheme.lower()}://{authority}{slash}{path}"


def _secrets(url: str) -> list[str]:
    parts = urlsplit(url)
    if "@" not in parts.netloc:
        return []
    return [s for s in (url, parts.netloc, parts.password, unquote(parts.password or "")) if s]


def _file_system(url: str, root: str) -> tuple[Any, str]:
    """Return fsspec's file system for a URL and the path in it; nothing is asked of the network here by most."""
    from fsspec.core import url_to_fs

    scheme = root.partition("://")[0]
    address, settings = _address(url, root)
    try:
        files, path = url_to_fs(address, skip_instance_cache=True, **settings)
        return files, str(path)
    except ImportError as error:
        package = PACKAGES.get(scheme)
        hint = f"pip install {package}" if package else " ".join(str(error).split())
        raise DocumentError(f"{scheme}:// needs a package that is not installed", hint=hint) from error
    except ValueError as error:
        if "Protocol not known" not in str(error):
            raise DocumentError(f"{root} is not a URL that can be read", hint="check its form") from error
        package = PACKAGES.get(scheme)
        hint = (
            f"pip install {package}" if package else "known are https, sqlite, postgresql, mysql and fsspec's schemes"
        )
        raise DocumentError(f"{scheme}:// is not a known kind of source", hint=hint) from error
    except Exception as error:  # some connect when they are made, each with errors of its own
        reason = type(error).__name__
        raise DocumentError(f"{root} cannot be reached ({reason})", hint="check host and credentials") from error


def _address(url: str, root: str) -> tuple[str, dict[str, Any]]:
    """Return the URL without credentials, and these as settings: fsspec takes `%40` in a password for itself.

    webdav4 wants its server as an https address of its own.
    """
    parts = urlsplit(url)
    user, password = unquote(parts.username or ""), unquote(parts.password or "")
    settings: dict[str, Any]
    if parts.scheme in ("webdav", "webdav+http"):
        scheme = "http" if parts.scheme == "webdav+http" else "https"
        settings = {"base_url": f"{scheme}://{parts.netloc.rpartition('@')[2]}"}
        return f"webdav://{unquote(parts.path)}", settings | ({"auth": (user, password)} if user else {})
    settings = {"use_listings_cache": False}
    if user and parts.scheme not in _CONTAINERS:
        return root, settings | {"username": user, "password": password}
    return url, settings


def _stamp(entry: Mapping[str, Any]) -> tuple[str, float]:
    """Return the stamp of a listed file ("" where the listing has neither tag nor time) and when it was changed."""
    when = next((entry[key] for key in _TIMES if entry.get(key)), None)
    tag = next((entry[key] for key in _TAGS if entry.get(key)), None)
    if tag is not None:
        return str(tag).strip('"'), _seconds(when)
    return (f"{entry.get('size')}-{when}" if when is not None else ""), _seconds(when)


def _seconds(when: Any) -> float:
    if isinstance(when, datetime.datetime):
        return when.timestamp()
    if isinstance(when, int | float):
        return float(when)
    try:  # the form of FTP's MLSD facts (RFC 3659)
        moment = datetime.datetime.strptime(str(when)[:14], "%Y%m%d%H%M%S")
    except ValueError:
        return 0.0
    return moment.replace(tzinfo=datetime.UTC).timestamp()
