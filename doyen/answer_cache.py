"""Completions kept on disk by what they were made from: model, adapter, prompt, constraint. One SQLite file in an expert.

Enters: prompts for an engine. Leaves: completions. Nothing goes stale: another document text is another prompt. The keys
are hashes, but an answer may repeat what a document said, so the file goes when documents go.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import importlib.metadata
import json
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, Protocol

from doyen.config import JOINED, Settings
from doyen.models.constraints import Constraint, constraint_key
from doyen.models.engine import Completion, Engine, Stream
from doyen.models.fitting import weights_fingerprint
from doyen.prompts import Message

FILE_NAME = "answers.cache"
_WAIT_S = 5.0


def kept_mib(settings: Settings) -> int:
    """Return how many MiB of answers an expert keeps: none where it joins others, whose removals would not reach them."""
    return 0 if settings.store.uri.startswith(JOINED) else settings.answer.cache_mib


class AnswerCache:
    """The cached completions of one expert, at most `megabytes` of them; the longest unused go first."""

    def __init__(self, expert: Path, megabytes: int) -> None:
        """Take the expert's folder; the file is made when something is kept."""
        self._path, self._most = expert / FILE_NAME, megabytes << 20

    @contextmanager
    def opened(self) -> Iterator[Kept]:
        """Hold the file open from looking up to keeping: what is made while another process erases it is lost, as it must be.

        Where it cannot be read or written, nothing is found and nothing is kept.
        """
        connection = None
        try:
            connection = sqlite3.connect(self._path, timeout=_WAIT_S, isolation_level=None)
            connection.execute(
                "CREATE TABLE IF NOT EXISTS answers (key TEXT PRIMARY KEY, completion TEXT NOT NULL, used REAL NOT NULL)"
            )
        except sqlite3.Error:
            _close(connection)
            connection = None
        try:
            yield Kept(connection, self._most)
        finally:
            _close(connection)


class Kept:
    """An open cache; without a connection it is empty and keeps nothing."""

    def __init__(self, connection: sqlite3.Connection | None, most: int) -> None:
        self._connection, self._most = connection, most

    def find(self, key: str) -> Completion | None:
        """Return the completion of a key, marked as cached; its seconds are those that it once took."""
        with contextlib.suppress(sqlite3.Error, ValueError, TypeError):
            if self._connection and (row := self._row(key)):
                fields = json.loads(row)
                fields["choice_probabilities"] = tuple(fields["choice_probabilities"])
                return Completion(**fields | {"cached": True})
        return None

    def _row(self, key: str) -> str | None:
        assert self._connection is not None
        found = self._connection.execute("SELECT completion FROM answers WHERE key = ?", (key,)).fetchone()
        if found:
            self._connection.execute("UPDATE answers SET used = ? WHERE key = ?", (time.time(), key))
        return str(found[0]) if found else None

    def keep(self, made: Mapping[str, Completion]) -> None:
        """Keep completions by their keys, and drop the longest unused beyond the limit."""
        if self._connection is None or not made:
            return
        rows = [(key, json.dumps(dataclasses.asdict(c)), time.time()) for key, c in made.items()]
        with contextlib.suppress(sqlite3.Error), self._connection as connection:
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany("INSERT OR REPLACE INTO answers VALUES (?, ?, ?)", rows)
            connection.execute(
                "DELETE FROM answers WHERE key IN (SELECT key FROM (SELECT key, SUM(LENGTH(key) + LENGTH(completion) + 32)"
                " OVER (ORDER BY used DESC, key) AS size FROM answers) WHERE size > ?)",
                (self._most,),
            )


def _close(connection: sqlite3.Connection | None) -> None:
    if connection is not None:
        with contextlib.suppress(sqlite3.Error):
            connection.close()


class Identified(Engine, Protocol):
    """An engine that says what its answers depend on beside prompt and adapter, as those of this machine do."""

    def identity(self) -> list[str]:
        """Return it as texts."""
        ...


class CachedEngine:
    """An engine that writes no answer twice, as far as the cache has room. Only for engines that say what they are."""

    def __init__(self, engine: Identified, answers: AnswerCache, scope: str = "") -> None:
        """Take the engine that writes, and where its answers are kept; nothing is shared between two scopes."""
        self.inner, self._answers, self._scope = engine, answers, scope
        self.name, self.kind = engine.name, engine.kind
        self.workers = getattr(engine, "workers", 1)
        self.count_tokens, self.template_hash = engine.count_tokens, engine.template_hash
        self.next_token_logits, self.text_losses = engine.next_token_logits, engine.text_losses

    @property
    def context_tokens(self) -> int:
        """The most tokens that a prompt and its answer have together."""
        return self.inner.context_tokens

    def generate(
        self,
        prompts: Sequence[Sequence[Message]],
        *,
        max_tokens: int,
        adapter: Path | None = None,
        refusal: str | None = None,
        may_refuse: bool = True,
        progress: Callable[[int], None] | None = None,
        stream: Stream | None = None,
        constraints: Sequence[Constraint | None] = (),
    ) -> list[Completion]:
        """Answer as the engine does; what it wrote before comes from the cache, marked so."""
        held = list(constraints) or [None] * len(prompts)
        version = importlib.metadata.version("doyen")
        common = [version, self.inner.identity(), adapter_hash(adapter), max_tokens, refusal, may_refuse]
        common += [self._scope] if self._scope else []
        keys = [_hash([*common, list(p), constraint_key(c)]) for p, c in zip(prompts, held, strict=True)]
        with self._answers.opened() as kept:
            found = {i: c for i, key in enumerate(keys) if (c := kept.find(key))}
            for i, completion in found.items():
                if stream:
                    stream(i, completion.text)
                if progress:
                    progress(1)
            asked = [i for i in range(len(prompts)) if i not in found]
            made = self.inner.generate(
                [prompts[i] for i in asked],
                max_tokens=max_tokens,
                adapter=adapter,
                refusal=refusal,
                may_refuse=may_refuse,
                progress=progress,
                stream=(lambda i, text: stream(asked[i], text)) if stream else None,
                constraints=[held[i] for i in asked] if constraints else (),
            )
            kept.keep({keys[i]: completion for i, completion in zip(asked, made, strict=True)})
        found |= dict(zip(asked, made, strict=True))
        return [found[i] for i in range(len(prompts))]


def _hash(parts: Sequence[Any]) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def adapter_hash(folder: Path | None) -> str:
    """Return a hash of an adapter's configuration and weights, of a whole model's samples of them; "" without one."""
    if folder is None:
        return ""
    files = [p for p in sorted(folder.iterdir()) if p.suffix == ".json" or p.name == "adapter_model.safetensors"]
    return _read_hash(folder.resolve(), tuple((p.name, p.stat().st_size, p.stat().st_mtime_ns) for p in files))


@cache
def _read_hash(folder: Path, files: tuple[tuple[str, int, int], ...]) -> str:
    digest = hashlib.sha256(weights_fingerprint(folder).encode())
    for name, _, _ in files:
        digest.update(name.encode() + (folder / name).read_bytes())
    return digest.hexdigest()


def forget_answers(expert: Path) -> None:
    """Erase all cached completions of an expert: after documents were removed or changed, none may speak of them."""
    for name in (FILE_NAME, f"{FILE_NAME}-journal", f"{FILE_NAME}-wal", f"{FILE_NAME}-shm"):
        (expert / name).unlink(missing_ok=True)
