"""Small work is done by one thread, whatever threads there are: others would be waited for longer than they help."""

import os
import subprocess
import sys

import pytest

PROGRAM = """
import sys, time
from aphrodite import LLM, SamplingParams

if __name__ == "__main__":
    llm = LLM("demo", backend=sys.argv[1])
    asked = SamplingParams(temperature=0, max_tokens=200, ignore_eos=True)
    llm.generate("Hello", asked, use_tqdm=False)
    started_s = time.process_time()
    for _ in range(3):
        llm.generate("Hello", asked, use_tqdm=False)
    print(time.process_time() - started_s)
    llm.close()
"""


def cpu_s(backend: str, num_threads: int) -> float:
    """Processor seconds of three answers of the demo model, one at a time."""
    environment = os.environ | {"OMP_NUM_THREADS": str(num_threads)}
    result = subprocess.run(
        [sys.executable, "-c", PROGRAM, backend], env=environment, capture_output=True, text=True, check=True
    )
    return float(result.stdout)


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["cuda", "jax_tpu"])
def test_two_threads_take_no_more_processor_time_than_one(backend: str) -> None:
    assert cpu_s(backend, 2) <= 1.5 * cpu_s(backend, 1)
