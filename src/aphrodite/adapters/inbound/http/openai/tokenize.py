"""POST /v1/tokenize and /v1/detokenize."""

from starlette.requests import Request
from starlette.responses import Response

from aphrodite.adapters.inbound.http.deadline import within_deadline
from aphrodite.adapters.inbound.http.errors import InvalidRequestError, name_prompt
from aphrodite.adapters.inbound.http.json_response import json_response
from aphrodite.adapters.inbound.http.openai.objects import DetokenizeResponse, TokenizeResponse
from aphrodite.adapters.inbound.http.openai.parsing import read_request
from aphrodite.adapters.inbound.http.openai.requests import DetokenizeRequest, TokenizeRequest
from aphrodite.adapters.inbound.http.service import service_of


async def tokenize(request: Request) -> Response:
    """Token ids as the model would read them: of a text, or of messages, an image's tokens among them."""
    service = service_of(request)
    async with within_deadline(request):
        asked = await read_request(request, TokenizeRequest)
        service.check_model(asked.model)
        if (asked.prompt is None) == (asked.messages is None):
            raise InvalidRequestError("Either prompt or messages must be given, and not both.", "prompt")
        if asked.messages is not None:
            prompt = await service.preparer.chat(
                asked.messages,
                body_bytes=request.state.body_bytes,
                add_generation_prompt=asked.add_generation_prompt is not False,
            )
        else:
            name_prompt(request, "prompt")
            [prompt] = await service.preparer.prompts(
                [asked.prompt or ""], add_special_tokens=asked.add_special_tokens is not False
            )
    return json_response(
        TokenizeResponse(
            count=len(prompt.token_ids),
            max_model_len=service.client.limits.max_model_len,
            tokens=prompt.token_ids,
            image_tokens=prompt.num_image_tokens,
        )
    )


async def detokenize(request: Request) -> Response:
    """The text of token ids, special tokens shown."""
    service = service_of(request)
    async with within_deadline(request):
        asked = await read_request(request, DetokenizeRequest)
        service.check_model(asked.model)
        return json_response(DetokenizeResponse(await service.preparer.decode(asked.tokens)))
