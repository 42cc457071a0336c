from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from aphrodite.domain.architectures.images.image import ImageInput
from aphrodite.domain.architectures.images.layout import FixedLayout, Tiles
from aphrodite.domain.errors import ImageError, PlaceholderError, ProcessorSettingsError, PromptError
from aphrodite.domain.prompting.prompts import (
    Prompt,
    check_placeholders,
    check_token_ids,
    expand_placeholders,
    framed,
    validate,
    with_margins,
)

PICTURE = Image.new("RGB", (2, 2))
PIXELS = np.zeros((2, 2, 3), np.uint8)


def nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("Hello", Prompt("Hello", None)),
        ({"prompt": "Hello"}, Prompt("Hello", None)),
        ({"prompt_token_ids": [1, 2]}, Prompt(None, (1, 2))),
        ({"prompt_token_ids": (1,)}, Prompt(None, (1,))),
        ({"prompt_token_ids": np.array([1, 2])}, Prompt(None, (1, 2))),
        ({"prompt": "Hello", "multi_modal_data": None}, Prompt("Hello", None)),
        ({"prompt": "Hello", "multi_modal_data": {"image": PICTURE}}, Prompt("Hello", None, (PICTURE,))),
        ({"prompt": "Hello", "multi_modal_data": {"image": [PICTURE]}}, Prompt("Hello", None, (PICTURE,))),
        ({"prompt_token_ids": [1], "multi_modal_data": {"image": PICTURE}}, Prompt(None, (1,), (PICTURE,))),
        ({"prompt": "Hello", "multi_modal_data": {"image": "cat.png"}}, Prompt("Hello", None, ("cat.png",))),
    ],
)
def test_every_accepted_form(prompt: Any, expected: Prompt) -> None:
    assert validate(prompt, max_images=1) == expected


def test_an_array_may_be_the_image() -> None:
    prompt = validate({"prompt": "Hello", "multi_modal_data": {"image": PIXELS}}, max_images=1)
    assert prompt.images[0] is PIXELS


def test_as_many_images_as_the_limit_says() -> None:
    several: dict[str, Any] = {"prompt": "Hello", "multi_modal_data": {"image": [PICTURE, PICTURE, PICTURE]}}
    assert validate(several, max_images=3).images == (PICTURE, PICTURE, PICTURE)
    with pytest.raises(PromptError, match=r"^At most 2 images may be provided in one prompt, got 3\.$"):
        validate(several, max_images=2)
    with pytest.raises(PromptError, match=r"^At most 0 images may be provided in one prompt, got 3\.$"):
        validate(several, max_images=0)


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
        ({"prompt": "Hello", "multi_modal_data": {"image": b"\x89PNG"}}, ImageError, "or a path, got bytes"),
        ({"prompt": "Hello", "multi_modal_data": {"image": [None]}}, ImageError, "or a path, got None"),
    ],
)
def test_each_wrong_form_has_its_sentence(prompt: object, error: type[PromptError], sentence: str) -> None:
    with pytest.raises(error, match=sentence):
        validate(prompt, max_images=1)


def test_crops_that_an_image_has_no_place_for_are_not_left_out_in_silence() -> None:
    with pytest.raises(ImageError, match="into 3 tiles; the most are 1"):
        FixedLayout(9, 4).lay_out(1, 1, Tiles(3))


@given(
    words=st.lists(st.lists(st.integers(0, 8), max_size=4), min_size=1, max_size=4),
    sizes=st.lists(st.integers(1, 5), min_size=3, max_size=3),
)
def test_each_placeholder_becomes_its_images_tokens(words: list[list[int]], sizes: list[int]) -> None:
    sizes = sizes[: len(words) - 1]
    given = [*words[0], *(token for after in words[1:] for token in (9, *after))]
    images = []
    for size in sizes:
        laid_out = FixedLayout(9, size).lay_out(1, 1, Tiles(1))
        images.append((laid_out, ImageInput(np.zeros((1, 3), np.uint8), laid_out.plan, b"")))
    token_ids, spans = expand_placeholders(given, 9, images, str.split)
    assert [span.num_tokens for span in spans] == sizes
    assert [token_ids[span.start : span.stop] for span in spans] == [[9] * size for size in sizes]
    for span in reversed(spans):
        token_ids[span.start : span.stop] = [9]
    assert token_ids == given


@pytest.mark.parametrize(
    ("token_ids", "image_token_id", "num_images", "sentence"),
    [
        ([1, 2], None, 1, "reads text only"),
        ([1, 2], 9, 1, r"an image but no placeholder; put \[IMG\] where"),
        ([1, 9], 9, 0, r"placeholder but no image; .* with each \[IMG\]\."),
        ([9, 9], 9, 1, r"2 image placeholders for one image; there must be one \[IMG\] for each"),
        ([9], 9, 2, "1 image placeholder for 2 images"),
        ([9, 9], 9, 0, "placeholder but no image"),
    ],
)
def test_images_and_placeholders_match_one_to_one(
    token_ids: list[int], image_token_id: int | None, num_images: int, sentence: str
) -> None:
    with pytest.raises(PlaceholderError, match=sentence):
        check_placeholders(token_ids, image_token_id, image_token_id and "[IMG]", num_images)


def test_as_many_placeholders_as_images_pass() -> None:
    check_placeholders([1, 2], None, None, 0)
    check_placeholders([1, 2], 9, "[IMG]", 0)
    check_placeholders([9, 2, 9], 9, "[IMG]", 2)


@pytest.mark.parametrize("token_ids", [[-1], [5, 10], [2**70]])
def test_token_ids_outside_the_vocabulary_are_named(token_ids: list[int]) -> None:
    with pytest.raises(PromptError, match=f"Token id {token_ids[-1]} is outside the vocabulary of 10 tokens"):
        check_token_ids(token_ids, 10)


def test_token_ids_within_the_vocabulary_pass() -> None:
    check_token_ids([0, 9], 10)
    with pytest.raises(PromptError, match="empty"):
        check_token_ids([], 10)


@pytest.mark.parametrize(
    ("text", "offsets", "expected"),
    [
        ("<image>Why?", None, "<image>(Why?)"),
        ("<image> or <image>?", None, "<image> or <image>(?)"),
        ("Why?", None, "(Why?)"),
        ("<image>What is <image>?", [0], "<image>(What is <image>?)"),  # a user wrote the second one
        ("What is <image>?", [], "(What is <image>?)"),
    ],
)
def test_text_is_framed_behind_the_last_image(text: str, offsets: list[int] | None, expected: str) -> None:
    assert framed(text, "<image>", offsets, "(", ")") == expected


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ([1], "must be a dictionary of the image processor's settings, got list"),
        ({1: 2}, "must be a dictionary"),
        ({"size": "x" * 2000}, "longer than 1000 characters of JSON"),
        ({"size": nested(100_000)}, "nested too deeply"),
    ],
)
def test_settings_of_the_image_processor_in_a_wrong_form(settings: Any, sentence: str) -> None:
    with pytest.raises(ProcessorSettingsError, match=sentence):
        validate({"prompt": "x", "mm_processor_kwargs": settings}, 1)


def test_settings_of_the_image_processor() -> None:
    settings = {"size": {"longest_edge": 56}}
    assert validate({"prompt": "x", "mm_processor_kwargs": settings}, 1).processor_settings == settings
    assert validate({"prompt": "x", "mm_processor_kwargs": None}, 1).processor_settings == {}


def test_margins_around_placeholders() -> None:
    text = "a <i> <e> <i>b <i>"
    assert with_margins(text, "<i>", None, "..") == ("a ..<i>.. <e> ..<i>..b ..<i>..", None)
    moved, offsets = with_margins(text, "<i>", (2, 6, 15), "..")  # the second of them is what a user wrote
    assert moved == "a ..<i>.. <e> <i>b ..<i>.."
    assert offsets is not None
    assert [moved[offset : offset + 3] for offset in offsets] == ["<i>", "<e>", "<i>"]
    assert (offsets[0], offsets[2]) == (4, 21)
    assert with_margins(text, "<i>", (), "..") == (text, ())
