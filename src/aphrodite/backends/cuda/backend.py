"""The torch backend: an NVIDIA GPU, or with device="cpu" any machine."""

import torch
from torch import Tensor

from aphrodite.backends.cuda.attention import KvCache
from aphrodite.backends.cuda.choice import choose_operations
from aphrodite.backends.cuda.decoder import Decoder
from aphrodite.backends.cuda.devices import choose_device, choose_dtype
from aphrodite.backends.cuda.memory import free_bytes
from aphrodite.backends.cuda.operations import RotaryTables
from aphrodite.backends.cuda.pending import DevicePendingStep, Reported
from aphrodite.backends.cuda.sampler import SlotState, candidates, sample
from aphrodite.backends.cuda.vision import VisionTower
from aphrodite.backends.cuda.weights import load_weights
from aphrodite.domain.architectures.spec import ModelSpec, PixelNormalization
from aphrodite.domain.config import EngineConfig
from aphrodite.domain.errors import BackendError, StepError
from aphrodite.domain.ports import BackendLimits, CheckpointSource
from aphrodite.domain.scheduling.cache_size import bytes_per_block, fitting_length, longest_sequence, num_kv_blocks
from aphrodite.domain.scheduling.flatten import FlatStep, flatten, unpack
from aphrodite.domain.scheduling.step import StepPlan

_ENCODER_CACHE_BYTES = 512 << 20


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
    dtype = choose_dtype(config.dtype, checkpoint.config, device)
    with torch.inference_mode():
        weights = load_weights(model, checkpoint, dtype, device)
        return CudaBackend(config, model, weights, normalization, dtype, device)


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
        spec = model.decoder
        max_model_len = longest_sequence(config, spec)
        block_bytes = bytes_per_block(spec, config.block_size, dtype.itemsize)
        num_blocks = num_kv_blocks(config, block_bytes, max_model_len, free_bytes(config, device))
        image_tokens = model.vision.num_image_tokens if model.vision is not None else 0
        image_bytes = image_tokens * spec.hidden_size * dtype.itemsize  # one picture's features must fit
        self.limits = BackendLimits(
            num_blocks=num_blocks,
            block_size=config.block_size,
            max_num_seqs=config.max_num_seqs,
            max_num_batched_tokens=config.max_num_batched_tokens or (8192 if device.type == "cuda" else 2048),
            max_model_len=fitting_length(config, max_model_len, num_blocks),
            max_steps_in_flight=2 if device.type == "cuda" else 1,
            encoder_cache_bytes=max(_ENCODER_CACHE_BYTES, image_bytes),
            bytes_per_feature=spec.hidden_size * dtype.itemsize,
        )
        self._device = device
        self._decoder = Decoder(spec, weights)
        self._vision: VisionTower | None = None
        if model.vision is not None and normalization is not None:
            self._vision = VisionTower(model.vision, weights, normalization)
        self._cache = KvCache(
            spec.num_layers, num_blocks, config.block_size, spec.num_kv_heads, spec.head_dim, dtype, device
        )
        tables = RotaryTables.of(spec, self.limits.max_model_len, dtype, device)
        self._operations = choose_operations(
            spec, tables, self._cache, config.block_size, self.limits.max_model_len, device
        )
        self._slots = SlotState(config.max_num_seqs, spec.vocab_size, device)
        self._features: dict[bytes, Tensor] = {}  # content hash -> [image tokens, E]

    def warm_up(self) -> None:
        """Nothing to compile: plain torch runs any shape."""

    @torch.inference_mode()
    def launch(self, plan: StepPlan) -> DevicePendingStep:
        """Queue a step. Raises StepError when it could not be; see `domain.ports.ComputeBackend`."""
        try:
            return self._launch(plan)
        except torch.OutOfMemoryError as error:
            raise StepError("The device ran out of memory in this step; lower max_num_batched_tokens.") from error
        except Exception as error:
            raise StepError("The step failed on the device; its requests were given up.") from error

    def close(self) -> None:
        """Give the device's memory back."""
        self._features.clear()
        del self._cache, self._decoder, self._operations, self._vision, self._slots
        if self._device.type == "cuda":
            torch.cuda.empty_cache()

    def _launch(self, plan: StepPlan) -> DevicePendingStep:
        self._encode(plan)
        flat = flatten(plan, self.limits.block_size)
        buffer = torch.from_numpy(flat.buffer).to(self._device, non_blocking=True)
        arrays: dict[str, Tensor] = unpack(buffer, flat.shape, torch.float32)
        hidden = self._embed(plan, flat, arrays)
        hidden = self._decoder.forward(hidden, self._operations(flat, arrays))
        prompt = self._prompt_logprobs(plan, flat, hidden)
        if flat.num_samples == 0:
            return DevicePendingStep(torch.empty(0, dtype=torch.int64, device=self._device), None, prompt)
        logits = self._decoder.logits(hidden[arrays["sample_tokens"].long()])
        raw = torch.log_softmax(logits, dim=-1) if flat.needs.num_logprobs >= 0 else None
        for row in plan.rows:
            self._slots.start(row)
        suppressed = torch.from_numpy(flat.suppressed).long().to(self._device)
        tokens = sample(logits, arrays, flat.needs, suppressed, self._slots)
        reported = None if raw is None else candidates(raw, tokens, flat.needs.num_logprobs)
        return DevicePendingStep(tokens, reported, prompt)

    def _encode(self, plan: StepPlan) -> None:
        """Drop the features to forget, and compute those of new images."""
        for content_hash in plan.forget:
            self._features.pop(content_hash, None)
        if plan.encode and self._vision is not None:
            features = self._vision.encode([image.pixels for image in plan.encode])
            for image, feature in zip(plan.encode, features, strict=True):
                self._features[image.content_hash] = feature.clone()  # a view would keep the whole batch's memory

    def _embed(self, plan: StepPlan, flat: FlatStep, arrays: dict[str, Tensor]) -> Tensor:
        """The step's embeddings [T, E]: of tokens from the host, of tokens still in flight, and of images."""
        token_slots = arrays["token_slots"]
        token_ids = torch.where(
            token_slots >= 0, self._slots.last_tokens[token_slots.long()], arrays["token_ids"].long()
        )
        hidden = self._decoder.embed(token_ids)
        for row, first in zip(plan.rows, flat.arrays["row_starts"].tolist(), strict=False):
            span = row.features
            if span is not None:
                start = first + span.token_offset
                features = self._features[span.content_hash]
                hidden[start : start + span.length] = features[span.feature_offset : span.feature_offset + span.length]
        return hidden

    def _prompt_logprobs(self, plan: StepPlan, flat: FlatStep, hidden: Tensor) -> dict[int, Reported]:
        """For every row that asks, log-probabilities of the tokens that follow its own."""
        reported = {}
        row_starts = flat.arrays["row_starts"].tolist()
        for index, row in enumerate(plan.rows):
            wanted = row.sampling.prompt_logprobs
            if row.prompt_targets is not None and wanted is not None:
                first = row_starts[index]
                logits = self._decoder.logits(hidden[first : first + len(row.prompt_targets)])
                targets = torch.from_numpy(row.prompt_targets).long().to(self._device)
                reported[index] = candidates(torch.log_softmax(logits, dim=-1), targets, wanted)
        return reported
