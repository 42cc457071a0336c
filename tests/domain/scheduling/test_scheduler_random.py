"""The scheduler under anything that may happen, against requests that run alone."""

from dataclasses import replace

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from tests.domain.scheduling.driver import Driver, image_prompt
from tests.fakes import LIMITS

from aphrodite.domain.scheduling.request import Owner

LONGEST = 31  # tokens of one sequence, prompt and output
few_tokens = st.lists(st.sampled_from([10, 11]), max_size=1)
tokens = st.lists(st.sampled_from([10, 11]), max_size=4)  # of two words, so that prompts begin alike
images = st.sampled_from([(1, 3), (2, 4), (3, 5)])  # content, tokens


class AnythingMayHappen(RuleBasedStateMachine):
    @initialize(
        block_size=st.integers(1, 5),
        spare_blocks=st.sampled_from([0, 1, 2, 4, 8, 100]),
        max_num_seqs=st.integers(1, 5),
        budget=st.one_of(st.integers(1, 8), st.just(100)),
        steps_in_flight=st.integers(1, 3),
        num_feature_rows=st.sampled_from([5, 6, 8, 50]),
        prefix_caching=st.booleans(),
    )
    def build(
        self,
        block_size: int,
        spare_blocks: int,
        max_num_seqs: int,
        budget: int,
        steps_in_flight: int,
        num_feature_rows: int,
        prefix_caching: bool,
    ) -> None:
        limits = replace(
            LIMITS,
            num_blocks=1 + -(-LONGEST // block_size) + spare_blocks,  # the padding's, and the longest sequence's
            block_size=block_size,
            max_num_seqs=max_num_seqs,
            max_num_batched_tokens=budget,
            max_steps_in_flight=steps_in_flight,
            num_feature_rows=num_feature_rows,
        )
        self.driver = Driver(limits, prefix_caching)

    @rule(
        prompts=st.lists(
            st.tuples(tokens, st.lists(st.tuples(images, few_tokens), max_size=3), st.integers(1, 7), st.booleans()),
            min_size=1,
            max_size=5,
        ),
        owner=st.builds(Owner, st.sampled_from("ab"), st.sampled_from("123")),
        prefix_masked=st.booleans(),
        priority=st.integers(-1, 1),
    )
    def add(
        self,
        prompts: list[tuple[list[int], list[tuple[tuple[int, int], list[int]]], int, bool]],
        owner: Owner,
        prefix_masked: bool,
        priority: int,
    ) -> None:
        for before, shown, max_tokens, all_of_them in prompts:
            words = [before, *(after for _, after in shown)]
            words[-1] = [*words[-1], 10]
            budget = self.driver.limits.max_num_batched_tokens
            num_features = sum(length for (_, length), _ in shown)
            fits = sum(map(len, words)) + num_features <= budget and num_features <= self.driver.limits.num_feature_rows
            is_whole = prefix_masked and fits
            # The longest image's features see each other, where a step has room for all of them.
            forward = 3 if budget >= 5 and not is_whole else None
            prompt = image_prompt(words, [image for image, _ in shown], forward=forward)
            min_tokens = max_tokens if all_of_them else 0
            self.driver.add(*prompt, max_tokens, min_tokens, owner, priority=priority, is_prefix_masked=is_whole)

    @rule(count=st.integers(1, 4))
    def step(self, count: int) -> None:
        for _ in range(count):
            self.driver.step()

    @rule(number=st.integers(0, 20))
    def abort(self, number: int) -> None:
        if self.driver.live:
            self.driver.abort(self.driver.live[number % len(self.driver.live)])

    @rule(failure=st.sampled_from(["launch", "lost", "late"]))
    def fail_next(self, failure: str) -> None:
        self.driver.backend.failure = failure

    @invariant()
    def books_are_right(self) -> None:
        if hasattr(self, "driver"):
            self.driver.check_books()

    def teardown(self) -> None:
        if hasattr(self, "driver"):
            self.driver.drain()


TestScheduler = AnythingMayHappen.TestCase
TestScheduler.settings = settings(max_examples=250, stateful_step_count=40, deadline=None)
