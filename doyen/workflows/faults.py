"""What goes wrong with one row, and near matches for names that are not there."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class RowFault(Exception):
    """A row cannot go on; the message says why. It never leaves a run: the row is `failed` with it."""


def near(name: str, known: Iterable[str]) -> str:
    """Return "; did you mean 'x'?" for a name that is like one of those known, else which there are."""
    names = list(known)
    found = difflib.get_close_matches(name, names, 1, 0.6)
    if found:
        return f"; did you mean '{found[0]}'?"
    return f"; there are: {', '.join(sorted(names)[:12])}" if names else ""
