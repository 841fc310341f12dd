"""A model's text as it grows → the answer's text as it can be shown, which is never taken back.

Enters: pieces of raw text, then the finished answer. Leaves: pieces of the answer: without citation marks and preamble, and
nothing of a refusal's wording. What could still turn out as one of these is held back for a few words.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from doyen.prompts import UNSURE_OPENINGS, parse_answer

_OPEN = re.compile(r"\s*\[[\d,\s]*$")
_FIRST_WORD = re.compile(r"^\W*([\w']+)\W")
_SURE_AFTER = 60
"""Characters behind which neither a preamble nor a refusal begins any more."""


class AnswerStream:
    """Hands on an answer's text. With `raw` every piece as it comes: what a form rules has no marks."""

    def __init__(self, show: Callable[[str], None], *, raw: bool = False, stops: Sequence[str] = ()) -> None:
        """Take what is called with each piece; with `stops`, nothing from the first of these texts on is shown."""
        self._show, self._raw, self._stops = show, raw, [s for s in stops if s]
        self._text = self._shown = ""
        self._stopped = False

    @property
    def begun(self) -> bool:
        """Whether something was shown."""
        return bool(self._shown)

    def feed(self, piece: str) -> None:
        """Take the next piece of the model's text."""
        self._text += piece
        self._go_on(self._text if self._raw else self._ready(), whole=False)

    def finish(self, answer: str) -> str:
        """Show the rest of the finished answer, and return all that was shown.

        Where it is another than what began (a model that went round in circles), it follows in a paragraph of its own.
        """
        rest = answer
        if self._shown and not self._stopped and not answer.startswith(self._shown):
            rest = f"{self._shown}\n\n{answer}"
        self._go_on(rest, whole=True)
        return self._shown

    def _ready(self) -> str:
        """Return what is sure of the answer so far."""
        text = self._text
        first = _FIRST_WORD.match(text)
        if len(text) < _SURE_AFTER and (first is None or first[1].casefold() in UNSURE_OPENINGS):
            return ""
        parsed = parse_answer(_OPEN.sub("", text), 99)
        if parsed.refused:
            return self._shown
        return parsed.text.rstrip()

    def _go_on(self, text: str, *, whole: bool) -> None:
        if self._stopped:
            return
        text, self._stopped, held = cut_at(text, self._stops)
        if held and not whole:
            text = text[: len(text) - held]
        if len(text) > len(self._shown) and text.startswith(self._shown):
            self._show(text[len(self._shown) :])
            self._shown = text


def cut_at(text: str, stops: Sequence[str]) -> tuple[str, bool, int]:
    """Return a text up to the first of `stops`, whether one was there, and how many last characters may begin one."""
    places = [at for stop in stops if (at := text.find(stop)) >= 0]
    if places:
        return text[: min(places)], True, 0
    held = 0
    for stop in stops:
        for size in range(min(len(stop) - 1, len(text)), 0, -1):
            if text.endswith(stop[:size]):
                held = max(held, size)
                break
    return text, False, held
