"""The sampler against the numpy oracle."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from tests.backends import sampler_oracle as oracle
from tests.backends.test_sampler import (
    KINDS,
    ONE_STAGE,
    VOCAB_SIZE,
    Case,
    MirostatRun,
    allowed_tokens,
    cases,
    check_mirostat,
    clear_cases,
    mirostat_runs,
    shaped_cases,
)

from aphrodite.backends.jax_tpu.sampler import SlotState, report, sample, slot_rows, start_slot
from aphrodite.backends.jax_tpu.stages import ORDERED_STAGES, STAGES
from aphrodite.domain.prompting.samplers import STAGES as NAMES
from aphrodite.domain.prompting.sampling_params import SamplingParams
from aphrodite.domain.scheduling.draws import uniforms
from aphrodite.domain.scheduling.flatten import StepShape, flatten, unpack
from aphrodite.domain.scheduling.stage_words import NUM_STAGE_WORDS
from aphrodite.domain.scheduling.step import RowPlan, StepPlan
from aphrodite.domain.scheduling.step_arrays import SampleArrays

NUM_SAMPLES = 6  # of every step, padding included, so that there is one program
compiled_sample, compiled_start = jax.jit(sample), jax.jit(start_slot)


class Sampler:
    """The device's side of sampling."""

    def __init__(self, num_slots: int = NUM_SAMPLES, vocab_size: int = VOCAB_SIZE) -> None:
        shape = (num_slots + 1, vocab_size)
        self.num_slots = num_slots
        self.state = SlotState(
            jnp.zeros(num_slots + 1, jnp.int32),
            jnp.zeros(shape, jnp.int32),
            jnp.zeros(shape, jnp.float32),
            jnp.zeros(num_slots + 1, jnp.float32),
        )

    def run(self, batch: list[Case], first: bool = True) -> list[int]:
        """The tokens of one step; the rows' slots are taken from the last one down."""
        vocab_size = len(batch[0].logits)
        rows = tuple(self._row(case, self.num_slots - 1 - index) for index, case in enumerate(batch))
        flat = flatten(StepPlan.of(rows), 4, lambda s: StepShape(*s[:3], max(NUM_SAMPLES, len(batch))))
        arrays = unpack(flat.buffer, flat.shape, np.float32)
        arrays.samples.uniform[: len(batch)] = [case.uniform for case in batch]
        for row in rows if first else ():
            self.state = compiled_start(self.state, row.slot, *slot_rows(row, vocab_size))
        held_back = np.full((16, 2), np.iinfo(np.int32).max, np.int32)
        held_back[: len(flat.suppressed)] = flat.suppressed
        logits = np.zeros((flat.shape.num_samples, vocab_size), np.float32)
        logits[: len(batch)] = [case.logits for case in batch]
        allowed = allowed_tokens(batch)
        bits = np.full((flat.shape.num_samples, allowed.bits.shape[1]), -1, np.int32)
        bits[allowed.samples] = allowed.bits
        is_constrained = len(allowed.samples) > 0
        stages = np.zeros((flat.shape.num_samples, NUM_STAGE_WORDS), np.int32)
        if flat.stages is not None:
            stages[: len(batch)] = flat.stages
        tokens, self.state = compiled_sample(
            logits, arrays.samples, held_back, is_constrained, bits, stages, self.state
        )
        assert self.state.last_tokens[np.array([row.slot for row in rows])].tolist() == tokens[: len(batch)].tolist()
        return tokens[: len(batch)].tolist()

    def _row(self, case: Case, slot: int) -> RowPlan:
        return RowPlan(
            slot=slot,
            start=0,
            num_tokens=1,
            token_ids=np.zeros(1, dtype=np.int32),
            block_ids=np.ones(1, dtype=np.int32),
            samples=True,
            sampling=case.params,
            seed=0,
            suppressed_token_ids=case.suppressed,
            slot_start=case.slot_start,
        )


@settings(max_examples=150)
@given(batch=st.lists(clear_cases, min_size=1, max_size=NUM_SAMPLES))
def test_every_row_is_what_the_oracle_chooses(batch: list[Case]) -> None:
    expected = [oracle.choose(case.scores, case.params, case.uniform) for case in batch]
    assert Sampler().run(batch) == expected


def test_every_stage_has_a_line_here() -> None:
    assert STAGES.keys() | ORDERED_STAGES.keys() == set(NAMES)


@settings(max_examples=200)
@given(batch=st.lists(shaped_cases() | clear_cases, min_size=1, max_size=4))
def test_rows_with_stages_are_what_the_oracle_chooses_and_others_what_they_were(batch: list[Case]) -> None:
    expected = [oracle.choose(case.scores, case.params, case.uniform) for case in batch]
    assert Sampler().run(batch) == expected


@pytest.mark.parametrize("params", ONE_STAGE.values(), ids=ONE_STAGE)
def test_draws_of_one_stage_are_distributed_as_the_oracle_says(params: SamplingParams) -> None:
    """As many even draws as tell where each token's share begins and ends."""
    logits = np.random.default_rng(5).normal(0, 1.5, VOCAB_SIZE).astype(np.float32)
    count = 96
    batch = [Case(logits, params, (number + 0.5) / count) for number in range(count)]
    expected = oracle.probabilities(batch[0].scores, params) * count
    observed = np.bincount(Sampler(count).run(batch), minlength=VOCAB_SIZE)
    assert np.abs(observed - expected).max() <= 1
    assert observed[expected == 0].sum() == 0


@settings(max_examples=30)
@given(batch=st.lists(mirostat_runs(), min_size=1, max_size=3))
def test_mirostats_bound_goes_after_the_surprise(batch: list[MirostatRun]) -> None:
    check_mirostat(Sampler(), batch)


@settings(max_examples=50)
@given(case=cases, num_steps=st.integers(1, 4))
def test_penalties_count_what_earlier_steps_sampled(case: Case, num_steps: int) -> None:
    assume(case.params.has_penalties)
    sampler = Sampler()
    for step in range(num_steps):
        assume(np.isfinite(case.scores).any() and oracle.is_clear(case.scores, case.params, case.uniform))
        (token_id,) = sampler.run([case], first=step == 0)
        assert token_id == oracle.choose(case.scores, case.params, case.uniform)
        case = replace(case, output=(*case.output, token_id))


def test_a_row_does_not_depend_on_the_others_in_its_batch() -> None:
    generator = np.random.default_rng(1)
    batch = [
        Case(generator.normal(0, 2, 2000).astype(np.float32), kind, float(uniform), prompt=(1, 2, 3))
        for kind in KINDS
        for uniform in generator.random(8, dtype=np.float32)
    ]
    together = Sampler(len(batch), 2000).run(batch)
    assert together == [Sampler(len(batch), 2000).run([case])[0] for case in batch]


@pytest.mark.parametrize("uniform", [0.0, 1 - 2**-24])
def test_the_first_and_the_last_draw_find_tokens_that_are_possible(uniform: float) -> None:
    allowed = SamplingParams(allowed_token_ids=[3, 4, 8], temperature=2.0)
    logits = np.random.default_rng(0).normal(size=VOCAB_SIZE).astype(np.float32)
    assert Sampler().run([Case(logits, allowed, uniform)]) == [3 if uniform == 0 else 8]


def test_draws_are_distributed_as_the_oracle_says() -> None:
    params = SamplingParams(temperature=1.2, top_k=9, top_p=0.9, min_p=0.05, repetition_penalty=1.2)
    logits = np.random.default_rng(5).normal(0, 1.5, VOCAB_SIZE).astype(np.float32)
    count = 20_000
    draws = uniforms(np.full(count, 42, dtype=np.uint64), np.arange(count, dtype=np.uint64)).tolist()
    batch = [Case(logits, params, uniform) for uniform in draws]
    zeros = np.zeros(count, np.int32)
    arrays = SampleArrays(
        tokens=zeros,
        slots=zeros,
        has_bias=zeros,
        top_k=np.full(count, params.top_k, np.int32),
        temperature=np.full(count, params.temperature, np.float32),
        top_p=np.full(count, params.top_p, np.float32),
        min_p=np.full(count, params.min_p, np.float32),
        presence_penalty=zeros.view(np.float32),
        frequency_penalty=zeros.view(np.float32),
        repetition_penalty=np.full(count, 1.2, np.float32),
        uniform=np.array(draws, np.float32),
    )
    none = np.full((1, 2), np.iinfo(np.int32).max, np.int32)
    bits = np.zeros((count, 1), np.int32)
    stages = np.zeros((count, NUM_STAGE_WORDS), np.int32)
    tokens, _ = compiled_sample(np.tile(logits, (count, 1)), arrays, none, False, bits, stages, Sampler().state)
    expected = oracle.probabilities(batch[0].scores, params) * count
    observed = np.bincount(np.asarray(tokens), minlength=VOCAB_SIZE)
    possible = expected > 0
    assert observed[~possible].sum() == 0
    assert ((observed - expected)[possible] ** 2 / expected[possible]).sum() < 40  # beyond one in ten thousand


def test_reports_are_the_best_and_the_chosen_with_its_rank() -> None:
    logits = np.random.default_rng(2).permutation(40).reshape(4, 10).astype(np.float32)
    chosen = np.array([0, 3, 3, 9], np.int32)
    picked, ranks, token_ids, values = map(np.asarray, report(jnp.asarray(logits), jnp.asarray(chosen)))
    exact = logits.astype(np.float64) - np.log(np.exp(logits.astype(np.float64)).sum(axis=1, keepdims=True))
    np.testing.assert_allclose(picked, exact[np.arange(4), chosen], atol=1e-5)
    assert ranks.tolist() == [1 + int((exact[i] > exact[i, token]).sum()) for i, token in enumerate(chosen)]
    assert token_ids.tolist() == np.argsort(-exact, axis=1).tolist()
    np.testing.assert_allclose(values, -np.sort(-exact, axis=1), atol=1e-5)
