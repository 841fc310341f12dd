"""A seed → invented names: syllables put together, none given twice. Knows no corpus."""

from __future__ import annotations

import random

ONSETS = "b br d dr f fr g gl h j k kr l m n p pl r s sk st t tr v z".split()
VOWELS = "a e i o u ai ea ou".split()
CODAS = "l n r s m k nd rt st lm rn sk".split()
ENDINGS = "a e o en is ek um or ay ix".split()


class Names:
    """Gives names that it has not given before. `rng` decides all of them."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self._given: set[str] = set()

    def word(self) -> str:
        """Return one new invented word with a capital, of two syllables or three: 11 million are possible."""
        while True:
            syllables = [self.rng.choice(ONSETS) + self.rng.choice(VOWELS) + self.rng.choice(CODAS)]
            if self.rng.random() < 0.3:
                syllables.append(self.rng.choice(ONSETS) + self.rng.choice(VOWELS))
            name = "".join(syllables) + self.rng.choice(ENDINGS)
            if name not in self._given:
                self._given.add(name)
                return name.capitalize()

    def pair(self) -> str:
        """Return a name of two new words."""
        return f"{self.word()} {self.word()}"

    def code(self) -> str:
        """Return one new short word in small letters, as a house code is written."""
        while True:
            name = self.rng.choice(ONSETS) + self.rng.choice(VOWELS) + self.rng.choice(CODAS)
            if len(name) <= 6 and name not in self._given:
                self._given.add(name)
                return name

    def number(self, low: int, high: int, apart_from: int | None = None) -> int:
        """Return a number of [low, high], at least a tenth away from `apart_from`."""
        while True:
            value = self.rng.randint(low, high)
            if apart_from is None or abs(value - apart_from) > apart_from / 10:
                return value
