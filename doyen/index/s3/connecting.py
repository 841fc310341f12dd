"""A store's URI → a bucket of S3 or a compatible service, what is asked of it, and its errors with what mends them.

Keys come from the environment or the credentials file, never from the URI, so that no settings, manifest or message can hold
them. obstore speaks the protocol, with the same Rust crate as Lance itself. Knows no tables.
"""

from __future__ import annotations

import configparser
import hashlib
import os
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import platformdirs

from doyen.config import replaced
from doyen.errors import StoreError
from doyen.index.following import Follower

FORM = "s3://BUCKET/PREFIX?endpoint=https://host:port&region=REGION"
_KNOWN = ("endpoint", "region", "mirror_gib")
_MIRROR_GIB = 50.0
_RETRIES, _RETRY_S = 4, 30
_PART_BYTES = 16 << 20
_LOGIN = (
    "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (and AWS_SESSION_TOKEN for a temporary one), or AWS_PROFILE; then run the "
    "same command again: it goes on"
)
_ROLES = ("AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "AWS_CONTAINER_CREDENTIALS_FULL_URI")
_REFUSED = re.compile(
    r"\b(ExpiredToken|TokenRefreshRequired|RequestExpired|InvalidAccessKeyId|SignatureDoesNotMatch|InvalidToken|AccessDenied|"
    r"InvalidClientTokenId|AuthorizationHeaderMalformed)\b"
)
_EXPIRED = ("ExpiredToken", "TokenRefreshRequired", "RequestExpired")
_NO_KEYS = re.compile(
    r"169\.254\.169\.254|no credentials|CredentialsNotLoaded|credential provider|Missing (AccessKeyId|SecretAccessKey)",
    re.I,
)
_SILENT = re.compile(
    r"error sending request|connect(ion)? (refused|error|reset)|tcp connect|dns error|timed? ?out|operation timed", re.I
)


class Bucket:
    """A prefix of a bucket. `name` is its URI without parameters."""

    def __init__(self, uri: str) -> None:
        """Take a URI. Raises StoreError where it is none, or the extra is not installed."""
        self.bucket, self.prefix, given = parse(uri)
        self.name = f"s3://{self.bucket}/{self.prefix}"
        self.endpoint = (
            given.get("endpoint") or os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
        )
        region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
        self.region = given.get("region") or region or "us-east-1"
        self.mirror_bytes = int(float(given.get("mirror_gib", _MIRROR_GIB)) * 2**30)
        """Up to this size, readers copy the tables of an index to their machine."""
        self.lease: Any = None
        """The hold of this process on it, while it has one (lease.py)."""
        self._seen: dict[str, Follower[tuple[bytes | None]]] = {}
        self._lock = threading.Lock()
        self._keys = keys()
        if not self._keys and self.endpoint and not any(os.environ.get(name) for name in _ROLES):
            raise StoreError(f"{self.name}: no credentials were found", hint=_LOGIN)
        self._store = self._opened()

    @property
    def cache(self) -> Path:
        """The local folder of what is mapped into memory."""
        own = os.environ.get("DOYEN_CACHE")
        folder = Path(own).expanduser() if own else platformdirs.user_cache_path("doyen", appauthor=False)
        return folder / "indexes" / hashlib.sha256(f"{self.endpoint} {self.name}".encode()).hexdigest()[:16]

    @property
    def options(self) -> dict[str, str]:
        """What Lance is told of it."""
        options = {f"aws_{key}": value for key, value in self._keys.items()}
        options |= {
            "aws_region": self.region,
            "client_max_retries": str(_RETRIES),
            "client_retry_timeout": str(_RETRY_S),
        }
        if self.endpoint:
            options |= {"aws_endpoint": self.endpoint}
            options |= {"allow_http": "true"} if self.endpoint.startswith("http://") else {}
        return options

    def _opened(self) -> Any:
        try:
            from obstore.store import S3Store
        except ImportError as error:
            raise StoreError("an index on S3 needs the extra 's3'", hint="pip install 'doyen[s3]'") from error
        further: dict[str, Any] = dict(self._keys)
        if self.endpoint:
            further["endpoint"] = self.endpoint
        client: dict[str, Any] = {"connect_timeout": "5s", "timeout": "300s"}
        if self.endpoint and self.endpoint.startswith("http://"):
            client["allow_http"] = True
        return S3Store(
            self.bucket,
            prefix=self.prefix,
            region=self.region,
            client_options=client,
            retry_config={"max_retries": _RETRIES, "retry_timeout": timedelta(seconds=_RETRY_S)},
            **further,
        )

    # ---- objects

    def get(self, name: str) -> tuple[bytes, str] | None:
        """Return an object and its tag, None where there is none. Raises StoreError."""
        import obstore

        with self._told():
            try:
                found = obstore.get(self._store, name)
            except FileNotFoundError as error:
                self._require_bucket(error)
                return None
            return bytes(found.bytes()), str(found.meta["e_tag"])

    def recent(self, name: str) -> bytes | None:
        """Return an object as it was a moment ago (following.py), None where there was none; what was seen last while the
        service is silent. Raises StoreError before it was seen at all.
        """
        with self._lock:
            if name not in self._seen:
                self._seen[name] = Follower(self._content(name), lambda _: self._content_now(name))
        return self._seen[name].view()[0]

    def _content(self, name: str) -> tuple[bytes | None]:
        found = self.get(name)
        return (None if found is None else found[0],)

    def _content_now(self, name: str) -> tuple[bytes | None] | None:
        with suppress(StoreError):
            return self._content(name)
        return None

    def put(self, name: str, data: bytes) -> None:
        """Write an object. Raises StoreError."""
        import obstore

        with self._told():
            obstore.put(self._store, name, data)

    def create(self, name: str, data: bytes) -> str | None:
        """Write an object that is not there; return its tag, None where there is one. Raises StoreError."""
        return self._conditional(name, data, "create")

    def exchange(self, name: str, data: bytes, tag: str) -> str | None:
        """Write an object in the place of the one with that tag; return its tag, None where it is another one. Raises StoreError."""
        return self._conditional(name, data, {"e_tag": tag})

    def _conditional(self, name: str, data: bytes, mode: Any) -> str | None:
        import obstore
        from obstore.exceptions import AlreadyExistsError, PreconditionError

        with self._told():
            try:
                return str(obstore.put(self._store, name, data, mode=mode, use_multipart=False)["e_tag"])
            except (AlreadyExistsError, PreconditionError, FileNotFoundError) as error:
                self._require_bucket(error)
                return None

    def remove(self, name: str) -> None:
        """Delete an object, if it is there. Raises StoreError."""
        import obstore

        with self._told(), suppress(FileNotFoundError):
            obstore.delete(self._store, name)

    def listed(self, below: str) -> list[tuple[str, datetime]]:
        """Return the names below a folder, from the prefix on, and when each was written. Raises StoreError."""
        return [(one["path"], one["last_modified"]) for one in self._objects(below)]

    def sizes(self, below: str) -> dict[str, int]:
        """Return the names below a folder, from the prefix on, and their sizes. Raises StoreError."""
        return {one["path"]: int(one["size"]) for one in self._objects(below)}

    def folders(self, below: str) -> set[str]:
        """Return the names of the folders in a folder. Raises StoreError."""
        import obstore

        with self._told():
            found = obstore.list_with_delimiter(self._store, below)
            return {name.rstrip("/").rpartition("/")[2] for name in found["common_prefixes"]}

    def _objects(self, below: str) -> list[Any]:
        import obstore

        with self._told():
            return [one for part in obstore.list(self._store, below) for one in part]

    def drop(self, below: str) -> None:
        """Delete all objects below a folder. Raises StoreError."""
        import obstore

        names = [name for name, _ in self.listed(below)]
        with self._told():
            for i in range(0, len(names), 500):
                with suppress(FileNotFoundError):
                    obstore.delete(self._store, names[i : i + 500])

    def upload(self, name: str, path: Path) -> None:
        """Write a file as an object. Raises StoreError."""
        import obstore

        with self._told():
            obstore.put(self._store, name, path, chunk_size=_PART_BYTES)

    def download(self, name: str, path: Path) -> bool:
        """Write an object into a file, in one step; return whether there is one. Raises StoreError."""
        import obstore

        with self._told():
            try:
                found = obstore.get(self._store, name)
            except FileNotFoundError:
                return False
            with replaced(path) as partial, partial.open("wb") as file:
                for part in found.stream(min_chunk_size=_PART_BYTES):
                    file.write(part)
        return True

    def written_at(self, name: str) -> datetime | None:
        """Return when an object was written, by the service's clock; None where there is none. Raises StoreError."""
        import obstore

        with self._told():
            try:
                found: datetime = obstore.head(self._store, name)["last_modified"]
                return found
            except FileNotFoundError:
                return None

    def _require_bucket(self, error: Exception) -> None:
        if "NoSuchBucket" in str(error):
            raise error

    @contextmanager
    def _told(self) -> Iterator[None]:
        from obstore.exceptions import BaseError

        try:
            yield
        except (BaseError, OSError) as error:
            raise fault(error, self.name) or StoreError(
                f"{self.name}: {first_line(error)}", hint="doyen doctor"
            ) from None


def fault(error: BaseException, name: str) -> StoreError | None:
    """Return what an error of obstore or Lance says of credentials, bucket or connection; None for any other error."""
    text = str(error)
    if "NoSuchBucket" in text:
        return StoreError(f"{name}: there is no such bucket", hint="make the bucket, or mend [store] uri in doyen.toml")
    if _NO_KEYS.search(text):
        return StoreError(f"{name}: no credentials were found", hint=_LOGIN)
    refused = _REFUSED.search(text)
    if refused or re.search(r"\b(401 Unauthorized|403 Forbidden|status: 40[13])\b", text):
        why = refused[1] if refused else "403"
        said = "the credentials have expired" if why in _EXPIRED else "the credentials are refused"
        return StoreError(f"{name}: {said} ({why})", hint=_LOGIN)
    if _SILENT.search(text) and ("http" in text or "S3" in text):
        return StoreError(
            f"{name}: the service does not answer",
            hint="see the network and the endpoint (in [store] uri, or AWS_ENDPOINT_URL); then run the same command again: it goes on",
        )
    return None


def first_line(error: BaseException) -> str:
    """Return the first line of an error, of at most 300 characters."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]


def parse(uri: str) -> tuple[str, str, dict[str, str]]:
    """Return bucket, prefix and parameters of a URI. Raises StoreError."""
    parts = urlsplit(uri)
    if parts.username is not None or parts.password is not None or "@" in parts.netloc:
        raise StoreError("[store] uri holds keys: they would be copied into manifests", hint=f"{FORM}; {_LOGIN}")
    given = dict(parse_qsl(parts.query, keep_blank_values=True))
    unknown = sorted(given.keys() - set(_KNOWN))
    prefix = unquote(parts.path).strip("/")
    if parts.scheme != "s3" or not parts.netloc or not prefix or unknown:
        what = f"parameter {unknown[0]}" if unknown else "no bucket" if not parts.netloc else "no prefix in the bucket"
        shown = uri.partition("?")[0]
        raise StoreError(f"[store] uri = '{shown}': {what} (an index has a prefix of its own)", hint=FORM)
    try:
        float(given.get("mirror_gib", "0"))
    except ValueError:
        raise StoreError("[store] uri: mirror_gib must be a number", hint=FORM) from None
    endpoint = given.get("endpoint", "")
    if endpoint and (urlsplit(endpoint).scheme not in ("http", "https") or urlsplit(endpoint).username is not None):
        raise StoreError("[store] uri: endpoint must be http://HOST or https://HOST, without keys", hint=FORM)
    return parts.netloc, prefix, given


def keys() -> dict[str, str]:
    """Return the keys of the environment, or of the profile in the credentials file; none where a role gives them."""
    env = os.environ
    if env.get("AWS_ACCESS_KEY_ID") and env.get("AWS_SECRET_ACCESS_KEY"):
        found = {"access_key_id": env["AWS_ACCESS_KEY_ID"], "secret_access_key": env["AWS_SECRET_ACCESS_KEY"]}
        return found | ({"session_token": env["AWS_SESSION_TOKEN"]} if env.get("AWS_SESSION_TOKEN") else {})
    path = Path(env.get("AWS_SHARED_CREDENTIALS_FILE") or "~/.aws/credentials").expanduser()
    file = configparser.ConfigParser(interpolation=None)
    with suppress(OSError, configparser.Error, UnicodeDecodeError):
        file.read(path, encoding="utf-8")
    profile = env.get("AWS_PROFILE") or "default"
    named = dict(file[profile]) if file.has_section(profile) else {}
    wanted = ("aws_access_key_id", "aws_secret_access_key", "aws_session_token")
    return {key.removeprefix("aws_"): named[key] for key in wanted if named.get(key)}


_BUCKETS: dict[tuple[object, ...], Bucket] = {}
_OPENING = threading.Lock()
_PLACES = ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_REGION", "AWS_DEFAULT_REGION")


def bucket_of(uri: str, opened: Callable[[str], Bucket] = Bucket) -> Bucket:
    """Return the one bucket object of this process for a URI and the credentials of now. Raises StoreError."""
    mark = (uri, *sorted(keys().items()), *map(os.environ.get, _PLACES))
    with _OPENING:  # two of them would not know of each other's hold
        if mark not in _BUCKETS:
            _BUCKETS[mark] = opened(uri)
        return _BUCKETS[mark]
