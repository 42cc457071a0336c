"""Which of one owner's, or one client's, sequences come first: those of the lowest priority."""

from dataclasses import replace

import pytest
from tests.domain.scheduling.driver import Driver
from tests.fakes import LIMITS

from aphrodite.domain.scheduling.request import NOBODY, Owner, Request, RequestStatus

ONE_SLOT = replace(LIMITS, num_blocks=1_000, max_num_seqs=1)


def order_of_ends(driver: Driver) -> list[Request]:
    ends: list[Request] = []
    while driver.live:
        driver.step()
        ends += [request for request in driver.expected if request.finished and request not in ends]
    return ends


@pytest.mark.parametrize("by_request", [False, True])
def test_the_lowest_comes_first_and_of_equal_ones_the_first(by_request: bool) -> None:
    driver = Driver(ONE_SLOT)
    requests = []
    for index, priority in enumerate([0, 5, -3, 5, -3]):
        owner = Owner("client", str(index)) if by_request else NOBODY
        requests.append(driver.add([10 + index] * 3, owner=owner, priority=priority))
    first, late, early, later, second = requests
    assert order_of_ends(driver) == [early, second, first, late, later]


def test_it_counts_among_a_client_s_own_requests_alone() -> None:
    driver = Driver(ONE_SLOT)
    urgent = [driver.add([10 + index] * 3, owner=Owner("pusher", str(index)), priority=-9) for index in range(4)]
    polite = driver.add([20] * 3, owner=Owner("polite", "1"), priority=9)
    assert order_of_ends(driver).index(polite) <= 1
    assert all(request.finished for request in urgent)


def test_what_runs_goes_on_until_blocks_run_out_and_the_highest_gives_way() -> None:
    driver = Driver(replace(LIMITS, num_blocks=1 + 6, max_num_seqs=4))  # of four tokens each
    dull = driver.add([10] * 4, max_tokens=12, min_tokens=12, priority=1)
    keen = driver.add([11] * 4, max_tokens=12, min_tokens=12, priority=0)
    while not driver.scheduler.num_preemptions:
        driver.step()
    assert (dull.status, keen.status) == (RequestStatus.WAITING, RequestStatus.RUNNING)
    driver.drain()


def test_a_request_of_no_hurry_takes_nothing_from_an_urgent_one_of_its_client() -> None:
    driver = Driver(replace(LIMITS, num_blocks=1_000, max_num_seqs=2))
    owner = Owner("client", "urgent")
    *_, third = [driver.add([10 + index] * 3, max_tokens=8, min_tokens=8, owner=owner) for index in range(3)]
    driver.step()
    dull = driver.add([20] * 3, owner=Owner("client", "dull"), priority=1)
    order_of_ends(driver)
    assert third.seniority < dull.seniority
    assert driver.scheduler.num_preemptions == 0
