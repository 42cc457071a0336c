"""Families that see otherwise than LLaVA-1.5, with pictures of every shape, against transformers."""

from collections.abc import Callable
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
PLACEHOLDERS = {"gemma3": "<start_of_image>", "internvl-chat": "<IMG_CONTEXT>", "internvl-chat-rms": "<IMG_CONTEXT>"}
CHUNKS = {"max_num_batched_tokens": 13}
PREFIX_MASKED = ("paligemma", "paligemma2")  # whose prompts are never split: steps of one or two of them
# Programs of many sizes take long to compile: with JAX whole prompts are one family's.
WHOLE = pytest.mark.left_out("jax_tpu")
CASES = [
    *((name, CHUNKS if name not in PREFIX_MASKED else {"max_num_batched_tokens": 90}) for name in SEEING),
    *(pytest.param(name, {}, marks=() if name == "llava-next" else WHOLE) for name in SEEING),
    ("llava-next", {"enable_prefix_caching": False}),
]


@pytest.fixture(scope="module")
def answers(reference: References) -> Callable[[str], list[Answer]]:
    """What transformers answers with the checkpoint of that name."""

    @cache
    def ask(name: str) -> list[Answer]:
        return [
            reference(name).generate(
                text, [make("RGB", *SIZES[index]).rgb for index in shown] or None, max_new_tokens=MAX_TOKENS
            )
            for text, shown in asked(name)
        ]

    return ask


def asked(name: str) -> list[tuple[str, list[int]]]:
    """Prompts, each with the pictures that it shows."""
    placeholder = PLACEHOLDERS.get(name, "<image>")
    return [
        (text.replace("<image>", placeholder), shown)
        for text, shown in ASKED
        if name not in ONE_FEATURE or shown != [SIZES.index((3, 5))]
    ]


@pytest.mark.parametrize(("name", "options"), CASES, ids=str)
def test_pictures_of_every_shape(
    name: str, options: dict[str, Any], open_llm: OpenLlm, answers: Callable[[str], list[Answer]]
) -> None:
    """All in one batch, beside text alone; the second time from the prefix cache, where there is one."""
    expected = answers(name)
    assert len({tuple(answer.token_ids) for answer in expected}) > len(expected) // 2, "the pictures change the answer"
    prompts = [
        {
            "prompt": text,
            "multi_modal_data": {"image": [make("RGB", *SIZES[index]).given for index in shown] or None},
        }
        for text, shown in asked(name)
    ]
    with open_llm(name, limit_mm_per_prompt={"image": 2}, **options) as llm:
        for _ in range(2):
            for output, answer in zip(llm.generate(prompts, REPORTED, use_tqdm=False), expected, strict=True):
                assert_same(output, answer)
