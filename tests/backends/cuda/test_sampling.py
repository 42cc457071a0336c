import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.backends import sampler_oracle as oracle
from tests.backends.cuda.place import Place
from tests.backends.test_sampler import Case, Sampler, clear_cases

from aphrodite.backends.cuda.gpu.kernels.sampling import sample_tokens
from aphrodite.backends.cuda.gpu.triton_operations import choose_tokens_with_triton
from aphrodite.backends.cuda.sampler import SlotState, choose_tokens, sample
from aphrodite.domain.prompting.sampling_params import SamplingParams
from aphrodite.domain.scheduling.flatten import SamplingNeeds
from aphrodite.domain.scheduling.step_arrays import SampleArrays

NEEDS = SamplingNeeds(draws=True, stages=False, filters=True, penalties=False, bias=False, num_logprobs=-1)
KINDS = [
    SamplingParams(temperature=0.0),
    SamplingParams(temperature=1.0),
    SamplingParams(temperature=0.6, top_k=40),
    SamplingParams(temperature=1.3, top_k=1),
    SamplingParams(temperature=1.3, top_p=0.8),
    SamplingParams(temperature=0.9, top_p=0.05),
    SamplingParams(temperature=1.0, min_p=0.2),
    SamplingParams(temperature=1.7, top_k=20, top_p=0.9, min_p=0.1),
    SamplingParams(temperature=1.0, top_k=7, top_p=0.999),
]
Row = tuple[np.ndarray, SamplingParams, float]  # logits, parameters, draw


def run(rows: list[Row], place: Place) -> list[int]:
    arguments = _arguments(rows)
    return sample_tokens(*(part.to(place.device) for part in arguments)).tolist()


def _arguments(rows: list[Row]) -> tuple[torch.Tensor, ...]:
    logits = torch.from_numpy(np.stack([logits for logits, _, _ in rows]))
    kinds = [kind for _, kind, _ in rows]
    return (
        logits,
        torch.tensor([kind.temperature for kind in kinds]),
        torch.tensor([kind.top_k for kind in kinds], dtype=torch.int32),
        torch.tensor([kind.top_p for kind in kinds]),
        torch.tensor([kind.min_p for kind in kinds]),
        torch.tensor([uniform for _, _, uniform in rows]),
    )


def twin(rows: list[Row]) -> list[int]:
    """What plain torch samples."""
    logits, *parameters = _arguments(rows)
    temperature, top_k, top_p, min_p, uniform = parameters
    slots, zeros = torch.arange(len(rows), dtype=torch.int32), torch.zeros(len(rows))
    arrays = SampleArrays(
        slots, slots, slots, top_k, temperature, top_p, min_p, zeros, zeros, zeros, uniform
    )  # fmt: skip
    state = SlotState(len(rows), logits.shape[1], torch.device("cpu"))
    return sample(logits, arrays, NEEDS, torch.empty(0, 2, dtype=torch.int32), None, state, choose_tokens).tolist()


def draw_rows(vocabulary: int, per_kind: int, step: float, seed: int) -> list[Row]:
    """Logits that are multiples of `step`, so that many are equal; draws that rounding cannot turn."""
    generator = np.random.default_rng(seed)
    rows = []
    for kind in KINDS:
        for uniform in (generator.integers(0, 2**12, per_kind) + 0.5) / 2**12:
            logits = (np.round(generator.normal(0, 2, vocabulary) / step) * step).astype(np.float32)
            if oracle.is_clear(logits.astype(np.float64), kind, float(uniform), margin=1e-6):
                rows.append((logits, kind, float(uniform)))
    assert len(rows) > 0.8 * per_kind * len(KINDS)
    return rows


@pytest.mark.parametrize(("vocabulary", "step"), [(12, 0.5), (300, 0.25), (128, 2.0)])
def test_every_row_is_what_the_oracle_and_the_twin_choose(vocabulary: int, step: float, place: Place) -> None:
    rows = draw_rows(vocabulary, per_kind=6, step=step, seed=vocabulary)
    expected = [oracle.choose(logits.astype(np.float64), kind, uniform) for logits, kind, uniform in rows]
    assert run(rows, place) == expected
    assert twin(rows) == expected


def test_a_vocabulary_of_several_blocks(place: Place) -> None:
    ties = np.repeat(np.float32([1.5, -1.0]), [8000, 500])  # equal logits in different blocks
    spread = np.round(np.random.default_rng(3).normal(0, 2, len(ties)) * 256).astype(np.float32) / 256
    kinds = [*KINDS, *(SamplingParams(temperature=1.0, top_k=top_k) for top_k in (7999, 8001, 8300))]
    rows = [(logits, kind, uniform) for logits in (ties, spread) for kind in kinds for uniform in (0.03125, 0.98438)]
    clear = [row for row in rows if oracle.is_clear(row[0].astype(np.float64), row[1], row[2], margin=1e-6)]
    assert len(clear) > 30
    assert run(clear, place) == [oracle.choose(logits.astype(np.float64), *rest) for logits, *rest in clear]


def test_logits_of_minus_infinity_and_of_either_zero(place: Place) -> None:
    logits = np.float32([-np.inf, -0.0, 0.0, -np.inf, -0.0, -np.inf])
    rows = [
        (logits, SamplingParams(temperature=1.0, top_k=top_k, top_p=top_p), uniform)
        for top_k in (0, 1, 2, 3, 5)
        for top_p in (1.0, 0.5)
        for uniform in (0.0, 0.4, 0.6, 1 - 2**-24)
    ]
    assert run(rows, place) == twin(rows)


def test_a_tiny_temperature_is_greedy(place: Place) -> None:
    rows = [
        (logits, SamplingParams(temperature=temperature, top_p=0.5), 0.3)
        for logits in np.eye(8, dtype=np.float32) - 30
        for temperature in (1e-3, 1e-10, 1e-40)
    ]
    assert run(rows, place) == [best for best in range(8) for _ in range(3)]


def test_a_row_does_not_depend_on_the_others_in_its_batch(place: Place) -> None:
    rows = draw_rows(500, per_kind=2, step=2**-20, seed=1)
    together = run(rows, place)
    assert together == run(rows[::-1], place)[::-1]
    assert together == [run([row], place)[0] for row in rows]


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(batch=st.lists(clear_cases, min_size=1, max_size=5), num_padded=st.integers(0, 2))
def test_after_penalties_and_biases_too(batch: list[Case], num_padded: int, place: Place) -> None:
    expected = [oracle.choose(case.scores, case.params, case.uniform) for case in batch]
    sampler = Sampler(len(batch) + 1, device=place.device.type, choose=choose_tokens_with_triton)
    # Penalties of padding are nothing that numbers are divided by.
    with np.errstate(over="ignore", invalid="ignore"):
        assert sampler.run(batch, num_padded) == expected
