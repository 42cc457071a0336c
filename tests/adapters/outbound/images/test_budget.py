"""The budget against a count of what is taken."""

import asyncio

import pytest

from aphrodite.adapters.outbound.images.budget import Budget

pytestmark = pytest.mark.anyio


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_no_more_than_there_is_and_first_come_first_served() -> None:
    budget, taken, order = Budget(10), 0, []
    leave = [asyncio.Event() for _ in range(5)]

    async def use(number: int, amount: int) -> None:
        nonlocal taken
        async with budget.take(amount):
            taken += amount
            order.append(number)
            await leave[number].wait()
            taken -= amount

    tasks = [asyncio.create_task(use(number, amount)) for number, amount in enumerate((6, 6, 1, 4, 4))]
    await settle()
    assert (order, taken) == ([0], 6)  # the small one waits behind the large one
    leave[0].set()
    await settle()
    assert (order, taken) == ([0, 1, 2], 7)
    leave[2].set()
    await settle()
    assert (order, taken) == ([0, 1, 2, 3], 10)
    leave[1].set()
    await settle()
    assert order == [0, 1, 2, 3, 4]
    for event in leave:
        event.set()
    await asyncio.gather(*tasks)
    assert taken == 0


async def test_who_leaves_the_queue_or_fails_gives_his_place_to_the_next() -> None:
    budget = Budget(10)
    entered = asyncio.Event()

    async def use(amount: int) -> None:
        async with budget.take(amount):
            entered.set()

    async with budget.take(8):
        impatient, small = asyncio.create_task(use(9)), asyncio.create_task(use(2))
        await settle()
        assert not entered.is_set()
        impatient.cancel()
        await asyncio.wait({impatient})
        await asyncio.wait_for(small, 1)
    with pytest.raises(ZeroDivisionError):
        async with budget.take(10):
            raise ZeroDivisionError
    await asyncio.wait_for(use(10), 1)
    await asyncio.wait_for(use(1000), 1)  # all there is


async def test_what_is_given_back_early_goes_to_who_waits() -> None:
    budget = Budget(10)
    async with budget.take(9) as share:
        waiting = asyncio.create_task(budget.take(6).__aenter__())
        share.keep(5)
        await settle()
        assert not waiting.done()
        share.keep(7)  # it has no more than 5
        share.keep(4)
        await asyncio.wait_for(waiting, 1)
    async with budget.take(4):
        pass
