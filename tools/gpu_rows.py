"""The figures that a GPU is held to: each measured, beside the limit of the device and the bar that is set."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch

from aphrodite.bench.curves.driver import StepDriver
from aphrodite.bench.limit import DeviceRates, ModelCosts, total_limit_s
from aphrodite.bench.subject import Round, Subject
from aphrodite.bench.token_workload import TokenCounts, TokenWorkload, draw_token_ids
from aphrodite.domain.architectures.spec import ModelSpec
from aphrodite.domain.prompting.sampling_params import SamplingParams
from aphrodite.domain.scheduling.step import RowPlan, StepPlan
from gpu_kernels import Kernel, longest_kernels
from gpu_peer import TransformersPeer

_REPETITIONS = 10
_ROUNDS = 3
_PROMPT_TOKENS = 512  # of each prompt in a packed step
_GREEDY = SamplingParams(temperature=0)


@dataclass(frozen=True)
class Sizes:
    """How much work each row is."""

    context: int  # tokens of each sequence that decodes
    few: int  # sequences
    many: int
    many_context: int
    host_batch: int
    prefill_tokens: tuple[int, ...]
    images: int
    text_tokens: int  # beside an image
    requests: int
    output_tokens: int


ASKED = Sizes(640, 32, 160, 700, 64, (2048, 8192), 32, 32, 256, 128)
SMALL = Sizes(24, 2, 3, 30, 2, (32, 64), 3, 4, 4, 3)


@dataclass(frozen=True)
class Figure:
    """One row. `limit` is what the rates that were measured on this device allow; None where they say nothing."""

    what: str
    unit: str
    measured: float | None  # None where the work does not fit the device
    limit: float | None
    bar: float | None  # None for other work than what it was set for
    more_is_better: bool
    kernels: tuple[Kernel, ...] = ()  # what a step's time goes to

    @property
    def reached(self) -> bool:
        """Whether the bar is."""
        if self.measured is None or self.bar is None:
            return False
        return self.measured >= self.bar if self.more_is_better else self.measured <= self.bar


class Rows:
    """Measures on one engine, which nobody else uses meanwhile; `folder` holds the model's settings."""

    def __init__(self, subject: Subject, model: ModelSpec, folder: Path, rates: DeviceRates, sizes: Sizes) -> None:
        self._subject = subject
        self._model = model
        self._folder = folder
        self._peer_model: TransformersPeer | None = None
        self._rates = rates
        self._sizes = sizes
        self._backend: Any = subject.engine._backend
        self._costs = ModelCosts(model, subject.engine.limits.bytes_per_number)
        self._driver = StepDriver(subject.engine, model, seed=0)
        self._random = np.random.default_rng(0)

    def measurements(self) -> Iterator[Callable[[], Figure]]:
        """What measures each row, to be called in this order."""
        sizes = self._sizes
        # First what writes to the cache behind the engine's back: later there may be something in it.
        for num_tokens in sizes.prefill_tokens:
            yield partial(self._prefill, num_tokens)
        yield self._tower
        yield partial(self._decode_step, 1, sizes.context, bar_ms=5.3)
        yield partial(self._decode_step, sizes.few, sizes.context, bar_ms=9.6)
        yield self._decode_rate
        yield self._first_token
        yield self._answers
        yield self._host_time
        # Last, as the engine is closed for them.
        yield partial(self._peer_decode_step, 1)
        yield partial(self._peer_decode_step, sizes.few)
        yield self._peer_first_token
        yield self._peer_tower

    def _prefill(self, num_tokens: int) -> Figure:
        plan = StepPlan.of(self._prompts(num_tokens))
        cost = self._costs.step(plan)
        seconds, kernels = self._time_each(lambda: self._backend.launch(plan))
        rate, limit = cost.num_operations / seconds, cost.num_operations / cost.limit_s(self._rates)
        what = f"prefill, packed steps of {num_tokens} tokens"
        return Figure(what, "TFLOP/s", rate / 1e12, limit / 1e12, 560, True, kernels)

    def _prompts(self, num_tokens: int) -> Iterator[RowPlan]:
        """Prompts that together have so many tokens, in blocks of their own."""
        row_tokens = min(_PROMPT_TOKENS, num_tokens, self._backend.limits.max_model_len)
        num_blocks = -(-row_tokens // self._backend.limits.block_size)
        vocab_size, image_token_id = self._model.decoder.vocab_size, self._model.image_token_id
        for slot in range(num_tokens // row_tokens):
            token_ids = np.array(draw_token_ids(self._random, row_tokens, vocab_size, image_token_id), np.int32)
            blocks = np.arange(1 + slot * num_blocks, 1 + (slot + 1) * num_blocks, dtype=np.int32)
            yield RowPlan(slot, 0, row_tokens, token_ids, blocks, True, _GREEDY, 0)

    @torch.inference_mode()
    def _tower(self) -> Figure:
        assert self._model.vision is not None
        count, shape = self._sizes.images, (self._model.vision.num_patches, self._model.vision.patch_bytes)
        patches = torch.from_numpy(self._random.integers(0, 256, (count, *shape), dtype=np.uint8))
        patches = patches.to(self._backend._device)
        seconds, kernels = self._time_each(lambda: self._backend._encoder.encode_segments(patches))
        operations_s = count * self._costs.operations_per_image / self._rates.operations_per_s
        limit = count / max(operations_s, self._costs.vision_bytes / self._rates.bytes_per_s)
        what = f"vision tower and projector, batch {count}"
        return Figure(what, "images/s", count / seconds, limit, 700, True, kernels)

    def _time_each(self, call: Callable[[], object]) -> tuple[float, tuple[Kernel, ...]]:
        """Seconds of calls that queue their work one behind the other, and their kernels."""
        for num_calls in (2, _REPETITIONS):
            started_s = time.perf_counter()
            for _ in range(num_calls):
                call()
            if self._backend._device.type == "cuda":
                torch.cuda.synchronize(self._backend._device)
        seconds = (time.perf_counter() - started_s) / _REPETITIONS
        return seconds, longest_kernels(call, self._backend._device)

    def _decode_step(self, batch: int, context: int, bar_ms: float) -> Figure:
        step_s, limit_s, kernels = self._decode(batch, context)
        measured_ms = None if step_s is None else step_s * 1000
        what = f"decode step, batch {batch}, context {context}"
        return Figure(what, "ms", measured_ms, limit_s * 1000, bar_ms, False, kernels)

    def _decode_rate(self) -> Figure:
        batch, context = self._sizes.many, self._sizes.many_context
        step_s, limit_s, kernels = self._decode(batch, context)
        rate = None if step_s is None else batch / step_s
        what = f"decode, {batch} sequences, context {context}"
        return Figure(what, "output tokens/s", rate, batch / limit_s, 5200, True, kernels)

    def _decode(self, batch: int, context: int) -> tuple[float | None, float, tuple[Kernel, ...]]:
        """Seconds of a step, if it fits the device; the limit; the kernels."""
        nothing = np.zeros(0, np.int32)
        plan = StepPlan.of(RowPlan(slot, context, 1, None, nothing, True, _GREEDY, 0) for slot in range(batch))
        limit_s = self._costs.step(plan).limit_s(self._rates)
        if self._driver.longest(batch) < context:
            return None, limit_s, ()
        try:
            times = self._driver.decode(batch, context)
            return times.step_s, limit_s, longest_kernels(self._subject.engine.step, self._backend._device)
        finally:
            self._driver.clear()

    def _first_token(self) -> Figure:
        """With everything that comes before it: the picture is resized and its features are computed."""
        workload = self._workload(1, 1)
        rounds = [self._subject.run(workload.prompts(number)) for number in range(_REPETITIONS)][1:]
        answers = [found.measurement.answers[0] for found in rounds]
        measured_s = median(answer.first_token_s - answer.due_s for answer in answers)
        return Figure(
            "first token, batch 1, with an image", "ms", measured_s * 1000, self._limit_s(rounds) * 1000, 20, False
        )

    def _answers(self) -> Figure:
        count, num_tokens = self._sizes.requests, self._sizes.output_tokens
        workload = self._workload(count, num_tokens)
        rounds = [self._subject.run(workload.prompts(100 + number)) for number in range(_ROUNDS)]
        seconds = median(found.measurement.ended_s - found.measurement.started_s for found in rounds)
        what = f"{count} requests, one image each, {num_tokens} tokens out"
        return Figure(what, "requests/s", count / seconds, count / self._limit_s(rounds), 24, True)

    def _limit_s(self, rounds: list[Round]) -> float:
        """Of the mean round."""
        return sum(total_limit_s(found.steps, self._rates) for found in rounds) / len(rounds)

    def _workload(self, num_requests: int, num_output_tokens: int) -> TokenWorkload:
        assert self._model.vision is not None
        return TokenWorkload(
            num_requests=num_requests,
            input_tokens=TokenCounts(self._sizes.text_tokens, self._sizes.text_tokens),
            output_tokens=TokenCounts(num_output_tokens, num_output_tokens),
            image_size=(self._model.vision.image_size,) * 2,
            seed=0,
            vocab_size=self._model.decoder.vocab_size,
            image_token_id=self._model.image_token_id,
        )

    def _host_time(self) -> Figure:
        batch, context = self._sizes.host_batch, self._sizes.context
        measured_ms = None
        if self._driver.longest(batch) >= context:
            measured_ms = self._driver.decode(batch, context).host_s * 1000
            self._driver.clear()
        return Figure(f"host time a decode step, batch {batch}", "ms", measured_ms, None, 0.5, False)

    def _peer(self) -> TransformersPeer:
        if self._peer_model is None:
            self._subject.engine.close()
            self._peer_model = TransformersPeer(
                self._folder, self._model, self._subject.dtype, self._backend._device, self._sizes.few
            )
        return self._peer_model

    def _peer_decode_step(self, batch: int) -> Figure:
        context, decoder = self._sizes.context, self._model.decoder
        contexts = [
            draw_token_ids(self._random, context, decoder.vocab_size, self._model.image_token_id) for _ in range(batch)
        ]
        what = f"transformers: decode step, batch {batch}, context {context}"
        return Figure(what, "ms", self._peer().step_s(contexts) * 1000, None, None, False)

    def _peer_first_token(self) -> Figure:
        workload = self._workload(1, 1)
        seconds = self._peer().first_token_s([workload.prompts(number) for number in range(_REPETITIONS)])
        return Figure("transformers: first token, batch 1, with an image", "ms", seconds * 1000, None, None, False)

    def _peer_tower(self) -> Figure:
        count = self._sizes.images
        what = f"transformers: vision tower and projector, batch {count}"
        return Figure(what, "images/s", count / self._peer().tower_s(count), None, None, True)
