"""Prompts made ready: text through the tokenizer, pictures through the model's own image processor."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from aphrodite.adapters.outbound.huggingface.image_processing import HuggingFaceImageProcessing, TileSize
from aphrodite.adapters.outbound.huggingface.tokenizer import HuggingFaceTokenizer
from aphrodite.adapters.outbound.images.processing import ResizedImage
from aphrodite.domain.architectures.images.image import ImageInput, ImageSpan, cut_patches
from aphrodite.domain.architectures.images.layout import ImageLayout, LaidOutImage, Tiles
from aphrodite.domain.architectures.spec import ModelSpec, PixelNormalization
from aphrodite.domain.prompting.prompts import (
    ProcessedPrompt,
    Prompt,
    check_placeholders,
    check_token_ids,
    expand_placeholders,
    framed,
    with_margins,
)


class HuggingFaceProcessor:
    """Tokenises, and has pictures resized; implements the Processor port. Thread-safe.

    Pixels stay uint8: `normalization` says what is left to do to them. How many tokens a picture takes is the
    model's to say and never the processor's, whose configuration may be older than that question.

    `fingerprint` stands for the model in each picture's content hash; `settings` stand in place of the image
    processor's own, and ConfigError says which are not for it.

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
        settings: Mapping[str, Any] | None = None,
        trust_remote_code: bool = False,
    ) -> None:
        self._tokenizer = tokenizer
        self._model = model
        self.image_processing = None  # None for a text-only model
        self.normalization: PixelNormalization | None = None
        if model.vision is not None and model.images is not None:
            self.image_processing = HuggingFaceImageProcessing(
                folder,
                TileSize.of(model.vision),
                fingerprint=fingerprint,
                options=model.images.processor_options,
                described=model.image_processor,
                settings=settings,
                trust_remote_code=trust_remote_code,
            )
            self.normalization = self.image_processing.normalization
            self._patch_size = model.vision.patch_size

    def process(self, prompt: Prompt) -> ProcessedPrompt:
        """Token ids with each image's in place of its placeholder, and the images' patches.

        A picture that comes as a ResizedImage is taken as it is.

        Raises PlaceholderError, ImageError or PromptError.
        """
        layout = self._model.images
        token_ids = self._encode(prompt)
        placeholder_id, placeholder = self._model.image_token_id, self._tokenizer.image_token
        check_placeholders(token_ids, placeholder_id, placeholder, len(prompt.images))
        spans: tuple[ImageSpan, ...] = ()
        if layout is not None and self.image_processing is not None and prompt.images:
            processing = self.image_processing.with_settings(prompt.processor_settings)
            images = [self._read(image, layout, processing) for image in prompt.images]
            encode = partial(self._tokenizer.encode, add_special_tokens=False)
            token_ids, spans = expand_placeholders(
                token_ids,
                layout.placeholder_id,
                images,
                encode,
                sees_forward=self._model.sees_forward == "image",
                margin=self._model.image_margin if prompt.text is None else "",  # a text has it already
            )
        check_token_ids(token_ids, self._model.decoder.vocab_size)
        return ProcessedPrompt(prompt.text, token_ids, spans)

    def _encode(self, prompt: Prompt) -> list[int]:
        if prompt.token_ids is not None:
            return list(prompt.token_ids)
        text, special, offsets = prompt.text or "", prompt.add_special_tokens, prompt.image_word_offsets
        placeholder, margin = self._tokenizer.image_token or "", self._model.image_margin
        if self._model.text_end:
            start, end = self._model.text_start, self._model.text_end
            text, special = framed(text, placeholder, offsets, start, end), False
        if margin:
            text, offsets = with_margins(text, placeholder, offsets, margin)
        if offsets is None:
            return self._tokenizer.encode(text, add_special_tokens=special)
        return self._tokenizer.encode_with_image_words(text, offsets, add_special_tokens=special)

    def _read(
        self, image: object, layout: ImageLayout, processing: HuggingFaceImageProcessing
    ) -> tuple[LaidOutImage, ImageInput]:
        """An image's place in a prompt, and its patches."""
        resized = image if isinstance(image, ResizedImage) else processing.read(image)
        height, width = (side // self._patch_size for side in resized.tiles.shape[1:3])
        tiles = Tiles(len(resized.tiles), resized.rows, resized.columns, height, width)
        laid_out = layout.lay_out(resized.width, resized.height, tiles)
        patches = cut_patches(resized.tiles, self._patch_size)
        if laid_out.order is not None:
            patches = patches[laid_out.order]
        return laid_out, ImageInput(patches, laid_out.plan, resized.content_hash)
