"""The JAX backend: TPUs, or the CPU and GPUs through XLA."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import NoReturn, TypeVar

import jax
import numpy as np
from jax import Array

from aphrodite.backends.jax_tpu import decoder
from aphrodite.backends.jax_tpu.attention import AttentionShape, cache_width, choose_block_size
from aphrodite.backends.jax_tpu.buckets import Buckets, fit
from aphrodite.backends.jax_tpu.devices import choose_devices, choose_dtype, describe_devices, explain_dtype
from aphrodite.backends.jax_tpu.encoder import batches
from aphrodite.backends.jax_tpu.errors import is_out_of_memory
from aphrodite.backends.jax_tpu.kernels import choose_kernels
from aphrodite.backends.jax_tpu.memory import bytes_of, check_room, free_bytes, report_shortage
from aphrodite.backends.jax_tpu.model import NUM_CHANGED, NUM_REPORTED, DeviceModel, is_decoders
from aphrodite.backends.jax_tpu.pending import DeviceHeldStep, DevicePendingStep, PromptReport, prompt_reports
from aphrodite.backends.jax_tpu.programs import Programs, keep_compiled_programs
from aphrodite.backends.jax_tpu.sampler import slot_rows
from aphrodite.backends.jax_tpu.sharding import check_divisible, make_mesh, zeros
from aphrodite.backends.jax_tpu.weights import Weights, load_weights
from aphrodite.cpus import num_cpus
from aphrodite.domain.architectures.spec import ModelSpec, PixelNormalization
from aphrodite.domain.config import EngineConfig
from aphrodite.domain.errors import CacheLostError, DeviceLostError, StepError
from aphrodite.domain.ports import BackendDescription, BackendLimits, CheckpointSource
from aphrodite.domain.scheduling.allowed_tokens import AllowedTokens
from aphrodite.domain.scheduling.bias import NO_CHANGES, BiasChanges
from aphrodite.domain.scheduling.cache_size import (
    bytes_per_block,
    fitting_length,
    longest_sequence,
    num_feature_rows,
    num_kv_blocks,
)
from aphrodite.domain.scheduling.flatten import FlatStep, flatten
from aphrodite.domain.scheduling.step import StepPlan

T = TypeVar("T")


def create_backend(
    config: EngineConfig, model: ModelSpec, checkpoint: CheckpointSource, normalization: PixelNormalization | None
) -> "JaxTpuBackend":
    """Load the model onto the devices and size its KV cache.

    Raises BackendError for devices that are not there or a model that cannot be split among them, CapacityError when
    they are too small, CheckpointError for weights that do not fit the model.
    """
    keep_compiled_programs()
    devices = choose_devices(config.device, config.tensor_parallel_size)
    check_divisible(model.decoder, len(devices))
    dtype = choose_dtype(config.dtype, checkpoint.config, devices[0])
    mesh = make_mesh(devices)
    weights = load_weights(model, checkpoint, dtype, mesh)
    spec, on_cpu = model.decoder, devices[0].platform == "cpu"
    max_model_len = longest_sequence(config, spec)
    head_width = cache_width(spec.head_dim, devices[0].platform)
    max_num_batched_tokens = config.max_num_batched_tokens or 2048
    max_num_rows = min(config.max_num_seqs, max_num_batched_tokens)
    block_size = choose_block_size(config.block_size, max_num_rows, max_model_len, devices[0].platform)
    block_bytes = bytes_per_block(replace(spec, head_dim=head_width), block_size, dtype.itemsize)
    num_blocks = num_kv_blocks(config, block_size, block_bytes, max_model_len, free_bytes(config, devices))
    max_model_len = fitting_length(config, max_model_len, (num_blocks - 1) * block_size)
    limits = BackendLimits(
        num_blocks=num_blocks,
        block_size=block_size,
        max_num_seqs=config.max_num_seqs,
        max_num_batched_tokens=max_num_batched_tokens,
        max_model_len=max_model_len,
        max_steps_in_flight=2,
        num_feature_rows=num_feature_rows(config, model, max_model_len, dtype.itemsize),
        bytes_per_number=dtype.itemsize,
    )
    device_model = DeviceModel(
        spec=model,
        normalization=normalization,
        mesh=mesh,
        dtype=dtype,
        kernels=choose_kernels(
            AttentionShape(
                spec.num_heads // len(devices),
                spec.num_kv_heads // len(devices),
                spec.head_dim,
                block_size,
                dtype,
                model.sees_forward is not None,
            ),
            devices[0],
        ),
        head_width=head_width,
        limits=limits,
        buckets=Buckets.of(
            limits,
            growth=4 if on_cpu else 2,
            num_devices=len(devices),
            model=model,
        ),
    )
    description = BackendDescription(
        device=describe_devices(devices),
        dtype=dtype.name,
        dtype_reason=explain_dtype(config.dtype, devices[0]),
        execution=device_model.kernels.name,
        num_threads=num_cpus() if on_cpu else None,
    )
    return JaxTpuBackend(device_model, weights, description)


@dataclass(frozen=True, slots=True)
class _Forwarded:
    """A step up to its hidden states."""

    plan: StepPlan
    flat: FlatStep
    sampled: Array  # hidden states of the samples, [max rows, E]
    sampling: Array  # what the sampler must know, see `steps.forward`
    prompt_packed: list[Array]
    reports: list[PromptReport]


class JaxTpuBackend:
    """Implements `domain.ports.ComputeBackend`.

    A step is a few programs, queued one after the other: new pictures are encoded, the decoder runs, tokens are drawn.
    Each takes over the memory of what it replaces.
    """

    def __init__(self, model: DeviceModel, weights: Weights, description: BackendDescription) -> None:
        self.limits = model.limits
        self.description = description
        self._model = model
        precision = "highest" if model.dtype == np.float32 else "default"
        self._programs = Programs(precision, model.mesh.devices.flat[0].platform)
        self._decoder_weights = {name: array for name, array in weights.items() if is_decoders(name)}
        self._vision_weights = {name: array for name, array in weights.items() if not is_decoders(name)}
        self._head = decoder.head_of(weights)
        self._allocate()

    @property
    def num_compiled(self) -> int:
        """Programs compiled so far, those found in the compilation cache included."""
        return self._programs.num_compiled

    def warm_up(self) -> None:
        """Compile every program that steps will call. Raises CapacityError when one needs more memory than there is."""
        limits, device = self.limits, self._model.mesh.devices.flat[0]
        what = f"Steps of {limits.max_num_batched_tokens} tokens, beside weights and {limits.num_blocks} KV blocks,"
        advice = "lower max_num_batched_tokens or gpu_memory_utilization"
        with report_shortage(what, advice, device):
            self._programs.compile(self._model.programs())
        check_room(what, self._programs.temporary_bytes, device, advice)

    def launch(self, plan: StepPlan) -> DevicePendingStep:
        """Queue a step. Raises StepError when it could not be; see `domain.ports.ComputeBackend`."""
        return self._queueing(lambda: self._finish(self._forward(plan, is_constrained=False), None, NO_CHANGES))

    def hold(self, plan: StepPlan) -> DeviceHeldStep:
        """Queue a step up to its hidden states. Raises as `launch` does."""
        forwarded = self._queueing(lambda: self._forward(plan, is_constrained=True))
        return DeviceHeldStep(
            lambda allowed, changes: self._queueing(lambda: self._finish(forwarded, allowed, changes))
        )

    def close(self) -> None:
        """Give the devices' memory back."""
        self._programs.clear()
        self._decoder_weights, self._vision_weights = {}, {}
        del (
            self._cache,
            self._features,
            self._slots,
            self._none_held_back,
            self._unread_bits,
            self._no_stages,
            self._head,
        )

    def _allocate(self) -> None:
        """Everything that steps change, empty. Raises CapacityError."""
        model, device = self._model, self._model.mesh.devices.flat[0]
        what = f"{model.limits.num_blocks} KV blocks and the state of {model.limits.max_num_seqs} sequences"
        advice = "lower kv_cache_memory, gpu_memory_utilization or max_num_seqs"
        check_room(what, bytes_of((model.cache(), model.features(), model.slots())), device, advice)
        with report_shortage(what, advice, device):
            self._cache = tuple(zeros(struct) for struct in model.cache())
            self._features = zeros(model.features())
            self._slots = jax.tree.map(zeros, model.slots())
            self._none_held_back = self._held_back(np.empty((0, 2), np.int32))
            self._unread_bits = {size: zeros(model.allowed(size)) for size in model.buckets.samples}
            self._no_stages = {size: zeros(model.stages(size)) for size in model.buckets.samples}
            jax.block_until_ready((self._cache, self._features, self._slots))

    def _queueing(self, work: Callable[[], T]) -> T:
        try:
            return work()
        except Exception as error:  # noqa: BLE001  whatever it was, the engine must go on
            self._fail(error)

    def _forward(self, plan: StepPlan, *, is_constrained: bool) -> "_Forwarded":
        self._encode(plan)
        flat = flatten(plan, self.limits.block_size, self._model.buckets.pad)
        num_tokens = flat.shape.num_tokens
        flags = np.array([flat.needs.num_logprobs >= 0, is_constrained], np.int32)
        buffer = np.concatenate((flat.buffer, flags))
        hidden, sampled, sampling, self._cache = self._programs.run(
            "forward", num_tokens, self._decoder_weights, buffer, self._cache, self._features, self._slots.last_tokens
        )
        return _Forwarded(plan, flat, sampled, sampling, *self._report_prompts(plan, flat, hidden))

    def _finish(
        self, forwarded: "_Forwarded", allowed: AllowedTokens | None, changes: BiasChanges
    ) -> DevicePendingStep:
        flat = forwarded.flat
        packed = self._sample(forwarded, allowed, changes) if flat.num_samples else None
        return DevicePendingStep(
            packed,
            flat.num_samples,
            flat.needs.num_logprobs,
            flat.needs.stages,
            forwarded.prompt_packed,
            forwarded.reports,
            self._fail,
        )

    def _encode(self, plan: StepPlan) -> None:
        """Compute the features of new images, as many of them at once as there is a program for."""
        model = self._model
        if model.spec.vision is None:
            return
        for batch in batches(plan.encode, model.spec.vision, model.buckets.units, model.padding_feature_row):
            self._features = self._programs.run(
                "encode", batch.num_units, self._vision_weights, batch.arrays, self._features
            )

    def _sample(self, forwarded: "_Forwarded", allowed: AllowedTokens | None, changes: BiasChanges) -> Array:
        flat = forwarded.flat
        for row in forwarded.plan.prompts:
            if row.slot_start is not None:
                rows = slot_rows(row, self._model.spec.decoder.vocab_size)
                self._slots = self._programs.run("start", 1, self._slots, np.int32(row.slot), *rows)
        for places, values in _pieces(changes):
            self._slots = self._programs.run("change bias", NUM_CHANGED, self._slots, places, values)
        held_back = self._held_back(flat.suppressed) if len(flat.suppressed) else self._none_held_back
        bucket, num_held_back = fit(self._model.buckets.samples, flat.num_samples), len(held_back)
        if num_held_back > self._model.num_held_back:  # beyond all reason, but right: compiled when it first occurs
            self._programs.compile([self._model.sample_program(bucket, num_held_back)])
        packed: Array
        packed, self._slots = self._programs.run(
            f"sample, {num_held_back} held back",
            bucket,
            self._head,
            forwarded.sampled,
            forwarded.sampling,
            held_back,
            self._bits(bucket, allowed),
            self._stages(bucket, flat),
            self._slots,
        )
        return packed

    def _bits(self, num_samples: int, allowed: AllowedTokens | None) -> Array | np.ndarray:
        """Bits of every sample, int32 [num_samples, W]."""
        if allowed is None:
            return self._unread_bits[num_samples]
        bits = np.full((num_samples, allowed.bits.shape[1]), -1, np.int32)
        bits[allowed.samples] = allowed.bits
        return bits

    def _stages(self, num_samples: int, flat: FlatStep) -> Array | np.ndarray:
        """The stages of every sample, int32 [num_samples, X]."""
        if flat.stages is None:
            return self._no_stages[num_samples]
        words = np.zeros((num_samples, flat.stages.shape[1]), np.int32)
        words[: len(flat.stages)] = flat.stages
        return words

    def _held_back(self, pairs: np.ndarray) -> np.ndarray:
        """Pairs of sample and token id, padded with those of a sample that no step has."""
        size = self._model.num_held_back
        while size < len(pairs):
            size *= 2
        padded = np.full((size, 2), np.iinfo(np.int32).max, np.int32)
        padded[: len(pairs)] = pairs
        return padded

    def _report_prompts(self, plan: StepPlan, flat: FlatStep, hidden: Array) -> tuple[list[Array], list[PromptReport]]:
        """For every row that asks, log-probabilities of the tokens that follow its own."""
        tokens, targets, reports = prompt_reports(plan, flat.prompt_starts)
        packed = []
        for start in range(0, len(tokens), NUM_REPORTED):
            rows = self._programs.run("rows", flat.shape.num_tokens, hidden, _piece(tokens, start))
            packed.append(self._programs.run("report", NUM_REPORTED, self._head, rows, _piece(targets, start)))
        return packed, reports

    def _fail(self, error: Exception) -> NoReturn:
        """Raise a failed step's error, with all that steps change made whole again."""
        if is_out_of_memory(error):
            message = "The device ran out of memory in this step; lower max_num_batched_tokens."
        elif isinstance(error, StepError):
            message = str(error)
        else:
            message = "The step failed on the device; its requests were given up."
        if self._is_whole():
            raise StepError(message) from error
        # The memory was handed over to a program that failed: what it held is gone.
        del self._cache, self._features, self._slots
        try:
            self._allocate()
        except Exception as lost:
            raise DeviceLostError("The device failed in a way that only a new process recovers from.") from lost
        raise CacheLostError(message) from error

    def _is_whole(self) -> bool:
        arrays = jax.tree.leaves((self._cache, self._features, self._slots))
        if any(array.is_deleted() for array in arrays):
            return False
        try:
            jax.block_until_ready(arrays)
        except jax.errors.JaxRuntimeError:
            return False
        return True


def _pieces(changes: BiasChanges) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """NUM_CHANGED of them each, places of no slot after the last."""
    for start in range(0, len(changes), NUM_CHANGED):
        some = slice(start, start + NUM_CHANGED)
        places = np.full((NUM_CHANGED, 2), np.iinfo(np.int32).max, np.int32)
        values = np.zeros(NUM_CHANGED, np.float32)
        count = len(changes.slots[some])
        places[:count, 0], places[:count, 1] = changes.slots[some], changes.token_ids[some]
        values[:count] = changes.values[some]
        yield places, values


def _piece(numbers: list[int], start: int) -> np.ndarray:
    """NUM_REPORTED of them from `start` on, zeros after the last."""
    piece = numbers[start : start + NUM_REPORTED]
    return np.array(piece + [0] * (NUM_REPORTED - len(piece)), np.int32)
