"""A quote from our cleaned text and a page's raw text → the raw characters that the quote was made of.

Compares letters and digits only, so spaces, hyphens, ligatures, dotted leaders and capitals may differ, and finds a quote
in pieces where columns or table rows were put into another order. Knows no PDF library.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator

MIN_SHARE = 0.8  # so much of a quote must be found
_MIN_PIECE = 6
_NEAR = 400  # characters around the last piece in which a short one counts

Range = tuple[int, int]


class PageText:
    """The raw text of a page, ready to be searched for quotes."""

    def __init__(self, text: str) -> None:
        self.key, self.places = _folded(text)
        self.length = len(text)

    def find(self, quote: str, position: float = 0.0) -> list[Range]:
        """Return the raw character ranges `[start, end)` of a quote, none where too little of it is on the page.

        Where the page has the quote several times, the one nearest to `position` (0 its start, 1 its end) counts.
        """
        wanted, _ = _folded(quote)
        if not wanted:
            return []
        near = int(position * len(self.key))
        pieces = list(self._pieces(wanted, near))
        if sum(end - start for start, end in pieces) < MIN_SHARE * len(wanted):
            return []
        return [(self.places[start], self.places[end - 1] + 1) for start, end in pieces]

    def _pieces(self, wanted: str, near: int) -> Iterator[Range]:
        """Yield the longest pieces of the quote that the page has, in the quote's order."""
        at, is_first = 0, True
        while at < len(wanted):
            length = self._longest(wanted, at)
            start = self._nearest(wanted[at : at + length], near) if length else -1
            whole = at + length == len(wanted) and at == 0
            far = not is_first and abs(start - near) > _NEAR
            if start < 0 or (length < _MIN_PIECE and not whole and (is_first or far)):
                at += 1
                continue
            yield start, start + length
            at, near, is_first = at + length, start + length, False

    def _longest(self, wanted: str, at: int) -> int:
        """Return how many characters from `at` on the page has in one run."""
        low, high = 0, len(wanted) - at
        if wanted[at:] in self.key:
            return high
        while low < high - 1:
            middle = (low + high) // 2
            if wanted[at : at + middle] in self.key:
                low = middle
            else:
                high = middle
        return low

    def _nearest(self, piece: str, near: int) -> int:
        after = self.key.find(piece, max(near, 0))
        before = self.key.rfind(piece, 0, max(near, 0) + len(piece) - 1)
        if after < 0 or before < 0:
            return max(after, before)
        return before if near - before < after - near else after


def _folded(text: str) -> tuple[str, list[int]]:
    """Return the letters and digits of a text in one form, and the place of each in the text."""
    letters: list[str] = []
    places: list[int] = []
    for place, character in enumerate(text):
        folded = character if character.isascii() else unicodedata.normalize("NFKC", character)
        for letter in folded.casefold():
            if letter.isalnum():
                letters.append(letter)
                places.append(place)
    return "".join(letters), places
