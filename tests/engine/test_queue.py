"""The queue in front of the engine: bounded, and open to whoever asks for little."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aphrodite.domain.errors import QueueFullError
from aphrodite.domain.prompting.sampling_params import SamplingParams
from aphrodite.domain.scheduling.request import Owner
from aphrodite.engine.engine import EngineRequest
from aphrodite.engine.queue import Queue


def request(number: int, client: str, name: str, n: int = 1, num_tokens: int = 1) -> EngineRequest:
    return EngineRequest(str(number), [1] * num_tokens, SamplingParams(n=n), owner=Owner(client, name))


def fill(queue: Queue, count: int, client: str, name: str | None = None) -> int:
    """How many of one client's requests are taken."""
    taken = 0
    for number in range(count):
        try:
            queue.add([request(id(queue) + number, client, name or str(number))])
        except QueueFullError:
            break
        taken += 1
    return taken


def test_a_completion_takes_a_place_until_it_has_begun() -> None:
    queue = Queue(10)
    queue.add([request(1, "a", "1", n=8)])
    with pytest.raises(QueueFullError, match="8 sequences wait already; try again later"):
        queue.add([request(2, "a", "1", n=3)])
    queue.start("1", 0)
    queue.start("1", 0)
    queue.add([request(2, "a", "1", n=3)])
    for index in range(1, 8):
        queue.start("1", index)
    assert "1" not in queue
    queue.remove("2")
    queue.remove("2")
    queue.add([request(3, "a", "1", n=10)])


def test_a_long_prompt_takes_several_places() -> None:
    queue = Queue(10)
    queue.add([request(1, "a", "1", num_tokens=8 * 8192)])
    with pytest.raises(QueueFullError):
        queue.add([request(2, "a", "1", n=2)])
    queue.add([request(3, "a", "1")])


def test_what_is_larger_than_the_queue_is_taken_alone() -> None:
    queue = Queue(2)
    queue.add([request(1, "a", "1", n=100)])
    with pytest.raises(QueueFullError):
        queue.add([request(2, "a", "2", n=2)])
    queue.add([request(3, "a", "3")])


@pytest.mark.parametrize(("client", "name"), [("flood", "small"), ("other", "1")])
def test_a_request_of_many_sequences_keeps_nobody_out(client: str, name: str) -> None:
    queue = Queue(100)
    assert fill(queue, 1000, "flood", "1") == 100
    queue.add([request(1, client, name)])


def test_a_client_of_many_requests_keeps_no_other_client_out() -> None:
    queue = Queue(100)
    assert fill(queue, 1000, "flood") == 100
    assert fill(queue, 1000, "other") == 50
    assert fill(queue, 1000, "third") == 33
    with pytest.raises(QueueFullError):
        queue.add([request(1, "flood", "one more")])


@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.sampled_from("1234"), st.integers(1, 128)), max_size=200))
def test_what_waits_stays_within_a_small_multiple(asked: list[tuple[str, str, int]]) -> None:
    queue, taken = Queue(100), []
    for number, (client, name, n) in enumerate(asked):
        try:
            queue.add([request(number, client, name, n)])
        except QueueFullError:
            continue
        taken.append((str(number), n))
    # the first, however large, then an equal share for each of 6 clients with 4 requests
    assert sum(n for _, n in taken) <= 128 + 100 * sum(1 / count for count in range(1, 25))
    for request_id, n in taken:
        for index in range(n):
            queue.start(request_id, index)
    queue.add([request(1000, "a", "1", n=100)])


def test_asking_whether_there_is_room_takes_none() -> None:
    queue = Queue(10)
    queue.add([request(1, "a", "1", n=8)])
    for _ in range(3):
        queue.check([request(2, "a", "1"), request(3, "a", "1")])
        with pytest.raises(QueueFullError):
            queue.check([request(number, "a", "1") for number in range(2, 5)])
    queue.add([request(2, "a", "1", n=2)])
