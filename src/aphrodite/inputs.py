"""The prompt forms that `LLM.generate` takes."""

from typing import Any, NotRequired, TypedDict

from aphrodite.multimodal import MultiModalDataDict

__all__ = ["PromptInputs", "TextPrompt", "TokensPrompt"]


class TextPrompt(TypedDict):
    """A prompt in words, in the format that the model's page documents."""

    prompt: str
    multi_modal_data: NotRequired[MultiModalDataDict]
    mm_processor_kwargs: NotRequired[dict[str, Any]]


class TokensPrompt(TypedDict):
    """A prompt in token ids; one placeholder id stands for the image."""

    prompt_token_ids: list[int]
    multi_modal_data: NotRequired[MultiModalDataDict]
    mm_processor_kwargs: NotRequired[dict[str, Any]]


PromptInputs = str | TextPrompt | TokensPrompt
"""A bare string, `{"prompt": ...}` or `{"prompt_token_ids": ...}`."""
