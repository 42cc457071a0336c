"""All APIs together: their operations, and the form of errors by path."""

import msgspec

from aphrodite.adapters.inbound.http.anthropic import operations as anthropic
from aphrodite.adapters.inbound.http.anthropic.protocol import AnthropicErrorBody
from aphrodite.adapters.inbound.http.kobold import operations as kobold
from aphrodite.adapters.inbound.http.kobold.protocol import KoboldErrorBody
from aphrodite.adapters.inbound.http.ollama import operations as ollama
from aphrodite.adapters.inbound.http.ollama.protocol import OllamaErrorBody
from aphrodite.adapters.inbound.http.openai import operations as openai
from aphrodite.adapters.inbound.http.openai.objects import ErrorBody
from aphrodite.adapters.inbound.http.responses import operations as responses

OPERATIONS = (
    *openai.OPERATIONS,
    *responses.OPERATIONS,
    *anthropic.OPERATIONS,
    *kobold.OPERATIONS,
    *ollama.OPERATIONS,
)

_ERROR_TYPES: tuple[tuple[str, type[msgspec.Struct]], ...] = (
    ("/v1/messages", AnthropicErrorBody),
    ("/api/v1/", KoboldErrorBody),
    ("/api/extra/", KoboldErrorBody),
    ("/api/", OllamaErrorBody),
)


def error_type(path: str) -> type[msgspec.Struct]:
    """The form of errors of a path's API; OpenAI's where the path belongs to none."""
    return next((kind for prefix, kind in _ERROR_TYPES if path.startswith(prefix)), ErrorBody)
