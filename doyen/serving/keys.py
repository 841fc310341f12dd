"""API keys of an expert: made, listed, revoked, checked. Only their hashes are kept, in `serving/keys.json`.

A key is 256 random bits, so a plain SHA-256 of it cannot be turned back; nothing slower is needed.
"""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import hmac
import json
import re
import secrets
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from doyen.config import write_atomic
from doyen.errors import AccessError, ExpertError, UsageError
from doyen.index.filtering import Visible
from doyen.labelling import read_labels
from doyen.sqlite_file import FOLDER

FILE_NAME = "keys.json"
ROLES = ("reader", "editor", "admin")
"""Each may do what those before it may: ask and read; upload and delete; see all and change the server."""
_PREFIX = "dk-"
_DURATION = re.compile(r"(\d{1,6})([hdw])")
_HOURS = {"h": 1, "d": 24, "w": 168}
_NAME = re.compile(r"[\w .@-]{1,80}")


@dataclass(frozen=True, slots=True)
class Key:
    """What is kept of a key. Times are ISO 8601 in UTC, "" for never."""

    id: str
    name: str
    role: str
    sha256: str
    created: str
    expires: str = ""
    revoked: str = ""
    labels: tuple[str, ...] = ()

    def fault(self, now: datetime.datetime) -> str:
        """Return why the key is good no more, "" while it is."""
        if self.revoked:
            return "was revoked"
        return "has expired" if self.expires and datetime.datetime.fromisoformat(self.expires) <= now else ""

    def as_dict(self) -> dict[str, Any]:
        """Return what may be shown: all but the hash."""
        row = asdict(self) | {"labels": list(self.labels)}
        del row["sha256"]
        return row


@dataclass(frozen=True, slots=True)
class Principal:
    """Who asks: the key's id, its name, role and labels; an admin sees all documents, whatever the labels."""

    id: str
    name: str
    role: str
    labels: frozenset[str] = frozenset()

    @property
    def visible(self) -> Visible | None:
        """What documents they may see, None for all."""
        return None if self.may("admin") else Visible(self.labels)

    def may(self, role: str) -> bool:
        """Whether they may do what a role may."""
        return ROLES.index(self.role) >= ROLES.index(role)


LOCAL = Principal("local", "local", "admin")
"""Who asks where no keys are set: then only this machine's own users can."""


def keys_path(expert: Path) -> Path:
    """Return where the expert's keys are kept."""
    return expert / FOLDER / FILE_NAME


def load_keys(expert: Path) -> list[Key]:
    """Return the expert's keys, in the order in which they were made. Raises ExpertError for a broken file."""
    path = keys_path(expert)
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
        keys = [Key(**row | {"labels": read_labels(row.get("labels", ()))}) for row in rows]
        for key in keys:
            ROLES.index(key.role)
            for moment in filter(None, (key.created, key.expires, key.revoked)):
                datetime.datetime.fromisoformat(moment)
        return keys
    except FileNotFoundError:
        return []
    except (
        ValueError,
        TypeError,
        AttributeError,
        UsageError,
    ) as error:  # not open to all because its keys cannot be read
        raise ExpertError(
            f"{path} is not a list of keys ({error})", hint="mend it, or delete it and make new keys: doyen keys add"
        ) from error


def add_key(
    expert: Path,
    name: str,
    *,
    role: str = "reader",
    labels: str | Iterable[str] = (),
    expires: str = "",
    now: Callable[[], datetime.datetime] | None = None,
) -> tuple[Key, str]:
    """Make a key; return what is kept of it, and the key itself, which is shown this once.

    `labels` say which documents with labels it may see, `expires` is a duration (`12h`, `90d`, `4w`), "" for never.

    Raises:
        UsageError: the name is taken or strange, the role, a label or the duration is none.
    """
    keys = load_keys(expert)
    moment = (now or _now)()
    if not _NAME.fullmatch(name):
        raise UsageError(f"a key's name has 1 to 80 letters, digits, spaces and .@-, not {name!r}")
    if role not in ROLES:
        raise UsageError(f"unknown role '{role}'", hint=f"one of {', '.join(ROLES)}")
    if any(key.name == name and not key.fault(moment) for key in keys):
        raise UsageError(f"there is a key named '{name}'", hint=f"doyen keys revoke {name!r} first, or another name")
    own, until = read_labels(labels), ""
    if expires:
        found = _DURATION.fullmatch(expires)
        if found is None or not int(found[1]):
            raise UsageError(f"'{expires}' is no duration", hint="12h, 90d or 4w")
        until = (moment + datetime.timedelta(hours=int(found[1]) * _HOURS[found[2]])).isoformat(timespec="seconds")
    secret = _PREFIX + secrets.token_urlsafe(32)
    key = Key(secrets.token_hex(4), name, role, _hash(secret), moment.isoformat(timespec="seconds"), until, "", own)
    _save(expert, [*keys, key])
    return key, secret


def revoke_key(expert: Path, which: str, *, now: Callable[[], datetime.datetime] | None = None) -> Key:
    """Revoke a key by its id or name; a running server refuses it from the next request on. Raises UsageError."""
    keys = load_keys(expert)
    moment = (now or _now)()
    good = [key for key in keys if which in (key.id, key.name) and not key.revoked]
    if not good:
        raise UsageError(f"there is no key '{which}'", hint="doyen keys list")
    gone = replace(good[-1], revoked=moment.isoformat(timespec="seconds"))
    _save(expert, [gone if key.id == gone.id else key for key in keys])
    return gone


def _save(expert: Path, keys: list[Key]) -> None:
    path = keys_path(expert)
    path.parent.mkdir(mode=0o700, exist_ok=True)
    write_atomic(path, json.dumps([asdict(key) for key in keys], indent=1))
    with contextlib.suppress(OSError):
        path.chmod(0o600)


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", errors="surrogatepass")).hexdigest()


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)


class KeyRing:
    """The keys as a server checks them; the file is read again when it has changed.

    Once there were keys, there is no asking without one, also after the last was revoked or the file is gone.
    """

    def __init__(self, expert: Path, *, now: Callable[[], datetime.datetime] = _now) -> None:
        """Read the keys. Raises ExpertError for a broken file."""
        self._expert, self._now = expert, now
        self._stamp: tuple[int, int] | None = None
        self._keys: list[Key] = []
        self._read()
        self.closed = bool(self._keys)

    def _read(self) -> None:
        path = keys_path(self._expert)
        try:
            state = path.stat()
            stamp = (state.st_mtime_ns, state.st_ino)
        except FileNotFoundError:
            self._stamp, self._keys = None, []
            return
        if stamp != self._stamp:
            self._keys, self._stamp = load_keys(self._expert), stamp

    def principal(self, secret: str) -> Principal:
        """Return who holds a key ("" for none given).

        Raises:
            AccessError: there are keys and this is none of them, or it is revoked or over.
        """
        self._read()
        self.closed = self.closed or bool(self._keys)
        if not self.closed:
            return LOCAL
        if not secret:
            raise AccessError("no API key was sent", hint="Authorization: Bearer KEY; doyen keys add NAME makes one")
        digest = _hash(secret)
        found = None
        for key in self._keys:
            if hmac.compare_digest(key.sha256, digest):
                found = key
        if found is None:
            raise AccessError("the API key is not one of this expert's", hint="doyen keys list")
        if fault := found.fault(self._now()):
            raise AccessError(f"the API key {found.id} {fault}", hint="doyen keys add NAME makes a new one")
        return Principal(found.id, found.name, found.role, frozenset(found.labels))
