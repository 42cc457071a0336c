from hypothesis import given
from hypothesis import strategies as st

from aphrodite.domain.scheduling.encoder_cache import EncoderCache


def test_features_in_use_are_not_forgotten() -> None:
    cache = EncoderCache(10)
    cache.add(b"a", 4)
    cache.use(b"a", "first")
    cache.use(b"a", "second")
    cache.release(b"a", "first")
    assert not cache.can_hold(7)
    assert cache.make_room(6) == []
    cache.release(b"a", "second")
    assert cache.can_hold(10)
    assert b"a" in cache, "nobody wants its room yet"
    assert cache.make_room(7) == [b"a"]


def test_the_longest_unused_features_go_first() -> None:
    cache = EncoderCache(9)
    for content in (b"a", b"b", b"c"):
        cache.add(content, 3)
    cache.use(b"a", "request")
    cache.release(b"a", "request")
    assert cache.make_room(4) == [b"b", b"c"]
    assert b"a" in cache


def test_a_request_that_lets_go_twice_or_of_unknown_features_changes_nothing() -> None:
    cache = EncoderCache(4)
    cache.release(b"a", "request")
    cache.discard(b"a")
    cache.add(b"a", 4)
    cache.use(b"a", "request")
    cache.release(b"a", "request")
    cache.release(b"a", "request")
    assert cache.can_hold(4)
    assert cache.used_bytes == 4


names = st.sampled_from([b"a", b"b", b"c", b"d"])


@given(st.lists(st.tuples(names, st.sampled_from(["want", "release", "discard"]), st.sampled_from(["x", "y"]))))
def test_bytes_stay_within_the_bound_and_nothing_in_use_is_forgotten(actions: list[tuple[bytes, str, str]]) -> None:
    sizes = {b"a": 1, b"b": 3, b"c": 5, b"d": 10}
    cache = EncoderCache(10)
    users: dict[bytes, set[str]] = {}  # of what is there
    for content, action, request_id in actions:
        if action == "release":
            cache.release(content, request_id)
            users.get(content, set()).discard(request_id)
        elif action == "discard":
            cache.discard(content)
            users.pop(content, None)
        else:
            in_use = sum(sizes[other] for other, ids in users.items() if ids)
            fits = in_use + sizes[content] <= 10
            assert cache.can_hold(sizes[content]) == fits
            if content not in users and fits:
                for forgotten in cache.make_room(sizes[content]):
                    assert not users.pop(forgotten)
                cache.add(content, sizes[content])
                users[content] = set()
            if content in users:
                cache.use(content, request_id)
                users[content].add(request_id)
        assert [name in cache for name in sizes] == [name in users for name in sizes]
        assert cache.used_bytes == sum(sizes[name] for name in users) <= 10
