"""An engine run step by step, so that single steps can be timed."""

import time
from dataclasses import dataclass
from statistics import median

import numpy as np

from aphrodite.bench.phases import IN_DEVICE, PhaseClock, phases_of_step
from aphrodite.bench.token_workload import draw_token_ids
from aphrodite.domain.architectures.spec import ModelSpec
from aphrodite.domain.prompting.sampling_params import SamplingParams
from aphrodite.engine.engine import Engine, EngineRequest

_MOST_STEPS = 24
_FEWEST_STEPS = 5
_ENOUGH_S = 0.5
_ENDLESS = SamplingParams(temperature=0, ignore_eos=True, max_tokens=1 << 20)


@dataclass(frozen=True)
class StepTimes:
    """Medians over a few steps, in seconds; `host_s` leaves out the device's work and waiting for it."""

    step_s: float
    host_s: float


class StepDriver:
    """Decodes sequences of random tokens that share nothing."""

    def __init__(self, engine: Engine, model: ModelSpec, seed: int) -> None:
        self.engine = engine
        self._model = model
        self._random = np.random.default_rng(seed)

    def longest(self, num_sequences: int) -> int:
        """Tokens of context that so many sequences can have each when `decode` begins; below 1 for too many."""
        limits = self.engine.limits
        if num_sequences > limits.max_num_seqs:
            return 0
        room = (limits.num_blocks - 1) // num_sequences * limits.block_size
        # The steps that are timed, and as many while the last contexts are filled and the first decode already.
        return min(room, limits.max_model_len) - 2 * _MOST_STEPS

    def decode(self, num_sequences: int, num_tokens: int) -> StepTimes:
        """Fill so many contexts of `num_tokens` and time the steps after; the sequences are still there then."""
        names = [f"growth {index}" for index in range(num_sequences)]
        for name in names:
            token_ids = draw_token_ids(
                self._random, num_tokens, self._model.decoder.vocab_size, self._model.image_token_id
            )
            self.engine.add(EngineRequest(name, token_ids, _ENDLESS))
        started: set[str] = set()
        while len(started) < num_sequences:
            started |= {delta.request_id for delta in self.engine.step()}
        self.engine.step()  # the first step in which all of them decode
        return self._time_steps()

    def clear(self) -> None:
        """End all sequences."""
        for index in range(self.engine.stats().num_running):
            self.engine.abort(f"growth {index}")
        self.engine.step()  # commits what was in flight

    def _time_steps(self) -> StepTimes:
        clock = PhaseClock()
        steps_s: list[float] = []
        hosts_s: list[float] = []
        with clock.around(phases_of_step(self.engine)):
            while len(steps_s) < _FEWEST_STEPS or (len(steps_s) < _MOST_STEPS and sum(steps_s) < _ENOUGH_S):
                clock.seconds.clear()
                started_s = time.perf_counter()
                self.engine.step()
                steps_s.append(time.perf_counter() - started_s)
                device_s = sum(seconds for name, seconds in clock.seconds.items() if name.startswith(IN_DEVICE))
                hosts_s.append(steps_s[-1] - device_s)
        return StepTimes(median(steps_s), median(hosts_s))
