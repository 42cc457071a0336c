"""Families that see otherwise than LLaVA-1.5, with pictures of every shape, against transformers."""

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

import pytest
from tests.parity.checkpoints import SEEING
from tests.parity.comparison import MAX_TOKENS, REPORTED, assert_same
from tests.parity.fixture_types import OpenLlm, References
from tests.parity.pictures import make
from tests.parity.reference import Answer

PROMPT = "USER: <image>\nWhat is the content of this image?\nASSISTANT:"
TWO = "USER: <image> or <image>?\nASSISTANT:"
# As large as a tile, wide, tall, very wide, very tall, smaller than a patch, larger than every grid, one off a tile.
SIZES = ((28, 28), (90, 30), (33, 80), (300, 20), (9, 120), (3, 5), (200, 170), (57, 29))
ASKED: list[tuple[str, list[int]]] = [
    *((PROMPT, [index]) for index in range(len(SIZES))), (TWO, [1, 6]), (TWO, [6, 1]), ("The quick brown fox", [])
]  # fmt: skip
ONE_FEATURE = ("mistral3", "ministral3-vision")  # transformers' code fails for a picture of a single one
CHUNKS = {"max_num_batched_tokens": 13}
AGAIN = replace(REPORTED, prompt_logprobs=None)  # log-probabilities of a prompt are computed anew
PREFIX_MASKED = ("paligemma", "paligemma2")  # whose prompts are never split: steps of one or two of them
# Programs of many sizes take long to compile: with JAX whole prompts are one family's.
WHOLE = pytest.mark.left_out("jax_tpu")
CASES = [
    *((name, CHUNKS if name not in PREFIX_MASKED else {"max_num_batched_tokens": 90}) for name in SEEING),
    *(pytest.param(name, {}, marks=() if name == "llava-next" else WHOLE) for name in SEEING),
    ("llava-next", {"enable_prefix_caching": False}),
]


@pytest.fixture(scope="module")
def answers(reference: References) -> Callable[[str], list[tuple[str, list[int], Answer]]]:
    """What the checkpoint of that name is asked, each prompt with the pictures that it shows, and what transformers
    answers."""

    @cache
    def ask(name: str) -> list[tuple[str, list[int], Answer]]:
        theirs, answered = reference(name), []
        for words, shown in ASKED:
            if name not in ONE_FEATURE or shown != [SIZES.index((3, 5))]:
                text, pictures = theirs.in_its_words(words), [make("RGB", *SIZES[index]).rgb for index in shown]
                answered.append((text, shown, theirs.generate(text, pictures or None, max_new_tokens=MAX_TOKENS)))
        return answered

    return ask


@pytest.mark.parametrize(("name", "options"), CASES, ids=str)
def test_pictures_of_every_shape(
    name: str, options: dict[str, Any], open_llm: OpenLlm, answers: Callable[[str], list[tuple[str, list[int], Answer]]]
) -> None:
    """All in one batch, beside text alone; the second time from the prefix cache, where there is one."""
    asked = answers(name)
    expected = [answer for _, _, answer in asked]
    assert len({tuple(answer.token_ids) for answer in expected}) > len(expected) // 2, "the pictures change the answer"
    prompts = [
        {
            "prompt": text,
            "multi_modal_data": {"image": [make("RGB", *SIZES[index]).given for index in shown] or None},
        }
        for text, shown, _ in asked
    ]
    with open_llm(name, limit_mm_per_prompt={"image": 2}, **options) as llm:
        for params in (REPORTED, AGAIN):
            outputs = llm.generate(prompts, params, use_tqdm=False)
            for output, answer in zip(outputs, expected, strict=True):
                assert_same(output, answer)
    is_cached = options.get("enable_prefix_caching", True)
    assert all((output.num_cached_tokens > 0) == is_cached for output in outputs if len(output.prompt_token_ids) > 16)
