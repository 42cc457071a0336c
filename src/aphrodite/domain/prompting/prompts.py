"""Prompt forms and their validation: so many images per prompt, placeholders match images."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from aphrodite.domain.architectures.images.image import ImageInput, ImageSpan
from aphrodite.domain.architectures.images.layout import LaidOutImage
from aphrodite.domain.errors import ImageError, PlaceholderError, ProcessorSettingsError, PromptError

_KEYS = ("prompt", "prompt_token_ids", "multi_modal_data", "mm_processor_kwargs")
_MAX_SETTINGS_CHARS = 1000  # as JSON


@dataclass(frozen=True, slots=True)
class Prompt:
    """One prompt, its form checked. Either `text` or `token_ids` is set."""

    text: str | None
    token_ids: tuple[int, ...] | None
    images: tuple[Any, ...] = ()  # PIL images, uint8 arrays [H, W, 3] or paths; opaque to the domain
    image_word_offsets: tuple[int, ...] | None = None  # character offsets in `text` of the placeholders, an image each,
    # and of the marks around them; any other occurrence of such a word is what a user wrote. None: every one counts.
    add_special_tokens: bool = True  # False when a chat template wrote them already
    processor_settings: Mapping[str, Any] = field(default_factory=dict)  # in place of the image processor's own


@dataclass(frozen=True, slots=True)
class ProcessedPrompt:
    """A prompt as the engine runs it: each placeholder is expanded to its image's tokens."""

    text: str | None
    token_ids: list[int]
    images: tuple[ImageSpan, ...] = ()  # in the order of their tokens

    @property
    def num_image_tokens(self) -> int:
        return sum(span.num_tokens for span in self.images)


def validate(prompt: object, max_images: int) -> Prompt:
    """Check one prompt's form. Raises PromptError or ImageError, with a sentence that says what to pass."""
    if isinstance(prompt, str):
        return _checked(prompt, None, ())
    if not isinstance(prompt, Mapping):
        raise PromptError(
            f'A prompt must be a string, {{"prompt": ...}} or {{"prompt_token_ids": ...}}, got {_type_name(prompt)}.'
        )
    unknown = sorted(str(key) for key in prompt if key not in _KEYS)
    if unknown:
        raise PromptError(f"Unknown key in a prompt: {unknown[0]}; it takes {', '.join(_KEYS)}.")
    if ("prompt" in prompt) == ("prompt_token_ids" in prompt):
        raise PromptError('A prompt needs either "prompt" or "prompt_token_ids", and not both.')
    images = _images_of(prompt.get("multi_modal_data"), max_images)
    settings = check_processor_settings(prompt.get("mm_processor_kwargs"))
    return replace(_checked(prompt.get("prompt"), prompt.get("prompt_token_ids"), images), processor_settings=settings)


def check_processor_settings(given: object) -> dict[str, Any]:
    """`mm_processor_kwargs` of one prompt; none where it has none. Raises ProcessorSettingsError for a wrong form."""
    if given is None:
        return {}
    if not isinstance(given, Mapping) or not all(isinstance(name, str) for name in given):
        raise ProcessorSettingsError(
            f"mm_processor_kwargs must be a dictionary of the image processor's settings, got {_type_name(given)}."
        )
    try:
        num_chars = len(json.dumps(dict(given), default=str))
    except RecursionError as error:
        raise ProcessorSettingsError("mm_processor_kwargs is nested too deeply.") from error
    if num_chars > _MAX_SETTINGS_CHARS:
        raise ProcessorSettingsError(f"mm_processor_kwargs is longer than {_MAX_SETTINGS_CHARS} characters of JSON.")
    return dict(given)


def check_num_images(num_images: int, max_images: int) -> None:
    """Raises PromptError for more images than one prompt may have."""
    if num_images > max_images:
        noun = "image" if max_images == 1 else "images"
        raise PromptError(f"At most {max_images} {noun} may be provided in one prompt, got {num_images}.")


def check_placeholders(
    token_ids: Sequence[int], placeholder_id: int | None, placeholder: str | None, num_images: int
) -> None:
    """Raises PlaceholderError when images and placeholders do not match one to one.

    The placeholder is given by its id and its string, both None for a text-only model.
    """
    if placeholder_id is None:
        if num_images:
            raise PlaceholderError("This model reads text only; remove the image, or choose a vision-language model.")
        return
    count = token_ids.count(placeholder_id)
    if num_images and count == 0:
        raise PlaceholderError(
            f"The prompt has an image but no placeholder; put {placeholder} where the image belongs."
        )
    if not num_images and count > 0:
        raise PlaceholderError(
            'The prompt has an image placeholder but no image; pass multi_modal_data={"image": ...} with each '
            f"{placeholder}."
        )
    if count != num_images:
        images = "one image" if num_images == 1 else f"{num_images} images"
        placeholders = "placeholder" if count == 1 else "placeholders"
        raise PlaceholderError(
            f"The prompt has {count} image {placeholders} for {images}; there must be one {placeholder} for each."
        )


def place_images(text: str, image_token: str, num_images: int) -> tuple[str, tuple[int, ...]]:
    """`text` with a place for each image, and the offsets of these places: where it holds the token already, its first
    occurrences, and in front of it, a line each, for the images beyond them.
    """
    pieces = text.split(image_token, num_images)
    num_missing = num_images + 1 - len(pieces)
    in_front = f"{image_token}\n" * num_missing
    offsets = [place * (len(image_token) + 1) for place in range(num_missing)]
    offset = len(in_front)
    for piece in pieces[:-1]:
        offset += len(piece)
        offsets.append(offset)
        offset += len(image_token)
    return in_front + text, tuple(offsets)


def framed(text: str, placeholder: str, offsets: Sequence[int] | None, start: str, end: str) -> str:
    """`text` with `start` behind its last placeholder, or in front where it has none, and `end` behind all of it.

    `offsets` as in Prompt.
    """
    places = (offset for offset in offsets or () if text.startswith(placeholder, offset))
    last = text.rfind(placeholder) if offsets is None else max(places, default=-1)
    words = last + len(placeholder) if last >= 0 else 0
    return text[:words] + start + text[words:] + end


def with_margins(
    text: str, placeholder: str, offsets: Sequence[int] | None, margin: str
) -> tuple[str, tuple[int, ...] | None]:
    """`text` with `margin` on both sides of each placeholder, and where its words of images are then.

    `offsets` as in Prompt.
    """
    if offsets is None:
        return text.replace(placeholder, margin + placeholder + margin), None
    pieces, moved, end, shift = [], [], 0, 0
    for offset in offsets:
        stop = offset + len(placeholder)
        if text.startswith(placeholder, offset):
            pieces += [text[end:offset], margin, placeholder, margin]
            moved.append(offset + shift + len(margin))
            end, shift = stop, shift + 2 * len(margin)
        else:
            moved.append(offset + shift)
    return "".join([*pieces, text[end:]]), tuple(moved)


def expand_placeholders(
    token_ids: Sequence[int],
    placeholder_id: int,
    images: Sequence[tuple[LaidOutImage, ImageInput]],
    encode: Callable[[str], Sequence[int]],
    sees_forward: bool = False,
    margin: str = "",
) -> tuple[list[int], tuple[ImageSpan, ...]]:
    """Put the tokens of an image in the place of each placeholder; there are as many of these as images.

    `encode` makes token ids of the text that a family writes between features; `sees_forward` as in ImageSpan.
    `margin` goes on both sides of what stands for an image.
    """
    expanded: list[int] = []
    spans = []
    remaining, around = iter(images), list(encode(margin)) if margin else []
    for token_id in token_ids:
        if token_id != placeholder_id:
            expanded.append(token_id)
            continue
        laid_out, image = next(remaining)
        of_image, is_feature = laid_out.tokens(placeholder_id, encode)
        expanded += around
        spans.append(ImageSpan(image, len(expanded), is_feature, laid_out.grid, sees_forward))
        expanded += [*of_image, *around]
    return expanded, tuple(spans)


def check_token_ids(token_ids: Sequence[int], vocab_size: int) -> None:
    """Raises PromptError for an empty prompt or an id outside the vocabulary."""
    if len(token_ids) == 0:
        raise PromptError("The prompt is empty; it needs at least one token.")
    for token_id in (min(token_ids), max(token_ids)):
        if not 0 <= token_id < vocab_size:
            raise PromptError(f"Token id {token_id} is outside the vocabulary of {vocab_size} tokens.")


def _checked(text: object, token_ids: object, images: tuple[object, ...]) -> Prompt:
    if token_ids is None:
        if not isinstance(text, str):
            raise PromptError(f'"prompt" must be a string, got {_type_name(text)}.')
        if not text:
            raise PromptError("The prompt is empty; it needs at least one token.")
        return Prompt(text, None, images)
    if isinstance(token_ids, str | bytes) or not isinstance(token_ids, Sequence | np.ndarray):
        raise PromptError(f'"prompt_token_ids" must be a list of integers, got {_type_name(token_ids)}.')
    for token_id in token_ids:
        if not isinstance(token_id, int | np.integer) or isinstance(token_id, bool):
            raise PromptError(f'"prompt_token_ids" must hold integers, got {_type_name(token_id)}.')
    if len(token_ids) == 0:
        raise PromptError("The prompt is empty; it needs at least one token.")
    return Prompt(None, tuple(int(token_id) for token_id in token_ids), images)


def _images_of(multi_modal_data: object, max_images: int) -> tuple[object, ...]:
    if multi_modal_data is None:
        return ()
    if not isinstance(multi_modal_data, Mapping):
        raise PromptError(f'"multi_modal_data" must be {{"image": ...}}, got {_type_name(multi_modal_data)}.')
    unknown = sorted(str(key) for key in multi_modal_data if key != "image")
    if unknown:
        raise PromptError(f'Unknown key in "multi_modal_data": {unknown[0]}; it takes image only.')
    given = multi_modal_data.get("image")
    if given is None:
        return ()
    images = tuple(given) if isinstance(given, list | tuple) else (given,)
    if not images:
        raise PromptError('"image" is an empty list; pass one image, or leave it out.')
    check_num_images(len(images), max_images)
    for image in images:
        if image is None or isinstance(image, bytes):
            raise ImageError(
                f"An image must be a PIL image, a uint8 array [height, width, 3] or a path, got {_type_name(image)}; "
                "open an image file's bytes with PIL first."
            )
    return images


def _type_name(value: object) -> str:
    return "None" if value is None else type(value).__name__
