"""Steps are so large that none waits long for one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aphrodite.domain.scheduling.step_size import StepSize


@given(st.lists(st.tuples(st.integers(1, 4096), st.floats(1e-6, 10))))
def test_a_step_is_a_half_of_a_half_of_the_most_and_never_tiny(notes: list[tuple[int, float]]) -> None:
    size = StepSize(4096)
    for num_tokens, duration_s in notes:
        size.note(num_tokens, duration_s)
    shared, lone = size.num_tokens(is_shared=True), size.num_tokens(is_shared=False)
    sizes = [4096 >> halvings for halvings in range(6)]
    assert min(sizes) == 128
    assert shared in sizes
    assert lone in sizes
    assert shared <= lone


@pytest.mark.parametrize(("token_s", "shared", "lone"), [(1e-6, 2048, 2048), (0.15e-3, 512, 2048), (0.1, 128, 128)])
def test_a_shared_step_takes_a_tenth_of_a_second_where_a_lone_one_takes_half_of_one(
    token_s: float, shared: int, lone: int
) -> None:
    size = StepSize(2048)
    for _ in range(20):
        size.note(500, 500 * token_s)
        size.note(3, 1.0)  # tells nothing
    assert (size.num_tokens(is_shared=True), size.num_tokens(is_shared=False)) == (shared, lone)


def test_it_learns_that_tokens_have_become_dearer() -> None:
    size = StepSize(2048)
    size.note(2048, 0.01)
    assert size.num_tokens(is_shared=True) == 2048
    for _ in range(10):
        size.note(2048, 1.0)
    assert size.num_tokens(is_shared=True) < 512
