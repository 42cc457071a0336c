"""The shapes that there are programs for; every step is padded to the next one.

A step's program depends on its tokens alone: it has as many rows as it could need, and attention runs as many
iterations as there are rows and cached blocks. What samples has programs of its own, by the number of samples.
"""

from dataclasses import dataclass

from aphrodite.backends.jax_tpu.range_attention import CHUNK
from aphrodite.domain.architectures.spec import ModelSpec
from aphrodite.domain.ports import BackendLimits
from aphrodite.domain.scheduling.step_arrays import StepShape

_SMALL = 64  # tokens; padding from here on costs as much time as it adds tokens, below that products wait for weights
_MAX_SEGMENTS = 32  # of images, encoded at once: enough to fill a chip, and it bounds the activations' memory


@dataclass(frozen=True, slots=True)
class Buckets:
    """Sizes in ascending order; the last of each is the most that a step can have."""

    tokens: tuple[int, ...]
    samples: tuple[int, ...]
    units: tuple[int, ...]  # of images: segments, or patches of a packed tower
    max_rows: int
    num_blocks: int  # a row

    @classmethod
    def of(cls, limits: BackendLimits, growth: int, num_devices: int, model: ModelSpec) -> "Buckets":
        """Sizes that grow by a factor: a small one wastes less work on padding, a large one needs fewer programs.

        Numbers of tokens grow by two at most once padding is work. Those of one image always fit."""
        rows = min(limits.max_num_seqs, limits.max_num_batched_tokens)
        return cls(
            tokens=_token_sizes(limits.max_num_batched_tokens, growth),
            samples=_sizes(rows, growth**2),
            units=_unit_sizes(limits, growth, num_devices, model),
            max_rows=rows,
            num_blocks=-(-limits.max_model_len // limits.block_size),
        )

    def step(self, num_tokens: int) -> StepShape:
        """The padded sizes of a step of a token bucket; room for the most samples, so that they decide no program."""
        return StepShape(num_tokens, min(num_tokens, self.max_rows), self.num_blocks, self.max_rows)

    def pad(self, exact: StepShape) -> StepShape:
        return self.step(fit(self.tokens, exact.num_tokens))


def fit(sizes: tuple[int, ...], size: int) -> int:
    """The smallest of `sizes` that holds `size`, which the last one does."""
    return next(candidate for candidate in sizes if candidate >= size)


def _unit_sizes(limits: BackendLimits, growth: int, num_devices: int, model: ModelSpec) -> tuple[int, ...]:
    """Segments are shared out evenly among the devices; of patches each has all, in whole chunks of attention."""
    if model.vision is None or model.images is None:
        return ()
    if model.vision.is_packed:
        largest = min(model.images.max_units, limits.max_model_len * model.vision.merge_side**2)
        chunk = min(CHUNK, largest)
        return tuple(size * chunk for size in _sizes(-(-largest // chunk), growth))
    rows = min(limits.max_num_seqs, limits.max_num_batched_tokens)
    most_segments = -(-max(min(_MAX_SEGMENTS, rows), model.images.max_units) // num_devices)  # a device
    return tuple(size * num_devices for size in _sizes(most_segments, growth))


def _token_sizes(largest: int, growth: int) -> tuple[int, ...]:
    sizes = _sizes(min(largest, _SMALL), growth)
    while sizes[-1] < largest:
        sizes += (min(2 * sizes[-1], largest),)
    return sizes


def _sizes(largest: int, growth: int) -> tuple[int, ...]:
    sizes = [1]
    while sizes[-1] < largest:
        sizes.append(min(sizes[-1] * growth, largest))
    return tuple(sizes)
