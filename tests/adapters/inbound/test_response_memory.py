"""Which answers are kept, and for whom."""

from hypothesis import given
from hypothesis import strategies as st

from aphrodite.adapters.inbound.http.responses.memory import ResponseMemory, StoredResponse

MAX_BYTES = 100_000


def stored(response_id: str, num_bytes: int = 0, previous_id: str | None = None) -> StoredResponse:
    return StoredResponse(response_id, previous_id, b"x" * num_bytes, b"{}")


def ids(memory: ResponseMemory, client: str) -> set[str]:
    return {str(number) for number in range(200) if memory.find(client, str(number))}


def test_nobody_finds_another_s() -> None:
    memory = ResponseMemory()
    memory.add("one", stored("1"))
    assert memory.find("one", "1") == stored("1")
    assert memory.find("two", "1") is None
    assert memory.thread("two", "1") is None
    assert not memory.remove("two", "1")
    memory.update("two", "1", b"[]")
    assert memory.find("one", "1") == stored("1")
    assert memory.remove("one", "1")
    assert not memory.remove("one", "1")


def test_who_keeps_little_loses_nothing_to_who_keeps_much() -> None:
    memory = ResponseMemory(MAX_BYTES)
    memory.add("small", stored("0", 1000))
    for number in range(1, 100):
        memory.add("large", stored(str(number), 10_000))
    assert ids(memory, "small") == {"0"}
    assert ids(memory, "large") == {str(number) for number in range(100 - 8, 100)}
    memory.add("huge", stored("0", MAX_BYTES))
    assert not ids(memory, "huge")
    assert ids(memory, "small") == {"0"}


def test_a_thread_is_found_from_its_first_answer_and_its_last_is_dropped_first() -> None:
    memory = ResponseMemory(MAX_BYTES)
    memory.add("one", stored("0"))
    memory.add("one", stored("1", previous_id="0"))
    memory.add("one", stored("2", previous_id="1"))
    assert [each.response_id for each in memory.thread("one", "2") or ()] == ["0", "1", "2"]
    memory.add("one", stored("3", MAX_BYTES - 3 * 1024 - 100))
    assert ids(memory, "one") == {"0", "1", "3"}
    assert memory.thread("one", "2") is None
    memory.remove("one", "0")
    assert memory.thread("one", "1") is None


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 20), st.integers(0, 60_000), st.booleans())))
def test_it_never_keeps_more_than_it_may(steps: list[tuple[str, int, int, bool]]) -> None:
    memory, clients = ResponseMemory(MAX_BYTES), "abc"
    for client, number, num_bytes, is_added in steps:
        if is_added:
            memory.add(client, stored(str(number), num_bytes))
        else:
            memory.remove(client, str(number))
        kept = [memory.find(name, each) for name in clients for each in ids(memory, name)]
        assert sum(each.num_bytes for each in kept if each) <= MAX_BYTES
        if is_added and num_bytes < MAX_BYTES // 4:
            assert memory.find(client, str(number))  # no client has so little and loses it
