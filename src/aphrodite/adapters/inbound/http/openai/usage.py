"""Counts of tokens as OpenAI writes them."""

from msgspec import UNSET

from aphrodite.adapters.inbound.http.generation import TokenUsage
from aphrodite.adapters.inbound.http.openai.objects import CompletionTokensDetails, PromptTokensDetails, Usage


def written_usage(used: TokenUsage) -> Usage:
    """The same, on the wire."""
    return Usage(
        used.num_prompt_tokens,
        used.num_output_tokens,
        used.num_prompt_tokens + used.num_output_tokens,
        PromptTokensDetails(used.num_cached_tokens, used.num_image_tokens),
        UNSET if used.num_reasoning_tokens is None else CompletionTokensDetails(used.num_reasoning_tokens),
    )
