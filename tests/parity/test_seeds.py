"""A seeded request draws the same tokens whatever happens around it, and only tokens that its filters leave in."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from tests.parity.cases import IMAGE_CASES, TEXT_CASES
from tests.parity.fixture_types import Folders, OpenLlm, References
from tests.parity.memory import kv_cache_bytes, num_preemptions
from tests.parity.selection import not_on_jax_tpu
from transformers import (
    EtaLogitsWarper,
    LogitsProcessor,
    LogitsProcessorList,
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
    TypicalLogitsWarper,
)

from aphrodite import LLM, SamplingParams

CASES = (*IMAGE_CASES, *TEXT_CASES)
FILTERED: tuple[dict[str, Any], ...] = (
    {"temperature": 1.0},
    {"temperature": 1.7, "top_k": 20},
    {"temperature": 1.3, "top_p": 0.6},
    {"temperature": 2.0, "min_p": 0.2},
    {"temperature": 1.5, "top_k": 30, "top_p": 0.8, "repetition_penalty": 1.4},
    {"temperature": 1.5, "typical_p": 0.7},
    {"temperature": 1.8, "top_k": 40, "eta_cutoff": 40},
)
# Not tfs: how the smallest probabilities curve is rounding, and a model of random weights has hundreds of such.
OTHERS: tuple[dict[str, Any], ...] = (
    {"xtc_probability": 0.5, "xtc_threshold": 0.001, "temperature": 1.5, "temperature_last": True},
    {"dynatemp_max": 2.5, "min_p": 0.02, "skew": 0.2},
    {"mirostat_mode": 2, "mirostat_tau": 4.0, "mirostat_eta": 0.5, "temperature": 1.4},
    {"no_repeat_ngram_size": 2, "dry_multiplier": 0.5, "dry_allowed_length": 1, "temperature": 1.2},
)
PARAMS = [
    SamplingParams(max_tokens=16, seed=index, **options) for index, options in enumerate((*FILTERED, *OTHERS) * 2)
]


def draw(llm: LLM, cases: Any, params: list[SamplingParams]) -> list[list[int]]:
    outputs = llm.generate([case.inputs for case in cases], params, use_tqdm=False)
    return [completion.token_ids for output in outputs for completion in output.outputs]


@pytest.fixture(scope="module")
def alone(llava: LLM) -> list[list[int]]:
    """What every pair of prompt and parameters draws with the engine to itself."""
    return [draw(llava, [case], [params])[0] for case, params in _pairs()]


def _pairs() -> list[tuple[Any, SamplingParams]]:
    return [(CASES[index % len(CASES)], params) for index, params in enumerate(PARAMS)]


def test_answers_differ(alone: list[list[int]]) -> None:
    assert len({tuple(tokens) for tokens in alone}) == len(alone)


def test_repeated(llava: LLM, alone: list[list[int]]) -> None:
    assert [draw(llava, [case], [params])[0] for case, params in _pairs()] == alone


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"max_num_batched_tokens": 3},
        pytest.param({"max_num_batched_tokens": 16, "block_size": 1}, marks=not_on_jax_tpu),
        {"max_num_seqs": 3},
        {"enable_prefix_caching": False},
        {"seed": 99},
    ],
    ids=str,
)
def test_in_a_batch(options: dict[str, Any], open_llm: OpenLlm, alone: list[list[int]]) -> None:
    others = [SamplingParams(max_tokens=9, temperature=1.2, top_p=0.9), SamplingParams(max_tokens=5, temperature=0)]
    with open_llm("clip-llama", **options) as llm:
        cases, params = zip(*_pairs(), strict=True)
        assert draw(llm, cases, list(params)) == alone
        mixed = draw(llm, [*CASES[:2], *cases], [*others, *params])
        assert mixed[len(others) :] == alone


def test_preempted(open_llm: OpenLlm, folder: Folders, alone: list[list[int]]) -> None:
    with open_llm("clip-llama", kv_cache_memory=kv_cache_bytes(folder("clip-llama"), 160, 8), block_size=8) as llm:
        cases, params = zip(*_pairs(), strict=True)
        assert draw(llm, cases, list(params)) == alone
        assert num_preemptions(llm) > 0


def test_completions_of_one_prompt(llava: LLM) -> None:
    params = SamplingParams(max_tokens=16, seed=5, temperature=1.5, n=4)
    four = draw(llava, [CASES[0]], [params])
    assert len({tuple(tokens) for tokens in four}) == 4
    assert draw(llava, [CASES[0]], [params]) == four
    assert draw(llava, [CASES[0]], [replace(params, n=1)]) == four[:1]
    neighbours = draw(llava, [CASES[0]] * 3, [replace(params, n=1, seed=seed) for seed in (6, 7, 8)])
    assert not any(tokens in four for tokens in neighbours)


@pytest.mark.parametrize("options", FILTERED, ids=str)
def test_only_what_transformers_leaves_in(options: dict[str, Any], llava: LLM, reference: References) -> None:
    """Replays every draw over transformers' logits and its own filters."""
    theirs, case = reference("clip-llama"), CASES[0]
    drawn = draw(llava, [case] * 6, [SamplingParams(max_tokens=16, seed=seed, **options) for seed in range(6)])
    inputs = theirs.inputs(case.prompt, case.image)
    num_prompt_tokens = inputs["input_ids"].shape[1]
    num_left_out = 0
    for tokens in drawn:
        ids = torch.cat((inputs["input_ids"], torch.tensor([tokens])), dim=1)
        with torch.inference_mode():
            logits = theirs.model(input_ids=ids, pixel_values=inputs["pixel_values"]).logits[0]
        for position, token in enumerate(tokens, start=num_prompt_tokens):
            scores = _warpers(options)(ids[:, :position], logits[None, position - 1])[0]
            assert scores[token] > -torch.inf
            num_left_out += int(scores.isinf().sum())
    assert (num_left_out > 0) == (options.keys() & {"top_k", "top_p", "min_p", "typical_p", "eta_cutoff"} != set())


def _warpers(options: dict[str, Any]) -> LogitsProcessorList:
    makers: dict[str, Callable[..., LogitsProcessor]] = {
        "repetition_penalty": RepetitionPenaltyLogitsProcessor,
        "temperature": TemperatureLogitsWarper,
        "top_k": TopKLogitsWarper,
        "top_p": TopPLogitsWarper,
        "min_p": MinPLogitsWarper,
        "typical_p": TypicalLogitsWarper,
        "eta_cutoff": lambda eta: EtaLogitsWarper(eta * 1e-4),
    }
    return LogitsProcessorList(make(options[name]) for name, make in makers.items() if name in options)


def test_smallest_temperature_is_greedy(llava: LLM, reference: References) -> None:
    for temperature in (1e-30, 1e-38, 5e-324):
        params = SamplingParams(max_tokens=8, seed=1, temperature=temperature)
        for case in CASES:
            assert draw(llava, [case], [params]) == [reference("clip-llama").answer(case, 8).token_ids]
