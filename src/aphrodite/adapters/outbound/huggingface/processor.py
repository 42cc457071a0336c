"""Prompts made ready: text through the tokenizer, pictures through the model's own image processor."""

import hashlib
import json
import threading
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from aphrodite.adapters.outbound.huggingface.tokenizer import HuggingFaceTokenizer
from aphrodite.adapters.outbound.images.decoding import to_rgb
from aphrodite.domain.architectures.images.image import ImageInput, ImageSpan, cut_patches
from aphrodite.domain.architectures.images.layout import ImageLayout, LaidOutImage
from aphrodite.domain.architectures.spec import ModelSpec, PixelNormalization
from aphrodite.domain.errors import CheckpointError, ImageError
from aphrodite.domain.prompting.prompts import (
    ProcessedPrompt,
    Prompt,
    check_placeholders,
    check_token_ids,
    expand_placeholders,
)

# Processors that scale the shorter side to the tower's size make of a thin line a picture of any size.
_MAX_ASPECT_RATIO = 200


class HuggingFaceProcessor:
    """Tokenises, resizes and crops; implements the Processor port. Thread-safe.

    Pixels stay uint8: `normalization` says what is left to do to them. How many tokens a picture takes is the
    model's to say and never the processor's, whose configuration may be older than that question.

    `fingerprint` stands for the model in each picture's content hash.

    Raises CheckpointError when the folder of a vision-language model has no image processor, or one that makes
    pictures of another size than the tower reads.
    """

    def __init__(
        self,
        tokenizer: HuggingFaceTokenizer,
        model: ModelSpec,
        folder: Path,
        *,
        fingerprint: bytes,
        trust_remote_code: bool = False,
    ) -> None:
        self._tokenizer = tokenizer
        self._model = model
        self.normalization: PixelNormalization | None = None
        # Pillow reads files late and not thread-safely, and one image may stand in several prompts: the same image
        # always meets the same lock.
        self._locks = [threading.Lock() for _ in range(16)]
        if model.vision is None:
            return
        self._image_processor = _load(folder, trust_remote_code)
        settings = self._image_processor.to_dict()
        self.normalization = _normalization(settings)
        identity = json.dumps(settings, sort_keys=True, default=str).encode()
        self._hash_key = hashlib.blake2b(fingerprint + b"\0" + identity, digest_size=32).digest()
        self._patch_size = model.vision.patch_size
        self._check_size(model.vision.image_size, folder)

    def process(self, prompt: Prompt) -> ProcessedPrompt:
        """Token ids with each image's in place of its placeholder, and the images' patches.

        Raises PlaceholderError, ImageError or PromptError.
        """
        layout = self._model.images
        token_ids = self._encode(prompt)
        check_placeholders(token_ids, self._model.image_token_id, len(prompt.images))
        spans: tuple[ImageSpan, ...] = ()
        if layout is not None and prompt.images:
            images = [self._read(image, layout) for image in prompt.images]
            token_ids, spans = expand_placeholders(token_ids, layout.placeholder_id, images)
        check_token_ids(token_ids, self._model.decoder.vocab_size)
        return ProcessedPrompt(prompt.text, token_ids, spans)

    def _encode(self, prompt: Prompt) -> list[int]:
        if prompt.token_ids is not None:
            return list(prompt.token_ids)
        text, special = prompt.text or "", prompt.add_special_tokens
        if prompt.placeholder_offsets is None:
            return self._tokenizer.encode(text, add_special_tokens=special)
        return self._tokenizer.encode_with_placeholders(text, prompt.placeholder_offsets, add_special_tokens=special)

    def _read(self, image: Any, layout: ImageLayout) -> tuple[LaidOutImage, ImageInput]:
        """An image's place in a prompt, and its patches, hashed before it was resized."""
        with self._locks[id(image) // 64 % len(self._locks)]:
            picture = to_rgb(image)
        width, height = picture.size
        if max(width, height) > _MAX_ASPECT_RATIO * min(width, height):
            raise ImageError(
                f"The image is too thin, {width}x{height}; one side may be {_MAX_ASPECT_RATIO} times the other at most."
            )
        # Over the RGB pixels, so that palette, transparency and orientation count as well.
        digest = hashlib.blake2b(key=self._hash_key, digest_size=32)
        digest.update(f"{getattr(image, 'mode', 'RGB')} {width}x{height}\0".encode())
        digest.update(picture.tobytes())
        tiles = self._resize(picture)
        laid_out = layout.lay_out(width, height, len(tiles))
        return laid_out, ImageInput(cut_patches(tiles, self._patch_size), laid_out.plan, digest.digest())

    def _resize(self, picture: Image.Image) -> np.ndarray:
        """The tiles of a picture, uint8 [S, size, size, 3]."""
        try:
            output = self._image_processor(picture, do_rescale=False, do_normalize=False)
            pixels = np.asarray(output["pixel_values"])  # [1, 3, size, size], or [1, S, 3, size, size] in tiles
        except (ValueError, TypeError, OSError, KeyError, IndexError) as error:
            raise ImageError("The model's image processor cannot process this image.") from error
        return pixels.reshape(-1, *pixels.shape[-3:]).transpose(0, 2, 3, 1)

    def _check_size(self, image_size: int, folder: Path) -> None:
        """Processors have too many options to foresee what they make; a picture tells."""
        tiles = self._resize(Image.new("RGB", (image_size + 1, image_size + 3)))
        if tiles.shape[1:] != (image_size, image_size, 3) or tiles.dtype != np.uint8:
            raise CheckpointError(
                f"The image processor in {folder} makes {tiles.dtype} pixels {list(tiles.shape[1:])}, "
                f"the model's vision tower reads uint8 [{image_size}, {image_size}, 3]."
            )


def _load(folder: Path, trust_remote_code: bool) -> Any:
    from transformers import AutoImageProcessor

    loader: Any = AutoImageProcessor
    try:
        # Pillow on every machine: torchvision, where there is one, rounds in other places.
        return loader.from_pretrained(folder, backend="pil", trust_remote_code=trust_remote_code, local_files_only=True)
    except Exception as error:  # transformers raises nearly anything for missing and damaged files
        raise CheckpointError(
            f"No image processor can be read from {folder}; it needs a preprocessor_config.json."
        ) from error


def _normalization(settings: dict[str, Any]) -> PixelNormalization:
    scale = float(settings.get("rescale_factor") or 1 / 255) if settings.get("do_rescale") else 1.0
    if not settings.get("do_normalize"):
        return PixelNormalization(scale, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    return PixelNormalization(scale, _channels(settings["image_mean"]), _channels(settings["image_std"]))


def _channels(value: float | list[float]) -> tuple[float, float, float]:
    red, green, blue = [value] * 3 if isinstance(value, int | float) else value
    return float(red), float(green), float(blue)
