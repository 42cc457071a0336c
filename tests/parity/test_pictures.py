"""Pictures of any size, mode and orientation, against transformers with the same picture in RGB."""

from collections.abc import Sequence

import pytest
from PIL import Image
from tests.parity.comparison import GREEDY, MAX_TOKENS, REPORTED, assert_same
from tests.parity.fixture_types import OpenLlm, References
from tests.parity.pictures import MODES, ORIENTATIONS, SIZES, Picture, make, turned
from tests.parity.reference import Reference
from tests.parity.selection import sparing

from aphrodite import LLM

PROMPT = "USER: <image>\nWhat is the content of this image?\nASSISTANT:"


def assert_seen(llm: LLM, reference: Reference, pictures: Sequence[Picture]) -> None:
    prompts = [{"prompt": PROMPT, "multi_modal_data": {"image": picture.given}} for picture in pictures]
    outputs = llm.generate(prompts, GREEDY, use_tqdm=False)
    answers = [reference.generate(PROMPT, picture.rgb, max_new_tokens=MAX_TOKENS) for picture in pictures]
    assert [output.outputs[0].token_ids for output in outputs] == [answer.token_ids for answer in answers]
    assert len({tuple(answer.token_ids) for answer in answers}) > len(answers) // 2  # or nothing was tested


# Every mode is RGB before a backend sees it.
@pytest.mark.parametrize("mode", sparing(MODES, ("RGB", "RGBA")))
@pytest.mark.parametrize("name", ["clip-llama", "siglip-qwen2"])
def test_sizes_and_modes(name: str, mode: str, open_llm: OpenLlm, reference: References) -> None:
    with open_llm(name) as llm:
        assert_seen(llm, reference(name), [make(mode, *size) for size in SIZES])


@pytest.mark.parametrize("chunks", [{}, {"max_num_batched_tokens": 7}], ids=str)
def test_several_pictures_in_a_prompt(chunks: dict[str, int], open_llm: OpenLlm, reference: References) -> None:
    """The same pictures in other orders, one of them twice; the second time all of it is in the prefix cache."""
    theirs, prompt = reference("clip-llama"), "USER: <image> beside <image>, then <image>\nWhich?\nASSISTANT:"
    first, second = (make("RGB", *size) for size in SIZES[:2])
    orders = [(first, second, first), (second, first, first), (first, first, first)]
    given = [{"prompt": prompt, "multi_modal_data": {"image": [one.given for one in order]}} for order in orders]
    expected = [theirs.generate(prompt, [one.rgb for one in order], max_new_tokens=MAX_TOKENS) for order in orders]
    assert len({tuple(answer.token_ids) for answer in expected}) == len(orders)
    with open_llm("clip-llama", limit_mm_per_prompt={"image": 3}, **chunks) as llm:
        for _ in range(2):
            for output, answer in zip(llm.generate(given, REPORTED, use_tqdm=False), expected, strict=True):
                assert_same(output, answer)


def test_exif_orientation(llava: LLM, reference: References) -> None:
    assert_seen(llava, reference("clip-llama"), [turned(orientation) for orientation in ORIENTATIONS])


def test_the_callers_picture_stays_as_it_is(llava: LLM) -> None:
    image = make("RGBA", 40, 30).given
    assert isinstance(image, Image.Image)
    before = image.copy()
    llava.generate({"prompt": PROMPT, "multi_modal_data": {"image": image}}, GREEDY, use_tqdm=False)
    assert (image.mode, image.size, image.tobytes()) == (before.mode, before.size, before.tobytes())
