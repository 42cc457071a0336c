"""The bundled demo model: answers to held-out drawings against transformers', and the backends' against each other."""

import importlib.resources
import random
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.parity.cases import Case
from tests.parity.fixture_types import OpenLlm
from tests.parity.reference import Reference
from tests.parity.selection import BACKENDS

from aphrodite import LLM, RequestOutput, SamplingParams

if TYPE_CHECKING:
    from PIL import Image

NUM_DRAWINGS = 50
NUM_COMPARED = 40
MAX_TOKENS = 40
GREEDY = SamplingParams(temperature=0, max_tokens=MAX_TOKENS)
CACHE: dict[str, Any] = {"kv_cache_memory": 64 << 20}

Asked = list[tuple[str, "Image.Image"]]


def drawings(first: int, count: int) -> Asked:
    """Held-out drawings, each with one of its questions, in turn of every kind."""
    tools = str(Path(__file__).parents[2] / "tools")
    if tools not in sys.path:
        sys.path.insert(0, tools)
    from drawings import draw
    from evaluate_demo_model import FIRST_HELD_OUT_SEED
    from questions import questions

    pairs = []
    for seed in range(FIRST_HELD_OUT_SEED + first, FIRST_HELD_OUT_SEED + first + count):
        drawing = draw(seed)
        question = questions(drawing, random.Random(seed))[0]
        pairs.append((f"USER: <image>\n{question.text}\nASSISTANT:", drawing.image))
    return pairs


@pytest.fixture(scope="module")
def demo() -> Reference:
    return Reference(Path(str(importlib.resources.files("aphrodite"))) / "demo_model")


@pytest.fixture(scope="module")
def llm(open_llm: OpenLlm) -> Iterator[LLM]:
    with open_llm("demo", **CACHE) as llm:
        yield llm


def answers(llm: LLM, asked: Asked) -> list[RequestOutput]:
    prompts = [{"prompt": prompt, "multi_modal_data": {"image": image}} for prompt, image in asked]
    return llm.generate(prompts, GREEDY, use_tqdm=False)


def test_answers_about_drawings(demo: Reference, llm: LLM) -> None:
    asked = drawings(0, NUM_DRAWINGS)
    outputs = answers(llm, asked)
    for (prompt, image), output in zip(asked, outputs, strict=True):
        answer = demo.generate(prompt, image, max_new_tokens=MAX_TOKENS)
        assert output.prompt_token_ids == answer.prompt_token_ids
        assert output.outputs[0].token_ids == answer.token_ids
        assert output.outputs[0].text == demo.tokenizer.decode(answer.token_ids, skip_special_tokens=True)
    assert len({output.outputs[0].text for output in outputs}) > NUM_DRAWINGS // 4


def test_answers_without_a_picture(demo: Reference, llm: LLM) -> None:
    cases = [Case(f"USER: {question}\nASSISTANT:") for question in ("Hello!", "Who are you?", "Thank you!")]
    outputs = llm.generate([case.prompt for case in cases], GREEDY, use_tqdm=False)
    for case, output in zip(cases, outputs, strict=True):
        assert output.outputs[0].token_ids == demo.answer(case, MAX_TOKENS).token_ids


def test_every_backend_gives_the_same_answers() -> None:
    """Each with its own default settings; JAX in the format of a TPU, too."""
    asked, found = drawings(NUM_DRAWINGS, NUM_COMPARED), []
    for backend, dtype in [*((name, "auto") for name in BACKENDS), ("jax_tpu", "bfloat16")]:
        with LLM("demo", backend=backend, device="cpu", dtype=dtype, **CACHE) as llm:
            found.append([output.outputs[0].token_ids for output in answers(llm, asked)])
    assert all(tokens == found[0] for tokens in found)
