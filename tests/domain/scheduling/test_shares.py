"""Shares of what there is too little of."""

from hypothesis import given
from hypothesis import strategies as st

from aphrodite.domain.scheduling.shares import fair_shares

wants = st.dictionaries(st.integers(0, 20), st.integers(0, 100))


@given(wants, st.integers(0, 300))
def test_all_is_given_and_who_gets_less_than_wanted_has_no_less_than_anybody(
    wanted: dict[int, int], total: int
) -> None:
    shares = fair_shares(wanted, total)
    assert shares.keys() == wanted.keys()
    assert sum(shares.values()) == min(total, sum(wanted.values()))
    for key, share in shares.items():
        assert 0 <= share <= wanted[key]
        if share < wanted[key]:
            assert share >= max(shares.values()) - 1


@given(wants, st.integers(1, 300))
def test_of_those_that_want_alike_the_first_has_most(wanted: dict[int, int], total: int) -> None:
    shares = fair_shares(dict.fromkeys(wanted, 100), total)
    assert sorted(shares.values(), reverse=True) == list(shares.values())
