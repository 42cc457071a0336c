"""The demo model's drawings and questions, and the shipped folder's format. Quick: no answers are generated here."""

import colorsys
import random
import re
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
import transformers
from PIL import Image

from drawings import COLORS, HSV_RANGES, SHAPES, Drawing, Scene, Thing, draw
from questions import KINDS, Question, caption, questions
from small_talk import small_talk

DEMO_MODEL = Path(__file__).parents[2] / "src" / "aphrodite" / "demo_model"
SEEDS = range(20_000_000, 20_000_150)


@pytest.fixture(scope="module")
def drawings() -> list[Drawing]:
    return [draw(seed) for seed in SEEDS]


def asked(drawing: Drawing) -> list[Question]:
    return questions(drawing, random.Random(0))


def nearest_color(image: Image.Image, x: float, y: float) -> str:
    """The colour name whose HSV box lies nearest to the pixels around a point, told without looking at the scene."""
    column, row = round(x * (image.width - 1)), round(y * (image.height - 1))
    window = np.asarray(image)[max(0, row - 1) : row + 2, max(0, column - 1) : column + 2]
    red, green, blue = np.median(window.reshape(-1, 3), axis=0) / 255

    def distance(name: str) -> float:
        (low_h, high_h), (low_s, high_s), (low_v, high_v) = HSV_RANGES[name]
        best = 9.0
        for hue in np.linspace(low_h, high_h, 7):
            for saturation in (low_s, (low_s + high_s) / 2, high_s):
                for value in np.linspace(low_v, high_v, 5):
                    shade = colorsys.hsv_to_rgb(hue % 1, saturation, value)
                    best = min(best, sum((a - b) ** 2 for a, b in zip(shade, (red, green, blue), strict=True)))
        return best

    return min(COLORS, key=distance)


def test_a_drawing_is_a_function_of_its_seed() -> None:
    first, second, other = draw(7), draw(7), draw(8)
    assert first.scene == second.scene
    assert first.image.tobytes() == second.image.tobytes()
    assert first.image.tobytes() != other.image.tobytes()
    assert asked(first) == asked(second)


def test_pixels_show_the_scene(drawings: list[Drawing]) -> None:
    seen = [
        (nearest_color(drawing.image, thing.x, thing.y), thing.color)
        for drawing in drawings
        for thing in drawing.scene.things
    ]
    agreeing = sum(one == other for one, other in seen)
    assert agreeing > 0.97 * len(seen)  # noise and JPEG artefacts may shift a pixel


def test_shapes_keep_apart_and_inside(drawings: list[Drawing]) -> None:
    for drawing in drawings:
        things = drawing.scene.things
        assert len({(thing.column, thing.row) for thing in things}) == len(things)
        for thing in things:
            assert -0.02 < thing.x - thing.half_width < thing.x + thing.half_width < 1.02
            assert -0.02 < thing.y - thing.half_height < thing.y + thing.half_height < 1.02


def test_counts_agree_with_the_scene(drawings: list[Drawing]) -> None:
    checked = 0
    for drawing in drawings:
        names = [f"{thing.color} {thing.shape}" for thing in drawing.scene.things]
        for question in asked(drawing):
            if question.kind == "count":
                words = re.findall(r"[a-z]+", question.text.lower())
                shapes = [shape for shape in SHAPES if shape in words or f"{shape}s" in words or f"{shape}es" in words]
                wanted = [color for color in COLORS if color in words] + shapes
                assert question.answer == str(sum(all(word in name for word in wanted) for name in names)), question
                checked += 1
    assert checked > 100


def test_sides_agree_with_pixel_positions(drawings: list[Drawing]) -> None:
    checked = 0
    for drawing in drawings:
        by_name = defaultdict(list)
        for thing in drawing.scene.things:
            by_name[f"{thing.color} {thing.shape}"].append(thing.x)
        for question in asked(drawing):
            names = re.findall(rf"(?:{'|'.join(COLORS)}) (?:{'|'.join(SHAPES)})", f"{question.text} {question.answer}")
            if "left of" in question.text and len(names) == 2:
                (one,), others = by_name[names[0]], by_name[names[1]]
                if question.kind == "yes/no":
                    assert question.answer == ("yes" if one < others[0] else "no"), question
                else:
                    assert sum(other < one - 0.1 for other in others) == 1, question
                checked += 1
    assert checked > 20


def test_the_caption_of_a_scene() -> None:
    def thing(shape: str, color: str) -> Thing:
        return Thing(shape, color, "small", 0, 0, 0.2, 0.2, 0.1, 0.1)

    scene = Scene("white", (thing("square", "blue"), thing("circle", "red"), thing("square", "blue")))
    assert caption(scene) == "A red circle and two blue squares."
    assert caption(Scene("green")) == "A plain green image."


def test_every_kind_is_asked_and_has_one_answer(drawings: list[Drawing]) -> None:
    kinds = set()
    for drawing in drawings:
        answers: dict[str, str] = {}
        for salt in range(3):
            for question in questions(drawing, random.Random(salt)):
                kinds.add(question.kind)
                assert answers.setdefault(question.text, question.answer) == question.answer
    assert kinds | {small_talk(random.Random(0)).kind} == set(KINDS)


def test_the_model_folder_is_complete_and_small() -> None:
    files = {path.name: path.stat().st_size for path in DEMO_MODEL.iterdir() if path.is_file()}
    expected = ["config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"]
    assert {*expected, "processor_config.json", "chat_template.jinja"} <= files.keys()
    assert sum(files.values()) <= 12 * 2**20


def test_the_tokenizer_gives_every_wording_back(drawings: list[Drawing]) -> None:
    tokenizer = transformers.AutoTokenizer.from_pretrained(DEMO_MODEL)
    rng = random.Random(0)
    texts = [f"USER: {one.text}\nASSISTANT: {one.answer}" for drawing in drawings for one in asked(drawing)]
    texts += [small_talk(rng).text for _ in range(200)]
    texts += ["Zoë 你好 🎨 1234 \t\n\n  end", "\x00\x7f", "tabs\tand  spaces "]
    for text in texts:
        token_ids = tokenizer.encode(text)
        assert token_ids[0] == tokenizer.bos_token_id
        assert tokenizer.decode(token_ids, skip_special_tokens=True) == text


def test_the_chat_template_takes_parts_and_strings() -> None:
    processor = transformers.AutoProcessor.from_pretrained(DEMO_MODEL)
    parts = [{"type": "text", "text": "What is this?"}, {"type": "image"}]
    turns = [
        {"role": "user", "content": parts},
        {"role": "assistant", "content": "A red circle."},
        {"role": "user", "content": "Why?"},
    ]
    prompt = processor.apply_chat_template(turns, add_generation_prompt=True)
    assert prompt == "USER: <image>\nWhat is this? ASSISTANT: A red circle.</s>USER: Why? ASSISTANT:"
    inputs = processor(text=prompt, images=Image.new("RGB", (120, 90)), return_tensors="pt")
    config = transformers.AutoConfig.from_pretrained(DEMO_MODEL)
    assert (inputs["input_ids"] == config.image_token_index).sum() == config.image_seq_length
    assert inputs["pixel_values"].shape[-1] == config.vision_config.image_size
