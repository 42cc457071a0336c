"""Prompts and pictures against transformers' own processors, on folders that transformers made."""

import io
import json
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tests.builders import Family, Tower, tiny_gemma3, tiny_glm_v, tiny_llava, tiny_qwen_vl, tiny_text
from tests.processors import load_ours as load
from transformers import AutoImageProcessor, AutoProcessor

from aphrodite.adapters.outbound.huggingface.processor import HuggingFaceProcessor
from aphrodite.adapters.outbound.images.decoding import to_rgb
from aphrodite.domain.architectures.images.image import ImageInput
from aphrodite.domain.errors import CheckpointError, ConfigError, ImageError, PlaceholderError, PromptError
from aphrodite.domain.prompting.prompts import Prompt

TEXT = "USER: <image>\nWhat is the content of this image?\nASSISTANT:"


def picture(width: int = 50, height: int = 40, channels: int = 3) -> Image.Image:
    return Image.fromarray(np.random.default_rng(5).integers(0, 256, (height, width, channels), dtype=np.uint8))


def read(processor: HuggingFaceProcessor, image: Any) -> ImageInput:
    text = TEXT.replace("<image>", str(processor._tokenizer.image_token))
    [span] = processor.process(Prompt(text, None, (image,))).images
    return span.image


def normalised(processor: HuggingFaceProcessor, image: ImageInput) -> np.ndarray:
    """float32 [3, S, S], as the device makes it, put together again from the patches."""
    rule = processor.normalization
    assert rule is not None
    assert (image.patches.dtype, image.patches.shape) == (np.uint8, (16, 3 * 7 * 7))
    channels = image.patches.reshape(16, 3, 49).astype(np.float64) * rule.scale
    values = (channels - np.array(rule.mean)[:, None]) / np.array(rule.std)[:, None]
    return values.reshape(4, 4, 3, 7, 7).transpose(2, 0, 3, 1, 4).reshape(3, 28, 28).astype(np.float32)


@pytest.fixture(scope="module")
def llava(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_llava(tmp_path_factory.mktemp("llava"))


SIZES = [(50, 40), (28, 28), (1, 1), (2000, 30), (30, 2000), (27, 29), (400, 300)]


@pytest.mark.parametrize(
    ("tower", "text", "strategy"),
    [
        ("clip", "llama", "default"),
        ("clip", "qwen2", "full"),
        ("siglip", "qwen3", "full"),
        ("siglip", "llama", "default"),
    ],
)
def test_same_tokens_and_pixels_as_transformers(tmp_path: Path, tower: Tower, text: Family, strategy: str) -> None:
    tiny_llava(tmp_path, tower, text, vision_feature_select_strategy=strategy)
    processor, reference = load(tmp_path), AutoProcessor.from_pretrained(tmp_path)
    for size in SIZES:
        image = picture(*size)
        ours = processor.process(Prompt(TEXT, None, (image,)))
        theirs = reference(text=TEXT, images=image, return_tensors="np")
        assert ours.token_ids == theirs["input_ids"][0].tolist()
        assert ours.text == TEXT
        [span] = ours.images
        assert np.abs(normalised(processor, span.image) - theirs["pixel_values"][0]).max() < 1e-5
        assert set(ours.token_ids[span.start : span.stop]) == {reference.image_token_id}
        assert ours.token_ids.count(reference.image_token_id) == span.num_tokens


def test_several_images_in_one_prompt(llava: Path) -> None:
    processor, reference = load(llava), AutoProcessor.from_pretrained(llava)
    images = [picture(*size) for size in SIZES[:3]]
    text = "USER: <image> and <image>, <image>?"
    ours = processor.process(Prompt(text, None, tuple(images)))
    theirs = reference(text=text, images=images, return_tensors="np")
    assert ours.token_ids == theirs["input_ids"][0].tolist()
    for span, expected in zip(ours.images, theirs["pixel_values"], strict=True):
        assert np.abs(normalised(processor, span.image) - expected).max() < 1e-5


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "I;16"])
def test_every_mode_becomes_what_transformers_makes_of_its_rgb(llava: Path, mode: str) -> None:
    processor, reference = load(llava), AutoImageProcessor.from_pretrained(llava, backend="pil")
    image = picture().convert("L").convert("I;16") if mode == "I;16" else picture().convert(mode)
    ours = read(processor, image)
    expected = reference(to_rgb(image), return_tensors="np")["pixel_values"][0]
    assert np.abs(normalised(processor, ours) - expected).max() < 1e-5


@pytest.mark.parametrize("make", [tiny_glm_v, partial(tiny_qwen_vl, kind="Qwen3VL")], ids=["glm4v", "qwen3-vl"])
def test_pictures_of_their_own_size_are_not_too_thin(tmp_path: Path, make: Callable[[Path], Path]) -> None:
    processor = load(make(tmp_path))
    assert read(processor, picture(400, 3)).plan.num_features > 0
    for width, height in ((402, 2), (1, 201)):
        with pytest.raises(ImageError, match=rf"too thin, {width}x{height}; one side may be 200 times"):
            read(processor, picture(width, height))


def test_legacy_processor_without_patch_size(tmp_path: Path, llava: Path) -> None:
    tiny_llava(tmp_path, legacy_processor=True)
    assert not (tmp_path / "processor_config.json").exists()
    ours, current = (
        load(tmp_path).process(Prompt(TEXT, None, (picture(),))),
        load(llava).process(Prompt(TEXT, None, (picture(),))),
    )
    assert ours.token_ids == current.token_ids
    assert np.array_equal(ours.images[0].image.patches, current.images[0].image.patches)


def configure(llava: Path, target: Path, **changes: Any) -> Path:
    """The folder's processor, configured otherwise."""
    for path in llava.iterdir():
        if path.name != "processor_config.json":
            (target / path.name).write_bytes(path.read_bytes())
    settings = json.loads((llava / "processor_config.json").read_text())
    settings["image_processor"] |= changes
    (target / "processor_config.json").write_text(json.dumps(settings))
    return target


@pytest.mark.parametrize(
    "changes",
    [
        {"do_rescale": False},
        {"do_normalize": False},
        {"do_rescale": False, "do_normalize": False},
        {"rescale_factor": 1 / 127.5, "image_mean": [1.0, 1.0, 1.0], "image_std": [1.0, 0.5, 0.25]},
        {"do_center_crop": False, "size": {"height": 28, "width": 28}},
        {"image_processor_type": "LlavaImageProcessor", "do_pad": True},
        {"resample": 2},
    ],
)
def test_other_settings(llava: Path, tmp_path: Path, changes: dict[str, Any]) -> None:
    configure(llava, tmp_path, **changes)
    processor, reference = load(tmp_path), AutoImageProcessor.from_pretrained(tmp_path, backend="pil")
    ours = read(processor, picture())
    expected = reference(picture(), return_tensors="np")["pixel_values"][0]
    assert np.allclose(normalised(processor, ours), expected, rtol=1e-6, atol=1e-5)


@pytest.fixture(scope="module")
def qwen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_qwen_vl(tmp_path_factory.mktemp("qwen"))


def test_settings_of_an_operator(qwen: Path) -> None:
    plain, smaller = load(qwen), load(qwen, max_pixels=32 * 32)
    image = picture(80, 80)
    theirs, other = (
        AutoImageProcessor.from_pretrained(qwen, backend="pil", **settings)(image)["pixel_values"]
        for settings in ({}, {"max_pixels": 32 * 32})
    )
    assert len(read(plain, image).patches) == len(theirs)
    assert len(read(smaller, image).patches) == len(other) < len(theirs)
    assert smaller.image_processing is not None
    worker = smaller.image_processing.loader()
    assert worker.read(image).content_hash == read(smaller, image).content_hash != read(plain, image).content_hash


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"max_pixel": 9}, "has no max_pixel to set; it has .*max_pixels"),
        ({"patch_size": 8}, "has no patch_size to set"),
        ({"max_pixels": "many"}, "does not take {'max_pixels': 'many'}"),
    ],
)
def test_settings_that_are_not_for_it(qwen: Path, settings: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        load(qwen, **settings)


def test_crops_of_gemma_are_refused(tmp_path: Path) -> None:
    folder = tiny_gemma3(tmp_path)
    image = AutoImageProcessor.from_pretrained(folder, backend="pil", do_pan_and_scan=True)(
        picture(600, 200), pan_and_scan_min_crop_size=50, pan_and_scan_max_num_crops=4,
        pan_and_scan_min_ratio_to_activate=1.2,
    )  # fmt: skip
    assert len(image["pixel_values"]) > 1  # there would be some
    with pytest.raises(ConfigError, match="has no do_pan_and_scan to set"):
        load(folder, do_pan_and_scan=True)


def test_pixels_of_another_size_than_the_tower_reads(llava: Path, tmp_path: Path) -> None:
    configure(llava, tmp_path, crop_size={"height": 32, "width": 32})
    with pytest.raises(CheckpointError, match=r"makes uint8 pixels \[32, 32, 3\], .* reads uint8 \[28, 28, 3\]"):
        load(tmp_path)


def test_no_image_processor(llava: Path, tmp_path: Path) -> None:
    (configure(llava, tmp_path) / "processor_config.json").unlink()
    with pytest.raises(CheckpointError, match="No image processor can be read"):
        load(tmp_path)


def test_content_hash(llava: Path, tmp_path: Path) -> None:
    def hash_of(processor: HuggingFaceProcessor, image: Any) -> bytes:
        return read(processor, image).content_hash

    processor, image = load(llava), picture()
    changed = np.asarray(image).copy()
    changed[0, 0, 0] ^= 1
    palette = picture().convert("L").convert("P")
    recoloured = palette.copy()
    recoloured.putpalette(bytes(range(256)) * 3)
    base = hash_of(processor, image)
    assert base == hash_of(load(llava), picture())
    assert base == hash_of(processor, np.asarray(image))
    assert base == hash_of(processor, image.convert("RGBA"))
    different = [
        hash_of(processor, Image.fromarray(changed)),
        hash_of(processor, Image.frombytes("RGB", (40, 50), image.tobytes())),
        hash_of(processor, palette),
        hash_of(processor, recoloured),
        hash_of(load(llava, b"another model"), image),
        hash_of(load(configure(llava, tmp_path, resample=2)), image),
    ]
    assert len({base, *different}) == 1 + len(different)


def test_token_ids(llava: Path) -> None:
    processor = load(llava)
    ids = AutoProcessor.from_pretrained(llava).tokenizer.encode(TEXT)
    from_ids = processor.process(Prompt(None, tuple(ids), (picture(),)))
    assert from_ids.token_ids == processor.process(Prompt(TEXT, None, (picture(),))).token_ids
    assert from_ids.text is None


def test_text_that_users_write_is_never_an_image(llava: Path) -> None:
    processor = load(llava)
    image_id = AutoProcessor.from_pretrained(llava).image_token_id
    text = "USER: <image>\n<image> and <image>?"
    processed = processor.process(Prompt(text, None, (picture(),), image_word_offsets=(6,)))
    [span] = processed.images
    assert processed.token_ids.count(image_id) == span.num_tokens
    assert processed.token_ids.index(image_id) == span.start
    literal = processor.process(Prompt(text, None, image_word_offsets=()))
    assert image_id not in literal.token_ids
    assert literal.images == ()


def test_special_tokens_that_a_template_wrote(llava: Path) -> None:
    processor = load(llava)
    with_start, without = (
        processor.process(Prompt("hello", None, add_special_tokens=special)).token_ids for special in (True, False)
    )
    assert with_start == [1, *without]


@pytest.mark.parametrize(
    ("prompt", "error", "sentence"),
    [
        (Prompt("no placeholder", None, (picture(),)), PlaceholderError, "no placeholder"),
        (Prompt("<image>", None), PlaceholderError, "no image"),
        (Prompt("<image> <image>", None, (picture(),)), PlaceholderError, "2 image placeholders"),
        (Prompt(None, (1, 99999)), PromptError, "outside the vocabulary"),
        (Prompt(None, ()), PromptError, "empty"),
        (Prompt(TEXT, None, (np.zeros((4, 4), np.uint8),)), ImageError, r"\[4, 4\]"),
        (Prompt(TEXT, None, (np.zeros((4, 4, 3), np.float32),)), ImageError, "float32"),
        (Prompt(TEXT, None, (Image.new("RGB", (0, 3)),)), ImageError, "no pixels"),
        (Prompt(TEXT, None, ({"url": "x"},)), ImageError, "got dict"),
        (Prompt(TEXT, None, (Image.new("RGB", (900, 4)),)), ImageError, "too thin, 900x4"),
    ],
)
def test_bad_prompts(llava: Path, prompt: Prompt, error: type[Exception], sentence: str) -> None:
    processor = load(llava)
    with pytest.raises(error, match=sentence):
        processor.process(prompt)
    assert processor.process(Prompt(TEXT, None, (picture(),))).images


def test_truncated_file_that_was_opened_lazily(llava: Path) -> None:
    file = io.BytesIO()
    picture().save(file, "PNG")
    with pytest.raises(ImageError, match="broken or truncated"):
        load(llava).process(Prompt(TEXT, None, (Image.open(io.BytesIO(file.getvalue()[:-500])),)))


def test_text_only_model(tmp_path: Path) -> None:
    tiny_text(tmp_path, "qwen2")
    processor = load(tmp_path)
    assert processor.normalization is None
    assert processor.process(Prompt("hello", None)).images == ()
    assert processor.process(Prompt("an <image>", None)).images == ()
    with pytest.raises(PlaceholderError, match="reads text only"):
        processor.process(Prompt("hello", None, (picture(),)))


def test_one_lazy_file_in_many_threads(llava: Path) -> None:
    processor = load(llava)
    file = io.BytesIO()
    picture(300, 200).save(file, "PNG")
    expected = read(processor, picture(300, 200))
    with ThreadPoolExecutor(8) as pool:
        for _ in range(10):
            image = Image.open(io.BytesIO(file.getvalue()))
            for processed in pool.map(processor.process, [Prompt(TEXT, None, (image,))] * 8):
                [span] = processed.images
                assert span.image.content_hash == expected.content_hash
                assert np.array_equal(span.image.patches, expected.patches)


def test_nothing_is_logged(llava: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        load(llava).process(Prompt(TEXT, None, (picture(),)))
    captured = capfd.readouterr()
    assert (caplog.text, captured.out, captured.err) == ("", "", "")
