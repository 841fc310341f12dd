"""Batches of a stream of items: as many at once as memory allows."""

from doyen.ingesting.selecting import BYTES_AT_ONCE, ITEMS_AT_ONCE, take_batch
from doyen.sources.item import Item


def stream(listed, size):
    for n in range(ITEMS_AT_ONCE + 100):
        listed.append(n)
        yield Item(f"{n}", f"https://a.example/{n}", "https://a.example", "a.html", bytes, size=size)


def test_large_items_are_taken_few_at_a_time_and_small_ones_many():
    for size, first in ((0, ITEMS_AT_ONCE), (BYTES_AT_ONCE // 4, 5), (2 * BYTES_AT_ONCE, 1)):
        listed = []
        items = stream(listed, size)
        assert len(take_batch(items)) == len(listed) == first
        taken = first
        while batch := take_batch(items):
            taken += len(batch)
        assert taken == ITEMS_AT_ONCE + 100
