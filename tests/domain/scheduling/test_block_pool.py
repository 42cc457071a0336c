from hypothesis import given
from hypothesis import strategies as st

from aphrodite.domain.scheduling.block_pool import BlockPool


def test_block_0_is_never_given_out() -> None:
    pool = BlockPool(5)
    assert sorted(pool.allocate(pool.num_free)) == [1, 2, 3, 4]
    assert pool.num_free == 0
    assert pool.num_used == 4


def test_a_shared_block_is_free_once_its_last_holder_lets_go() -> None:
    pool = BlockPool(3)
    (block_id,) = pool.allocate(1)
    pool.share(block_id)
    pool.free([block_id], keep_content=True)
    assert not pool.is_free(block_id)
    pool.free([block_id], keep_content=True)
    assert pool.is_free(block_id)


def test_blocks_of_no_further_use_are_taken_before_those_with_content() -> None:
    pool = BlockPool(4)
    first, second, third = pool.allocate(3)
    pool.free([first], keep_content=True)
    pool.free([second], keep_content=False)
    pool.free([third], keep_content=True)
    assert pool.allocate(3) == [second, first, third]


def test_a_revived_block_stands_last_in_line_again() -> None:
    pool = BlockPool(4)
    blocks = pool.allocate(3)
    pool.free(blocks, keep_content=True)
    pool.share(blocks[0])
    pool.free(blocks[:1], keep_content=True)
    assert pool.allocate(3) == [blocks[1], blocks[2], blocks[0]]


@given(st.lists(st.tuples(st.sampled_from(["allocate", "share", "free"]), st.integers(0, 50), st.booleans())))
def test_a_block_is_free_exactly_when_nobody_holds_it(actions: list[tuple[str, int, bool]]) -> None:
    pool = BlockPool(8)
    holders = [0] * 8
    for action, number, keep_content in actions:
        held = [block_id for block_id in range(1, 8) if holders[block_id]]
        if action == "allocate":
            for block_id in pool.allocate(min(number, pool.num_free)):
                assert holders[block_id] == 0
                holders[block_id] = 1
        elif action == "share":
            block_id = 1 + number % 7
            pool.share(block_id)
            holders[block_id] += 1
        elif held:
            block_id = held[number % len(held)]
            pool.free([block_id], keep_content)
            holders[block_id] -= 1
        assert [pool.is_free(block_id) for block_id in range(1, 8)] == [count == 0 for count in holders[1:]]
        assert pool.num_used == sum(count > 0 for count in holders)
        assert pool.num_free == 7 - pool.num_used
