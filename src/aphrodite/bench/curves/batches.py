"""Time of a step against the sequences that decode together."""

from aphrodite.bench.curves.driver import StepDriver
from aphrodite.bench.curves.figures import BatchPoint

MOST_SEQUENCES = 256
PROMPT_TOKENS = 32


def measure_batches(driver: StepDriver) -> list[BatchPoint]:
    """1, 2, 4 ... 256, or as many as fit."""
    points = []
    num_sequences = 1
    while num_sequences <= MOST_SEQUENCES and driver.longest(num_sequences) >= PROMPT_TOKENS:
        times = driver.decode(num_sequences, PROMPT_TOKENS)
        driver.clear()
        points.append(BatchPoint(num_sequences, round(times.step_s * 1000, 4), round(times.host_s * 1000, 4)))
        num_sequences *= 2
    return points
