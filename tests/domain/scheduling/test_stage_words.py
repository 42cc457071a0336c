import numpy as np

from aphrodite.domain.prompting.samplers import STAGED
from aphrodite.domain.prompting.sampling_params import SamplingParams
from aphrodite.domain.scheduling.draws import stream_of
from aphrodite.domain.scheduling.flatten import FlatStep, flatten
from aphrodite.domain.scheduling.stage_words import asked_stages, by_stages, parameters_of
from aphrodite.domain.scheduling.step import RowPlan, StepPlan


def flat(*samplings: SamplingParams, seed: int = 0, position: int = 0) -> FlatStep:
    one, block = np.zeros(1, np.int32), np.arange(1, 2 + position // 4, dtype=np.int32)
    rows = [RowPlan(slot, position, 1, one, block, True, sampling, seed) for slot, sampling in enumerate(samplings)]
    return flatten(StepPlan.of(rows), 4)


def test_what_every_step_has_needs_no_stages_and_nothing_does_where_the_likeliest_token_is_taken() -> None:
    usual = SamplingParams(temperature=0.5, top_k=3, top_p=0.9, min_p=0.1)
    greedy = SamplingParams(temperature=0, typical_p=0.5, xtc_probability=1)
    kobold = SamplingParams(temperature=0.5, sampler_priority=["top_k", "temperature"])  # with nothing to filter
    assert asked_stages(usual) == asked_stages(greedy) == asked_stages(kobold) == ()
    step = flat(usual, greedy, kobold)
    assert step.stages is None
    assert not step.needs.stages
    assert step.arrays.samples.temperature.tolist() == [0.5, 0.0, 0.5]


def test_rows_are_grouped_by_their_stages_and_the_usual_draw_finds_nothing_more_to_do() -> None:
    last = SamplingParams(temperature=0.5, top_k=3, temperature_last=True)
    step = flat(SamplingParams(tfs=0.9), SamplingParams(top_k=7), last, SamplingParams(tfs=0.25))
    assert step.needs.stages
    assert step.stages is not None
    groups = by_stages(step.stages)
    assert {stages: samples.tolist() for stages, samples in groups.items()} == {
        ("tfs",): [0, 3], ("top_k", "temperature"): [2]
    }  # fmt: skip
    parameters = parameters_of(step.stages, np.float32)
    assert list(parameters) == [parameter.name for parameter in STAGED]
    assert parameters["tfs"][[0, 2, 3], 0].tolist() == [np.float32(0.9), 1, 0.25]
    assert (parameters["temperature"][2, 0], parameters["top_k"][2, 0]) == (0.5, 3)
    samples = step.arrays.samples
    assert samples.top_k.tolist() == [0, 7, 0, 0]
    assert samples.temperature.tolist() == [1, 1, 1, 1]


def test_how_often_top_choices_are_left_out() -> None:
    params = SamplingParams(xtc_probability=0.3, xtc_threshold=0.25)
    turns = []
    for seed in range(20):
        for position in range(100):
            step = flat(params, seed=seed, position=position)
            assert step.stages is not None
            turns.append(float(parameters_of(step.stages, np.float32)["xtc_threshold"][0, 0]))
    assert set(turns) == {0.25, 2.0}
    assert abs(turns.count(0.25) / 2000 - 0.3) < 0.05  # five standard deviations
    again = flat(params, seed=3, position=7).stages
    assert again is not None
    np.testing.assert_array_equal(again, flat(params, seed=3, position=7).stages)


def test_the_turn_does_not_go_with_the_draw() -> None:
    params = SamplingParams(xtc_probability=0.5)
    steps = [flat(params, seed=stream_of(seed)) for seed in range(1000)]
    draws = np.array([step.arrays.samples.uniform[0] for step in steps])
    turns = np.array([parameters_of(step.stages, np.float32)["xtc_threshold"][0, 0] < 1 for step in steps])
    assert abs(np.corrcoef(draws, turns)[0, 1]) < 0.15


def test_numbers_beyond_float32_are_the_largest() -> None:
    step = flat(SamplingParams(top_a=1e300, temperature=1e300, top_k=2**40))
    assert step.stages is not None
    parameters = parameters_of(step.stages, np.float32)
    assert parameters["top_a"][0, 0] == parameters["temperature"][0, 0] == np.finfo(np.float32).max
    assert parameters["top_k"][0, 0] == np.float32(2**40)
