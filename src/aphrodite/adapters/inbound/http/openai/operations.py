"""The OpenAI API's operations, and those that belong to no API."""

from aphrodite.adapters.inbound.http.openai import objects, requests
from aphrodite.adapters.inbound.http.openai.chat_completions import chat_completions
from aphrodite.adapters.inbound.http.openai.completions import completions
from aphrodite.adapters.inbound.http.openai.information import (
    health,
    load,
    metrics,
    model,
    models,
    ping,
    tokenizer_info,
    version,
)
from aphrodite.adapters.inbound.http.openai.tokenize import detokenize, tokenize
from aphrodite.adapters.inbound.http.operation import Operation

_TOKENIZE = ("Text or messages to token ids", objects.TokenizeResponse, requests.TokenizeRequest)
_DETOKENIZE = ("Token ids to text", objects.DetokenizeResponse, requests.DetokenizeRequest)

OPERATIONS = (
    Operation(
        "post",
        "/v1/chat/completions",
        chat_completions,
        "Answer a conversation, with at most one image in it",
        objects.ChatCompletion,
        requests.ChatCompletionRequest,
        objects.ChatCompletionChunk,
    ),
    Operation(
        "post",
        "/v1/completions",
        completions,
        "Continue a text",
        objects.Completion,
        requests.CompletionRequest,
        objects.Completion,
    ),
    Operation("post", "/v1/tokenize", tokenize, *_TOKENIZE),
    Operation("post", "/tokenize", tokenize, *_TOKENIZE),
    Operation("post", "/v1/detokenize", detokenize, *_DETOKENIZE),
    Operation("post", "/detokenize", detokenize, *_DETOKENIZE),
    Operation("get", "/tokenizer_info", tokenizer_info, "What texts become tokens by", objects.TokenizerInfo),
    Operation("get", "/v1/models", models, "The served model, under each of its names", objects.ModelList),
    Operation("get", "/v1/models/{name:path}", model, "One of the names", objects.Model),
    Operation("get", "/health", health, "Whether requests are taken", objects.Health),
    Operation("get", "/ping", ping, "The same, as some platforms ask", objects.Health),
    Operation("post", "/ping", ping, "The same, as some platforms ask", objects.Health),
    Operation("get", "/load", load, "How many requests are answered now", objects.Load),
    Operation("get", "/version", version, "The server's version", objects.Version),
    Operation("get", "/metrics", metrics, "Metrics in Prometheus' text format"),
)
