"""What goes over the wire of OpenAI's Responses API, field for field as the reference has it.

Items of the input are read in conversation.py: most say by a `type` what they are, messages need not.
"""

from typing import Annotated, Any, Literal

from msgspec import Meta, Raw, Struct

from aphrodite.adapters.inbound.http.openai.objects import TokenLogprob
from aphrodite.adapters.inbound.http.openai.requests import MAX_TOOLS, Count, StreamOptions

ShortName = Annotated[str, Meta(max_length=64)]
ShortText = Annotated[str, Meta(max_length=512)]
LOGPROBS = "message.output_text.logprobs"

Status = Literal["in_progress", "completed", "incomplete", "cancelled", "failed"]
ItemStatus = Literal["in_progress", "completed", "incomplete"]


# Requests


class FunctionTool(Struct, kw_only=True):
    type: str  # "function"; others are refused by name
    name: str | None = None
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class NamedChoice(Struct, kw_only=True):
    type: str  # "function" or "allowed_tools"
    name: str | None = None
    mode: Literal["auto", "required"] | None = None
    tools: Annotated[list[FunctionTool], Meta(max_length=MAX_TOOLS)] | None = None


class TextFormat(Struct, kw_only=True, omit_defaults=True):
    type: Literal["text", "json_object", "json_schema"]
    name: ShortName | None = None
    description: Annotated[str, Meta(max_length=4096)] | None = None
    schema: dict[str, Any] | None = None
    strict: bool | None = None


class TextConfig(Struct):
    format: TextFormat | None = None
    verbosity: ShortName | None = None


class ReasoningConfig(Struct):
    effort: ShortName | None = None
    summary: ShortName | None = None


class ResponsesRequest(Struct, kw_only=True):
    model: str
    input: str | Annotated[list[dict[str, Any]], Meta(min_length=1)]
    instructions: str | None = None
    max_output_tokens: Count | None = None
    temperature: Annotated[float, Meta(ge=0)] | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    include: list[str] | None = None
    text: TextConfig | None = None
    reasoning: ReasoningConfig | None = None
    tools: Annotated[list[FunctionTool], Meta(max_length=MAX_TOOLS)] | None = None
    tool_choice: Literal["none", "auto", "required"] | NamedChoice | None = None
    parallel_tool_calls: bool | None = None
    previous_response_id: str | None = None
    store: bool | None = None  # kept, unless this is false
    background: bool | None = None  # go on while nobody waits; `store` and GET tell the rest
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    metadata: Annotated[dict[ShortName, ShortText], Meta(max_length=16)] | None = None
    truncation: Literal["auto", "disabled"] | None = None  # what is too long is refused in any case
    user: ShortText | None = None


# Responses


class OutputText(Struct, tag_field="type", tag="output_text"):
    text: str
    annotations: list[None] = []
    logprobs: list[TokenLogprob] = []


class OutputMessage(Struct, tag_field="type", tag="message", kw_only=True):
    id: str
    status: ItemStatus
    content: list[OutputText]
    role: Literal["assistant"] = "assistant"


class FunctionCall(Struct, tag_field="type", tag="function_call", kw_only=True):
    id: str
    call_id: str
    name: str
    arguments: str
    status: ItemStatus


class ReasoningText(Struct, tag_field="type", tag="reasoning_text"):
    text: str


class ReasoningItem(Struct, tag_field="type", tag="reasoning", kw_only=True):
    id: str
    content: list[ReasoningText]
    status: ItemStatus
    summary: list[None] = []


OutputItem = OutputMessage | FunctionCall | ReasoningItem


class InputTokensDetails(Struct):
    cached_tokens: int
    cache_write_tokens: Literal[0] = 0


class OutputTokensDetails(Struct):
    reasoning_tokens: int


class ResponseUsage(Struct):
    input_tokens: int
    input_tokens_details: InputTokensDetails
    output_tokens: int
    output_tokens_details: OutputTokensDetails
    total_tokens: int


class IncompleteDetails(Struct):
    reason: Literal["max_output_tokens"]


class ResponseFailure(Struct):
    code: Literal["server_error"]
    message: str


class ModelResponse(Struct, kw_only=True):
    """One answer, with what was asked for beside its input."""

    id: str
    object: Literal["response"] = "response"
    created_at: int  # seconds since 1970
    status: Status
    model: str
    output: list[OutputItem]
    usage: ResponseUsage | None = None
    error: ResponseFailure | None = None
    incomplete_details: IncompleteDetails | None = None
    instructions: str | None
    max_output_tokens: int | None
    metadata: dict[str, str]
    parallel_tool_calls: bool
    previous_response_id: str | None
    reasoning: ReasoningConfig
    store: bool
    temperature: float
    text: TextConfig
    tool_choice: Literal["none", "auto", "required"] | NamedChoice
    tools: Raw  # list[FunctionTool], as it was sent
    top_p: float
    top_logprobs: int
    truncation: Literal["auto", "disabled"]
    user: str | None
    background: bool


class ResponseEvent(Struct):
    """Any event of a stream."""

    type: str
    sequence_number: int


class InputItems(Struct):
    data: list[dict[str, Any]]
    first_id: str | None
    last_id: str | None
    has_more: bool
    object: Literal["list"] = "list"


class DeletedResponse(Struct):
    id: str
    object: Literal["response"] = "response"
    deleted: Literal[True] = True
