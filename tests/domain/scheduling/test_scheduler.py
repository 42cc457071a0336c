from dataclasses import replace

import numpy as np
import pytest
from tests.domain.scheduling.driver import Driver, image_prompt
from tests.fakes import LIMITS

from aphrodite.domain.scheduling.request import Owner, Request, RequestStatus

PROMPT = list(range(10, 20))


def test_a_prompt_longer_than_the_budget_runs_in_chunks() -> None:
    driver = Driver(replace(LIMITS, max_num_batched_tokens=4))
    driver.add(PROMPT, max_tokens=1)
    driver.drain()
    rows = [plan.prompts[0] for plan in driver.backend.plans]
    assert [(row.start, row.num_tokens, row.samples) for row in rows] == [(0, 4, False), (4, 4, False), (8, 2, True)]


def test_running_requests_come_before_waiting_ones_in_a_step() -> None:
    driver = Driver(replace(LIMITS, max_num_batched_tokens=12))
    driver.add(PROMPT, max_tokens=3, min_tokens=3)
    driver.step()
    driver.add(PROMPT[::-1], max_tokens=1)
    driver.add([7, 8, 9], max_tokens=1)
    driver.step()
    plan = driver.backend.plans[1]
    assert plan.decode.slots.tolist() == [0]
    lengths = [(row.slot, row.num_tokens) for row in plan.prompts]
    assert lengths == [(2, 1), (1, 10)], "one token each is left for the oldest and the youngest"


def test_a_sampled_token_is_read_on_the_device_while_the_host_does_not_know_it() -> None:
    driver = Driver(replace(LIMITS, max_steps_in_flight=2))
    driver.add(PROMPT, max_tokens=4, min_tokens=4)
    driver.drain()
    assert len(driver.backend.plans) == 4, "no step is planned past the length"
    assert [(len(plan.decode), len(plan.prompts)) for plan in driver.backend.plans] == [(0, 1), (1, 0), (1, 0), (1, 0)]


def test_the_youngest_is_preempted_and_keeps_what_it_generated() -> None:
    driver = Driver(replace(LIMITS, num_blocks=7), enable_prefix_caching=False)  # 24 tokens
    old = driver.add(PROMPT, max_tokens=8, min_tokens=8)
    young = driver.add(PROMPT[::-1], max_tokens=8, min_tokens=8)
    while driver.scheduler.num_preemptions == 0:
        driver.step()
    assert old.status is RequestStatus.RUNNING
    assert young.status is RequestStatus.WAITING
    generated = young.output_token_ids.tolist()
    assert generated
    driver.drain()
    assert [young.output_token_ids.tolist()[: len(generated)]] == [generated]
    assert driver.finished == [old, young]


def test_a_preempted_request_comes_before_those_that_arrived_later() -> None:
    driver = Driver(replace(LIMITS, num_blocks=7, max_num_seqs=2), enable_prefix_caching=False)
    first, second, third = (driver.add(PROMPT, max_tokens=8, min_tokens=8) for _ in range(3))
    driver.drain()
    assert driver.scheduler.num_preemptions > 0
    assert driver.finished == [first, second, third]


@pytest.mark.parametrize("shared", [0, 3, 4, 7, 8, 9, 10])
def test_cached_tokens_are_the_full_blocks_that_prompts_share(shared: int) -> None:
    driver = Driver(LIMITS)  # 4 tokens a block
    driver.add(PROMPT, max_tokens=1)
    driver.drain()
    request = driver.add(PROMPT[:shared] + [30] * (10 - shared), max_tokens=1)
    driver.drain()
    assert request.num_cached_tokens == shared // 4 * 4
    assert driver.backend.plans[-1].prompts[0].start == request.num_cached_tokens


def test_the_last_token_of_a_cached_prompt_is_run_all_the_same() -> None:
    driver = Driver(LIMITS)
    for _ in range(2):
        request = driver.add(PROMPT[:8], max_tokens=1)
        driver.drain()
    assert request.num_cached_tokens == 4


def test_a_preempted_request_reports_the_cached_tokens_of_its_first_start() -> None:
    driver = Driver(replace(LIMITS, num_blocks=7))
    driver.add(PROMPT, max_tokens=8, min_tokens=8)
    young = driver.add(PROMPT[::-1], max_tokens=8, min_tokens=8)
    driver.drain()
    assert driver.scheduler.num_preemptions > 0
    assert young.num_cached_tokens == 0


def test_generated_tokens_are_found_by_a_prompt_that_repeats_them() -> None:
    driver = Driver(LIMITS)
    first = driver.add(PROMPT, max_tokens=7, min_tokens=7)
    driver.drain()
    request = driver.add([*PROMPT, *first.output_token_ids.tolist(), 30], max_tokens=1)
    driver.drain()
    assert request.num_cached_tokens == 16  # of the 17 tokens the last has no KV


@pytest.mark.parametrize("num_in_flight", [1, 2])
def test_who_shares_blocks_that_are_being_computed_waits_for_them_and_lets_others_by(num_in_flight: int) -> None:
    driver = Driver(replace(LIMITS, max_steps_in_flight=num_in_flight))
    pairs = [[driver.add([first] * 8 + [last], max_tokens=2, min_tokens=2) for last in (30, 31)] for first in (10, 11)]
    driver.step()
    assert [pair[0].status for pair in pairs] == [RequestStatus.RUNNING] * 2
    assert [pair[1].status for pair in pairs] == [RequestStatus.WAITING] * 2
    driver.drain()
    assert [pair[1].num_cached_tokens for pair in pairs] == [8, 8]
    assert sum(plan.num_tokens for plan in driver.backend.plans) == 2 * (9 + 1) + 2 * (1 + 1)


def test_blocks_that_will_not_come_are_not_waited_for() -> None:
    driver = Driver(replace(LIMITS, max_num_batched_tokens=4))
    first, second = driver.add(2 * PROMPT, max_tokens=1), driver.add(2 * PROMPT, max_tokens=1)
    driver.step()
    driver.step()
    driver.abort(first)
    driver.step()
    assert second.status is RequestStatus.RUNNING
    assert second.num_cached_tokens == 8, "of the 16 that it waited for"
    driver.drain()


def test_blocks_of_a_chunked_prompt_are_waited_for_to_the_last() -> None:
    driver = Driver(replace(LIMITS, max_num_batched_tokens=5))
    requests = [driver.add([*PROMPT, last], max_tokens=1) for last in (30, 31, 32)]
    driver.drain()
    assert [request.num_cached_tokens for request in requests] == [0, 8, 8]
    assert sum(plan.num_tokens for plan in driver.backend.plans) == 11 + 3 + 3


def test_those_put_off_leave_slots_for_themselves() -> None:
    driver = Driver(replace(LIMITS, max_num_seqs=2))
    shared = [driver.add(PROMPT, max_tokens=1) for _ in range(2)]
    other = driver.add(PROMPT[::-1], max_tokens=1)
    driver.step()
    assert [request.status for request in (*shared, other)] == [
        RequestStatus.FINISHED,
        RequestStatus.WAITING,
        RequestStatus.WAITING,
    ]
    driver.drain()


def test_without_prefix_caching_nothing_is_found() -> None:
    driver = Driver(LIMITS, enable_prefix_caching=False)
    for _ in range(2):
        request = driver.add(PROMPT, max_tokens=1)
        driver.drain()
    assert request.num_cached_tokens == 0


def test_a_picture_is_encoded_once_for_all_that_show_it() -> None:
    driver = Driver(replace(LIMITS, max_num_batched_tokens=5), enable_prefix_caching=False)
    for _ in range(3):
        driver.add(*image_prompt([PROMPT, PROMPT], [(1, 7)]), max_tokens=2)
    driver.drain()
    assert sum(len(plan.encode) for plan in driver.backend.plans) == 1


def test_a_cached_picture_is_not_encoded_at_all() -> None:
    driver = Driver(replace(LIMITS, num_feature_rows=7))
    prompts = [
        image_prompt([[10], [11, 11]], [(1, 7)]),
        image_prompt([[10], [11, 11]], [(2, 7)]),
        image_prompt([[10], [12]], [(1, 7)]),
    ]
    for prompt, images in prompts:  # the third prompt's features were forgotten, its picture's KV was not
        last = driver.add(prompt, images, max_tokens=1)
        driver.drain()
    assert last.num_cached_tokens == 8
    assert sum(len(plan.encode) for plan in driver.backend.plans) == 2


def test_a_row_stops_before_a_picture_that_has_no_room_yet() -> None:
    driver = Driver(replace(LIMITS, num_feature_rows=7, max_num_batched_tokens=7))
    driver.add(*image_prompt([[10], [11, 11]], [(1, 7)]), max_tokens=1)
    driver.add(*image_prompt([[12] * 3, [11]], [(2, 7)]), max_tokens=1)
    driver.step()
    driver.step()
    assert [row.num_tokens for plan in driver.backend.plans[:2] for row in plan.prompts] == [7, 3, 3]
    driver.drain()
    assert not driver.failed


def test_small_pictures_that_keep_coming_do_not_starve_a_large_one() -> None:
    driver = Driver(replace(LIMITS, num_feature_rows=8))
    driver.add(*image_prompt([[10], [11]], [(0, 3)]), max_tokens=2, min_tokens=2)
    large = driver.add(*image_prompt([[10] * 2, [11]], [(100, 8)]), max_tokens=1)
    for content in range(1, 20):
        driver.add(*image_prompt([[10], [11]], [(content, 3)]), max_tokens=2, min_tokens=2)
        driver.step()
    assert large.finished


def test_ending_a_request_that_was_never_added_changes_no_count() -> None:
    driver = Driver(LIMITS)
    request = driver.add(PROMPT)
    never_added = Request("never", PROMPT, request.sampling, seed=0, order=(9, 9), max_total_tokens=20)
    driver.scheduler.finish(never_added)
    assert never_added.finished
    assert driver.scheduler.num_waiting == 1
    driver.drain()


def test_a_failed_step_ends_its_own_requests_and_no_other() -> None:
    driver = Driver(replace(LIMITS, max_num_seqs=1))
    first, second = driver.add(PROMPT), driver.add(PROMPT)
    driver.backend.failure = "lost"
    driver.drain()
    assert driver.failed == [first]
    assert driver.finished == [second]
    assert second.num_cached_tokens == 0, "blocks of a failed step hold nothing"


@pytest.mark.parametrize("failure", ["launch", "lost", "late"])
def test_rows_that_a_failed_step_should_have_filled_are_free_again(failure: str) -> None:
    driver = Driver(replace(LIMITS, num_feature_rows=7))
    driver.add(*image_prompt([[10], [11]], [(1, 7)]), max_tokens=1)
    driver.drain()
    driver.backend.failure = failure
    driver.add(*image_prompt([[10], [11]], [(2, 7)]), max_tokens=1)
    driver.drain()
    driver.add(*image_prompt([[10], [11]], [(3, 7)]), max_tokens=1)
    driver.drain()
    assert driver.scheduler.encoder_cache.num_used == 7
    assert len(driver.finished) == 2


def test_a_prompt_with_several_pictures_needs_room_for_those_of_one_row() -> None:
    driver = Driver(replace(LIMITS, num_feature_rows=8))
    prompt = image_prompt([[10], [11, 12], [13], [14]], [(1, 5), (2, 4), (1, 5)])
    driver.add(*prompt, max_tokens=2, min_tokens=2)
    driver.drain()
    assert not driver.failed
    lengths = [plan.num_tokens for plan in driver.backend.plans]
    assert lengths == [8, 5, 6, 1], "a row ends before a picture whose features have no room beside those in use"


def test_a_picture_that_a_prompt_shows_twice_is_encoded_once() -> None:
    driver = Driver(replace(LIMITS, max_num_batched_tokens=3))
    driver.add(*image_prompt([[10], [11, 12], [13]], [(1, 5), (1, 5)]), max_tokens=1)
    driver.drain()
    assert sum(len(plan.encode) for plan in driver.backend.plans) == 1


def test_an_image_of_a_cached_beginning_is_shown_when_the_beginning_is_evicted_before_its_request_is_admitted() -> None:
    driver = Driver(replace(LIMITS, num_blocks=6, num_feature_rows=3))
    driver.add(*image_prompt([[], [10, 11]], [(1, 3)]), max_tokens=1)
    driver.drain()
    driver.add(*image_prompt([[], [10]], [(2, 3)]), max_tokens=6, min_tokens=6)
    late = driver.add(*image_prompt([[], [10], [10]], [(1, 3), (3, 3)]), max_tokens=1)
    driver.step()
    assert late.status is RequestStatus.WAITING, "there is no room for its second image"
    driver.add(list(range(30, 42)), max_tokens=1, owner=Owner("other", "1"))
    driver.drain()
    assert late.num_cached_tokens == 0


def test_an_image_whose_features_see_each_other_is_never_split() -> None:
    driver = Driver(replace(LIMITS, max_num_batched_tokens=8))
    driver.add(*image_prompt([PROMPT[:5], PROMPT], [(1, 7)], forward=1), max_tokens=1)
    driver.drain()
    rows = [plan.prompts[0] for plan in driver.backend.plans]
    assert [(row.start, row.num_tokens) for row in rows] == [(0, 5), (5, 8), (13, 8), (21, 1)]
    assert [row.visible_until is None for row in rows] == [True, False, True, True]
    assert rows[1].visible_until is not None
    assert rows[1].visible_until.tolist() == [12] * 7 + [0]


def test_such_an_image_goes_before_an_owners_share_of_a_step() -> None:
    """Else it would wait for as long as others are there."""
    driver = Driver(replace(LIMITS, max_num_batched_tokens=32))
    for owner, words in ((Owner("a", "1"), PROMPT), (Owner("b", "2"), PROMPT[::-1])):
        driver.add(*image_prompt([words * 2, words], [(1, 30)], forward=1), max_tokens=1, owner=owner)
    driver.drain()
    until = [row.visible_until for plan in driver.backend.plans for row in plan.prompts]
    assert [np.count_nonzero(each) for each in until if each is not None] == [30, 30]


def test_such_an_image_goes_on_behind_a_cached_beginning() -> None:
    """What is cached of it has seen all of it; what is not is run in one step."""
    driver = Driver(replace(LIMITS, max_num_batched_tokens=16))
    prompt = image_prompt([[7], PROMPT], [(1, 10)], forward=1)
    driver.add(*prompt, max_tokens=1)
    driver.drain()
    driver.add(prompt[0][:13], prompt[1], max_tokens=1)
    driver.step()
    (row,) = driver.backend.plans[-1].prompts
    assert (row.start, row.num_tokens) == (12, 1)
    driver.add([*prompt[0][:11], 8], prompt[1], max_tokens=1)
    driver.step()
    (row,) = driver.backend.plans[-1].prompts
    assert (row.start, row.num_tokens) == (8, 4)
    assert row.visible_until is not None
    assert row.visible_until.tolist() == [11, 11, 11, 0]
    driver.drain()


def test_a_prompt_whose_tokens_see_each_other_is_never_split_and_cached_as_a_whole() -> None:
    driver = Driver(replace(LIMITS, max_num_batched_tokens=24))
    words, image = image_prompt([[7], PROMPT], [(1, 9)])
    for asked in (words, words, [*words[:-1], 8]):
        driver.add(asked, image, max_tokens=6, is_prefix_masked=True)
        driver.drain()
    rows = [row for plan in driver.backend.plans for row in plan.prompts]
    cached = (len(words) - 1) // LIMITS.block_size * LIMITS.block_size
    assert [(row.start, row.num_tokens) for row in rows] == [
        (0, len(words)), (cached, len(words) - cached), (0, len(words))
    ]  # fmt: skip
    for row in rows:
        assert row.visible_until is not None
        assert row.visible_until.tolist() == [len(words)] * row.num_tokens


def test_what_such_a_prompt_was_answered_stays_causal_after_a_preemption() -> None:
    driver = Driver(replace(LIMITS, max_num_batched_tokens=24), enable_prefix_caching=False)
    driver.add(PROMPT, max_tokens=9, min_tokens=9, is_prefix_masked=True)
    for _ in range(6):
        driver.step()
    driver.scheduler.forget_cache()
    driver.drain()
    row = [row for plan in driver.backend.plans for row in plan.prompts][-1]
    assert row.num_tokens > len(PROMPT)
    assert row.visible_until is not None
    assert row.visible_until.tolist() == [len(PROMPT)] * len(PROMPT) + [0] * (row.num_tokens - len(PROMPT))


def test_who_holds_the_room_for_images_goes_on_though_it_has_no_share_of_the_step() -> None:
    driver = Driver(replace(LIMITS, max_num_batched_tokens=4, num_feature_rows=7), enable_prefix_caching=False)
    asked: list[tuple[str, list[list[int]], list[tuple[int, int]], int]] = [  # client, words, images, steps before
        ("one", [[14] * 4, [19] * 2, [14]], [(0, 5), (1, 3)], 0),
        ("other", [[35] * 4, [32] * 2, [17] * 2], [(2, 5), (3, 3)], 0),
        ("other", [[29], [34]], [(4, 7)], 2),
        ("other", [[], [29] * 2, [20] * 2], [(5, 7), (6, 3)], 0),
    ]
    for number, (client, words, images, num_steps) in enumerate(asked):
        for _ in range(num_steps):
            driver.step()
        driver.add(*image_prompt(words, images), max_tokens=1, owner=Owner(client, str(number)))
    driver.drain()
    assert len(driver.finished) == 4
