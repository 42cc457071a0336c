"""The torch backend: an NVIDIA GPU, or with device="cpu" any machine.

Letters: T tokens, S samples, E hidden size, N images, V vocabulary.
"""

import gc
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from traceback import clear_frames

import numpy as np
import torch
from torch import Tensor

from aphrodite.backends.cuda.choice import choose_execution
from aphrodite.backends.cuda.cpu.threads import share_cpus
from aphrodite.backends.cuda.decoder import Decoder
from aphrodite.backends.cuda.devices import choose_device, choose_dtype, describe_device, explain_dtype
from aphrodite.backends.cuda.encoder import Encoder
from aphrodite.backends.cuda.errors import step_error
from aphrodite.backends.cuda.gpu.decode_graphs import Decoded, DecodeGraphs
from aphrodite.backends.cuda.kv_cache import KvCache
from aphrodite.backends.cuda.memory import cache_bytes
from aphrodite.backends.cuda.pending import DeviceHeldStep, DevicePendingStep, Reported
from aphrodite.backends.cuda.rotary import RotaryTables
from aphrodite.backends.cuda.sampler import AllowedBits, SlotState, candidates, sample
from aphrodite.backends.cuda.stages import groups_to_send, receive_group
from aphrodite.backends.cuda.staging import Staging
from aphrodite.backends.cuda.vision import VisionTower
from aphrodite.backends.cuda.warm_up import warm_up_plans
from aphrodite.backends.cuda.weights import load_weights
from aphrodite.domain.architectures.spec import ModelSpec, PixelNormalization
from aphrodite.domain.architectures.vision_spec import VisionSpec
from aphrodite.domain.config import EngineConfig
from aphrodite.domain.errors import BackendError, CapacityError
from aphrodite.domain.ports import BackendDescription, BackendLimits, CheckpointSource
from aphrodite.domain.scheduling.allowed_tokens import NOTHING_CONSTRAINED, AllowedTokens
from aphrodite.domain.scheduling.bias import NO_CHANGES, BiasChanges
from aphrodite.domain.scheduling.cache_size import (
    bytes_per_block,
    fitting_length,
    longest_sequence,
    num_feature_rows,
    num_kv_blocks,
)
from aphrodite.domain.scheduling.encoding import EncoderInputs, encoder_inputs
from aphrodite.domain.scheduling.flatten import FlatStep, flatten
from aphrodite.domain.scheduling.sampling_words import SamplingNeeds
from aphrodite.domain.scheduling.step import StepPlan
from aphrodite.domain.scheduling.step_arrays import StepArrays, unpack

_REPORTED_AT_ONCE = 512  # prompt tokens


def create_backend(
    config: EngineConfig, model: ModelSpec, checkpoint: CheckpointSource, normalization: PixelNormalization | None
) -> "CudaBackend":
    """Load the model onto the device and size its KV cache.

    Raises BackendError for a device that is not there, CapacityError when it is too small, CheckpointError for weights
    that do not fit the model.
    """
    if config.tensor_parallel_size > 1:
        raise BackendError("The cuda backend runs on one device; set tensor_parallel_size=1, or use backend='jax_tpu'.")
    device = choose_device(config.device)
    if device.type == "cpu":
        share_cpus()
    dtype = choose_dtype(config.dtype, checkpoint.config, device)
    with torch.inference_mode():
        weights = load_weights(model, checkpoint, dtype, device)
        return CudaBackend(config, model, weights, normalization, dtype, device)


@dataclass(frozen=True, slots=True)
class _Forwarded:
    """A step up to its logits."""

    plan: StepPlan
    flat: FlatStep
    decoded: Decoded | None  # None: nothing is sampled
    sent: Iterator[Tensor]  # what the draw reads of what was sent
    prompt_logprobs: dict[int, Reported]


class CudaBackend:
    """Implements `domain.ports.ComputeBackend`."""

    def __init__(
        self,
        config: EngineConfig,
        model: ModelSpec,
        weights: dict[str, Tensor],
        normalization: PixelNormalization | None,
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        self._config = config
        self._model = model
        self._dtype = dtype
        self._sees_forward = model.sees_forward is not None
        self._device = device
        # Triton and CUDA's events go to the current device, which is another where this is not the first GPU.
        self._current = torch.cuda.device(device) if device.type == "cuda" else nullcontext()
        self._decoder = Decoder(model.decoder, weights)
        self._tower: VisionTower | None = None
        if model.vision is not None and normalization is not None:
            self._tower = VisionTower(model.vision, weights, normalization)

        max_model_len = longest_sequence(config, model.decoder)
        block_bytes = bytes_per_block(model.decoder, config.block_size, dtype.itemsize)
        room = cache_bytes(config, device, partial(self._tried_steps, max_model_len))
        num_blocks = num_kv_blocks(config, config.block_size, block_bytes, max_model_len, room)
        self._allocate(num_blocks, fitting_length(config, max_model_len, (num_blocks - 1) * config.block_size))

    @contextmanager
    def _tried_steps(self, max_model_len: int) -> Iterator[None]:
        """Steps of every kind are run with no cache to speak of: their tokens go to block 0."""
        self._allocate(2, max_model_len)
        self.warm_up()
        yield
        self._free()

    def _allocate(self, num_blocks: int, max_model_len: int) -> None:
        """Memory that steps share, and what holds its addresses."""
        config, spec, dtype, device = self._config, self._model.decoder, self._dtype, self._device
        self.limits = BackendLimits(
            num_blocks=num_blocks,
            block_size=config.block_size,
            max_num_seqs=config.max_num_seqs,
            max_num_batched_tokens=config.max_num_batched_tokens or (8192 if device.type == "cuda" else 2048),
            max_model_len=max_model_len,
            max_steps_in_flight=2 if device.type == "cuda" else 1,
            num_feature_rows=num_feature_rows(config, self._model, max_model_len, dtype.itemsize),
            bytes_per_number=dtype.itemsize,
        )
        self._encoder = None if self._tower is None else Encoder(self._tower, device)
        self._cache = KvCache(
            spec.num_layers, num_blocks, config.block_size, spec.num_kv_heads, spec.head_dim, dtype, device
        )
        rotary = RotaryTables(spec, max_model_len, dtype, device)
        self._execution = choose_execution(spec, rotary, self._cache, config.block_size, max_model_len, device)
        self.description = BackendDescription(
            device=describe_device(device),
            dtype=str(dtype).removeprefix("torch."),
            dtype_reason=explain_dtype(config.dtype, dtype, device),
            execution=self._execution.name,
            num_threads=torch.get_num_threads() if device.type == "cpu" else None,
        )
        self._staging = Staging(self.limits.max_steps_in_flight, device)
        self._slots = SlotState(config.max_num_seqs, spec.vocab_size, device)
        self._decode_graphs = DecodeGraphs(self.limits, spec.vocab_size, self._decode, self._draw, device)
        self._features = torch.empty(
            self.limits.num_feature_rows, self._model.feature_size, dtype=dtype, device=device
        )  # [feature rows, levels * E]

    @torch.inference_mode()
    def warm_up(self) -> None:
        """Compile every kernel and record every graph that steps will use; plain torch runs any shape as it is.

        Raises CapacityError, and closes the backend, when a step needs more memory than there is.
        """
        capture = self._execution.capture
        if capture is None:
            return
        try:
            with self._current:
                self._decode_graphs.capture(capture)
                if self._encoder is not None:
                    self._encoder.capture(capture, self._max_units(self._encoder.spec))
                # Last, as capturing gives memory back that these will find again.
                for plan in warm_up_plans(self.limits, sees_forward=self._sees_forward):
                    self._finish(self._forward(plan)).result()
        except torch.OutOfMemoryError as error:
            clear_frames(error.__traceback__)
            self.close()  # whoever tries again with less needs the memory
            raise CapacityError(
                f"Steps of {self.limits.max_num_batched_tokens} tokens do not fit beside the weights and "
                f"{self.limits.num_blocks} KV blocks; lower max_num_batched_tokens or gpu_memory_utilization."
            ) from error

    @torch.inference_mode()
    def launch(self, plan: StepPlan) -> DevicePendingStep:
        """Queue a step. Raises StepError or DeviceLostError when it could not be; see `domain.ports.ComputeBackend`."""
        with self._queueing():
            return self._finish(self._forward(plan))

    @torch.inference_mode()
    def hold(self, plan: StepPlan) -> DeviceHeldStep:
        """Queue a step up to its logits. Raises as `launch` does."""
        with self._queueing():
            return DeviceHeldStep(partial(self._draw_held, self._forward(plan)))

    @torch.inference_mode()
    def _draw_held(self, forwarded: "_Forwarded", allowed: AllowedTokens, changes: BiasChanges) -> DevicePendingStep:
        with self._queueing():
            return self._finish(forwarded, allowed, changes)

    @contextmanager
    def _queueing(self) -> Iterator[None]:
        try:
            with self._current:
                yield
        except Exception as error:
            raise step_error(error, self._device) from error

    def close(self) -> None:
        """Give the device's memory back."""
        del self._decoder, self._tower
        self._free()

    def _free(self) -> None:
        del self._features, self._cache, self._execution, self._encoder, self._slots, self._decode_graphs
        if self._device.type == "cuda":
            gc.collect()  # a graph and what it calls hold each other
            torch.cuda.empty_cache()

    def _forward(self, plan: StepPlan) -> "_Forwarded":
        graph_shape = self._decode_graphs.shape(plan)
        flat = flatten(plan, self.limits.block_size, None if graph_shape is None else lambda _: graph_shape)
        images = encoder_inputs(plan.encode, self._encoder.spec) if plan.encode and self._encoder is not None else None
        numbers, *others = self._staging.send([flat.buffer, *self._numbers_of(plan, flat, images)])
        sent = iter(others)
        if images is not None:
            self._encode(images, sent)
        if graph_shape is not None:
            return _Forwarded(plan, flat, self._decode_graphs.run(graph_shape, numbers), sent, {})
        arrays: StepArrays[Tensor] = unpack(numbers, flat.shape, torch.float32)
        hidden, deep_features = self._embed(arrays), list[Tensor]()
        if flat.has_features:
            hidden, *deep_features = self._place_features(hidden, arrays.feature_rows[:, None])
        hidden = self._decoder.forward(hidden, self._execution.make_operations(flat, arrays), deep_features)
        prompt = self._prompt_logprobs(plan, flat, hidden, sent)
        if flat.num_samples == 0:
            return _Forwarded(plan, flat, None, sent, prompt)
        decoded = Decoded(arrays, self._decoder.logits(hidden[arrays.samples.tokens.long()]), tokens=None)
        return _Forwarded(plan, flat, decoded, sent, prompt)

    def _finish(
        self, forwarded: "_Forwarded", allowed: AllowedTokens = NOTHING_CONSTRAINED, changes: BiasChanges = NO_CHANGES
    ) -> DevicePendingStep:
        if forwarded.decoded is None:
            nothing = torch.empty(0, dtype=torch.int64, device=self._device)
            return DevicePendingStep(nothing, None, None, forwarded.prompt_logprobs)
        drawn = self._sample(forwarded.plan, forwarded.flat, forwarded.decoded, forwarded.sent, allowed, changes)
        return DevicePendingStep(*drawn, forwarded.prompt_logprobs)

    def _sample(
        self,
        plan: StepPlan,
        flat: FlatStep,
        decoded: Decoded,
        sent: Iterator[Tensor],
        allowed: AllowedTokens,
        changes: BiasChanges,
    ) -> tuple[Tensor, Reported | None, Tensor | None]:
        """Sampled tokens [S], the candidates beside them where a row wants some, Mirostat's bounds where one has it."""
        logits, tokens, needs = decoded.logits, decoded.tokens, flat.needs
        raw = torch.log_softmax(logits, dim=-1) if needs.num_logprobs >= 0 else None
        for row in plan.prompts:
            self._slots.start(row, sent)
        bits = AllowedBits(*self._staging.send([allowed.samples, allowed.bits])) if len(allowed.samples) else None
        if len(changes):
            self._slots.change_bias(*self._staging.send([changes.slots, changes.token_ids, changes.values]))
        groups = [receive_group(stages, next(sent), next(sent)) for stages, _ in groups_to_send(flat.stages)]
        suppressed = next(sent, None)
        is_plain = not (needs.penalties or needs.bias or needs.stages) and suppressed is None and bits is None
        if tokens is None or not is_plain:
            tokens = sample(
                logits, decoded.arrays.samples, needs, suppressed, bits, self._slots, self._execution.choose, groups
            )
        tokens = tokens[: flat.num_samples]  # those of padding are nobody's
        reported = None if raw is None else candidates(raw[: flat.num_samples], tokens, needs.num_logprobs)
        bounds = None
        if any(group.has_mirostat for group in groups):
            bounds = self._slots.mirostat_bounds[decoded.arrays.samples.slots[: flat.num_samples].long()]
        return tokens, reported, bounds

    def _numbers_of(self, plan: StepPlan, flat: FlatStep, images: EncoderInputs | None) -> list[np.ndarray]:
        """What few steps need on the device, in the order in which it is used there."""
        numbers: list[np.ndarray] = []
        if images is not None:
            numbers += [*Encoder.numbers(images), images.rows]
        numbers += [row.prompt_targets for row in plan.prompts if row.prompt_targets is not None]
        for row in plan.prompts:
            numbers += self._slots.start_numbers(row)
        for _, of_group in groups_to_send(flat.stages):
            numbers += of_group
        if len(flat.suppressed):
            numbers.append(flat.suppressed)
        return numbers

    def _encode(self, images: EncoderInputs, sent: Iterator[Tensor]) -> None:
        """Compute the features of new images."""
        assert self._encoder is not None
        features = self._encoder.encode(images, sent)
        self._features.index_copy_(0, next(sent).long(), features)

    def _place_features(self, hidden: Tensor, rows: Tensor) -> list[Tensor]:
        """Embeddings [T, E] with images' features in them, and what of these is added behind layers, [T, E] each.

        `rows` int32 [T, 1] of the feature array, -1 for other tokens.
        """
        features = self._features[rows[:, 0].clamp(min=0).long()]
        placed, *deep = torch.split(features, hidden.shape[1], dim=1)
        is_feature = rows >= 0
        return [torch.where(is_feature, placed, hidden), *(torch.where(is_feature, level, 0) for level in deep)]

    def _max_units(self, vision: VisionSpec) -> int:
        """The most segments, or patches of a packed tower, that a step encodes."""
        most_tokens = self.limits.max_num_batched_tokens
        if vision.is_packed:
            return most_tokens * vision.merge_side**2
        return min(-(-most_tokens // vision.num_image_tokens), self.limits.max_num_seqs)

    def _decode(self, flat: FlatStep, arrays: StepArrays[Tensor]) -> Tensor:
        """What a graph records of a step of tokens alone, up to the logits [S, V] of its samples."""
        hidden = self._decoder.forward(self._embed(arrays), self._execution.make_operations(flat, arrays))
        return self._decoder.logits(hidden[arrays.samples.tokens.long()])

    def _draw(self, logits: Tensor, arrays: StepArrays[Tensor]) -> Tensor:
        """What a graph records of the draw: from the logits as they are."""
        needs = SamplingNeeds(draws=True, stages=False, filters=True, penalties=False, bias=False, num_logprobs=-1)
        return sample(logits, arrays.samples, needs, None, None, self._slots, self._execution.choose)

    def _embed(self, arrays: StepArrays[Tensor]) -> Tensor:
        """The step's embeddings [T, E], of tokens from the host and of tokens still in flight."""
        slots = arrays.token_slots
        token_ids = torch.where(slots >= 0, self._slots.last_tokens[slots.long()], arrays.token_ids.long())
        return self._decoder.embed(token_ids)

    def _prompt_logprobs(
        self, plan: StepPlan, flat: FlatStep, hidden: Tensor, sent: Iterator[Tensor]
    ) -> dict[int, Reported]:
        """For every row that asks, log-probabilities of the tokens that follow its own."""
        reported = {}
        for index, (row, first) in enumerate(zip(plan.prompts, flat.prompt_starts, strict=True)):
            if row.prompt_targets is not None:
                states = hidden[first : first + len(row.prompt_targets)]
                reported[index] = self._report(states, next(sent).long(), row.sampling.prompt_logprobs or 0)
        return reported

    def _report(self, hidden: Tensor, targets: Tensor, num_candidates: int) -> Reported:
        """Log-probabilities of tokens [n] under hidden states [n, E], a few at a time: those of all fill gigabytes."""
        pieces = [
            candidates(torch.log_softmax(self._decoder.logits(states), dim=-1), chosen, num_candidates)
            for states, chosen in zip(
                torch.split(hidden, _REPORTED_AT_ONCE), torch.split(targets, _REPORTED_AT_ONCE), strict=True
            )
        ]
        return tuple(map(torch.cat, zip(*pieces, strict=True)))
