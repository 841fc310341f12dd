"""What one task may use, and the words in which a breach is reported. Knows no processes."""

from __future__ import annotations

from dataclasses import dataclass

MEBIBYTE = 1 << 20
_BYTES_WITHOUT_EXTRA_TIME = 8 * MEBIBYTE
_SECONDS_PER_MEBIBYTE = 2.0
CLOCK_FACTOR = 4.0


@dataclass(frozen=True, slots=True)
class Limits:
    """The bounds of one task, and how long a worker lives.

    `seconds` are of processor time, so that a busy machine fails no file, and hold for inputs up to 8 MiB; each further
    MiB adds 2 s. By the clock a task may take four times that (it may wait for a program that it has started). A worker
    that has done `tasks` or holds more than `keep_mib` afterwards makes place for a new one.
    """

    seconds: float = 30.0
    memory_gib: float = 2.0
    characters: int = 50_000_000
    tasks: int = 500
    keep_mib: int = 512

    @property
    def most_bytes(self) -> int:
        """The largest input: no reader works with less than twice its size in memory."""
        return int(self.memory_gib * 2**29)

    def seconds_for(self, size: int) -> float:
        """Return the time limit of an input of `size` bytes."""
        return self.seconds + max(0, size - _BYTES_WITHOUT_EXTRA_TIME) / MEBIBYTE * _SECONDS_PER_MEBIBYTE

    def too_long(self, size: int) -> str:
        """Say that a task ran out of time."""
        return f"took longer than {self.seconds_for(size):g} s"

    def too_big(self) -> str:
        """Say that a task ran out of memory."""
        return f"needs more than {self.memory_gib:g} GiB of memory"

    def too_much(self, characters: int) -> str | None:
        """Say that a task made too much text, or return None."""
        if characters <= self.characters:
            return None
        return f"gives {characters:,} characters of text, more than {self.characters:,}"
