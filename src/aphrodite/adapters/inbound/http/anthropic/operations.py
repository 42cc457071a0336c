"""The operations of Anthropic's API."""

from aphrodite.adapters.inbound.http.anthropic import protocol
from aphrodite.adapters.inbound.http.anthropic.messages import count_tokens, messages
from aphrodite.adapters.inbound.http.operation import Operation

OPERATIONS = (
    Operation(
        "post",
        "/v1/messages",
        messages,
        "Answer a conversation, as Anthropic's API does",
        protocol.AnthropicMessage,
        protocol.MessagesRequest,
        protocol.StreamEvent,
    ),
    Operation(
        "post",
        "/v1/messages/count_tokens",
        count_tokens,
        "Count a conversation's tokens",
        protocol.TokenCount,
        protocol.CountTokensRequest,
    ),
)
