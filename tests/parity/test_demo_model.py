"""The bundled demo model: our answers to held-out drawings against transformers' with the same folder."""

import importlib.resources
import random
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.parity.cases import Case
from tests.parity.fixture_types import OpenLlm
from tests.parity.reference import Reference

from aphrodite import SamplingParams

if TYPE_CHECKING:
    from PIL import Image

NUM_DRAWINGS = 50
MAX_TOKENS = 40


@pytest.fixture(scope="module")
def asked() -> list[tuple[str, "Image.Image"]]:
    """The first held-out drawings, each with one of its questions, in turn of every kind."""
    tools = str(Path(__file__).parents[2] / "tools")
    if tools not in sys.path:
        sys.path.insert(0, tools)
    from drawings import draw
    from evaluate_demo_model import FIRST_HELD_OUT_SEED
    from questions import questions

    pairs = []
    for seed in range(FIRST_HELD_OUT_SEED, FIRST_HELD_OUT_SEED + NUM_DRAWINGS):
        drawing = draw(seed)
        question = questions(drawing, random.Random(seed))[0]
        pairs.append((f"USER: <image>\n{question.text}\nASSISTANT:", drawing.image))
    return pairs


@pytest.fixture(scope="module")
def demo() -> Reference:
    return Reference(Path(str(importlib.resources.files("aphrodite"))) / "demo_model")


def test_answers_about_drawings(asked: list[tuple[str, "Image.Image"]], demo: Reference, open_llm: OpenLlm) -> None:
    prompts = [{"prompt": prompt, "multi_modal_data": {"image": image}} for prompt, image in asked]
    with open_llm("demo", kv_cache_memory=64 << 20) as llm:
        outputs = llm.generate(prompts, SamplingParams(temperature=0, max_tokens=MAX_TOKENS), use_tqdm=False)
    answers = [demo.generate(prompt, image, max_new_tokens=MAX_TOKENS) for prompt, image in asked]
    for output, answer in zip(outputs, answers, strict=True):
        assert output.prompt_token_ids == answer.prompt_token_ids
        assert output.outputs[0].token_ids == answer.token_ids
        assert output.outputs[0].text == demo.tokenizer.decode(answer.token_ids, skip_special_tokens=True)
    assert len({output.outputs[0].text for output in outputs}) > NUM_DRAWINGS // 4


def test_answers_without_a_picture(demo: Reference, open_llm: OpenLlm) -> None:
    cases = [Case(f"USER: {question}\nASSISTANT:") for question in ("Hello!", "Who are you?", "Thank you!")]
    with open_llm("demo", kv_cache_memory=64 << 20) as llm:
        outputs = llm.generate(
            [case.prompt for case in cases], SamplingParams(temperature=0, max_tokens=MAX_TOKENS), use_tqdm=False
        )
    for case, output in zip(cases, outputs, strict=True):
        assert output.outputs[0].token_ids == demo.answer(case, MAX_TOKENS).token_ids
