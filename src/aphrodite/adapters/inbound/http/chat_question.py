"""What is asked of a model in a conversation."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from aphrodite.domain.prompting.sampling_params import SamplingParams
from aphrodite.domain.prompting.tools import AUTO, Tool, ToolChoice


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatQuestion:
    """A conversation that is to be answered `sampling.n` times."""

    messages: Sequence[object]  # dicts as domain/prompting/chat.py reads them, or msgspec structs of that form
    sampling: SamplingParams
    priority: int = 0  # among the client's own: the lowest is first
    streamed: bool  # read delta by delta: log-probabilities are not kept
    tools: Sequence[Tool] = ()
    tool_choice: ToolChoice = AUTO
    parallel_tool_calls: bool = True  # False: one call a message at most
    add_generation_prompt: bool = True
    continue_final_message: bool = False  # the last message is the answer's beginning, which is not told again
    template: str | None = None  # in place of the model's, where the operator allows it
    variables: Mapping[str, Any] = field(default_factory=dict)  # for the template: enable_thinking ...
    processor_settings: Mapping[str, Any] = field(default_factory=dict)  # in place of the image processor's own

    @property
    def offers_tools(self) -> bool:
        return bool(self.tools) and self.tool_choice.mode != "none"

    @property
    def forces_form(self) -> bool:
        return self.tool_choice.mode == "required" or self.sampling.structured_outputs is not None
