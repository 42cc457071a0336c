"""POST /api/v1/generate and /api/extra/generate/stream, and what is asked meanwhile: .../check and .../abort."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from functools import partial

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from aphrodite.adapters.inbound.http.deadline import within_deadline
from aphrodite.adapters.inbound.http.errors import InvalidRequestError
from aphrodite.adapters.inbound.http.form_names import naming_form
from aphrodite.adapters.inbound.http.generation import Generation
from aphrodite.adapters.inbound.http.json_response import json_response
from aphrodite.adapters.inbound.http.kobold.protocol import (
    KoboldAborted,
    KoboldKey,
    KoboldRequest,
    KoboldResult,
    KoboldResults,
    KoboldToken,
)
from aphrodite.adapters.inbound.http.kobold.sampling import FORM_FIELD, kobold_sampling
from aphrodite.adapters.inbound.http.request_body import read_body
from aphrodite.adapters.inbound.http.running import Running, RunningRequests
from aphrodite.adapters.inbound.http.service import client_of, service_of
from aphrodite.adapters.inbound.http.sse import EventStream, encode_named_event


async def generate(request: Request) -> Response:
    """Continue a text; the answer comes whole."""
    async with within_deadline(request):
        running, generation = await _begin(request, streamed=False)
        async with aclosing(generation):
            async for _, delta in generation:
                running.pieces.append(delta.text)
        num_prompt_tokens = generation.usage().num_prompt_tokens
        results = [
            KoboldResult(
                text=completion.text,
                finish_reason="stop" if completion.finish_reason == "abort" else completion.finish_reason,
                prompt_tokens=num_prompt_tokens,
                completion_tokens=len(completion.token_ids),
            )
            for output in generation.outputs()
            for completion in output.outputs
        ]
        return json_response(KoboldResults(results or [KoboldResult(text="", finish_reason="stop")]))


async def generate_stream(request: Request) -> Response:
    """Continue a text; an event for each piece of it."""
    async with within_deadline(request):
        return EventStream(_events(*await _begin(request, streamed=True)), partial(encode_named_event, "error"))


async def check(request: Request) -> Response:
    """What a generation that is under way has said by now."""
    found = _running(request).find(client_of(request), (await _key(request)).genkey)
    return json_response(KoboldResults([KoboldResult(text="".join(running.pieces)) for running in found[:1]]))


async def abort(request: Request) -> Response:
    """End a generation, whose request is answered with what it has said by now; all of the client's without a key."""
    found = _running(request).find(client_of(request), (await _key(request)).genkey)
    for running in found:
        running.stop()
    return json_response(KoboldAborted("true" if found else "false"))


async def _begin(request: Request, *, streamed: bool) -> tuple[Running, Generation]:
    service = service_of(request)
    asked = await read_body(request, KoboldRequest)
    running = _running(request).add(client_of(request), asked.genkey)
    sampling = kobold_sampling(asked, service.default_sampling, service.tokenizer.eos_token_ids)
    if streamed and sampling.n > 1:
        raise InvalidRequestError("n must be 1 for a stream, whose pieces do not say which text they belong to.", "n")
    text = (asked.memory or "") + asked.prompt
    if asked.images:
        urls = [f"data:image/png;base64,{image}" for image in asked.images]  # what it is, only its bytes say
        asked.images = None
        prompt = await service.preparer.illustrated(text, urls)
        del urls
    else:
        [prompt] = await service.preparer.prompts([text])
    request.state.body_lease.release()
    generation = service.generation(request, [prompt], sampling, streamed=streamed)
    running.begin(generation.stop)
    with naming_form(FORM_FIELD):
        await generation.begin()
    return running, generation


async def _events(running: Running, generation: Generation) -> AsyncGenerator[bytes, None]:
    finish_reason = None
    async with aclosing(generation):
        async for _, delta in generation:
            running.pieces.append(delta.text)
            finish_reason = delta.finish_reason
            if delta.text or finish_reason:
                yield _encode(KoboldToken(delta.text, finish_reason))
    if finish_reason is None:  # aborted
        yield _encode(KoboldToken("", "stop"))


def _encode(data: msgspec.Struct) -> bytes:
    return encode_named_event("message", data)


async def _key(request: Request) -> KoboldKey:
    """Clients that have one generation at a time ask without a body."""
    if request.method == "GET" or request.state.body_bytes == 0:
        return KoboldKey()
    return await read_body(request, KoboldKey)


def _running(request: Request) -> RunningRequests:
    running: RunningRequests = request.app.state.running
    return running
