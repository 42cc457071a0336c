"""What a request of the Responses API asks, as the chat core takes it."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from aphrodite.adapters.inbound.http.chat_question import ChatQuestion
from aphrodite.adapters.inbound.http.errors import InvalidRequestError
from aphrodite.adapters.inbound.http.form_names import naming_form
from aphrodite.adapters.inbound.http.request_body import parse_body, unknown_fields
from aphrodite.adapters.inbound.http.responses.conversation import to_items, to_messages
from aphrodite.adapters.inbound.http.responses.protocol import (
    LOGPROBS,
    FunctionTool,
    NamedChoice,
    ResponsesRequest,
    TextConfig,
)
from aphrodite.domain.prompting import tools
from aphrodite.domain.prompting.sampling_params import SamplingParams
from aphrodite.domain.prompting.structured_outputs import StructuredOutputs

FORM_FIELD = "text.format.schema"

# As openai/parsing.py has them: fields that change the answer, with the values that ask for nothing.
_UNSUPPORTED: dict[str, tuple[object, ...]] = {
    "conversation": (),
    "prompt": (),
    "context_management": ([],),
    "moderation": (),
    "image": (),
}
_IGNORED = {
    "access_programs",
    "background_options",
    "max_tool_calls",  # of tools that run in the server
    "prompt_cache_key",
    "prompt_cache_options",
    "prompt_cache_retention",
    "safety_identifier",
    "service_tier",
}


_MAX_TOOLS_BYTES = 512 * 1024


@dataclass(frozen=True, slots=True)
class ResponsesQuestion:
    """A request, and its input in the forms that are needed of it."""

    asked: ResponsesRequest  # without its input
    items: bytes  # the input's items, as JSON
    tools: msgspec.Raw  # the tools, as JSON
    messages: list[dict[str, Any]]  # of the input
    form: StructuredOutputs | None  # that the answer must have


def read_question(body: bytes, request_id: str) -> tuple[ResponsesQuestion, list[str]]:
    """The question in a body, and fields that were ignored. Raises InvalidRequestError."""
    asked, ignored = parse_body(body, ResponsesRequest, _check_fields)
    items = to_items(asked.input, request_id)
    asked.input = ""
    tools = msgspec.json.encode(asked.tools or [])
    if len(tools) > _MAX_TOOLS_BYTES:  # the response repeats them
        raise InvalidRequestError(f"tools must have at most {_MAX_TOOLS_BYTES} bytes of JSON.", "tools")
    question = ResponsesQuestion(
        asked, msgspec.json.encode(items), msgspec.Raw(tools), to_messages(items), _form(asked.text)
    )
    return question, ignored


def to_question(question: ResponsesQuestion, before: Sequence[dict[str, Any]], default: SamplingParams) -> ChatQuestion:
    """The question behind the messages of those answers that it continues.

    Raises InvalidRequestError, PromptError or SamplingParamsError.
    """
    asked = question.asked
    instructions = [{"role": "system", "content": asked.instructions}] if asked.instructions else []
    choice, allowed = _tool_choice(asked)
    effort = asked.reasoning.effort if asked.reasoning is not None else None
    return ChatQuestion(
        messages=[*instructions, *before, *question.messages],
        sampling=_sampling(asked, question.form, default),
        streamed=bool(asked.stream),
        tools=[_tool(tool) for tool in asked.tools or () if allowed is None or tool.name in allowed],
        tool_choice=choice,
        parallel_tool_calls=asked.parallel_tool_calls is not False,
        variables={} if effort is None else {"reasoning_effort": effort, "enable_thinking": effort != "none"},
    )


def _sampling(asked: ResponsesRequest, form: StructuredOutputs | None, default: SamplingParams) -> SamplingParams:
    given = {name: value for name in ("temperature", "top_p") if (value := getattr(asked, name)) is not None}
    logprobs = (asked.top_logprobs or 0) if LOGPROBS in (asked.include or ()) else None
    if asked.background and (asked.stream or asked.store is False or logprobs is not None):
        raise InvalidRequestError(
            "background goes with neither stream nor log-probabilities, and the answer must be stored.", "background"
        )
    return dataclasses.replace(
        default, max_tokens=asked.max_output_tokens, logprobs=logprobs, structured_outputs=form, **given
    )


def _form(text: TextConfig | None) -> StructuredOutputs | None:
    if text is None or text.format is None or text.format.type == "text":
        return None
    with naming_form(FORM_FIELD):
        # OpenAI's reference lets the schema away: any JSON object then.
        schema = text.format.schema if text.format.type == "json_schema" else None
        return StructuredOutputs(json_object=True) if schema is None else StructuredOutputs(json=schema)


def _tool(tool: FunctionTool) -> tools.Tool:
    if tool.type != "function" or tool.name is None:
        raise InvalidRequestError(
            f"Tools of the type {tool.type[:100]!r} are not supported, only functions with a name.",
            "tools",
            "unsupported_value",
        )
    if tool.parameters is None:
        return tools.Tool(tool.name, tool.description, strict=bool(tool.strict))
    return tools.Tool(tool.name, tool.description, tool.parameters, bool(tool.strict))


def _tool_choice(asked: ResponsesRequest) -> tuple[tools.ToolChoice, set[str | None] | None]:
    """The choice, and the names of the tools that it leaves; None: all."""
    choice = asked.tool_choice
    if not isinstance(choice, NamedChoice):
        return tools.ToolChoice(choice or "auto"), None
    if choice.type == "function":
        return tools.ToolChoice("required", choice.name), None
    if choice.type == "allowed_tools":
        return tools.ToolChoice(choice.mode or "auto"), {tool.name for tool in choice.tools or ()}
    raise InvalidRequestError(
        f"tool_choice of the type {choice.type[:100]!r} is not supported.", "tool_choice", "unsupported_value"
    )


def _check_fields(fields: dict[str, Any], kind: type[msgspec.Struct]) -> list[str]:
    for name in sorted(fields.keys() & _UNSUPPORTED.keys()):
        value = fields[name]
        if value is not None and value not in _UNSUPPORTED[name]:
            raise InvalidRequestError(f"{name} is not supported; leave it out.", name, "unsupported_parameter")
    return [name for name in unknown_fields(fields, kind) if name not in _IGNORED and name not in _UNSUPPORTED]
