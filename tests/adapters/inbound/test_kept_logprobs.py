"""Log-probabilities that are kept: bounded in all, at the cost of whoever keeps the most."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aphrodite.adapters.inbound.http.errors import LogprobMemoryError
from aphrodite.adapters.inbound.http.kept_logprobs import LogprobBudget


def test_who_keeps_the_most_makes_room() -> None:
    budget = LogprobBudget(10)
    with budget.share() as large, budget.share() as small:
        large.take(8)
        small.take(2)
        small.take(1)  # the eleventh
        with pytest.raises(LogprobMemoryError, match="this answer has the most of them"):
            large.take(1)
        small.take(7)
        with pytest.raises(LogprobMemoryError):
            small.take(1)  # more than there is for all
    with budget.share() as next_one:
        next_one.take(10)


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 9), st.booleans())))
def test_no_more_than_the_budget_is_kept(taken: list[tuple[int, int, bool]]) -> None:
    budget, kept = LogprobBudget(20), dict.fromkeys(range(6), 0)
    shares = {number: budget.share() for number in kept}
    for number, count, is_over in taken:
        try:
            shares[number].take(count)
            kept[number] += count
        except LogprobMemoryError:
            assert count + kept[number] >= max(kept.values())
            is_over = True
        if is_over:
            shares[number].__exit__(None, None, None)
            shares[number], kept[number] = budget.share(), 0
        alive = sum(count for other, count in kept.items() if not shares[other].is_lost)
        assert alive <= 20
