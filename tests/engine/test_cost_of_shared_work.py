"""What is shared is computed once: pictures encoded and tokens run, counted over many requests on either backend."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tests import compiled_programs
from tests.builders import tiny_llava

from aphrodite import LLM, SamplingParams
from aphrodite.domain.scheduling.step import StepPlan

BLOCK_SIZE = 4
NUM_IMAGE_TOKENS = 14 * 14  # a multiple of the block size
NUM_OUTPUT_TOKENS = 3
FULL_LENGTH = SamplingParams(temperature=0, max_tokens=NUM_OUTPUT_TOKENS, ignore_eos=True)


@dataclass(frozen=True)
class Counts:
    """What one call came to."""

    tokens_of_prompts: int  # run, so without those found in the prefix cache
    encoded: int  # pictures
    hits: int  # tokens found in the prefix cache, of as many as
    queries: int
    answers: list[list[int]]


class Counted:
    """An engine whose steps are noted."""

    def __init__(self, llm: LLM, image_token_id: int) -> None:
        self._llm = llm
        self._image_token_id = image_token_id
        self._plans: list[StepPlan] = []
        backend: Any = llm._engine._backend
        launch = backend.launch
        backend.launch = lambda plan: self._plans.append(plan) or launch(plan)

    def ask(self, prompts: list[list[int]], pictures: list[Image.Image] | None = None) -> Counts:
        """Answer the prompts, each with its picture in front."""
        asked: list[Any] = [{"prompt_token_ids": token_ids} for token_ids in prompts]
        for inputs, picture in zip(asked, pictures or [], strict=False):
            inputs["prompt_token_ids"] = [self._image_token_id, *inputs["prompt_token_ids"]]
            inputs["multi_modal_data"] = {"image": picture}
        before = self._llm._engine.stats()
        self._plans.clear()
        outputs = self._llm.generate(asked, FULL_LENGTH, use_tqdm=False)
        after = self._llm._engine.stats()
        encoded = sum(len(plan.encode) for plan in self._plans)
        assert after.num_images_encoded - before.num_images_encoded == encoded
        assert after.num_preemptions == before.num_preemptions
        num_generated = len(outputs) * (NUM_OUTPUT_TOKENS - 1)  # the last one sampled is not run
        return Counts(
            tokens_of_prompts=sum(plan.num_tokens for plan in self._plans) - num_generated,
            encoded=encoded,
            hits=after.num_prefix_cache_hits - before.num_prefix_cache_hits,
            queries=after.num_prefix_cache_queries - before.num_prefix_cache_queries,
            answers=[output.outputs[0].token_ids for output in outputs],
        )


@pytest.fixture(scope="module", params=["cuda", "jax_tpu"])
def engine(
    request: pytest.FixtureRequest, pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Counted]:
    """Steps shorter than a picture, and fewer slots than requests."""
    torch.set_num_threads(1)
    compiled_programs.keep(pytestconfig)
    folder: Path = tiny_llava(tmp_path_factory.mktemp("llava"), vision_overrides={"patch_size": 2})
    options: dict[str, Any] = {"max_num_seqs": 8, "max_num_batched_tokens": 64, "kv_cache_memory": 8 << 20}
    with LLM(
        str(folder), backend=request.param, device="cpu", dtype="float32", block_size=BLOCK_SIZE, **options
    ) as llm:
        image_token_id = llm._frontend.model.image_token_id
        assert image_token_id is not None
        yield Counted(llm, image_token_id)


def questions(seed: int, count: int, num_tokens: int = 6) -> list[list[int]]:
    """Prompts of which no two begin alike, nor as those of another seed."""
    random = np.random.default_rng(seed)
    found = random.integers(10, 300, (count, num_tokens))
    found[:, 0] = np.arange(count) + 10
    found[:, 1] = seed + 10
    return found.tolist()


def picture(seed: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (28, 28, 3), dtype=np.uint8))


def test_a_picture_asked_100_questions_is_encoded_once_and_its_tokens_are_run_once(engine: Counted) -> None:
    asked = questions(1, 100)
    counts = engine.ask(asked, [picture(1)] * 100)
    assert counts.encoded == 1
    assert counts.tokens_of_prompts == NUM_IMAGE_TOKENS + sum(map(len, asked))
    assert counts.hits == 99 * NUM_IMAGE_TOKENS
    assert counts.hits / counts.queries > 0.95


def test_a_picture_asked_again_is_not_encoded_and_only_the_end_of_each_prompt_is_run(engine: Counted) -> None:
    asked = questions(2, 10)
    first, again = (engine.ask(asked, [picture(2)] * 10) for _ in range(2))
    assert again.encoded == 0
    assert again.tokens_of_prompts == sum((NUM_IMAGE_TOKENS + len(q) - 1) % BLOCK_SIZE + 1 for q in asked)
    assert again.answers == first.answers


def test_two_questions_to_each_picture_run_every_picture_once(engine: Counted) -> None:
    asked, pictures = questions(3, 20), [picture(100 + index // 2) for index in range(20)]
    counts = engine.ask(asked, pictures)
    assert counts.encoded == 10
    assert counts.tokens_of_prompts == 10 * NUM_IMAGE_TOKENS + sum(map(len, asked))


def test_text_that_100_prompts_begin_with_is_run_once(engine: Counted) -> None:
    [shared], asked = questions(4, 1, num_tokens=100), questions(5, 100)
    counts = engine.ask([shared + question for question in asked])
    assert counts.tokens_of_prompts == len(shared) + sum(map(len, asked))
    assert counts.hits == 99 * len(shared)


@pytest.mark.parametrize("count", [1, 10, 100])
def test_every_token_of_prompts_that_share_nothing_is_run_once(engine: Counted, count: int) -> None:
    asked = questions(5 + count, count, num_tokens=30)
    counts = engine.ask(asked)
    assert counts.tokens_of_prompts == 30 * count
    assert counts.hits == 0
    assert counts.queries == 30 * count
