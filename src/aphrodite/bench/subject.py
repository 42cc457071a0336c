"""What is measured: `LLM`, its engine in this process."""

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from types import TracebackType
from typing import Any, Self

from aphrodite.adapters.inbound.llm import LLM
from aphrodite.bench.limit import ModelCosts, StepCost
from aphrodite.bench.measurement import Answer, Measurement
from aphrodite.bench.phases import PhaseClock, phases_of
from aphrodite.bench.token_workload import TokenPrompt
from aphrodite.bootstrap import OpenedModel
from aphrodite.domain.config import EngineConfig
from aphrodite.domain.prompting.sampling_params import SamplingParams
from aphrodite.domain.scheduling.step import StepPlan


@dataclass(frozen=True)
class Round:
    """One round's times, the tokens of each prompt and answer, and what its steps could not avoid."""

    measurement: Measurement
    prompt_token_ids: list[list[int]]  # with all that stands for a picture
    token_ids: list[list[int]]
    steps: list[StepCost]


class Subject:
    """An engine, and a notebook of the steps that it runs. Raises as `LLM` does."""

    def __init__(self, config: EngineConfig, model: OpenedModel) -> None:
        self._llm = LLM(**asdict(config))
        self.engine = self._llm._engine
        bytes_per_number = self.engine.limits.bytes_per_number
        # The backend keeps to itself what "auto" means to it; the size of its numbers tells.
        self.dtype = "float32" if bytes_per_number == 4 else _of_two_bytes(config.dtype, model.checkpoint.config)
        self._costs = ModelCosts(model.spec, bytes_per_number)
        self._plans: list[StepPlan] = []
        backend: Any = self.engine._backend
        launch = backend.launch

        def launch_and_note(plan: StepPlan) -> Any:
            self._plans.append(plan)
            return launch(plan)

        backend.launch = launch_and_note

    def run(self, prompts: list[TokenPrompt]) -> Round:
        """Answer all prompts in one call. Times are from its start, so that preparing the prompts counts."""
        asked = [_inputs(prompt) for prompt in prompts]
        params = [
            SamplingParams(temperature=0, max_tokens=prompt.num_output_tokens, ignore_eos=True) for prompt in prompts
        ]
        self._plans.clear()
        started_s = time.monotonic()
        outputs = self._llm.generate(asked, params, use_tqdm=False)
        ended_s = time.monotonic()
        answers = []
        for output in outputs:
            times = output.metrics
            assert times is not None
            assert times.first_token_s is not None
            assert times.finished_s is not None
            answers.append(
                Answer(
                    started_s,
                    times.finished_s,
                    times.first_token_s,
                    times.finished_s,
                    len(output.prompt_token_ids),
                    len(output.outputs[0].token_ids),
                )
            )
        steps = [self._costs.step(plan) for plan in self._plans]
        self._plans.clear()
        token_ids = [output.outputs[0].token_ids for output in outputs]
        prompt_token_ids = [list(output.prompt_token_ids) for output in outputs]
        return Round(Measurement(started_s, ended_s, answers), prompt_token_ids, token_ids, steps)

    def run_clocked(self, prompts: list[TokenPrompt], clock: PhaseClock) -> Round:
        """As `run`, with a clock around each phase."""
        with clock.around(phases_of(self._llm)):
            return self.run(prompts)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._llm.close()


def _inputs(prompt: TokenPrompt) -> Any:
    asked: dict[str, Any] = {"prompt_token_ids": prompt.token_ids}
    return asked if prompt.picture is None else asked | {"multi_modal_data": {"image": prompt.picture}}


def _of_two_bytes(asked: str, config: Mapping[str, Any]) -> str:
    stored = config.get("dtype") or (config.get("text_config") or {}).get("dtype")
    return asked if asked != "auto" else "float16" if str(stored) == "float16" else "bfloat16"
