"""Host time of a decode step, without a device: planning, laying out, staging, launching and committing.

python tools/host_time.py            a line a number of sequences: median wall and processor milliseconds of a step

The rows of LLaVA-1.5-7B's context; two steps are in flight, as on a GPU. To compare two commits, alternate their runs.
"""

import time
from dataclasses import dataclass
from statistics import median

import numpy as np
import torch

from aphrodite.adapters.outbound.grammars.grammars import LlguidanceGrammars
from aphrodite.adapters.outbound.telemetry.clock import SystemClock
from aphrodite.backends.cuda.gpu.decode_graphs import DecodeGraphs
from aphrodite.backends.cuda.staging import Staging
from aphrodite.domain.ports import BackendDescription, BackendLimits, HeldStep
from aphrodite.domain.prompting.sampling_params import SamplingParams
from aphrodite.domain.scheduling.flatten import flatten
from aphrodite.domain.scheduling.step import StepPlan, StepResult
from aphrodite.engine.engine import Engine, EngineRequest

NUMS_SEQUENCES = (1, 64, 256)
CONTEXT = 640  # tokens
NUM_STEPS = 100
VOCAB_SIZE = 32064
SAMPLING = SamplingParams(temperature=0.7, top_p=0.9, ignore_eos=True, max_tokens=1 << 20)
LIMITS = BackendLimits(
    num_blocks=1 + 256 * 64,
    block_size=16,
    max_num_seqs=256,
    max_num_batched_tokens=8192,
    max_model_len=4096,
    max_steps_in_flight=2,
    num_feature_rows=0,
    bytes_per_number=2,
)
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Sampled:
    """Tokens that are there at once."""

    num_samples: int

    def result(self) -> StepResult:
        return StepResult(np.ones(self.num_samples, np.int32), None, {})


class HostOnly:
    """What the torch backend's host does of a decode step up to the device's first work."""

    limits = LIMITS
    description = BackendDescription("cpu", "bfloat16", "as asked for", "nothing", None)

    def __init__(self) -> None:
        self._staging = Staging(LIMITS.max_steps_in_flight, CPU)
        self._graphs = DecodeGraphs(LIMITS, 1, _nothing, _nothing, CPU)
        self._graphs.capture(lambda _: lambda: None)

    def warm_up(self) -> None:
        pass

    def close(self) -> None:
        pass

    def hold(self, plan: StepPlan) -> HeldStep:
        raise NotImplementedError

    def launch(self, plan: StepPlan) -> Sampled:
        shape = self._graphs.shape(plan)
        flat = flatten(plan, LIMITS.block_size, None if shape is None else lambda _: shape)
        self._staging.send([flat.buffer])
        return Sampled(flat.num_samples)


def _nothing(*_: object) -> torch.Tensor:
    return torch.zeros(())


def measure(num_sequences: int) -> tuple[float, float]:
    """Median seconds of a step, and processor seconds."""
    engine = Engine(
        HostOnly(),
        SystemClock(),
        eos_token_ids=frozenset({2}),
        vocab_size=VOCAB_SIZE,
        seed=0,
        enable_prefix_caching=True,
        grammars=LlguidanceGrammars("", VOCAB_SIZE, frozenset({2})),
    )
    random = np.random.default_rng(0)
    for index in range(num_sequences):
        engine.add(EngineRequest(str(index), random.integers(3, VOCAB_SIZE, CONTEXT).tolist(), SAMPLING))
    for _ in range(2 + num_sequences * CONTEXT // LIMITS.max_num_batched_tokens + 5):
        engine.step()
    wall_s, processor_s = [], []
    for _ in range(NUM_STEPS):
        started_s, started_cpu_s = time.perf_counter(), time.thread_time()
        deltas = engine.step()
        processor_s.append(time.thread_time() - started_cpu_s)
        wall_s.append(time.perf_counter() - started_s)
        assert len(deltas) == num_sequences
    return median(wall_s), median(processor_s)


def main() -> None:
    print("| sequences | ms a step | processor ms |\n|---:|---:|---:|")
    for num_sequences in NUMS_SEQUENCES:
        wall_s, processor_s = measure(num_sequences)
        print(f"| {num_sequences} | {wall_s * 1000:.3f} | {processor_s * 1000:.3f} |", flush=True)


if __name__ == "__main__":
    main()
