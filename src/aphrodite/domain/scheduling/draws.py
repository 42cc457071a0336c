"""Random numbers that depend on a request's seed and a position alone: SplitMix64 (doi 10.1145/2714064.2660195)."""

import numpy as np
from numpy.typing import NDArray

_FIRST_FACTOR, _SECOND_FACTOR = 0xBF58476D1CE4E5B9, 0x94D049BB133111EB
_ONE, _27, _30, _31, _40, _FIRST, _SECOND, _GOLDEN_RATIO = (
    np.uint64(number) for number in (1, 27, 30, 31, 40, _FIRST_FACTOR, _SECOND_FACTOR, 0x9E3779B97F4A7C15)
)
_SPACING = np.float32(2**-24)


def stream_of(seed: int) -> int:
    """Where a seed's stream of draws begins among all 2**64: neighbouring seeds begin far apart."""
    seed = (seed ^ (seed >> 30)) * _FIRST_FACTOR % 2**64
    seed = (seed ^ (seed >> 27)) * _SECOND_FACTOR % 2**64
    return seed ^ (seed >> 31)


def uniforms(streams: NDArray[np.uint64], positions: NDArray[np.uint64]) -> NDArray[np.float32]:
    """A draw in [0, 1) for each stream and position of it, float32 [S]; streams and positions uint64 [S]."""
    x = (positions + _ONE) * _GOLDEN_RATIO  # modulo 2**64
    x += streams
    x ^= x >> _30
    x *= _FIRST
    x ^= x >> _27
    x *= _SECOND
    x ^= x >> _31
    x >>= _40
    return x.astype(np.float32) * _SPACING
