"""What runs on the devices, as a list of programs: the functions of a step with the shapes they are compiled for."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import numpy as np
from jax import shard_map
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from aphrodite.backends.jax_tpu import steps
from aphrodite.backends.jax_tpu.attention import cache_shape
from aphrodite.backends.jax_tpu.buckets import Buckets
from aphrodite.backends.jax_tpu.encoder import EncoderArrays, patches_shape, taps_shape
from aphrodite.backends.jax_tpu.kernels import Kernels
from aphrodite.backends.jax_tpu.programs import Program
from aphrodite.backends.jax_tpu.sampler import SlotState, change_bias, start_slot
from aphrodite.backends.jax_tpu.sharding import CACHE, MODEL, sharding
from aphrodite.backends.jax_tpu.vision import Places
from aphrodite.backends.jax_tpu.weights import weight_specs, weight_structs
from aphrodite.domain.architectures.spec import ModelSpec, PixelNormalization
from aphrodite.domain.architectures.vision_spec import VisionSpec
from aphrodite.domain.ports import BackendLimits
from aphrodite.domain.scheduling.allowed_tokens import num_bit_words
from aphrodite.domain.scheduling.stage_words import NUM_STAGE_WORDS
from aphrodite.domain.scheduling.step_arrays import num_sample_words, num_words

NUM_CHANGED = 1024  # biases at once
NUM_REPORTED = 64
"""Prompt tokens whose log-probabilities are computed at once."""


@dataclass(frozen=True, slots=True)
class DeviceModel:
    """A model, how it is split, and the sizes of all that is on the devices."""

    spec: ModelSpec
    normalization: PixelNormalization | None
    mesh: Mesh
    dtype: np.dtype[Any]
    kernels: Kernels
    head_width: int  # numbers that a head takes in the cache
    limits: BackendLimits
    buckets: Buckets

    @property
    def padding_feature_row(self) -> int:
        """The last row of the feature array: what pads an encoder's bucket goes there."""
        return self.limits.num_feature_rows

    @property
    def num_held_back(self) -> int:
        """Pairs of sample and token id, not to be drawn, that one step has room for: the end and seven more a row."""
        return max(1024, 8 * self.limits.max_num_seqs)

    def weights(self) -> dict[str, jax.ShapeDtypeStruct]:
        return weight_structs(self.spec, self.dtype, self.mesh)

    def cache(self) -> tuple[jax.ShapeDtypeStruct, ...]:
        decoder_spec, limits = self.spec.decoder, self.limits
        shape = cache_shape(limits.num_blocks, limits.block_size, decoder_spec.num_kv_heads, self.head_width)
        return (self._struct(shape, self.dtype, CACHE),) * decoder_spec.num_layers

    def features(self) -> Any:
        return self._struct((self.limits.num_feature_rows + 1, self.spec.feature_size), self.dtype)

    def encoded(self, num_segments: int) -> Any:
        """What the projector makes of so many segments."""
        assert self.spec.vision is not None
        num_rows = num_segments * self.spec.vision.num_image_tokens
        return self._struct((num_rows, self.spec.decoder.hidden_size), self.dtype)

    def slots(self) -> Any:
        """The shapes of a SlotState; a slot more than requests have, for the padding."""
        rows, vocab_size = self.limits.max_num_seqs + 1, self.spec.decoder.vocab_size
        return SlotState(
            last_tokens=self._struct((rows,), np.int32),
            seen=self._struct((rows, vocab_size), np.int32),
            bias=self._struct((rows, vocab_size), np.float32),
            mirostat_bounds=self._struct((rows,), np.float32),
        )

    def allowed(self, num_samples: int) -> Any:
        """A bit for each token that a sample may draw."""
        return self._struct((num_samples, num_bit_words(self.spec.decoder.vocab_size)), np.int32)

    def stages(self, num_samples: int) -> Any:
        """The words of samples' stages."""
        return self._struct((num_samples, NUM_STAGE_WORDS), np.int32)

    def programs(self) -> list[Program]:
        """Everything that steps will call."""
        found = [self.start_program(), self.change_program()]
        for num_tokens in self.buckets.tokens:
            found += [self.forward_program(num_tokens), self.rows_program(num_tokens)]
        found += [self.sample_program(num_samples, self.num_held_back) for num_samples in self.buckets.samples]
        found.append(self.report_program())
        if self.spec.vision is not None:
            found += [self.encode_program(num_units) for num_units in self.buckets.units]
        return found

    def forward_program(self, num_tokens: int) -> Program:
        shape = self.buckets.step(num_tokens)
        words = num_words(shape) + 2
        specs = weight_specs(self.spec, self.mesh.size)
        decoder_only = {name: struct for name, struct in self.weights().items() if is_decoders(name)}
        arguments = (
            decoder_only, self._integers(words), self.cache(), self.features(), self.slots().last_tokens
        )  # fmt: skip
        in_specs = ({name: specs[name] for name in decoder_only}, P(), P(None), P(), P())
        function = self._on_all(
            partial(steps.forward, self.spec, self.kernels, shape),
            (in_specs[0], P(), CACHE, P(), P()),
            (P(), P(), P(), CACHE),
        )
        return Program(("forward", num_tokens), function, arguments, donated=(2,))

    def sample_program(self, num_samples: int, num_held_back: int) -> Program:
        words = num_sample_words(self.buckets.max_rows) + 2
        arguments = (
            self._head(),
            self._struct((self.buckets.max_rows, self.spec.decoder.hidden_size), self.dtype),
            self._integers(words),
            self._struct((num_held_back, 2), np.int32),
            self.allowed(num_samples),
            self.stages(num_samples),
            self.slots(),
        )
        function = self._on_all(
            partial(steps.draw, self.spec, self.kernels.multiply, num_samples, self.buckets.max_rows),
            (self._head_spec(), P(), P(), P(), P(), P(), P()),
            (P(), P()),
        )
        name = f"sample, {num_held_back} held back"
        return Program((name, num_samples), function, arguments, donated=(6,))

    def start_program(self) -> Program:
        vocab_size = self.spec.decoder.vocab_size
        arguments = (
            self.slots(),
            self._struct((), np.int32),
            self._integers(vocab_size),
            self._struct((vocab_size,), np.float32),
            self._struct((), np.float32),
        )
        function = self._on_all(start_slot, (P(), P(), P(), P(), P()), P())
        return Program(("start", 1), function, arguments, donated=(0,))

    def change_program(self) -> Program:
        arguments = (
            self.slots(), self._struct((NUM_CHANGED, 2), np.int32), self._struct((NUM_CHANGED,), np.float32)
        )  # fmt: skip
        return Program(
            ("change bias", NUM_CHANGED), self._on_all(change_bias, (P(), P(), P()), P()), arguments, donated=(0,)
        )

    def rows_program(self, num_tokens: int) -> Program:
        """Picks hidden states out of a step's."""
        arguments = (
            self._struct((num_tokens, self.spec.decoder.hidden_size), self.dtype), self._integers(NUM_REPORTED)
        )  # fmt: skip
        return Program(("rows", num_tokens), self._on_all(steps.rows, (P(), P()), P()), arguments)

    def report_program(self) -> Program:
        hidden = self._struct((NUM_REPORTED, self.spec.decoder.hidden_size), self.dtype)
        function = self._on_all(partial(steps.report_prompt, self.spec), (self._head_spec(), P(), P()), P())
        return Program(("report", NUM_REPORTED), function, (self._head(), hidden, self._integers(NUM_REPORTED)))

    def encode_program(self, num_units: int) -> Program:
        vision = self.spec.vision
        assert vision is not None
        assert self.normalization is not None
        weights = {name: struct for name, struct in self.weights().items() if not is_decoders(name)}
        patches_spec = P() if vision.is_packed else P(MODEL)
        places = self._places(vision, num_units) if vision.is_packed else None
        shape = taps_shape(vision, num_units)
        taps, rows = self._struct(shape, np.int32), self._integers(shape[0])
        sums = vision.taps_per_feature > 1
        tap_weights = self._struct(shape, np.float32) if sums else None
        patches = self._struct(patches_shape(vision, num_units), np.uint8, patches_spec)
        arguments = (weights, EncoderArrays(patches, places, taps, tap_weights, rows), self.features())
        places_spec = jax.tree.map(lambda _: P(), places)
        in_specs = (P(), EncoderArrays(patches_spec, places_spec, P(), P() if sums else None, P()), P())
        function = self._on_all(partial(steps.encode, self.spec, self.normalization), in_specs, P())
        return Program(("encode", num_units), function, arguments, donated=(2,))

    def _places(self, vision: VisionSpec, num_patches: int) -> Places:
        pairs, taps, weights = self._struct((num_patches, 2), np.int32), None, None
        if vision.position_square is not None:
            shape = (num_patches, vision.position_square.taps_per_position)
            taps, weights = self._struct(shape, np.int32), self._struct(shape, np.float32)
        return Places(pairs, pairs, pairs, taps, weights)

    def _on_all(self, function: Callable[..., Any], in_specs: Any, out_specs: Any) -> Callable[..., Any]:
        """Run a function on every device, on its part of each array."""
        return shard_map(function, mesh=self.mesh, in_specs=in_specs, out_specs=out_specs, check_vma=False)

    def _head(self) -> jax.ShapeDtypeStruct:
        weights = self.weights()
        return weights.get("lm_head.weight", weights["embed.weight"])

    def _head_spec(self) -> P:
        spec: P = self._head().sharding.spec
        return spec

    def _integers(self, size: int) -> Any:
        return self._struct((size,), np.int32)

    def _struct(self, shape: tuple[int, ...], dtype: Any, spec: P = P()) -> Any:  # noqa: B008
        return jax.ShapeDtypeStruct(shape, dtype, sharding=sharding(self.mesh, spec))


def is_decoders(weight_name: str) -> bool:
    return not weight_name.startswith(("vision.", "projector."))
