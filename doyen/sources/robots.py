"""A robots.txt → may this path be fetched, how long to wait between two, where the sitemaps are. After RFC 9309; fetches nothing.

urllib.robotparser takes the first rule that fits and knows no `*` within paths; the standard wants the longest.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from urllib.parse import quote, unquote

MAX_BYTES = 512 * 1024
"""What RFC 9309 (section 2.5) wants parsed at least; the rest is cut."""


@dataclass(frozen=True, slots=True)
class Robots:
    """The rules for one agent: (allowed, pattern) pairs; no rules allow everything."""

    rules: tuple[tuple[bool, str], ...] = ()
    crawl_delay_s: float = 0.0
    sitemaps: tuple[str, ...] = ()
    """The URLs of the `Sitemap` lines, whatever group they stand in."""

    def allows(self, path: str) -> bool:
        """Return whether a path with its query may be fetched: the longest pattern decides, among equals `allow`."""
        path = _normal(path)
        fitting = [(len(pattern), allowed) for allowed, pattern in self.rules if _fits(pattern, path)]
        return max(fitting)[1] if fitting else True


def parse_robots(data: bytes, agent: str) -> Robots:
    """Return the rules of the group for `agent` (a product token), or else of the group for `*`."""
    groups: dict[str, Robots] = {}
    names: list[str] = []
    sitemaps: list[str] = []
    open_group = False
    for line in data[:MAX_BYTES].decode("utf-8", "replace").removeprefix("\ufeff").splitlines():
        field, colon, value = line.split("#")[0].partition(":")
        field, value = field.strip().lower(), value.strip()
        if not colon:
            continue
        if field == "user-agent":
            names = [*names, value.lower()] if open_group else [value.lower()]
            open_group = True
            groups.setdefault(value.lower(), Robots())
            continue
        if field == "sitemap":
            sitemaps.append(value)
            continue
        if field in ("allow", "disallow", "crawl-delay"):
            open_group = False
        for name in names:
            groups[name] = _with(groups[name], field, value)
    own = [name for name in groups if name.split("/")[0] == agent.lower()]
    chosen = groups[own[0]] if own else groups.get("*", Robots())
    return replace(chosen, sitemaps=tuple(dict.fromkeys(sitemaps)))


def _with(group: Robots, field: str, value: str) -> Robots:
    if field in ("allow", "disallow") and value:
        return replace(group, rules=(*group.rules, (field == "allow", _normal(value))))
    if field == "crawl-delay" and re.fullmatch(r"\d{1,6}(\.\d+)?", value):
        return replace(group, crawl_delay_s=float(value))
    return group


def _normal(path: str) -> str:
    return quote(unquote(path), safe="/*$?&=+,;:@!'()~")


def _fits(pattern: str, path: str) -> bool:
    """Match with `*` and a closing `$`, in time linear in the path: patterns come from strangers."""
    anchored = pattern.endswith("$")
    first, *rest = pattern.removesuffix("$").split("*")
    if not path.startswith(first):
        return False
    position = len(first)
    for n, part in enumerate(rest):
        if anchored and n == len(rest) - 1:
            return path.endswith(part) and len(path) - len(part) >= position
        found = path.find(part, position)
        if found < 0:
            return False
        position = found + len(part)
    return position == len(path) if anchored else True
