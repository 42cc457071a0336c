from hypothesis import given
from hypothesis import strategies as st
from tests.fakes import fake_span

from aphrodite.domain.architectures.images.image import ImageSpan
from aphrodite.domain.prompting.sampling_params import SamplingParams
from aphrodite.domain.scheduling.block_pool import BlockPool
from aphrodite.domain.scheduling.prefix_cache import PrefixCache
from aphrodite.domain.scheduling.request import Request

BLOCK_SIZE = 4
token_lists = st.lists(st.integers(0, 2), min_size=1, max_size=17)


def make_request(token_ids: list[int], images: tuple[ImageSpan, ...] = ()) -> Request:
    return Request("name", token_ids, SamplingParams(), seed=0, order=(0, 0), max_total_tokens=99, images=images)


def picture(content: bytes, start: int, num_tokens: int = 3) -> tuple[ImageSpan, ...]:
    return (fake_span(content, start, num_tokens),)


class Cache:
    """A prefix cache and the pool that it stands on."""

    def __init__(self, num_blocks: int = 64) -> None:
        self.pool = BlockPool(num_blocks)
        self.prefixes = PrefixCache(self.pool, BLOCK_SIZE)

    def store(self, request: Request, num_computed: int | None = None) -> list[int]:
        """As if `request` had been run: its blocks."""
        blocks = self.pool.allocate(-(-request.num_tokens // BLOCK_SIZE))
        self.prefixes.evict(blocks)
        request.append_blocks(blocks)
        self.prefixes.register(request, request.num_tokens if num_computed is None else num_computed)
        return blocks

    def match(self, request: Request) -> list[int]:
        self.prefixes.extend_hashes(request)
        return self.prefixes.match(request)


@given(stored=st.lists(token_lists, max_size=6), asked=token_lists)
def test_the_longest_stored_run_of_full_blocks_is_found(stored: list[list[int]], asked: list[int]) -> None:
    cache = Cache()
    content: dict[int, list[int]] = {}  # block -> all tokens up to its end
    for token_ids in stored:
        for index, block_id in enumerate(cache.store(make_request(token_ids))):
            content[block_id] = token_ids[: (index + 1) * BLOCK_SIZE]
    found = cache.match(make_request(asked))
    assert [content[block_id] for block_id in found] == [asked[: (i + 1) * BLOCK_SIZE] for i in range(len(found))]
    expected = 0
    while (stop := (expected + 1) * BLOCK_SIZE) < len(asked) and any(other[:stop] == asked[:stop] for other in stored):
        expected += 1
    assert len(found) == expected


def test_the_same_tokens_with_another_picture_are_another_prefix() -> None:
    token_ids = [1] * 4 + [9] * 3 + [1] * 9
    cache = Cache()
    blocks = cache.store(make_request(token_ids, picture(b"cat", 4)))
    assert cache.match(make_request(token_ids, picture(b"cat", 4))) == blocks[:3]
    assert cache.match(make_request(token_ids, picture(b"dog", 4))) == blocks[:1], "up to the picture they are alike"
    assert cache.match(make_request(token_ids)) == blocks[:1]


def test_every_block_that_a_picture_touches_and_every_later_one_depends_on_it() -> None:
    token_ids = [1] * 3 + [9] * 6 + [1] * 12  # the picture touches blocks 0, 1 and 2
    cats, dogs = (make_request(token_ids, picture(content, 3, 6)) for content in (b"cat", b"dog"))
    cache = Cache()
    cache.prefixes.extend_hashes(cats)
    cache.prefixes.extend_hashes(dogs)
    assert len(cats.block_hashes) == 5
    assert not set(cats.block_hashes) & set(dogs.block_hashes)


def test_every_picture_of_a_block_counts() -> None:
    cache, token_ids = Cache(), [9] * 2 + [9] * 2 + [1] * 5
    both = make_request(token_ids, picture(b"cat", 0, 2) + picture(b"dog", 2, 2))
    blocks = cache.store(both)
    assert cache.match(make_request(token_ids, picture(b"cat", 0, 2) + picture(b"dog", 2, 2))) == blocks[:2]
    assert cache.match(make_request(token_ids, picture(b"dog", 0, 2) + picture(b"cat", 2, 2))) == []
    assert cache.match(make_request(token_ids, picture(b"cat", 0, 2) + picture(b"cow", 2, 2))) == []


def test_a_picture_that_ends_or_begins_at_a_border_touches_no_block_beyond_it() -> None:
    token_ids = [1] * 4 + [9] * 4 + [1] * 4
    cache = Cache()
    cats = make_request(token_ids, picture(b"cat", 4, 4))
    none = make_request(token_ids)
    cache.prefixes.extend_hashes(cats)
    cache.prefixes.extend_hashes(none)
    assert cats.block_hashes[0] == none.block_hashes[0]
    assert cats.block_hashes[1] != none.block_hashes[1]


def test_only_blocks_whose_kv_is_written_are_found() -> None:
    cache = Cache()
    request = make_request(list(range(12)))
    blocks = cache.store(request, num_computed=7)
    asked = make_request([*range(12), 99])
    assert cache.match(asked) == blocks[:1]
    cache.prefixes.register(request, 8)
    assert cache.match(asked) == blocks[:2]


def test_of_two_equal_blocks_the_first_is_named_and_the_other_is_of_no_further_use() -> None:
    cache = Cache()
    first = cache.store(make_request(list(range(8))))
    second = cache.store(make_request(list(range(8))))
    assert all(map(cache.prefixes.holds, first))
    assert not any(map(cache.prefixes.holds, second))
    assert cache.match(make_request([*range(8), 1])) == first


def test_a_block_that_is_overwritten_is_found_no_more() -> None:
    cache = Cache(num_blocks=4)
    blocks = cache.store(make_request(list(range(12))))
    cache.pool.free(reversed(blocks), keep_content=True)
    cache.prefixes.evict(cache.pool.allocate(1))
    assert cache.match(make_request([*range(12), 1])) == blocks[:2], "the last of a sequence goes first"
