"""What clients send, field for field as the OpenAI reference has it.

These types validate requests and make /openapi.json. Requests may say null for whatever is optional. Ranges are checked
here, so that an error can name the field.
"""

from typing import TYPE_CHECKING, Annotated, Any, Literal

from msgspec import Meta, Struct

from aphrodite.adapters.inbound.http.openai.messages import Messages, NamedTool, Tool
from aphrodite.adapters.inbound.http.sampling_fields import OPENAI, struct_of

if TYPE_CHECKING:
    SamplingFields = Struct
else:
    SamplingFields = struct_of("SamplingFields", OPENAI)

Count = Annotated[int, Meta(ge=1, le=2**31 - 1)]
TokenId = Annotated[int, Meta(ge=0, le=2**31 - 1)]
Bias = Annotated[float, Meta(ge=-100, le=100)]

MAX_TOOLS = 1024


class StreamOptions(Struct):
    include_usage: bool | None = None


class JsonSchemaFormat(Struct):
    name: str | None = None
    description: str | None = None
    schema: dict[str, Any] | None = None
    strict: bool | None = None  # either way the answer has the schema's form


class ResponseFormat(Struct):
    type: Literal["text", "json_object", "json_schema", "structural_tag"]
    json_schema: JsonSchemaFormat | None = None
    structures: list[dict[str, Any]] | None = None  # of a structural tag, with `triggers`
    triggers: list[str] | None = None


class StructuredOutputsFields(Struct, forbid_unknown_fields=True):
    """Exactly one of these."""

    json: dict[str, Any] | str | None = None
    json_object: bool = False
    regex: str | None = None
    choice: list[str] | None = None
    grammar: str | None = None
    structural_tag: dict[str, Any] | str | None = None


class GenerationFields(SamplingFields, kw_only=True):
    """What chat and text completions have in common, beside sampling; behind the blank line, the engine's own."""

    model: str
    max_tokens: Count | None = None
    stop: str | Annotated[list[str], Meta(max_length=64)] | None = None
    logit_bias: Annotated[dict[TokenId, Bias], Meta(max_length=1024)] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    user: str | None = None

    stop_token_ids: Annotated[list[TokenId], Meta(max_length=1024)] | None = None
    dry_sequence_breakers: Annotated[list[str | TokenId], Meta(max_length=256)] | None = None
    custom_token_bans: Annotated[list[TokenId], Meta(max_length=1024)] | None = None
    bad_words: Annotated[list[str], Meta(max_length=256)] | None = None
    sampler_priority: Annotated[list[str | int], Meta(max_length=64)] | None = None  # samplers in order
    echo: bool | None = None
    best_of: int | None = None  # as many as n
    # Among the requests of one client the lowest is first, by default 0.
    priority: Annotated[int, Meta(ge=-(2**31), le=2**31 - 1)] | None = None
    prompt_logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    return_token_ids: bool | None = None
    request_id: Annotated[str, Meta(pattern=r"^[A-Za-z0-9._-]{1,64}$")] | None = None  # as the header x-request-id
    response_format: ResponseFormat | None = None
    structured_outputs: StructuredOutputsFields | None = None
    guided_json: dict[str, Any] | str | None = None  # older names of these
    guided_regex: str | None = None
    guided_choice: list[str] | None = None
    guided_grammar: str | None = None


class ChatCompletionRequest(GenerationFields, kw_only=True):
    messages: Messages
    max_completion_tokens: Count | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    tools: Annotated[list[Tool], Meta(max_length=MAX_TOOLS)] | None = None
    tool_choice: Literal["none", "auto", "required"] | NamedTool | None = None
    parallel_tool_calls: bool | None = None
    reasoning_effort: str | None = None  # goes to the template

    add_generation_prompt: bool | None = None
    continue_final_message: bool | None = None
    chat_template: str | None = None  # only where the operator trusts requests with templates
    chat_template_kwargs: dict[str, Any] | None = None  # there of any kind, elsewhere plain values
    mm_processor_kwargs: dict[str, Any] | None = None  # of the image processor, where the operator allows it


class CompletionRequest(GenerationFields, kw_only=True):
    # One prompt, in words or token ids, or a list of such.
    prompt: str | Annotated[list[str | TokenId | list[TokenId]], Meta(min_length=1)]
    max_tokens: Annotated[int, Meta(ge=0, le=2**31 - 1)] | None = None  # 0 with echo: the prompt alone
    logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None

    add_special_tokens: bool | None = None


class TokenizeRequest(Struct, kw_only=True):
    """Either `prompt` or `messages`."""

    model: str | None = None
    prompt: str | None = None
    messages: Messages | None = None
    add_special_tokens: bool | None = None
    add_generation_prompt: bool | None = None


class DetokenizeRequest(Struct, kw_only=True):
    model: str | None = None
    tokens: list[TokenId]
