"""What of an expert others on this machine or network could get at, and the command that mends it. Changes nothing.

Enters: an expert's folder. Leaves: checks, as `doyen doctor` shows them.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import stat
from collections.abc import Iterable
from pathlib import Path

from doyen.adapters import list_adapters
from doyen.config import Settings, load_settings
from doyen.doctor import Check
from doyen.errors import DoyenError, StoreError
from doyen.ingesting import open_index
from doyen.ingesting.known_sources import load_sources
from doyen.labelling import Labeller
from doyen.models.catalogue import FolderSource, find_entry, in_expert
from doyen.models.endpoint import is_loopback
from doyen.serving.keys import Key, keys_path, load_keys
from doyen.sqlite_file import FOLDER

_PICKLES = (".bin", ".pt", ".pth", ".pkl", ".ckpt")
_SHOWN = 5
_LONG_DAYS = 366


def harden(expert: Path) -> list[Check]:
    """Check keys, labels, files, weights and what is sent elsewhere. Raises as `load_settings`."""
    settings = load_settings(expert)
    try:
        keys = load_keys(expert)
    except DoyenError as error:
        return [Check("keys", False, str(error), error.hint or "")]
    return [
        _keys(keys),
        *_labels(expert, settings, keys),
        _private_files(expert),
        _writable(expert),
        _weights(expert, settings),
        _remote_code(expert, settings),
        _origins(settings),
        _audit(settings),
        _elsewhere(settings),
    ]


def _keys(keys: list[Key]) -> Check:
    now = datetime.datetime.now(datetime.UTC)
    good = [key for key in keys if not key.fault(now)]
    if not good:
        return Check("keys", True, "none that is good: the server listens on this machine only, to all of its users")
    endless = [key.name for key in good if key.role != "reader" and not key.expires]
    detail = f"{len(good)} good ones, {sum(key.role == 'admin' for key in good)} of them admins'"
    if endless:
        named = _named(endless)
        return Check("keys", False, f"{detail}; without an end: {named}", "doyen keys add NAME --role … --expires 90d")
    old = [key.name for key in good if _age_days(key, now) > _LONG_DAYS]
    if old:
        return Check("keys", False, f"{detail}; older than a year: {_named(old)}", "make new ones, revoke these")
    return Check("keys", True, detail)


def _age_days(key: Key, now: datetime.datetime) -> float:
    return (now - datetime.datetime.fromisoformat(key.created)).total_seconds() / 86400


def _labels(expert: Path, settings: Settings, keys: list[Key]) -> list[Check]:
    """Whether labels are of use: there are keys to tell people apart, and each label has one."""
    try:
        labeller = Labeller.of(expert, settings, {s.spec: s.labels for s in load_sources(expert)})
    except DoyenError as error:
        return [Check("labels", False, str(error), error.hint or "")]
    sets: set[tuple[str, ...]] = set()
    with contextlib.suppress(StoreError):
        sets = open_index(expert, settings).label_sets()
    given = {label for labels in (*sets, *(own for _, own in labeller.rules)) for label in labels}
    given |= {label for own in labeller.sources.values() for label in own}
    if not given:
        return [Check("labels", True, "no document has any: every key sees every document")]
    held = {label for key in keys for label in key.labels}
    checks = []
    if not keys:
        checks.append(
            Check(
                "labels",
                False,
                f"{_named(given)}: without keys everybody is an admin",
                "doyen keys add NAME --labels …",
            )
        )
    elif lonely := sorted(given - held):
        checks.append(
            Check("labels", True, f"only admins see documents with {_named(lonely)}: no key has these labels")
        )
    if strange := sorted(held - given):
        checks.append(Check("labels of keys", True, f"no document has {_named(strange)}, which keys name"))
    return checks or [Check("labels", True, f"{_named(given)}, each with a key")]


def _private_files(expert: Path) -> Check:
    """Whether only the owner can read keys, conversations, feedback and the audit log."""
    folder = expert / FOLDER
    if os.name != "posix" or not folder.exists():
        return Check("private files", True, "none yet" if os.name == "posix" else "not looked at on this system")
    open_to = [path.name for path in folder.iterdir() if path.is_file() and path.stat().st_mode & 0o077]
    closed = not folder.stat().st_mode & 0o077
    if closed or not open_to:
        return Check("private files", True, f"only you can read what is in {FOLDER}/")
    hint = f"chmod 700 {folder} && chmod 600 {keys_path(expert) if keys_path(expert).exists() else folder / '*'}"
    return Check("private files", False, f"others on this machine can read {_named(open_to)}", hint)


def _writable(expert: Path) -> Check:
    """Whether others could change settings, keys or the index."""
    places = [expert, expert / "doyen.toml", expert / FOLDER, expert / "adapters", expert / "index"]
    found = [p.name for p in places if p.exists() and p.stat().st_mode & (stat.S_IWGRP | stat.S_IWOTH)]
    if found and os.name == "posix":
        return Check("writable", False, f"others on this machine can change {_named(found)}", f"chmod -R go-w {expert}")
    return Check("writable", True, "only you can change settings, index and adapters")


def _folders(expert: Path, settings: Settings) -> list[Path]:
    """Return the folders of weights that are the expert's own, or named by it."""
    found = list_adapters(expert)
    for name in filter(None, (settings.model.name, settings.embedder.name, settings.rerank.name)):
        try:
            source = find_entry(in_expert(name, expert)).source
        except DoyenError:
            continue
        found += [source.path] if isinstance(source, FolderSource) else []
    return [folder for folder in found if folder.is_dir()]


def _weights(expert: Path, settings: Settings) -> Check:
    """Whether all weights are safetensors: a pickle runs code when it is read. doyen reads none of these."""
    found = [f"{f.name}/{p.name}" for f in _folders(expert, settings) for p in f.iterdir() if p.suffix in _PICKLES]
    if found:
        return Check("weights", False, f"pickled files, which doyen does not read: {_named(found)}", "delete them")
    return Check("weights", True, "safetensors only")


def _remote_code(expert: Path, settings: Settings) -> Check:
    """Whether a model brings code of its own; doyen never runs it."""
    found = []
    for folder in _folders(expert, settings):
        try:
            config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            config = {}
        if "auto_map" in config or any(p.suffix == ".py" for p in folder.iterdir()):
            found.append(folder.name)
    if found:
        return Check("remote code", False, f"{_named(found)} bring code, which doyen does not run", "use another model")
    return Check("remote code", True, "off, and no model here brings code")


def _origins(settings: Settings) -> Check:
    given = [o.strip() for o in settings.serve.origins.split(",") if o.strip()]
    loose = [o for o in given if not o.startswith("https://") and not is_loopback(o)]
    if loose:
        return Check(
            "origins", False, f"pages of {_named(loose)} may use the server", "[serve] origins: https://… only"
        )
    return Check("origins", True, f"pages of {_named(given)} may, with a key" if given else "no other site's pages")


def _audit(settings: Settings) -> Check:
    on = settings.serve.audit_mib > 0
    return Check("audit log", on, f"at most {settings.serve.audit_mib} MiB" if on else "off", "[serve] audit_mib = 100")


def _elsewhere(settings: Settings) -> Check:
    """Which texts leave this machine, and whether on a safe way."""
    tables = ("model", "embedder", "rerank", "reference", "judge")
    urls = {table: getattr(settings, table).endpoint for table in tables} | {"teacher": settings.teacher.url}
    far = {table: url for table, url in urls.items() if url and not is_loopback(url)}
    bare = [f"[{table}] {url}" for table, url in far.items() if not url.startswith("https://")]
    if bare:
        return Check("sent elsewhere", False, f"without encryption: {_named(bare)}", "use https://")
    return Check("sent elsewhere", True, f"to {_named(sorted(far.values()))}" if far else "nothing by these settings")


def _named(names: Iterable[str]) -> str:
    found = sorted(names)
    return ", ".join(found[:_SHOWN]) + (f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else "")
