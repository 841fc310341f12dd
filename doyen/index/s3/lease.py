"""One writer at a time on a bucket: `lease.json`, made and renewed by conditional writes, says who writes and since when.

A lease that was not renewed for LEASE_S is dead, and the next writer takes it over. Both times are the service's, so that
clocks of machines don't matter. Knows no index.
"""

from __future__ import annotations

import getpass
import json
import os
import secrets
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from typing import Any

from doyen.errors import StoreError
from doyen.index.s3.connecting import Bucket

LEASE = "lease.json"
LEASE_S = 60.0
_RENEW_S = 15.0


class Lease:
    """The hold of this process on a bucket's prefix."""

    def __init__(self, bucket: Bucket, lease_s: float = LEASE_S) -> None:
        self._bucket, self._lease_s = bucket, lease_s
        self._row = {"holder": _holder(), "since": _now(), "token": secrets.token_hex(8)}
        self._tag = ""
        self._renewed = 0.0
        self._lock = threading.Lock()
        self._stopped = threading.Event()

    def take(self) -> None:
        """Take the lease. Raises StoreError where another writer has it, or the service ignores conditions."""
        self._renewed = _clock()
        tag = self._bucket.create(LEASE, self._body())
        if tag is None:
            tag = self._instead_of_dead()
        elif self._bucket.create(LEASE, self._body()) is not None:
            self._bucket.remove(LEASE)
            raise StoreError(
                f"{self._bucket.name}: this service ignores conditional writes (If-None-Match), so two writers could destroy "
                "the index",
                hint="use a service with conditional writes: AWS S3, Ceph, MinIO, Cloudflare R2, SeaweedFS of a recent version",
            )
        self._tag = tag
        threading.Thread(target=self._keep_renewing, name="doyen-lease", daemon=True).start()

    def _instead_of_dead(self) -> str:
        """Take over a lease that nobody renews. Raises StoreError where it is alive."""
        if own := self._own_tag():  # it was made after all, and the answer lost
            return own
        found = self._bucket.get(LEASE)
        tag = self._bucket.create(LEASE, self._body()) if found is None else None
        if tag is not None:
            return tag
        if found is None:
            raise self._refusal({}, 0.0)
        age = self._age()
        if age > self._lease_s:
            tag = self._bucket.exchange(LEASE, self._body(), found[1])
            if tag is not None:
                return tag
        with suppress(ValueError):
            raise self._refusal(json.loads(found[0]), age)
        raise self._refusal({}, age)

    def _age(self) -> float:
        """Return how long the lease was not renewed, by the service's clock."""
        probe = f"now-{self._row['token']}"
        self._bucket.put(probe, b"")
        now, then = self._bucket.written_at(probe), self._bucket.written_at(LEASE)
        self._bucket.remove(probe)
        return 0.0 if now is None or then is None else (now - then).total_seconds()

    def _refusal(self, row: dict[str, Any], age: float) -> StoreError:
        who = f": {row['holder']}, since {row['since']}, last seen {age:.0f} s ago" if "holder" in row else ""
        left = max(1.0, self._lease_s - age)
        return StoreError(
            f"another doyen is writing the index {self._bucket.name}{who}",
            hint=f"wait until it is done; if that process is gone, its hold ends by itself {left:.0f} s from now "
            f"(or remove {self._bucket.name}/{LEASE}), then run the same command again",
        )

    def require(self) -> None:
        """See that this process still has it. Raises StoreError where another one took it over."""
        if _clock() - self._renewed > self._lease_s / 2:
            self._renew()
        if not self._tag:
            raise StoreError(
                f"the hold on {self._bucket.name} was lost: this process was silent for {self._lease_s:.0f} s, and another took it over",
                hint="wait until that one is done, then run the same command again: it goes on",
            )

    def _renew(self) -> None:
        with self._lock:
            if self._tag:
                asked = _clock()
                self._tag = self._bucket.exchange(LEASE, self._body(), self._tag) or self._own_tag()
                self._renewed = asked

    def _own_tag(self) -> str:
        """Return the tag of the lease if it is this one after all: a renewal of which the answer was lost."""
        found = self._bucket.get(LEASE)
        own = found is not None and self._row["token"].encode() in found[0]
        return found[1] if found is not None and own else ""

    def _keep_renewing(self) -> None:
        while not self._stopped.wait(self._lease_s * _RENEW_S / LEASE_S) and self._tag:
            with suppress(StoreError):  # tried again, or told by `require`
                self._renew()

    def give_back(self) -> None:
        """End the hold; whoever cannot reach the service leaves it to die."""
        self._stopped.set()
        with self._lock, suppress(StoreError):
            found = self._bucket.get(LEASE) if self._tag else None
            if found is not None and found[1] == self._tag:
                self._bucket.remove(LEASE)
            self._tag = ""

    def _body(self) -> bytes:
        return json.dumps(self._row | {"renewed": _now(), "nonce": secrets.token_hex(4)}).encode()


@contextmanager
def held(bucket: Bucket, lease_s: float = LEASE_S) -> Iterator[Lease]:
    """Hold a bucket's prefix against a second writer. Raises StoreError where another one writes."""
    lease = Lease(bucket, lease_s)
    lease.take()
    bucket.lease = lease
    try:
        yield lease
    finally:
        bucket.lease = None
        lease.give_back()


def _holder() -> str:
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = "somebody"
    return f"{user}@{socket.gethostname()}, process {os.getpid()}"


def _clock() -> float:
    """Return seconds that go on while the machine sleeps, where the system has such a clock."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
