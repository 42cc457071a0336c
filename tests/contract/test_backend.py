"""What every ComputeBackend promises, whatever model it runs: one suite for the fake and each real one."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests.fakes import LIMITS, VOCAB_SIZE, FakeBackend

from aphrodite.adapters.outbound.huggingface.checkpoint import SafetensorsCheckpoint
from aphrodite.adapters.outbound.huggingface.processor import HuggingFaceProcessor
from aphrodite.backends.cuda.backend import create_backend as create_cuda
from aphrodite.backends.jax_tpu.backend import create_backend as create_jax_tpu
from aphrodite.domain.architectures.registry import read_model
from aphrodite.domain.config import EngineConfig
from aphrodite.domain.errors import StepError
from aphrodite.domain.ports import ComputeBackend
from aphrodite.domain.prompting.prompts import Prompt
from aphrodite.domain.prompting.sampling_params import SamplingParams
from aphrodite.domain.scheduling.allowed_tokens import AllowedTokens, num_bit_words
from aphrodite.domain.scheduling.bias import NO_CHANGES, BiasChanges
from aphrodite.domain.scheduling.step import ImageToEncode, RowPlan, SlotStart, StepPlan, StepResult
from aphrodite.domain.scheduling.trial import trial_row

GREEDY = SamplingParams(temperature=0)
PROMPT = [7, 11, 13, 17, 19, 23, 29, 31, 37, 41]


CREATORS: dict[str, Callable[..., ComputeBackend]] = {"cuda": create_cuda, "jax_tpu": create_jax_tpu}


@pytest.fixture(params=["fake", *CREATORS])
def backend(
    request: pytest.FixtureRequest,
    folder: Path,
    real_checkpoint: SafetensorsCheckpoint,
    real_processor: HuggingFaceProcessor,
) -> Iterator[ComputeBackend]:
    made: ComputeBackend
    if request.param == "fake":
        made = FakeBackend()
    else:
        config = EngineConfig(
            model=str(folder),
            device="cpu",
            block_size=LIMITS.block_size,
            max_model_len=LIMITS.max_model_len,
            max_num_seqs=LIMITS.max_num_seqs,
            max_num_batched_tokens=LIMITS.max_num_batched_tokens,
        )
        create = CREATORS[request.param]
        made = create(config, read_model(real_checkpoint.config), real_checkpoint, real_processor.normalization)
    made.warm_up()
    yield made
    made.close()


def row(
    token_ids: list[int] | None,
    *,
    start: int = 0,
    slot: int = 0,
    blocks: tuple[int, ...] = (1, 2, 3, 4),
    samples: bool = True,
    suppressed: tuple[int, ...] = (),
    feature_rows: list[int] | None = None,
) -> RowPlan:
    return RowPlan(
        slot=slot,
        start=start,
        num_tokens=1 if token_ids is None else len(token_ids),
        token_ids=None if token_ids is None else np.array(token_ids, dtype=np.int32),
        block_ids=np.array(blocks, dtype=np.int32),
        samples=samples,
        sampling=GREEDY,
        seed=0,
        suppressed_token_ids=suppressed,
        feature_rows=None if feature_rows is None else np.array(feature_rows, dtype=np.int32),
    )


def run(backend: ComputeBackend, *rows: RowPlan, encode: tuple[ImageToEncode, ...] = ()) -> StepResult:
    return backend.launch(StepPlan.of(rows, encode)).result()


def answer(backend: ComputeBackend, prompt: list[int], blocks: tuple[int, ...] = (1, 2, 3, 4)) -> int:
    return int(run(backend, row(prompt, blocks=blocks)).token_ids[0])


def test_a_chunked_prompt_is_the_same_prompt(backend: ComputeBackend) -> None:
    whole = answer(backend, PROMPT)
    for border in range(1, len(PROMPT)):
        first = run(backend, row(PROMPT[:border], blocks=(5, 6, 7), samples=False))
        assert len(first.token_ids) == 0
        assert run(backend, row(PROMPT[border:], start=border, blocks=(5, 6, 7))).token_ids.tolist() == [whole]


def test_which_blocks_a_sequence_has_makes_no_difference(backend: ComputeBackend) -> None:
    assert answer(backend, PROMPT, blocks=(1, 2, 3)) == answer(backend, PROMPT, blocks=(9, 4, 12))


def test_a_token_in_flight_is_read_from_its_slot(backend: ComputeBackend) -> None:
    sampled = answer(backend, PROMPT)
    known = run(backend, row([sampled], start=len(PROMPT), slot=3)).token_ids.tolist()
    pending = backend.launch(StepPlan.of((row(PROMPT, blocks=(5, 6, 7, 8)),)))
    ahead = backend.launch(StepPlan.of((row(None, start=len(PROMPT), blocks=(5, 6, 7, 8)),)))
    assert pending.result().token_ids.tolist() == [sampled]
    assert ahead.result().token_ids.tolist() == known


def test_results_stand_in_the_order_of_the_rows_that_sample(backend: ComputeBackend) -> None:
    prompts = [PROMPT[:4], PROMPT[2:9], PROMPT]
    alone = [answer(backend, prompt) for prompt in prompts]
    together = run(
        backend,
        row(prompts[0], slot=4, blocks=(1, 2)),
        row(PROMPT[3:8], slot=5, blocks=(3, 4), samples=False),
        row(prompts[1], slot=6, blocks=(5, 6)),
        row(prompts[2], slot=7, blocks=(7, 8, 9)),
    )
    assert together.token_ids.tolist() == alone


def test_a_trial_leaves_nothing_behind(backend: ComputeBackend) -> None:
    sampled = answer(backend, PROMPT)
    known = run(backend, row([sampled], start=len(PROMPT))).token_ids.tolist()
    backend.launch(StepPlan.of((row(PROMPT),)))
    assert len(run(backend, trial_row(LIMITS.max_num_batched_tokens, LIMITS.block_size)).token_ids) == 1
    assert run(backend, row(None, start=len(PROMPT))).token_ids.tolist() == known


def test_suppressed_tokens_are_never_drawn(backend: ComputeBackend) -> None:
    suppressed: tuple[int, ...] = ()
    for _ in range(4):
        token_id = int(run(backend, row(PROMPT, suppressed=suppressed)).token_ids[0])
        assert token_id not in suppressed
        suppressed = (*suppressed, token_id)


def test_a_held_step_draws_what_is_allowed(backend: ComputeBackend, real_checkpoint: SafetensorsCheckpoint) -> None:
    is_fake = isinstance(backend, FakeBackend)
    num_words = num_bit_words(VOCAB_SIZE if is_fake else read_model(real_checkpoint.config).decoder.vocab_size)
    free = answer(backend, PROMPT)
    for token_id in (free, 5, 200):
        bits = np.zeros((1, num_words), np.int32)
        bits[0, token_id // 32] = 1 << token_id % 32
        held = backend.hold(StepPlan.of((row(PROMPT, slot=1, blocks=(5, 6, 7, 8)), row(PROMPT, slot=2))))
        drawn = held.draw(AllowedTokens(np.array([0], np.int32), bits), NO_CHANGES).result()
        assert drawn.token_ids.tolist() == [token_id, free]
        # What was drawn is what the slot goes on from.
        known = run(backend, row([token_id], start=len(PROMPT), slot=3)).token_ids.tolist()
        assert run(backend, row(None, start=len(PROMPT), slot=1, blocks=(5, 6, 7, 8))).token_ids.tolist() == known


def test_biases_change_for_good_and_for_their_slots_alone(
    backend: ComputeBackend, real_checkpoint: SafetensorsCheckpoint
) -> None:
    vocab_size = (
        VOCAB_SIZE if isinstance(backend, FakeBackend) else read_model(real_checkpoint.config).decoder.vocab_size
    )
    free, none = answer(backend, PROMPT), np.empty(0, np.int32)
    unconstrained = AllowedTokens(none, np.empty((0, num_bit_words(vocab_size)), np.int32))
    other = row(PROMPT, slot=2)
    again = replace(row(PROMPT, slot=1, blocks=(5, 6, 7, 8)), sampling=replace(GREEDY, no_repeat_ngram_size=1))
    first = replace(again, slot_start=SlotStart(np.array(PROMPT, np.int32), none))

    def draw(row: RowPlan, value: float, *token_ids: int) -> list[int]:
        count = len(token_ids)
        changes = BiasChanges(
            np.full(count, 1, np.int32), np.array(token_ids, np.int32), np.full(count, value, np.float32)
        )
        return backend.hold(StepPlan.of((row, other))).draw(unconstrained, changes).result().token_ids.tolist()

    second = draw(first, -np.inf, free)[0]
    assert second != free
    assert draw(again, 0) == [second, free]
    assert draw(again, 0, free) == [free, free]
    assert draw(again, -np.inf, *[token_id for token_id in range(vocab_size) if token_id != 5] * 5) == [5, free]
    assert draw(first, 0) == [free, free]  # another request in the same slot


def test_features_stay_in_their_rows_and_a_failed_step_hurts_nobody_else(
    backend: ComputeBackend, real_processor: HuggingFaceProcessor
) -> None:
    pictures = [np.full((4, 4, 3), value, dtype=np.uint8) for value in (200, 30)]
    spans = real_processor.process(Prompt("<image><image>", None, tuple(pictures))).images
    num_features = spans[0].image.plan.num_features
    # The second one's rows lie within those of the first.
    rows = np.arange(3 * num_features, dtype=np.int32).reshape(3, -1)[::-1, ::-1]
    encoded = tuple(ImageToEncode(span.image, own) for span, own in zip(spans, (rows[0], rows[2]), strict=True))
    shown = [row(PROMPT, feature_rows=[-1, -1, *own[:5], *[-1] * 3]) for own in (rows[0].tolist(), rows[2].tolist())]
    first = run(backend, shown[0], encode=encoded).token_ids.tolist()
    second = run(backend, shown[1]).token_ids.tolist()
    assert run(backend, shown[0]).token_ids.tolist() == first
    assert run(backend, shown[1], encode=encoded[1:]).token_ids.tolist() == second
    plain = answer(backend, PROMPT)
    assert run(backend, row(PROMPT, feature_rows=[-1] * len(PROMPT))).token_ids.tolist() == [plain]
    broken = replace(row(PROMPT), num_tokens=len(PROMPT) + 1)
    with pytest.raises(StepError):
        backend.launch(StepPlan.of((broken,), encoded)).result()
    assert answer(backend, PROMPT) == plain
    assert run(backend, shown[0], encode=encoded).token_ids.tolist() == first
