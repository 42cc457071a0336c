"""Every wrong prompt or parameter: a typed error with a sentence that helps, nothing scheduled, the engine unharmed."""

import io
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from aphrodite import LLM, SamplingParams
from aphrodite.domain.errors import (
    ImageError,
    ImageUnreachableError,
    PlaceholderError,
    PromptError,
    PromptTooLongError,
    RequestError,
    SamplingParamsError,
)

GREEDY = SamplingParams(temperature=0, max_tokens=4)
ONE = "USER: <image>\nWhat is it?\nASSISTANT:"
NONE = "USER: What is it?\nASSISTANT:"
TWO = "USER: <image>\n<image>\nWhat is it?\nASSISTANT:"
IMAGE = Image.new("RGB", (30, 20), "teal")


def truncated(kind: str) -> Image.Image:
    """A file that ends in the middle, opened and not yet read."""
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(file, kind)
    return Image.open(io.BytesIO(file.getvalue()[: len(file.getvalue()) // 2]))


def with_image(image: object, prompt: str = ONE) -> dict[str, Any]:
    return {"prompt": prompt, "multi_modal_data": {"image": image}}


# name -> (prompts, error, what its sentence says)
PROMPTS: dict[str, tuple[Any, type[RequestError], str]] = {
    "two images": (with_image([IMAGE, IMAGE]), PromptError, "^At most 1 image may be provided in one prompt, got 2.$"),
    "three images": (with_image((IMAGE,) * 3), PromptError, "^At most 1 image may be provided in one prompt, got 3.$"),
    "an image without a placeholder": (with_image(IMAGE, NONE), PlaceholderError, "no placeholder; put <image>"),
    "a placeholder without an image": (ONE, PlaceholderError, "placeholder but no image; pass multi_modal_data"),
    "a placeholder and None": (with_image(None), PlaceholderError, "placeholder but no image"),
    "two placeholders": (
        with_image(IMAGE, TWO),
        PlaceholderError,
        "2 image placeholders for one image; there must be one",
    ),
    "two placeholders without an image": (TWO, PlaceholderError, "placeholder"),
    "empty string": ("", PromptError, "is empty"),
    "empty prompt": ({"prompt": ""}, PromptError, "is empty"),
    "no token ids": ({"prompt_token_ids": []}, PromptError, "is empty"),
    "a negative token id": ({"prompt_token_ids": [5, -1]}, PromptError, "Token id -1 is outside the vocabulary of 424"),
    "a token id too high": ({"prompt_token_ids": [424, 5]}, PromptError, "Token id 424 is outside the vocabulary of"),
    "a huge token id": ({"prompt_token_ids": [2**70]}, PromptError, f"Token id {2**70} is outside the vocabulary of"),
    "half a surrogate pair": ("Hello \ud83d", PromptError, "surrogate"),
    "truncated PNG": (with_image(truncated("PNG")), ImageError, "broken or truncated"),
    "truncated JPEG": (with_image(truncated("JPEG")), ImageError, "broken or truncated"),
    "no width": (with_image(Image.new("RGB", (0, 7))), ImageError, "no pixels: its size is 0x7"),
    "no height": (with_image(np.zeros((0, 7, 3), np.uint8)), ImageError, "no pixels: its size is 7x0"),
    "a thread of pixels": (with_image(Image.new("L", (4000, 1))), ImageError, "too thin, 4000x1"),
    "a path": (with_image("picture.png"), ImageUnreachableError, "'picture.png' cannot be opened: No such file"),
    "bytes": (with_image(b"\x89PNG"), ImageError, "must be a PIL image"),
    "a number for an image": (with_image(3), ImageError, "must be a PIL image or a uint8 array .* got int"),
    "floats": (with_image(np.zeros((4, 4, 3))), ImageError, "uint8 .* got float64"),
    "channels first": (with_image(np.zeros((3, 8, 8), np.uint8)), ImageError, r"got uint8 with the shape \[3, 8, 8\]"),
    "no colours": (with_image(np.zeros((8, 8), np.uint8)), ImageError, r"got uint8 with the shape \[8, 8\]"),
    "a number for prompts": (7, PromptError, "got int"),
    "None for prompts": (None, PromptError, "got NoneType"),
    "a generator": ((prompt for prompt in ("a", "b")), PromptError, "got generator"),
    "bytes for prompts": (b"Hello", PromptError, "must be a string"),
    "a number": ([7], PromptError, "must be a string, .* got int"),
    "a list": ([["Hello"]], PromptError, "must be a string, .* got list"),
    "None": ([None], PromptError, "must be a string, .* got None"),
    "no key": ({}, PromptError, 'needs either "prompt" or "prompt_token_ids"'),
    "both keys": ({"prompt": "a", "prompt_token_ids": [5]}, PromptError, "and not both"),
    "an unknown key": ({"prompt": "a", "image": IMAGE}, PromptError, "Unknown key in a prompt: image"),
    "bytes for text": ({"prompt": b"a"}, PromptError, '"prompt" must be a string, got bytes'),
    "text for token ids": ({"prompt_token_ids": "12"}, PromptError, "must be a list of integers, got str"),
    "floats for token ids": ({"prompt_token_ids": [1.0]}, PromptError, "must hold integers, got float"),
    "truth for token ids": ({"prompt_token_ids": [True]}, PromptError, "must hold integers, got bool"),
    "a list for data": ({"prompt": ONE, "multi_modal_data": [IMAGE]}, PromptError, "multi_modal_data.*got list"),
    "audio": ({"prompt": "a", "multi_modal_data": {"audio": 1}}, PromptError, "audio; it takes image only"),
}


@pytest.fixture
def refuses(llm: LLM, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Asserts that a call raises the error and starts nothing, and that a good prompt is then answered as before."""

    def check(error: type[RequestError], sentence: str, prompts: Any, params: Any = GREEDY, asked: LLM = llm) -> None:
        good = with_image(IMAGE) if asked is llm else NONE
        (before,) = asked.generate(good, GREEDY, use_tqdm=False)
        with monkeypatch.context() as patch:
            patch.setattr(asked._engine, "add", None)
            patch.setattr(asked._engine, "step", None)
            with pytest.raises(error) as caught:
                asked.generate(prompts, params, use_tqdm=False)
        assert type(caught.value) is error
        assert re.search(sentence, str(caught.value))
        assert isinstance(caught.value, ValueError)
        assert str(caught.value).endswith(".")
        assert "\n" not in str(caught.value)
        assert not asked._engine.has_unfinished
        (after,) = asked.generate(good, GREEDY, use_tqdm=False)
        assert after.outputs[0].token_ids == before.outputs[0].token_ids

    return check


@pytest.mark.parametrize("name", PROMPTS)
def test_prompt(name: str, refuses: Callable[..., None]) -> None:
    prompts, error, sentence = PROMPTS[name]
    refuses(error, sentence, prompts)


def test_the_position_in_the_list_is_noted(llm: LLM, refuses: Callable[..., None]) -> None:
    """One bad prompt of a list stops the whole call; passed on their own the others run."""
    for bad, error in (("", PromptError), (ONE, PlaceholderError), ("Hello " * 600, PromptTooLongError)):
        prompts = ["Hello", with_image(IMAGE), bad, "Hello"]
        refuses(error, ".", prompts)
        with pytest.raises(error) as caught:
            llm.generate(prompts, GREEDY, use_tqdm=False)
        assert caught.value.__notes__ == ["(prompt 2 of the list)"]
    assert len(llm.generate(prompts[:2] + prompts[3:], GREEDY, use_tqdm=False)) == 3


@pytest.mark.parametrize("prompts", [with_image(IMAGE, NONE), with_image(IMAGE)])
def test_image_for_a_text_only_model(prompts: Any, text_llm: LLM, refuses: Callable[..., None]) -> None:
    refuses(PlaceholderError, "reads text only; remove the image", prompts, asked=text_llm)


def test_tokens_and_pictures_that_do_not_match(llm: LLM, refuses: Callable[..., None]) -> None:
    (output,) = llm.generate(with_image(IMAGE, "<image>"), GREEDY, use_tqdm=False)
    image_token_id = output.prompt_token_ids[-1]
    for count, image, sentence in (
        (0, IMAGE, "no placeholder"),
        (1, None, "no image"),
        (2, IMAGE, "there must be one"),
    ):
        ids = [5, *[image_token_id] * count, 6]
        refuses(PlaceholderError, sentence, {"prompt_token_ids": ids, "multi_modal_data": {"image": image}})


def test_prompt_longer_than_the_context(llava_folder: Path, refuses: Callable[..., None]) -> None:
    """Both numbers are in the sentence, and the picture counts with the tokens that it takes."""
    with LLM(str(llava_folder), device="cpu", kv_cache_memory=1 << 20) as unlimited:
        (output,) = unlimited.generate(with_image(IMAGE), GREEDY, use_tqdm=False)
    length = len(output.prompt_token_ids)
    for limit in (length - 1, length):
        with LLM(str(llava_folder), device="cpu", kv_cache_memory=1 << 20, max_model_len=limit) as llm:
            requested = rf"{length + 1} tokens \({length} in the prompt, 16 of them for images; 1 for the answer\)"
            sentence = f"^This model's maximum context length is {limit} tokens. However, you requested {requested}"
            with pytest.raises(PromptTooLongError, match=sentence):
                llm.generate(with_image(IMAGE), GREEDY, use_tqdm=False)
            assert llm.generate("Hi", GREEDY, use_tqdm=False)[0].finished
    with LLM(str(llava_folder), device="cpu", kv_cache_memory=1 << 20, max_model_len=length + 1) as llm:
        (output,) = llm.generate(with_image(IMAGE), GREEDY, use_tqdm=False)
    assert (len(output.outputs[0].token_ids), output.outputs[0].finish_reason) == (1, "length")


@pytest.mark.parametrize(
    ("prompts", "params", "sentence"),
    [
        (["a", "b"], [GREEDY], "has 1 entries for 2 prompts; pass one for all, or one for each"),
        (["a", "b"], [GREEDY] * 3, "has 3 entries for 2 prompts"),
        ("a", [], "has 0 entries for 1 prompts"),
        ([], [GREEDY], "has 1 entries for 0 prompts"),
        ("a", {}, "must be a SamplingParams or a list of them"),
        ("a", {"temperature": 0}, "must be a SamplingParams or a list of them"),
        ("a", 0, "must be a SamplingParams or a list of them"),
        (["a", "b"], [GREEDY, None], "must be a SamplingParams or a list of them"),
        ("a", SamplingParams(stop_token_ids=[424]), "stop_token_ids holds 424, the vocabulary has 424 tokens"),
        ("a", SamplingParams(allowed_token_ids=[3, 9999]), "allowed_token_ids holds 9999"),
        ("a", SamplingParams(logit_bias={500: 1.0}), "logit_bias holds 500"),
    ],
)
def test_sampling_params(prompts: Any, params: Any, sentence: str, refuses: Callable[..., None]) -> None:
    refuses(SamplingParamsError, sentence, prompts, params)
