from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from aphrodite.domain.errors import ImageError, PlaceholderError, PromptError
from aphrodite.domain.prompting.prompts import Prompt, check_token_ids, expand_placeholder, validate

PICTURE = Image.new("RGB", (2, 2))
PIXELS = np.zeros((2, 2, 3), np.uint8)


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("Hello", Prompt("Hello", None)),
        ({"prompt": "Hello"}, Prompt("Hello", None)),
        ({"prompt_token_ids": [1, 2]}, Prompt(None, (1, 2))),
        ({"prompt_token_ids": (1,)}, Prompt(None, (1,))),
        ({"prompt_token_ids": np.array([1, 2])}, Prompt(None, (1, 2))),
        ({"prompt": "Hello", "multi_modal_data": None}, Prompt("Hello", None)),
        ({"prompt": "Hello", "multi_modal_data": {"image": PICTURE}}, Prompt("Hello", None, PICTURE)),
        ({"prompt": "Hello", "multi_modal_data": {"image": [PICTURE]}}, Prompt("Hello", None, PICTURE)),
        ({"prompt_token_ids": [1], "multi_modal_data": {"image": PICTURE}}, Prompt(None, (1,), PICTURE)),
    ],
)
def test_every_accepted_form(prompt: Any, expected: Prompt) -> None:
    assert validate(prompt) == expected


def test_an_array_may_be_the_image() -> None:
    assert validate({"prompt": "Hello", "multi_modal_data": {"image": PIXELS}}).image is PIXELS


@pytest.mark.parametrize(
    ("prompt", "error", "sentence"),
    [
        (None, PromptError, "A prompt must be a string, .* got None"),
        (5, PromptError, "got int"),
        (b"Hello", PromptError, "got bytes"),
        (["Hello"], PromptError, "got list"),
        ("", PromptError, "prompt is empty"),
        ({}, PromptError, 'either "prompt" or "prompt_token_ids"'),
        ({"prompt": ""}, PromptError, "prompt is empty"),
        ({"prompt": None}, PromptError, '"prompt" must be a string, got None'),
        ({"prompt": ["Hello"]}, PromptError, "got list"),
        ({"prompt": "Hello", "prompt_token_ids": [1]}, PromptError, "and not both"),
        ({"prompt": "Hello", "multimodal_data": {}}, PromptError, "Unknown key in a prompt: multimodal_data"),
        ({"prompt_token_ids": []}, PromptError, "prompt is empty"),
        ({"prompt_token_ids": "12"}, PromptError, "list of integers, got str"),
        ({"prompt_token_ids": 12}, PromptError, "list of integers, got int"),
        ({"prompt_token_ids": [1, "2"]}, PromptError, "must hold integers, got str"),
        ({"prompt_token_ids": [1.0]}, PromptError, "must hold integers, got float"),
        ({"prompt_token_ids": [True]}, PromptError, "must hold integers, got bool"),
        ({"prompt_token_ids": np.zeros((1, 2), int)}, PromptError, "must hold integers, got ndarray"),
        ({"prompt": "Hello", "multi_modal_data": PICTURE}, PromptError, '"multi_modal_data" must be .*, got Image'),
        (
            {"prompt": "Hello", "multi_modal_data": {"video": 1}},
            PromptError,
            'Unknown key in "multi_modal_data": video',
        ),
        (
            {"prompt": "Hello", "multi_modal_data": {"image": [PICTURE, PICTURE]}},
            PromptError,
            r"^At most 1 image may be provided in one prompt, got 2\.$",
        ),
        ({"prompt": "Hello", "multi_modal_data": {"image": []}}, PromptError, "is an empty list; pass one image"),
        ({"prompt": "Hello", "multi_modal_data": {"image": "cat.png"}}, ImageError, "must be a PIL image"),
        ({"prompt": "Hello", "multi_modal_data": {"image": b"\x89PNG"}}, ImageError, "must be a PIL image"),
    ],
)
def test_each_wrong_form_has_its_sentence(prompt: object, error: type[PromptError], sentence: str) -> None:
    with pytest.raises(error, match=sentence):
        validate(prompt)


@given(
    before=st.lists(st.integers(0, 8), max_size=5),
    after=st.lists(st.integers(0, 8), max_size=5),
    num_image_tokens=st.integers(1, 5),
)
def test_the_placeholder_becomes_the_images_tokens(before: list[int], after: list[int], num_image_tokens: int) -> None:
    token_ids, start = expand_placeholder([*before, 9, *after], 9, num_image_tokens, has_image=True)
    assert start == len(before)
    assert token_ids == [*before, *[9] * num_image_tokens, *after]


@pytest.mark.parametrize(
    ("token_ids", "image_token_id", "has_image", "sentence"),
    [
        ([1, 2], None, True, "reads text only"),
        ([1, 2], 9, True, "an image but no placeholder"),
        ([1, 9], 9, False, "a placeholder but no image|placeholder but no image"),
        ([9, 9], 9, True, "2 image placeholders for one image"),
        ([9, 9], 9, False, "placeholder but no image"),
    ],
)
def test_images_and_placeholders_match_one_to_one(
    token_ids: list[int], image_token_id: int | None, has_image: bool, sentence: str
) -> None:
    with pytest.raises(PlaceholderError, match=sentence):
        expand_placeholder(token_ids, image_token_id, 3, has_image)


def test_text_alone_stays_as_it_is() -> None:
    assert expand_placeholder([1, 2], None, 0, has_image=False) == ([1, 2], None)
    assert expand_placeholder([1, 2], 9, 3, has_image=False) == ([1, 2], None)


@pytest.mark.parametrize("token_ids", [[-1], [5, 10], [2**70]])
def test_token_ids_outside_the_vocabulary_are_named(token_ids: list[int]) -> None:
    with pytest.raises(PromptError, match=f"Token id {token_ids[-1]} is outside the vocabulary of 10 tokens"):
        check_token_ids(token_ids, 10)


def test_token_ids_within_the_vocabulary_pass() -> None:
    check_token_ids([0, 9], 10)
    with pytest.raises(PromptError, match="empty"):
        check_token_ids([], 10)
