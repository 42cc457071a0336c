"""Prompts that do not fit into the context, refused before work is done on them."""

from collections.abc import Sequence

from aphrodite.domain.architectures.images.image import ImageSpan
from aphrodite.domain.errors import PromptTooLongError
from aphrodite.domain.ports import Tokenizer
from aphrodite.domain.prompting.prompts import Prompt


def check_num_chars(num_chars: int, tokenizer: Tokenizer, max_model_len: int) -> None:
    """Raises PromptTooLongError for a text of so many characters, whatever it says."""
    if num_chars > tokenizer.max_token_chars * max_model_len:
        raise _too_long(f"more than {max_model_len} tokens (in a prompt of {num_chars} characters)", max_model_len)


def check_prompt(prompt: Prompt, tokenizer: Tokenizer, max_model_len: int) -> None:
    """Raises PromptTooLongError for one that is far too long, without reading all of it."""
    if prompt.token_ids is not None:
        check_num_tokens(len(prompt.token_ids), max_model_len)
    elif prompt.text is not None and tokenizer.exceeds(prompt.text, max_model_len):
        raise _too_long(f"more than {max_model_len} tokens (in the prompt)", max_model_len)


def check_num_decoded(num_tokens: int, max_model_len: int) -> None:
    """Raises PromptTooLongError for more tokens than any context of this model's has."""
    if num_tokens > max_model_len:
        raise _too_long(f"{num_tokens} tokens (to be decoded)", max_model_len)


def check_num_tokens(num_tokens: int, max_model_len: int, num_image_tokens: int = 0) -> None:
    """Raises PromptTooLongError unless there is room for an answer behind the prompt."""
    if num_tokens >= max_model_len:
        image = f", {num_image_tokens} of them for images" if num_image_tokens else ""
        parts = f"{num_tokens} in the prompt{image}; 1 for the answer"
        raise _too_long(f"{num_tokens + 1} tokens ({parts})", max_model_len)


def check_whole_images(images: Sequence[ImageSpan], max_num_batched_tokens: int) -> None:
    """Raises PromptTooLongError for an image whose features see each other and do not fit into one step."""
    for span in images:
        if span.sees_forward:
            _check_step("An image", span.num_tokens, max_num_batched_tokens)


def check_whole_prompt(num_tokens: int, max_num_batched_tokens: int) -> None:
    """Raises PromptTooLongError for a prompt whose tokens see each other and do not fit into one step."""
    _check_step("The prompt", num_tokens, max_num_batched_tokens)


def _check_step(what: str, num_tokens: int, max_num_batched_tokens: int) -> None:
    if num_tokens > max_num_batched_tokens:
        raise PromptTooLongError(
            f"{what} takes {num_tokens} tokens that must run in one step, which has {max_num_batched_tokens}; "
            "raise max_num_batched_tokens."
        )


def _too_long(requested: str, max_model_len: int) -> PromptTooLongError:
    """In the words of OpenAI's API and of Anthropic's, by which clients know what went wrong."""
    return PromptTooLongError(
        f"This model's maximum context length is {max_model_len} tokens. However, you requested {requested}; the "
        "prompt is too long. Shorten it, or raise max_model_len where the model allows it."
    )
