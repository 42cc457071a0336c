"""Families that see otherwise than LLaVA-1.5, with pictures of every shape, against transformers."""

import pytest
from tests.parity.checkpoints import SEEING
from tests.parity.comparison import MAX_TOKENS, REPORTED, assert_same
from tests.parity.fixture_types import OpenLlm, References
from tests.parity.pictures import make

PROMPT = "USER: <image>\nWhat is the content of this image?\nASSISTANT:"
TWO = "USER: <image> or <image>?\nASSISTANT:"
# As large as a tile, wide, tall, very wide, very tall, smaller than a patch, larger than every grid, one off a tile.
SIZES = ((28, 28), (90, 30), (33, 80), (300, 20), (9, 120), (3, 5), (200, 170), (57, 29))


@pytest.mark.parametrize("options", [{}, {"max_num_batched_tokens": 13}, {"enable_prefix_caching": False}], ids=str)
@pytest.mark.parametrize("name", SEEING)
def test_pictures_of_every_shape(name: str, options: dict[str, int], open_llm: OpenLlm, reference: References) -> None:
    """All in one batch, beside text alone; the second time from the prefix cache, where there is one."""
    theirs = reference(name)
    pictures = [make("RGB", *size) for size in SIZES]
    given: list[tuple[str, list[int]]] = [(PROMPT, [index]) for index in range(len(SIZES))]
    given += [(TWO, [1, 6]), (TWO, [6, 1]), ("The quick brown fox", [])]
    prompts = [
        {"prompt": text, "multi_modal_data": {"image": [pictures[i].given for i in shown] or None}}
        for text, shown in given
    ]
    answers = [
        theirs.generate(text, [pictures[i].rgb for i in shown] or None, max_new_tokens=MAX_TOKENS)
        for text, shown in given
    ]
    assert len({tuple(answer.token_ids) for answer in answers}) > len(answers) // 2, "the pictures change the answer"
    with open_llm(name, limit_mm_per_prompt={"image": 2}, **options) as llm:
        for _ in range(2):
            for output, answer in zip(llm.generate(prompts, REPORTED, use_tqdm=False), answers, strict=True):
                assert_same(output, answer)
