"""Which blocks of memory are shared, kept and given away."""

from doyen.models.paged import BLOCK, BlockPool, block_keys

TEXT = list(range(3 * BLOCK + 5))


def test_keys_stand_for_all_of_the_text_before():
    keys = block_keys(TEXT, False)
    assert len(keys) == 3 and len(set(keys)) == 3
    assert block_keys(TEXT[: 2 * BLOCK], False) == keys[:2]
    assert block_keys([99, *TEXT[1:]], False)[2] != keys[2]
    assert not set(block_keys(TEXT, True)) & set(keys)
    assert block_keys(TEXT[: BLOCK - 1], False) == []


def test_a_known_beginning_is_found_also_after_its_text_has_ended():
    pool, keys = BlockPool(8), block_keys(TEXT, False)
    blocks = pool.take(4)
    for block, key in zip(blocks, keys, strict=False):
        pool.note(block, key)
    assert pool.find([*keys[:2], b"other", keys[2]]) == blocks[:2]
    pool.release(blocks[:2])
    pool.release(blocks)
    assert pool.find(keys) == blocks[:3]


def test_blocks_in_use_are_not_given_away():
    pool = BlockPool(3)
    first = pool.take(2)
    assert pool.take(2) is None
    assert set(pool.take(1)).isdisjoint(first)
    pool.release(first)
    assert sorted(pool.take(2)) == sorted(first)


def test_room_is_made_by_forgetting_the_longest_unused_and_the_end_of_a_text_first():
    pool, keys = BlockPool(4), block_keys(TEXT, False)
    blocks = pool.take(3)
    for block, key in zip(blocks, keys, strict=True):
        pool.note(block, key)
    pool.release(blocks)
    pool.take(2)
    found = pool.find(keys)
    assert found == blocks[:2]


def test_equal_texts_read_beside_each_other_keep_one_known_block():
    pool, key = BlockPool(4), block_keys(TEXT, False)[0]
    first, second = pool.take(1), pool.take(1)
    pool.note(first[0], key)
    pool.note(second[0], key)
    pool.release(first)
    pool.release(second)
    assert pool.find([key]) == first
    assert len(pool.take(3)) == 3
