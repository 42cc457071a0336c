"""What a request of Anthropic's API asks, as the chat core takes it."""

import dataclasses
from typing import Any

from aphrodite.adapters.inbound.http.anthropic.conversation import to_messages
from aphrodite.adapters.inbound.http.anthropic.protocol import (
    AnthropicTool,
    AnyChoice,
    AutoChoice,
    CountTokensRequest,
    MessagesRequest,
    NoneChoice,
    ToolChoice,
)
from aphrodite.adapters.inbound.http.chat_question import ChatQuestion
from aphrodite.adapters.inbound.http.form_names import naming_form
from aphrodite.domain.prompting import tools
from aphrodite.domain.prompting.sampling_params import SamplingParams
from aphrodite.domain.prompting.structured_outputs import StructuredOutputs

FORM_FIELD = "output_config.format.schema"


def to_question(asked: CountTokensRequest, default: SamplingParams) -> ChatQuestion:
    """The question, with the messages taken out of `asked`. Raises InvalidRequestError, PromptError or
    SamplingParamsError.
    """
    messages = to_messages(asked)
    # An assistant's message at the end is the beginning of the answer.
    is_begun = asked.messages[-1].role == "assistant"
    asked.messages = []
    choice = asked.tool_choice
    return ChatQuestion(
        messages=messages,
        sampling=_sampling(asked, default) if isinstance(asked, MessagesRequest) else default,
        streamed=isinstance(asked, MessagesRequest) and bool(asked.stream),
        tools=[_tool(tool) for tool in asked.tools or ()],
        tool_choice=_tool_choice(choice),
        parallel_tool_calls=isinstance(choice, NoneChoice | None) or not choice.disable_parallel_tool_use,
        continue_final_message=is_begun,
        variables=_variables(asked),
    )


def _sampling(asked: MessagesRequest, default: SamplingParams) -> SamplingParams:
    output_format = asked.output_format or (asked.output_config.format if asked.output_config else None)
    form = None
    if output_format is not None:
        with naming_form(FORM_FIELD):
            form = StructuredOutputs(json=output_format.schema)
    names = ("temperature", "top_k", "top_p")
    given = {name: value for name in names if (value := getattr(asked, name)) is not None}
    stop = [words for words in asked.stop_sequences or () if words]
    return dataclasses.replace(default, max_tokens=asked.max_tokens, stop=stop, structured_outputs=form, **given)


def _tool(tool: AnthropicTool) -> tools.Tool:
    if tool.input_schema is None:
        return tools.Tool(tool.name, tool.description, strict=bool(tool.strict))
    return tools.Tool(tool.name, tool.description, tool.input_schema, bool(tool.strict))


def _tool_choice(choice: AutoChoice | AnyChoice | ToolChoice | NoneChoice | None) -> tools.ToolChoice:
    match choice:
        case AnyChoice():
            return tools.ToolChoice("required")
        case ToolChoice(name):
            return tools.ToolChoice("required", name)
        case NoneChoice():
            return tools.ToolChoice("none")
        case _:
            return tools.AUTO


def _variables(asked: CountTokensRequest) -> dict[str, Any]:
    """What the template is told besides the messages."""
    variables: dict[str, Any] = {}
    if asked.thinking is not None:
        variables["enable_thinking"] = asked.thinking.type != "disabled"
    if asked.output_config is not None and asked.output_config.effort is not None:
        variables["reasoning_effort"] = asked.output_config.effort
    return variables
