from hypothesis import given
from hypothesis import strategies as st

from aphrodite.domain.scheduling.encoder_cache import EncoderCache

FIRST, SECOND = ("first", 0), ("second", 0)


def test_features_in_use_are_not_forgotten() -> None:
    cache = EncoderCache(10)
    cache.add(b"a", 4)
    cache.use(b"a", FIRST)
    cache.use(b"a", SECOND)
    cache.release(b"a", FIRST)
    assert not cache.can_hold(7)
    cache.add(b"b", 6)
    assert b"a" in cache
    cache.release(b"a", SECOND)
    assert cache.can_hold(10)
    assert b"a" in cache, "nobody wants its room yet"
    cache.add(b"c", 7)
    assert b"a" not in cache


def test_the_longest_unused_features_go_first() -> None:
    cache = EncoderCache(9)
    for content in (b"a", b"b", b"c"):
        cache.add(content, 3)
    cache.use(b"a", FIRST)
    cache.release(b"a", FIRST)
    cache.add(b"d", 4)
    assert [content in cache for content in (b"a", b"b", b"c", b"d")] == [True, False, False, True]


def test_an_image_that_nobody_uses_claims_its_rows() -> None:
    cache = EncoderCache(9)
    cache.add(b"a", 3)
    assert cache.num_to_claim(b"a", 3) == cache.num_to_claim(b"b", 3) == 3
    cache.use(b"a", FIRST)
    assert cache.num_to_claim(b"a", 3) == 0


def test_a_request_that_lets_go_twice_or_of_unknown_features_changes_nothing() -> None:
    cache = EncoderCache(4)
    cache.release(b"a", FIRST)
    cache.discard(b"a")
    cache.add(b"a", 4)
    cache.use(b"a", FIRST)
    cache.release(b"a", FIRST)
    cache.release(b"a", FIRST)
    assert cache.can_hold(4)
    assert cache.num_used == 4


names = st.sampled_from([b"a", b"b", b"c", b"d"])
users = st.sampled_from([("x", 0), ("x", 1), ("y", 0)])


@given(st.lists(st.tuples(names, st.sampled_from(["want", "release", "discard", "clear"]), users)))
def test_no_row_has_two_images_and_nothing_in_use_is_forgotten(
    actions: list[tuple[bytes, str, tuple[str, int]]],
) -> None:
    sizes = {b"a": 1, b"b": 3, b"c": 5, b"d": 10}
    cache = EncoderCache(10)
    in_use: dict[bytes, set[tuple[str, int]]] = {name: set() for name in sizes}
    for content, action, user in actions:
        if action == "release":
            cache.release(content, user)
            in_use[content].discard(user)
        elif action == "discard":
            cache.discard(content)
            in_use[content].clear()
        elif action == "clear":
            cache.clear()
            in_use = {name: set() for name in sizes}
        else:
            fits = sum(sizes[name] for name in sizes if in_use[name] or name == content) <= 10
            assert cache.can_hold(cache.num_to_claim(content, sizes[content])) == fits
            if fits:
                if content not in cache:
                    cache.add(content, sizes[content])
                cache.use(content, user)
                in_use[content].add(user)
        assert all(name in cache for name in sizes if in_use[name])
        taken = [row for name in sizes if name in cache for row in cache.rows(name).tolist()]
        assert len(set(taken)) == len(taken) == cache.num_used == sum(sizes[name] for name in sizes if name in cache)
        assert set(taken) <= set(range(10))
