"""`mm_processor_kwargs` of a prompt: what transformers' processor makes with the same ones."""

from typing import Any

import numpy as np
import pytest
from tests.parity.checkpoints import SEEING
from tests.parity.fixture_types import Folders, OpenLlm
from tests.parity.pictures import make
from tests.processors import load_ours, load_processor

from aphrodite import SamplingParams
from aphrodite.domain.errors import ImageError, ProcessorSettingsError
from aphrodite.domain.prompting.prompts import Prompt, validate

PICTURE = make("RGB", 120, 70).rgb
SETTINGS: dict[str, dict[str, Any]] = {
    "deepseek-vl": {"resample": 0},
    "glm46v": {"size": {"shortest_edge": 512, "longest_edge": 2048}},
    "internvl": {"max_patches": 1},
    "idefics3": {"size": {"longest_edge": 56}},
    "mistral3": {"size": {"longest_edge": 24}},
    "paddleocr-vl": {"min_pixels": 256, "max_pixels": 1024},
    "qwen2-vl": {"max_pixels": 1024},
    "qwen2.5-vl": {"min_pixels": 64, "max_pixels": 1024},
    "qwen3-vl": {"size": {"shortest_edge": 256, "longest_edge": 1024}},
    "smolvlm": {"do_image_splitting": False},
}
IN_NEW_WORDS = {  # which transformers' processors ask for when they are called
    "paddleocr-vl": {"size": {"shortest_edge": 256, "longest_edge": 1024}},
    "qwen2-vl": {"size": {"shortest_edge": 256, "longest_edge": 1024}},
    "qwen2.5-vl": {"size": {"shortest_edge": 64, "longest_edge": 1024}},
}


@pytest.mark.parametrize("name", SETTINGS)
def test_same_tokens_and_another_picture(name: str, folder: Folders) -> None:
    ours, theirs, settings = load_ours(folder(name)), load_processor(folder(name)), SETTINGS[name]
    text = f"{theirs.image_token}?"
    plain, other = (
        ours.process(validate({"prompt": text, "multi_modal_data": {"image": PICTURE}, **more}, 1))
        for more in ({}, {"mm_processor_kwargs": settings})
    )
    for processed, given in ((plain, {}), (other, IN_NEW_WORDS.get(name, settings))):
        assert processed.token_ids == np.asarray(theirs(text=text, images=PICTURE, **given)["input_ids"])[0].tolist()
    [before], [after] = plain.images, other.images
    assert before.image.content_hash != after.image.content_hash
    assert before.image.patches.tobytes() != after.image.patches.tobytes()
    # The same as where the operator sets them for all.
    [set_for_all] = load_ours(folder(name), **settings).process(Prompt(text, None, (PICTURE,))).images
    assert np.array_equal(set_for_all.image.patches, after.image.patches)
    assert set_for_all.image.content_hash == after.image.content_hash


@pytest.mark.parametrize("name", SEEING)
def test_settings_that_are_not_for_a_family(name: str, folder: Folders) -> None:
    """Each is refused in words; none comes as far as the engine."""
    ours = load_ours(folder(name))
    asked = Prompt(f"{ours._tokenizer.image_token}?", None, (PICTURE,))
    for settings, sentence in (
        ({"fps": 2}, "mm_processor_kwargs: the model's image processor has no fps to set; it has .*size"),
        ({"image_std": [1, 1, 1]}, "has no image_std to set"),
        ({"patch_size": 2}, "has no patch_size to set"),
        ({"size": "large"}, "does not take {'size': 'large'}"),
        ({"size": {"height": 1}}, "does not take|cannot process this image"),
    ):
        with pytest.raises((ProcessorSettingsError, ImageError), match=sentence):
            ours.process(replace_settings(asked, settings))


@pytest.mark.parametrize(
    ("name", "settings", "sentence"),
    [
        ("llava-next", {"image_grid_pinpoints": [[28, 28]]}, "other tiles than the model knows"),
        ("internvl", {"max_patches": 40, "min_patches": 30}, r"into \d+ tiles; the most are 13"),
        ("smolvlm", {"size": {"longest_edge": 28 * 9}}, r"into \d+ tiles; the most are 37"),
        ("mistral3", {"size": {"longest_edge": 480}}, r"has \d+ patches after .*; the most are 36"),
    ],
)
def test_more_than_the_tower_reads(name: str, settings: dict[str, Any], sentence: str, folder: Folders) -> None:
    ours = load_ours(folder(name))
    asked = Prompt(f"{ours._tokenizer.image_token}?", None, (make("RGB", 500, 500).rgb,))
    with pytest.raises(ImageError, match=sentence):
        ours.process(replace_settings(asked, settings))


def replace_settings(prompt: Prompt, settings: dict[str, Any]) -> Prompt:
    return Prompt(prompt.text, None, prompt.images, processor_settings=settings)


def test_answers(open_llm: OpenLlm) -> None:
    """Side by side in one batch, and by prompts and chats alike; the prefix cache tells them apart."""
    name, settings = "qwen2.5-vl", SETTINGS["qwen2.5-vl"]
    params = SamplingParams(temperature=0, max_tokens=8, logprobs=2)
    with open_llm(name, mm_processor_kwargs=settings) as llm:
        expected = llm.generate(prompt := asked({}), params, use_tqdm=False)[0]
    with open_llm(name) as llm:
        plain, small = llm.generate([prompt, asked({"mm_processor_kwargs": settings})], params, use_tqdm=False)
        [chatted] = llm.chat(
            [{"role": "user", "content": [{"type": "image_pil", "image_pil": PICTURE}]}],
            params,
            use_tqdm=False,
            mm_processor_kwargs=settings,
        )
    assert small.prompt_token_ids == expected.prompt_token_ids
    assert small.outputs[0].logprobs == expected.outputs[0].logprobs
    assert len(small.prompt_token_ids) < len(plain.prompt_token_ids)
    assert len(chatted.prompt_token_ids) < len(plain.prompt_token_ids)


def asked(more: dict[str, Any]) -> Any:
    prompt = "<|vision_start|><|image_pad|><|vision_end|> How many?"
    return {"prompt": prompt, "multi_modal_data": {"image": PICTURE}, **more}
