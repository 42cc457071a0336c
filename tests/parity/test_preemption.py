"""Requests that lose their KV blocks to older ones and run again, one step or two at a time in flight."""

from dataclasses import replace
from typing import Any

import pytest
from tests.parity.cases import IMAGE_CASES, TEXT_CASES, Case, about
from tests.parity.comparison import GREEDY, REPORTED, assert_answers
from tests.parity.fixture_types import Folders, OpenLlm, References
from tests.parity.installed import install
from tests.parity.memory import kv_cache_bytes, num_preemptions
from tests.parity.selection import sparing

# Families whose rows carry what LLaVA's do not: positions in rows and columns, deep features, what sees forward, words
# between rows of features, windows.
FAMILIES = (
    "deepseek-vl", "gemma3", "glm4v", "glm4v-moe", "glm46v", "glm-ocr", "granite-vision", "idefics3", "internvl",
    "internvl-chat", "lighton-ocr", "llava-next", "llava-onevision", "llava-pixtral", "mistral3", "ministral3-vision",
    "paddleocr-vl", "qwen2-vl", "qwen2.5-vl", "qwen3-vl", "qwen3-vl-moe", "smolvlm", "vipllava",
)  # fmt: skip
FAMILIES_ON_JAX = ("gemma3", "qwen3-vl", "qwen3-vl-moe")
CASES = (*IMAGE_CASES, *TEXT_CASES)
MANY_TOKENS = 24
"""Prompts are admitted where they fit; answers this long then make them crowd each other out."""


@pytest.fixture(params=[1, 2])
def in_flight(request: pytest.FixtureRequest, backend: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """A backend that has as many steps in flight; 2: a step starts before the last one's tokens are known."""
    return install(monkeypatch, backend, max_steps_in_flight=request.param)


OPTIONS: list[dict[str, int]] = [{}, {"max_num_batched_tokens": 3}, {"block_size": 1}, {"max_num_seqs": 2}]


@pytest.mark.parametrize("options", sparing(OPTIONS, OPTIONS[:2]), ids=str)
def test_steps_in_flight(options: dict[str, Any], in_flight: str, open_llm: OpenLlm, reference: References) -> None:
    with open_llm("clip-llama", backend=in_flight, **options) as llm:
        for params in (GREEDY, REPORTED):
            assert_answers(llm, reference("clip-llama"), CASES * 2, params)
        assert num_preemptions(llm) == 0


@pytest.mark.parametrize("enable_prefix_caching", [True, False])
@pytest.mark.parametrize("chunks", [{}, {"max_num_batched_tokens": 7}], ids=str)
@pytest.mark.parametrize("block_size", sparing([1, 8, 16, 32], [8]))
def test_preemption(
    block_size: int, chunks: dict[str, int], enable_prefix_caching: bool,
    in_flight: str, open_llm: OpenLlm, folder: Folders, reference: References,
) -> None:  # fmt: skip
    theirs = reference("clip-llama")
    longest = max(len(theirs.answer(case, MANY_TOKENS).prompt_token_ids) for case in CASES) + MANY_TOKENS
    with open_llm(
        "clip-llama",
        backend=in_flight,
        block_size=block_size,
        **chunks,
        kv_cache_memory=kv_cache_bytes(folder("clip-llama"), longest + 40, block_size),
        enable_prefix_caching=enable_prefix_caching,
    ) as llm:
        for params in (GREEDY, REPORTED):
            before = num_preemptions(llm)
            assert_answers(llm, theirs, CASES * 2, replace(params, max_tokens=MANY_TOKENS))
            assert num_preemptions(llm) > before


@pytest.mark.parametrize("name", sparing(FAMILIES, FAMILIES_ON_JAX))
def test_preemption_of_a_family(name: str, open_llm: OpenLlm, folder: Folders, reference: References) -> None:
    """Pictures of several shapes, that are encoded anew or not, and answers that are run again behind them."""
    theirs = reference(name)
    asked = (about(3), about(2, "How many?"), about(4), Case("The quick brown fox"), about(1))
    cases = [replace(case, prompt=theirs.in_its_words(case.prompt)) for case in asked]
    longest = max(len(theirs.answer(case, MANY_TOKENS).prompt_token_ids) for case in cases) + MANY_TOKENS
    with open_llm(name, block_size=8, kv_cache_memory=kv_cache_bytes(folder(name), longest + 24, 8)) as llm:
        assert_answers(llm, theirs, cases * 2, replace(REPORTED, max_tokens=MANY_TOKENS))
        assert num_preemptions(llm) > 0
