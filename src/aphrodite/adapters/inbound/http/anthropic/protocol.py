"""What goes over the wire, field for field as the reference of Anthropic has it."""

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from aphrodite.adapters.inbound.http.openai.objects import ErrorDetail
from aphrodite.adapters.inbound.http.openai.requests import MAX_TOOLS, Count

# Content, of questions and of answers


class TextBlock(Struct, tag_field="type", tag="text"):
    text: str


class Base64Source(Struct, tag_field="type", tag="base64"):
    data: str
    media_type: str | None = None  # what it is, only its bytes say


class UrlSource(Struct, tag_field="type", tag="url"):
    url: str


class ImageBlock(Struct, tag_field="type", tag="image"):
    source: Base64Source | UrlSource


class ThinkingBlock(Struct, tag_field="type", tag="thinking"):
    thinking: str
    signature: str = ""


class RedactedThinkingBlock(Struct, tag_field="type", tag="redacted_thinking"):
    data: str


class ToolUseBlock(Struct, tag_field="type", tag="tool_use"):
    id: str
    name: str
    input: dict[str, Any]


class ToolResultBlock(Struct, tag_field="type", tag="tool_result"):
    tool_use_id: str
    content: str | list[TextBlock | ImageBlock] | None = None
    is_error: bool | None = None


InputBlock = TextBlock | ImageBlock | ThinkingBlock | RedactedThinkingBlock | ToolUseBlock | ToolResultBlock
OutputBlock = TextBlock | ThinkingBlock | ToolUseBlock


class InputMessage(Struct):
    role: Literal["user", "assistant", "system"]
    content: str | list[InputBlock]


# Requests


class AnthropicTool(Struct):
    """A function; tools that run at Anthropic's have another type, and are refused."""

    name: str
    input_schema: dict[str, Any] | None = None
    description: str | None = None
    strict: bool | None = None
    type: Literal["custom"] | None = None


class AutoChoice(Struct, tag_field="type", tag="auto"):
    disable_parallel_tool_use: bool | None = None


class AnyChoice(Struct, tag_field="type", tag="any"):
    disable_parallel_tool_use: bool | None = None


class ToolChoice(Struct, tag_field="type", tag="tool"):
    name: str
    disable_parallel_tool_use: bool | None = None


class NoneChoice(Struct, tag_field="type", tag="none"):
    pass


class Thinking(Struct):
    type: Literal["enabled", "disabled", "adaptive"]
    budget_tokens: int | None = None  # not counted apart
    display: str | None = None


class OutputFormat(Struct):
    type: Literal["json_schema"]
    schema: dict[str, Any]


class OutputConfig(Struct):
    format: OutputFormat | None = None
    effort: str | None = None


class CountTokensRequest(Struct, kw_only=True):
    model: str
    messages: Annotated[list[InputMessage], Meta(min_length=1)]
    system: str | list[TextBlock] | None = None
    tools: Annotated[list[AnthropicTool], Meta(max_length=MAX_TOOLS)] | None = None
    tool_choice: AutoChoice | AnyChoice | ToolChoice | NoneChoice | None = None
    thinking: Thinking | None = None
    output_config: OutputConfig | None = None
    output_format: OutputFormat | None = None  # the same by its first name


class MessagesRequest(CountTokensRequest, kw_only=True):
    max_tokens: Count
    stop_sequences: Annotated[list[str], Meta(max_length=64)] | None = None
    stream: bool | None = None
    temperature: Annotated[float, Meta(ge=0)] | None = None
    top_k: Annotated[int, Meta(ge=-1, le=2**31 - 1)] | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None


# Responses

StopReason = Literal["end_turn", "max_tokens", "stop_sequence", "tool_use"]


class AnthropicUsage(Struct, kw_only=True):
    input_tokens: int  # those that were not found in the prefix cache
    cache_read_input_tokens: int
    output_tokens: int
    cache_creation_input_tokens: Literal[0] = 0


class AnthropicMessage(Struct, kw_only=True):
    id: str
    type: Literal["message"] = "message"
    role: Literal["assistant"] = "assistant"
    model: str
    content: list[OutputBlock]
    stop_reason: StopReason | None
    stop_sequence: str | None
    usage: AnthropicUsage


class TokenCount(Struct):
    input_tokens: int


# Events of a stream


class MessageStart(Struct, tag_field="type", tag="message_start"):
    message: AnthropicMessage


class Ping(Struct, tag_field="type", tag="ping"):
    pass


class BlockStart(Struct, tag_field="type", tag="content_block_start"):
    index: int
    content_block: OutputBlock


class TextDelta(Struct, tag_field="type", tag="text_delta"):
    text: str


class ThinkingDelta(Struct, tag_field="type", tag="thinking_delta"):
    thinking: str


class SignatureDelta(Struct, tag_field="type", tag="signature_delta"):
    signature: str


class InputJsonDelta(Struct, tag_field="type", tag="input_json_delta"):
    partial_json: str


BlockPiece = TextDelta | ThinkingDelta | SignatureDelta | InputJsonDelta


class BlockDelta(Struct, tag_field="type", tag="content_block_delta"):
    index: int
    delta: BlockPiece


class BlockStop(Struct, tag_field="type", tag="content_block_stop"):
    index: int


class MessageEnd(Struct):
    stop_reason: StopReason
    stop_sequence: str | None


class MessageDelta(Struct, tag_field="type", tag="message_delta"):
    delta: MessageEnd
    usage: AnthropicUsage


class MessageStop(Struct, tag_field="type", tag="message_stop"):
    pass


class StreamEvent(Struct):
    """Any event of a stream, as /openapi.json shows it."""

    type: str


Event = MessageStart | Ping | BlockStart | BlockDelta | BlockStop | MessageDelta | MessageStop


class AnthropicErrorDetail(Struct):
    type: str
    message: str


class AnthropicErrorBody(Struct, tag_field="type", tag="error"):
    error: AnthropicErrorDetail

    @classmethod
    def of(cls, detail: ErrorDetail, status: int) -> "AnthropicErrorBody":
        """As Anthropic writes an error."""
        return cls(AnthropicErrorDetail(_ERROR_TYPES.get(status, "api_error"), detail.message))


_ERROR_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    405: "invalid_request_error",
    408: "timeout_error",
    413: "request_too_large",
    415: "invalid_request_error",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
}
