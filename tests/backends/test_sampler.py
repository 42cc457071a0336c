from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from tests.backends import sampler_oracle as oracle
from tests.backends.stage_oracle import ORACLES
from transformers import (
    EpsilonLogitsWarper,
    EtaLogitsWarper,
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
    TypicalLogitsWarper,
)

from aphrodite.backends.cuda.sampler import AllowedBits, Choose, SlotState, candidates, choose_tokens, sample
from aphrodite.backends.cuda.stages import ORDERED_STAGES, STAGES, groups_to_send, receive_group
from aphrodite.domain.prompting.samplers import STAGES as NAMES
from aphrodite.domain.prompting.sampling_params import SamplingParams
from aphrodite.domain.scheduling.allowed_tokens import AllowedTokens, num_bit_words
from aphrodite.domain.scheduling.draws import uniforms
from aphrodite.domain.scheduling.flatten import StepShape, flatten, unpack
from aphrodite.domain.scheduling.step import RowPlan, SlotStart, StepPlan

VOCAB_SIZE = 12
token_ids = st.integers(0, VOCAB_SIZE - 1)


@dataclass(frozen=True)
class Case:
    """A row to sample."""

    logits: np.ndarray  # float32 [V]
    params: SamplingParams
    uniform: float = 0.5
    prompt: tuple[int, ...] = ()
    output: tuple[int, ...] = ()
    suppressed: tuple[int, ...] = ()
    form: frozenset[int] | None = None  # tokens that a form allows

    @property
    def slot_start(self) -> SlotStart:
        prompt, output = (np.array(tokens, dtype=np.int32) for tokens in (self.prompt, self.output))
        return SlotStart(prompt, output, 2 * self.params.mirostat_tau)

    @property
    def scores(self) -> np.ndarray:
        return oracle.scores(self.logits, self.params, list(self.prompt), list(self.output), self.suppressed, self.form)


def allowed_tokens(batch: list[Case]) -> AllowedTokens:
    """What forms allow of a batch."""
    forms = [(sample, case.form, len(case.logits)) for sample, case in enumerate(batch) if case.form is not None]
    bits = np.zeros((len(forms), num_bit_words(len(batch[0].logits))), np.int32)
    for row, (_, form, vocab_size) in enumerate(forms):
        flags = np.zeros(32 * bits.shape[1], np.uint8)
        flags[[*form, *range(vocab_size, len(flags))]] = 1  # what is set beyond the vocabulary means nothing
        bits[row] = np.packbits(flags, bitorder="little").view(np.int32)
    return AllowedTokens(np.array([sample for sample, *_ in forms], np.int32), bits)


class Sampler:
    """The device's side of sampling, with as many slots as rows."""

    def __init__(
        self, num_slots: int, vocab_size: int = VOCAB_SIZE, device: str = "cpu", choose: Choose = choose_tokens
    ) -> None:
        self.device = torch.device(device)
        self.choose = choose
        self.state = SlotState(num_slots, vocab_size, self.device)

    def run(self, cases: list[Case], num_padded: int = 0, first: bool = True) -> list[int]:
        """The tokens of one step; the rows' slots are taken from the last one down."""
        num_slots = self.state.last_tokens.numel() - 1
        rows = tuple(self._row(case, num_slots - 1 - index, first) for index, case in enumerate(cases))
        flat = flatten(StepPlan.of(rows), 4, lambda s: StepShape(*s[:3], s.num_samples + num_padded))
        arrays = unpack(self._sent(flat.buffer), flat.shape, torch.float32)
        arrays.samples.uniform[: len(cases)] = torch.tensor([case.uniform for case in cases])
        logits = np.stack([case.logits for case in cases] + [cases[0].logits] * num_padded)
        for row in rows:
            self.state.start(row, map(self._sent, self.state.start_numbers(row)))
        suppressed = self._sent(flat.suppressed)
        allowed = allowed_tokens(cases)
        bits = AllowedBits(self._sent(allowed.samples), self._sent(allowed.bits))
        groups = [receive_group(stages, *map(self._sent, numbers)) for stages, numbers in groups_to_send(flat.stages)]
        tokens = sample(
            self._sent(logits), arrays.samples, flat.needs, suppressed, bits, self.state, self.choose, groups
        )
        assert self.state.last_tokens[[row.slot for row in rows]].tolist() == tokens[: len(cases)].tolist()
        return tokens[: len(cases)].tolist()

    def _sent(self, array: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(array).to(self.device)

    def _row(self, case: Case, slot: int, first: bool) -> RowPlan:
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
            slot_start=case.slot_start if first else None,
        )


penalties = st.sampled_from([0.0, 0.0, 0.5, -1.25])
params = st.builds(
    SamplingParams,
    temperature=st.sampled_from([0.0, 0.3, 1.0, 2.5]),
    top_k=st.sampled_from([0, 0, 1, 2, 5, 50]),
    top_p=st.sampled_from([1.0, 1.0, 0.1, 0.5, 0.9, 0.999]),
    min_p=st.sampled_from([0.0, 0.0, 0.05, 0.4, 1.0]),
    presence_penalty=penalties,
    frequency_penalty=penalties,
    repetition_penalty=st.sampled_from([1.0, 1.0, 0.75, 1.5]),
    logit_bias=st.just({}) | st.dictionaries(token_ids, st.sampled_from([-100.0, -0.5, 3.25]), max_size=3),
    allowed_token_ids=st.none() | st.lists(token_ids, min_size=4, max_size=8),
)
cases = st.builds(
    Case,
    logits=st.lists(st.integers(-40, 40), min_size=VOCAB_SIZE, max_size=VOCAB_SIZE).map(
        lambda eighths: np.array(eighths, dtype=np.float32) / 8
    ),
    params=params,
    uniform=st.integers(0, 2**12 - 1).map(lambda number: (number + 0.5) / 2**12),
    prompt=st.lists(token_ids, max_size=5).map(tuple),
    output=st.lists(token_ids, max_size=5).map(tuple),
    suppressed=st.sampled_from([(), (), (3,), (0, 7)]),
    form=st.none() | st.frozensets(token_ids, min_size=1),
)
clear_cases = cases.filter(
    lambda case: np.isfinite(case.scores).any() and oracle.is_clear(case.scores, case.params, case.uniform)
)

shaping = {
    "dynatemp_max": st.sampled_from([0.5, 1.5, 3.0]),
    "dynatemp_exponent": st.sampled_from([0.5, 1.0, 2.0]),
    "nsigma": st.sampled_from([0.25, 1.0, 2.0]),
    "top_k": st.sampled_from([1, 3, 8]),
    "top_p": st.sampled_from([0.2, 0.6, 0.95]),
    "top_a": st.sampled_from([0.1, 0.6, 2.0, 50.0]),
    "min_p": st.sampled_from([0.05, 0.4]),
    "tfs": st.sampled_from([0.2, 0.6, 0.97]),
    "eta_cutoff": st.sampled_from([3.0, 900.0, 20_000.0]),
    "epsilon_cutoff": st.sampled_from([10.0, 500.0, 1000.0]),
    "typical_p": st.sampled_from([0.0, 0.2, 0.7, 0.99]),
    "smoothing_factor": st.sampled_from([0.1, 0.6, 3.0]),
    "smoothing_curve": st.sampled_from([1.0, 2.0, 3.0, 5.0]),
    "xtc_probability": st.just(1.0),
    "xtc_threshold": st.sampled_from([0.0, 0.05, 0.2, 0.6]),
    "skew": st.sampled_from([-1.5, 0.4, 1.0, 2.0]),
    "temperature": st.sampled_from([0.3, 1.7]),
    "temperature_last": st.just(True),
}


@st.composite
def shaped_cases(draw: st.DrawFn) -> Case:
    """Any few stages, in their own order or in another."""
    names = draw(st.lists(st.sampled_from(sorted(shaping)), min_size=1, max_size=4, unique=True))
    values = {name: draw(shaping[name]) for name in names}
    priority = draw(st.none() | st.permutations(sorted(ORACLES)))
    case = draw(cases)
    case = replace(
        case,
        params=SamplingParams(
            **values,
            sampler_priority=priority,
            logit_bias=case.params.logit_bias,
            allowed_token_ids=case.params.allowed_token_ids,
            repetition_penalty=case.params.repetition_penalty,
        ),
    )
    assume(np.isfinite(case.scores).any() and oracle.is_clear(case.scores, case.params, case.uniform))
    return case


def test_every_stage_has_a_line_here_and_an_oracle() -> None:
    assert STAGES.keys() | ORDERED_STAGES.keys() == set(NAMES) == ORACLES.keys() | {"mirostat"}


@settings(max_examples=400)
@given(batch=st.lists(shaped_cases() | clear_cases, min_size=1, max_size=4))
def test_rows_with_stages_are_what_the_oracle_chooses_and_others_what_they_were(batch: list[Case]) -> None:
    expected = [oracle.choose(case.scores, case.params, case.uniform) for case in batch]
    assert Sampler(len(batch) + 1).run(batch) == expected


class MirostatRun(NamedTuple):
    """One request's steps: logits [steps, V], a draw for each."""

    logits: np.ndarray
    params: SamplingParams
    uniforms: list[float]

    def expected(self) -> list[int] | None:
        """The tokens; None where rounding might decide."""
        bound, tokens = oracle.Bound(self.params), []
        for logits, uniform in zip(self.logits, self.uniforms, strict=True):
            if not bound.is_clear(logits.astype(np.float64), uniform):
                return None
            tokens.append(bound.choose(logits.astype(np.float64), uniform))
        return tokens


@st.composite
def mirostat_runs(draw: st.DrawFn) -> MirostatRun:
    rng, num_steps = np.random.default_rng(draw(st.integers(0, 2**32))), draw(st.integers(1, 6))
    params = SamplingParams(
        mirostat_mode=2,
        mirostat_tau=draw(st.sampled_from([0.0, 0.5, 1.5, 3.0])),
        mirostat_eta=draw(st.sampled_from([0.0, 0.1, 0.7])),
        temperature=draw(st.sampled_from([0.6, 1.0, 1.8])),
        top_k=1,  # goes for nothing beside Mirostat
    )
    logits = rng.normal(0, draw(st.sampled_from([0.5, 2.0])), (num_steps, VOCAB_SIZE)).astype(np.float32)
    run = MirostatRun(logits, params, rng.random(num_steps).tolist())
    assume(run.expected() is not None)
    return run


def check_mirostat(sampler: Any, batch: list[MirostatRun]) -> None:
    """All of them side by side, the longest first."""
    batch = sorted(batch, key=lambda run: -len(run.logits))
    found: list[list[int]] = [[] for _ in batch]
    for step in range(len(batch[0].logits)):
        rows = [Case(run.logits[step], run.params, run.uniforms[step]) for run in batch if step < len(run.logits)]
        for tokens, token in zip(found, sampler.run(rows, first=step == 0), strict=False):
            tokens.append(token)
    assert found == [run.expected() for run in batch]


@settings(max_examples=60)
@given(batch=st.lists(mirostat_runs(), min_size=1, max_size=3))
def test_mirostats_bound_goes_after_the_surprise(batch: list[MirostatRun]) -> None:
    check_mirostat(Sampler(4), batch)


def test_mirostat_surprises_as_much_as_it_is_to() -> None:
    """Over a distribution like language's, whose entropy is far from what is wanted."""
    rng, tau, size = np.random.default_rng(3), 2.5, 200
    logits = -1.05 * np.log(np.arange(1, size + 1)).astype(np.float32)
    params = SamplingParams(mirostat_mode=2, mirostat_tau=tau, mirostat_eta=0.3)
    sampler, surprise = Sampler(1, size), []
    for step in range(600):
        before = float(sampler.state.mirostat_bounds[0]) if step else 2 * tau
        sampler.run([Case(logits, params, float(rng.random()))], first=step == 0)
        surprise.append(tau + (before - float(sampler.state.mirostat_bounds[0])) / 0.3)
    assert abs(np.mean(surprise[100:]) - tau) < 0.1


@settings(max_examples=300)
@given(batch=st.lists(clear_cases, min_size=1, max_size=5), num_padded=st.integers(0, 2))
def test_every_row_is_what_the_oracle_chooses(batch: list[Case], num_padded: int) -> None:
    expected = [oracle.choose(case.scores, case.params, case.uniform) for case in batch]
    assert Sampler(len(batch) + 1).run(batch, num_padded) == expected


@given(case=cases, num_steps=st.integers(1, 4))
def test_penalties_count_what_earlier_steps_sampled(case: Case, num_steps: int) -> None:
    assume(case.params.has_penalties)
    sampler = Sampler(1)
    for step in range(num_steps):
        assume(np.isfinite(case.scores).any() and oracle.is_clear(case.scores, case.params, case.uniform))
        (token_id,) = sampler.run([case], first=step == 0)
        assert token_id == oracle.choose(case.scores, case.params, case.uniform)
        case = replace(case, output=(*case.output, token_id))


@given(before=cases, case=clear_cases)
def test_a_slot_remembers_nothing_of_its_last_request(before: Case, case: Case) -> None:
    sampler = Sampler(1)
    sampler.run([before])
    assert sampler.run([case]) == [oracle.choose(case.scores, case.params, case.uniform)]


# One row of each kind, over a vocabulary that is large enough for rounding to matter.
KINDS = [
    SamplingParams(temperature=0.0),
    SamplingParams(temperature=1.0),
    SamplingParams(temperature=0.6, top_k=40),
    SamplingParams(temperature=1.3, top_p=0.8),
    SamplingParams(temperature=1.0, min_p=0.02),
    SamplingParams(temperature=1.0, repetition_penalty=1.3, presence_penalty=0.4),
    SamplingParams(temperature=1.0, logit_bias={5: 2.0}),
    SamplingParams(temperature=1.2, typical_p=0.8),
    SamplingParams(tfs=0.9, skew=0.3),
    SamplingParams(temperature=0.7, top_p=0.9, temperature_last=True),
]


def test_a_row_does_not_depend_on_the_others_in_its_batch() -> None:
    generator = np.random.default_rng(1)
    batch = [
        Case(generator.normal(0, 2, 5000).astype(np.float32), kind, float(uniform), prompt=(1, 2, 3))
        for kind in KINDS
        for uniform in generator.random(20, dtype=np.float32)
    ]
    together = Sampler(len(batch), 5000).run(batch, num_padded=3)
    assert together == [Sampler(1, 5000).run([case])[0] for case in batch]
    assert together == Sampler(len(batch), 5000).run(batch[::-1])[::-1]


@pytest.mark.parametrize("temperature", [1e-3, 1e-10, 1e-40, 1e-300])
def test_a_tiny_temperature_is_greedy(temperature: float) -> None:
    for best, logits in enumerate(np.eye(VOCAB_SIZE, dtype=np.float32) - 30):
        assert Sampler(1).run([Case(logits, SamplingParams(temperature=temperature), 0.3)]) == [best]
        assert Sampler(1).run([Case(logits + 60, SamplingParams(temperature=temperature, top_p=0.5), 0.3)]) == [best]


@pytest.mark.parametrize("uniform", [0.0, 1 - 2**-24])
def test_the_first_and_the_last_draw_find_tokens_that_are_possible(uniform: float) -> None:
    allowed = SamplingParams(allowed_token_ids=[3, 4, 8], temperature=2.0)
    logits = np.random.default_rng(0).normal(size=VOCAB_SIZE).astype(np.float32)
    assert Sampler(1).run([Case(logits, allowed, uniform)]) == [3 if uniform == 0 else 8]


ONE_STAGE = {
    "dynatemp": SamplingParams(dynatemp_min=0.5, dynatemp_max=2.5, dynatemp_exponent=0.7),
    "nsigma": SamplingParams(nsigma=1.2),
    "top_a": SamplingParams(top_a=0.3),
    "tfs": SamplingParams(tfs=0.9),
    "eta_cutoff": SamplingParams(eta_cutoff=2000),
    "epsilon_cutoff": SamplingParams(epsilon_cutoff=600),
    "typical_p": SamplingParams(typical_p=0.6),
    "smoothing": SamplingParams(smoothing_factor=0.4, smoothing_curve=1.7),
    "xtc": SamplingParams(xtc_probability=1.0, xtc_threshold=0.1),
    "skew": SamplingParams(skew=0.8),
}


def test_each_stage_alone_changes_what_is_drawn() -> None:
    """Or else the tests that follow would say nothing of it."""
    logits = np.random.default_rng(5).normal(0, 1.5, VOCAB_SIZE)
    plain = oracle.probabilities(logits, SamplingParams())
    for params in ONE_STAGE.values():
        assert np.abs(oracle.probabilities(logits, params) - plain).max() > 0.03


@pytest.mark.parametrize(
    "params",
    [
        SamplingParams(temperature=1.0),
        SamplingParams(temperature=0.7, top_k=6),
        SamplingParams(temperature=1.5, top_p=0.7),
        SamplingParams(temperature=1.0, min_p=0.1),
        SamplingParams(temperature=1.2, top_k=9, top_p=0.9, min_p=0.05),
        SamplingParams(temperature=0.8, presence_penalty=1.0, frequency_penalty=0.25, repetition_penalty=1.2),
        *ONE_STAGE.values(),
        SamplingParams(
            temperature=1.6, typical_p=0.9, tfs=0.98, min_p=0.01, smoothing_factor=0.2, temperature_last=True
        ),
    ],
    ids=["plain", "top_k", "top_p", "min_p", "all", "penalties", *ONE_STAGE, "many stages"],
)
def test_draws_are_distributed_as_the_oracle_says(params: SamplingParams) -> None:
    logits = np.random.default_rng(5).normal(0, 1.5, VOCAB_SIZE).astype(np.float32)
    count = 20_000
    draws = uniforms(np.full(count, 42, dtype=np.uint64), np.arange(count, dtype=np.uint64)).tolist()
    batch = [Case(logits, params, uniform, prompt=(1, 4), output=(4, 4, 7)) for uniform in draws]
    sampled = Sampler(count).run(batch)
    expected = oracle.probabilities(batch[0].scores, params) * count
    observed = np.bincount(sampled, minlength=VOCAB_SIZE)
    possible = expected > 0
    assert observed[~possible].sum() == 0
    chi_square = ((observed - expected)[possible] ** 2 / expected[possible]).sum()
    assert chi_square < 40  # at most 11 degrees of freedom: beyond one in ten thousand


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(
    ("params", "warpers"),
    [
        (SamplingParams(temperature=0.6), [TemperatureLogitsWarper(0.6)]),
        (SamplingParams(temperature=1.0, top_k=7), [TopKLogitsWarper(7)]),
        (SamplingParams(temperature=1.0, top_p=0.83), [TopPLogitsWarper(0.83)]),
        (SamplingParams(temperature=1.0, min_p=0.07), [MinPLogitsWarper(0.07)]),
        (SamplingParams(typical_p=0.7), [TypicalLogitsWarper(0.7)]),
        (SamplingParams(epsilon_cutoff=150), [EpsilonLogitsWarper(0.015)]),
        (SamplingParams(eta_cutoff=300), [EtaLogitsWarper(0.03)]),
        (
            SamplingParams(
                temperature=1.4, typical_p=0.9, top_k=15, sampler_priority=["typical_p", "temperature", "top_k"]
            ),
            [TypicalLogitsWarper(0.9), TemperatureLogitsWarper(1.4), TopKLogitsWarper(15)],
        ),
        (SamplingParams(repetition_penalty=1.4), [RepetitionPenaltyLogitsProcessor(1.4)]),
        (
            SamplingParams(temperature=1.7, top_k=20, top_p=0.9, min_p=0.1, repetition_penalty=0.8),
            [
                RepetitionPenaltyLogitsProcessor(0.8),
                TemperatureLogitsWarper(1.7),
                TopKLogitsWarper(20),
                TopPLogitsWarper(0.9),
                MinPLogitsWarper(0.1),
            ],
        ),
    ],
    ids=["temperature", "top_k", "top_p", "min_p", "typical_p", "epsilon", "eta", "order", "repetition_penalty", "all"],
)
def test_draws_are_those_of_transformers(params: SamplingParams, warpers: list, seed: int) -> None:
    logits = np.random.default_rng(seed).normal(0, 2, 50).astype(np.float32)
    prompt, output = (1, 4, 20, 33), (4, 7, 7)
    warped = torch.from_numpy(logits)[None]
    for warper in warpers:
        warped = warper(torch.tensor([[*prompt, *output]]), warped)
    expected = torch.softmax(warped[0].double(), dim=-1).numpy()
    batch = [Case(logits, params, (number + 0.5) / 1000, prompt, output) for number in range(1000)]
    np.testing.assert_allclose(oracle.probabilities(batch[0].scores, params), expected, rtol=1e-5, atol=1e-12)
    edges = np.cumsum(expected)
    clear = [case for case in batch if np.abs(edges - case.uniform).min() > 1e-6]
    assert len(clear) > 990
    assert Sampler(len(clear), 50).run(clear) == [oracle.draw(expected, case.uniform) for case in clear]


@given(
    logprobs=st.lists(st.lists(st.integers(-50, 0), min_size=6, max_size=6), min_size=1, max_size=4),
    chosen=st.lists(st.integers(0, 5), min_size=4, max_size=4),
    num_candidates=st.integers(0, 8),
)
def test_candidates_are_the_best_and_the_chosen_with_its_rank(
    logprobs: list[list[int]], chosen: list[int], num_candidates: int
) -> None:
    values = np.array(logprobs, dtype=np.float32) / 4
    picked = np.array(chosen[: len(values)])
    found = candidates(torch.from_numpy(values), torch.from_numpy(picked), num_candidates)
    chosen_values, ranks, best_ids, best_values = (tensor.numpy() for tensor in found)
    for row in range(len(values)):
        assert chosen_values[row] == values[row, picked[row]]
        assert ranks[row] == 1 + sum(values[row] > values[row, picked[row]])
        assert best_values[row].tolist() == sorted(values[row].tolist(), reverse=True)[:num_candidates]
        assert values[row, best_ids[row]].tolist() == best_values[row].tolist()
        assert len(set(best_ids[row].tolist())) == min(num_candidates, 6)


def test_top_p_of_zero_is_the_most_likely_token() -> None:
    logits = np.linspace(0, 1, VOCAB_SIZE, dtype=np.float32)
    for uniform in (0.0, 0.5, 0.999):
        assert Sampler(1).run([Case(logits, SamplingParams(top_p=0.0), uniform)]) == [VOCAB_SIZE - 1]
