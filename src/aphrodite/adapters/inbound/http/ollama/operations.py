"""The operations of Ollama's API."""

from functools import partial

from aphrodite.adapters.inbound.http.ollama import information, protocol
from aphrodite.adapters.inbound.http.ollama.generate import ollama_chat, ollama_generate
from aphrodite.adapters.inbound.http.operation import Operation

_Lines = partial(Operation, chunk_media_type="application/x-ndjson")

OPERATIONS = (
    _Lines(
        "post",
        "/api/chat",
        ollama_chat,
        "Answer a conversation, as Ollama's API does",
        protocol.OllamaChatAnswer,
        protocol.OllamaChatRequest,
        protocol.OllamaChatAnswer,
    ),
    _Lines(
        "post",
        "/api/generate",
        ollama_generate,
        "Answer a prompt",
        protocol.OllamaGenerateAnswer,
        protocol.OllamaGenerateRequest,
        protocol.OllamaGenerateAnswer,
    ),
    Operation("get", "/api/tags", information.tags, "The served model", protocol.OllamaModels),
    Operation("get", "/api/ps", information.running_models, "The loaded model", protocol.OllamaRunningModels),
    Operation(
        "post",
        "/api/show",
        information.show,
        "What the model is",
        protocol.OllamaModelInformation,
        protocol.OllamaShowRequest,
    ),
    Operation("get", "/api/version", information.ollama_version, "The API's version", protocol.OllamaVersion),
)
