"""A model's own image processor: pictures to uint8 pixels of the size that its vision tower reads."""

import hashlib
import json
import sys
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from aphrodite.adapters.outbound.images.decoding import to_rgb
from aphrodite.adapters.outbound.images.processing import ImageProcessing, ResizedImage
from aphrodite.domain.architectures.spec import PixelNormalization
from aphrodite.domain.architectures.vision_spec import VisionSpec
from aphrodite.domain.errors import CheckpointError, ConfigError, ImageError, ProcessorSettingsError

# Processors that scale the shorter side to the tower's size make of a thin line a picture of any size.
_MAX_ASPECT_RATIO = 200
# What the vision tower decides, or what is not for an operator to say.
_OF_THE_TOWER = frozenset({
    "patch_size", "temporal_patch_size", "merge_size", "do_rescale", "do_convert_rgb", "return_tensors", "data_format",
    "input_data_format", "device", "disable_grouping", "return_row_col_info",
    "do_pan_and_scan", "pan_and_scan_min_crop_size", "pan_and_scan_max_num_crops",
    "pan_and_scan_min_ratio_to_activate",  # Gemma 3's crops beside the picture, which are not laid out here
})  # fmt: skip
# What is left to do to the pixels, on the device, is the same for all requests.
_OF_ALL_REQUESTS = frozenset({"do_normalize", "image_mean", "image_std", "rescale_factor"})
_MAX_VARIANTS = 8  # processors with settings of requests that are kept
_NOT_FOR_IT = "mm_processor_kwargs: the model's image processor, or its vision tower, does not take {}."
# These resize every picture to what their `size` says; others take it for a limit, or cut tiles beside.
_OF_ONE_SIZE = ("CLIPImageProcessor", "LlavaImageProcessor", "SiglipImageProcessor")


@dataclass(frozen=True, slots=True)
class TileSize:
    """What a vision tower reads: tiles of `pixels` on a side, or of any multiples of that."""

    pixels: int
    is_multiple: bool

    @classmethod
    def of(cls, vision: VisionSpec) -> "TileSize":
        if vision.is_packed:
            return cls(vision.patch_size * vision.merge_side, True)
        return cls(vision.image_size, False)

    def fits(self, tiles: np.ndarray) -> bool:
        """Tiles [S, height, width, 3]."""
        sides = tiles.shape[1:3]
        if self.is_multiple:
            return all(side > 0 and side % self.pixels == 0 for side in sides)
        return sides == (self.pixels, self.pixels)

    def __str__(self) -> str:
        return f"[{self.pixels}, {self.pixels}, 3]{' and multiples' if self.is_multiple else ''}"


class HuggingFaceImageProcessing:
    """Resizes and crops as transformers does; implements ImageProcessing. Thread-safe.

    Pixels stay uint8: `normalization` says what is left to do to them. `fingerprint` stands for the model in each
    picture's content hash.

    Raises CheckpointError when the folder has no image processor, or one that makes pictures of another size than
    `tile_size`, which the tower reads. `options` go to each of its calls. `described`, in the words of
    a preprocessor_config.json, stands in place of the folder's. Raises ConfigError when the operator's `settings`,
    which stand in place of the processor's own, are not for it.
    """

    def __init__(
        self,
        folder: Path,
        tile_size: TileSize,
        *,
        fingerprint: bytes,
        options: Mapping[str, Any] | None = None,
        described: Mapping[str, Any] | None = None,
        settings: Mapping[str, Any] | None = None,
        trust_remote_code: bool = False,
    ) -> None:
        self._folder, self._tile_size, self._described = folder, tile_size, described
        self._options, self._settings = dict(options or {}), dict(settings or {})
        self._fingerprint, self._trust_remote_code = fingerprint, trust_remote_code
        self._processor = _load(folder, described, trust_remote_code)
        if self._settings:
            _check_settings(self._settings, self._processor)
            self._processor = _load(folder, described, trust_remote_code, self._settings)
        # Pillow reads files late and not thread-safely, and one image may stand in several prompts: the same image
        # always meets the same lock.
        self._locks = [threading.Lock() for _ in range(16)]
        whole = self._processor.to_dict() | self._options
        self.normalization = _normalization(whole)
        self.target_edge = _target_edge(whole)
        identity = json.dumps(whole, sort_keys=True, default=str).encode()
        self._hash_key = hashlib.blake2b(fingerprint + b"\0" + identity, digest_size=32).digest()
        self._check_size()
        self._variants: OrderedDict[str, HuggingFaceImageProcessing] = OrderedDict()  # the least recently used first
        self._variants_lock = threading.Lock()

    def with_settings(self, settings: Mapping[str, Any]) -> "HuggingFaceImageProcessing":
        """The same with a request's settings in place of its own. Raises ProcessorSettingsError."""
        if not settings:
            return self
        key = json.dumps(settings, sort_keys=True, default=str)
        with self._variants_lock:
            if key in self._variants:
                self._variants.move_to_end(key)
                return self._variants[key]
        try:
            _check_settings(settings, self._processor, _OF_ALL_REQUESTS)
            made = HuggingFaceImageProcessing(
                self._folder,
                self._tile_size,
                fingerprint=self._fingerprint,
                options=self._options,
                described=self._described,
                settings={**self._settings, **settings},
                trust_remote_code=self._trust_remote_code,
            )
        except (CheckpointError, ConfigError) as error:
            raise ProcessorSettingsError(str(error)) from error
        with self._variants_lock:
            self._variants[key] = made
            while len(self._variants) > _MAX_VARIANTS:
                self._variants.popitem(last=False)
        return made

    @property
    def loader(self) -> Callable[[], ImageProcessing]:
        """Makes the same one in a process of its own; picklable."""
        return partial(
            load_in_worker,
            self._folder,
            self._tile_size,
            fingerprint=self._fingerprint,
            options=self._options,
            described=self._described,
            settings=self._settings,
            trust_remote_code=self._trust_remote_code,
        )

    def read(self, image: object) -> ResizedImage:
        """A picture of any kind, hashed and resized. Raises ImageError."""
        with self._locks[id(image) // 64 % len(self._locks)]:
            picture = to_rgb(image)
        return self.resize(picture)

    def resize(self, picture: Image.Image) -> ResizedImage:
        """An upright RGB picture. Raises ImageError for one that is too thin."""
        width, height = picture.size
        if max(width, height) > _MAX_ASPECT_RATIO * min(width, height):
            raise ImageError(
                f"The image is too thin, {width}x{height}; one side may be {_MAX_ASPECT_RATIO} times the other at most."
            )
        # Over the RGB pixels: pictures are one when they look alike, whatever their files are.
        digest = hashlib.blake2b(f"{width}x{height}\0".encode(), key=self._hash_key, digest_size=32)
        digest.update(picture.tobytes())
        tiles, rows, columns = self._cut(picture)
        return ResizedImage(width, height, tiles, digest.digest(), rows, columns)

    def _cut(self, picture: Image.Image) -> tuple[np.ndarray, int, int]:
        """Tiles uint8 [S, size, size, 3], and how many rows and columns of them there are, where that is told."""
        asked: dict[str, Any] = {"return_row_col_info": True} if hasattr(self._processor, "return_row_col_info") else {}
        try:
            output = self._processor(picture, do_rescale=False, do_normalize=False, **asked, **self._options)
            pixels = np.asarray(output["pixel_values"])  # [1, 3, size, size], or [1, S, 3, size, size] in tiles
            if "image_grid_thw" in output:
                pixels = self._whole(pixels, *map(int, output["image_grid_thw"][0][1:]))
            rows, columns = (int(output[name][0][0]) for name in ("rows", "cols")) if asked else (0, 0)
        except (ValueError, TypeError, OSError, LookupError, ArithmeticError, AttributeError) as error:
            raise ImageError("The model's image processor cannot process this image.") from error
        return pixels.reshape(-1, *pixels.shape[-3:]).transpose(0, 2, 3, 1), rows, columns

    def _whole(self, patches: np.ndarray, rows: int, columns: int) -> np.ndarray:
        """The picture uint8 [1, 3, height, width] that Qwen's processor cut, by squares and twice for time, or
        PaddleOCR's, whose patches keep their sides, row by row."""
        side = 1 if patches.ndim == 4 else self._processor.merge_size
        size, channels_and_time = self._processor.patch_size, (3, -1)
        first = patches.reshape(len(patches), *channels_and_time, size, size)[:, :, 0].astype(np.uint8)
        squares = first.reshape(rows // side, columns // side, side, side, 3, size, size)
        return squares.transpose(4, 0, 2, 5, 1, 3, 6).reshape(1, 3, rows * size, columns * size)

    def _check_size(self) -> None:
        """Processors have too many options to foresee what they make; a picture tells."""
        if self._settings:
            try:
                self._check_tiles()
            except (CheckpointError, ImageError) as error:
                raise ConfigError(_NOT_FOR_IT.format(self._settings)) from error
        else:
            self._check_tiles()

    def _check_tiles(self) -> None:
        size = self._tile_size
        tiles, _, _ = self._cut(Image.new("RGB", (size.pixels + 1, size.pixels + 3)))
        if not size.fits(tiles) or tiles.dtype != np.uint8:
            raise CheckpointError(
                f"The image processor in {self._folder} makes {tiles.dtype} pixels {list(tiles.shape[1:])}, "
                f"the model's vision tower reads uint8 {size}."
            )


def load_in_worker(
    folder: Path,
    tile_size: TileSize,
    *,
    fingerprint: bytes,
    options: Mapping[str, Any],
    described: Mapping[str, Any] | None,
    settings: Mapping[str, Any],
    trust_remote_code: bool,
) -> HuggingFaceImageProcessing:
    """A HuggingFaceImageProcessing, in a process that does nothing else."""
    if not trust_remote_code:
        # transformers' own do without torch where there is none, and it takes seconds and 400 MB to import.
        sys.modules.setdefault("torch", None)  # type: ignore[arg-type]
    return HuggingFaceImageProcessing(
        folder,
        tile_size,
        fingerprint=fingerprint,
        options=options,
        described=described,
        settings=settings,
        trust_remote_code=trust_remote_code,
    )


def _check_settings(settings: Mapping[str, Any], processor: Any, not_to_set: frozenset[str] = frozenset()) -> None:
    from transformers.processing_utils import ImagesKwargs

    known = {*processor.valid_kwargs.__annotations__, *ImagesKwargs.__annotations__} - _OF_THE_TOWER - not_to_set
    unknown = [str(name) for name in settings if name not in known]
    if unknown:
        raise ConfigError(
            f"mm_processor_kwargs: the model's image processor has no {unknown[0][:100]} to set; it has "
            f"{', '.join(sorted(known))}."
        )


def _load(
    folder: Path,
    described: Mapping[str, Any] | None,
    trust_remote_code: bool,
    settings: Mapping[str, Any] | None = None,
) -> Any:
    import transformers

    loader: Any = transformers.AutoImageProcessor
    try:
        # Pillow on every machine: torchvision, where there is one, rounds in other places.
        if described is not None:
            loader = getattr(transformers, f"{described['image_processor_type']}Pil")
            return loader.from_dict({**described, **(settings or {})})
        return loader.from_pretrained(
            folder, backend="pil", trust_remote_code=trust_remote_code, local_files_only=True, **(settings or {})
        )
    except Exception as error:  # transformers raises nearly anything for missing and damaged files
        if settings:
            raise ConfigError(_NOT_FOR_IT.format(dict(settings))) from error
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


def _target_edge(settings: dict[str, Any]) -> int | None:
    """The longest edge that a picture's shorter edge may become; None where that follows the picture's size."""
    size = settings.get("size") or {}
    if not settings.get("do_resize") or settings.get("image_processor_type") not in _OF_ONE_SIZE:
        return None
    if set(size) == {"shortest_edge"}:
        return int(size["shortest_edge"])
    return max(int(size["height"]), int(size["width"])) if set(size) == {"height", "width"} else None
