"""Memory against the length of the context."""

import resource
import sys
from pathlib import Path

from aphrodite.bench.curves.driver import StepDriver
from aphrodite.bench.curves.figures import ContextPoint
from aphrodite.domain.architectures.spec import DecoderSpec
from aphrodite.domain.scheduling.cache_size import bytes_per_block

NUM_SEQUENCES = 4
_FIRST = 64  # tokens
_LAST = 4096


def measure_contexts(driver: StepDriver, spec: DecoderSpec) -> list[ContextPoint]:
    """64, 128, 256 ... tokens, and the most that fits.

    To be called before anything else has run: memory that a process has had once it seldom gives back.
    """
    limits = driver.engine.limits
    block_bytes = bytes_per_block(spec, limits.block_size, limits.bytes_per_number)
    last = min(driver.longest(NUM_SEQUENCES), _LAST)
    points = []
    for num_tokens in (*(_FIRST << power for power in range(16) if _FIRST << power < last), last):
        times = driver.decode(NUM_SEQUENCES, num_tokens)
        num_blocks = driver.engine.scheduler.pool.num_used / NUM_SEQUENCES
        resident = resident_bytes()
        driver.clear()
        points.append(
            ContextPoint(num_tokens, round(num_blocks * block_bytes), resident, round(times.step_s * 1000, 4))
        )
    return points


def resident_bytes() -> int:
    """What this process has of the host's memory now; where the system does not say, the most that it had."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return pages * resource.getpagesize()
