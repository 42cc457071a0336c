"""Prompt forms and their validation: one image per prompt, placeholders match images."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from aphrodite.domain.errors import ImageError, PlaceholderError, PromptError


@dataclass(frozen=True, slots=True)
class Prompt:
    """One prompt, its form checked. Either `text` or `token_ids` is set."""

    text: str | None
    token_ids: tuple[int, ...] | None
    image: Any | None = None  # a PIL image or a uint8 array [H, W, 3]; opaque to the domain
    placeholder_offset: int | None = None  # character offset of the one placeholder in `text`; any other occurrence
    # of the placeholder's string is what a user wrote. None: every occurrence is a placeholder.
    literal_placeholders: bool = False  # with no image: the placeholder's string in `text` is what a user wrote
    add_special_tokens: bool = True  # False when a chat template wrote them already


@dataclass(frozen=True, slots=True)
class ProcessedImage:
    """A picture made ready: where its tokens stand, and what the vision tower reads."""

    pixels: np.ndarray  # uint8 [image_size, image_size, 3]
    content_hash: bytes  # over pixels, mode, size, processor settings and model
    start: int  # position of its first token
    num_tokens: int


@dataclass(frozen=True, slots=True)
class ProcessedPrompt:
    """A prompt as the engine runs it: the placeholder is expanded to the image's tokens."""

    text: str | None
    token_ids: list[int]
    image: ProcessedImage | None = None


def validate(prompt: object) -> Prompt:
    """Check one prompt's form. Raises PromptError or ImageError, with a sentence that says what to pass."""
    if isinstance(prompt, str):
        return _checked(prompt, None, None)
    if not isinstance(prompt, Mapping):
        raise PromptError(
            f'A prompt must be a string, {{"prompt": ...}} or {{"prompt_token_ids": ...}}, got {_type_name(prompt)}.'
        )
    unknown = sorted(str(key) for key in prompt if key not in ("prompt", "prompt_token_ids", "multi_modal_data"))
    if unknown:
        raise PromptError(
            f"Unknown key in a prompt: {unknown[0]}; it takes prompt, prompt_token_ids and multi_modal_data."
        )
    if ("prompt" in prompt) == ("prompt_token_ids" in prompt):
        raise PromptError('A prompt needs either "prompt" or "prompt_token_ids", and not both.')
    return _checked(prompt.get("prompt"), prompt.get("prompt_token_ids"), prompt.get("multi_modal_data"))


def expand_placeholder(
    token_ids: Sequence[int], image_token_id: int | None, num_image_tokens: int, has_image: bool
) -> tuple[list[int], int | None]:
    """Put `num_image_tokens` tokens in the place of the one placeholder.

    Returns the token ids and the position of the first image token (None without an image).
    Raises PlaceholderError when images and placeholders do not match one to one.
    """
    ids = list(token_ids)
    if image_token_id is None:
        if has_image:
            raise PlaceholderError("This model reads text only; remove the image, or choose a vision-language model.")
        return ids, None
    count = ids.count(image_token_id)
    if has_image and count == 0:
        raise PlaceholderError("The prompt has an image but no placeholder; put <image> where the image belongs.")
    if not has_image and count > 0:
        raise PlaceholderError(
            'The prompt has an image placeholder but no image; pass multi_modal_data={"image": ...} with it.'
        )
    if count > 1:
        raise PlaceholderError(f"The prompt has {count} image placeholders for one image; keep one of them.")
    if not has_image:
        return ids, None
    start = ids.index(image_token_id)
    return ids[:start] + [image_token_id] * num_image_tokens + ids[start + 1 :], start


def check_token_ids(token_ids: Sequence[int], vocab_size: int) -> None:
    """Raises PromptError for an empty prompt or an id outside the vocabulary."""
    if len(token_ids) == 0:
        raise PromptError("The prompt is empty; it needs at least one token.")
    for token_id in (min(token_ids), max(token_ids)):
        if not 0 <= token_id < vocab_size:
            raise PromptError(f"Token id {token_id} is outside the vocabulary of {vocab_size} tokens.")


def _checked(text: object, token_ids: object, multi_modal_data: object) -> Prompt:
    image = _single_image(multi_modal_data)
    if token_ids is None:
        if not isinstance(text, str):
            raise PromptError(f'"prompt" must be a string, got {_type_name(text)}.')
        if not text:
            raise PromptError("The prompt is empty; it needs at least one token.")
        return Prompt(text, None, image)
    if isinstance(token_ids, str | bytes) or not isinstance(token_ids, Sequence | np.ndarray):
        raise PromptError(f'"prompt_token_ids" must be a list of integers, got {_type_name(token_ids)}.')
    for token_id in token_ids:
        if not isinstance(token_id, int | np.integer) or isinstance(token_id, bool):
            raise PromptError(f'"prompt_token_ids" must hold integers, got {_type_name(token_id)}.')
    if len(token_ids) == 0:
        raise PromptError("The prompt is empty; it needs at least one token.")
    return Prompt(None, tuple(int(token_id) for token_id in token_ids), image)


def _single_image(multi_modal_data: object) -> object | None:
    if multi_modal_data is None:
        return None
    if not isinstance(multi_modal_data, Mapping):
        raise PromptError(f'"multi_modal_data" must be {{"image": ...}}, got {_type_name(multi_modal_data)}.')
    unknown = sorted(str(key) for key in multi_modal_data if key != "image")
    if unknown:
        raise PromptError(f'Unknown key in "multi_modal_data": {unknown[0]}; it takes image only.')
    image = multi_modal_data.get("image")
    if isinstance(image, list | tuple):
        if not image:
            raise PromptError('"image" is an empty list; pass one image, or leave it out.')
        if len(image) > 1:
            raise PromptError(f"At most 1 image may be provided in one prompt, got {len(image)}.")
        image = image[0]
    if isinstance(image, str | bytes):
        raise ImageError(
            "An image must be a PIL image or a uint8 array [height, width, 3]; open a path with PIL first."
        )
    return image


def _type_name(value: object) -> str:
    return "None" if value is None else type(value).__name__
