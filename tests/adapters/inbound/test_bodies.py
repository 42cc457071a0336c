"""How bodies arrive: encodings, slowness, and the memory that all of them share."""

import asyncio
import gzip
import json
from typing import Any

import msgspec
import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from aphrodite.adapters.inbound.http import body_budget, body_layer
from aphrodite.adapters.inbound.http.body_layer import BodyLayer
from aphrodite.adapters.inbound.http.errors import InvalidRequestError
from aphrodite.adapters.inbound.http.openai.parsing import parse_body
from aphrodite.adapters.inbound.http.openai.requests import ChatCompletionRequest, CompletionRequest
from aphrodite.adapters.inbound.http.request_layer import RequestLayer

CHAT = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}


class Server:
    """The body layer, small: bodies of 100,000 bytes, of which four may be there at once."""

    def __init__(self) -> None:
        self.num_held = self.most_held = 0
        self.go_on = asyncio.Event()
        self.go_on.set()
        self.app = Starlette(
            routes=[Route("/", self._answer, methods=["POST"])],
            middleware=[Middleware(RequestLayer, timeout_s=20), Middleware(BodyLayer, max_body_bytes=100_000)],
        )

    async def _answer(self, request: Request) -> Response:
        body = (await request.receive())["body"]
        self.num_held += 1
        self.most_held = max(self.most_held, self.num_held)
        await self.go_on.wait()
        self.num_held -= 1
        request.state.body_lease.release()
        return PlainTextResponse(str(len(body)))

    async def ask(
        self, pieces: list[bytes], pause_s: float = 0, headers: dict[str, str] | None = None, *, is_whole: bool = True
    ) -> tuple[int, bytes]:
        """One request, a pause behind each piece of its body; where it is not whole the client waits for ever."""
        messages = [{"type": "http.request", "body": piece, "more_body": True} for piece in pieces]
        if is_whole:
            messages[-1]["more_body"] = False
        answer: list[Any] = []

        async def receive() -> Any:
            if messages:
                await asyncio.sleep(pause_s)
                return messages.pop(0)
            return await asyncio.Event().wait()

        async def send(message: Any) -> None:
            answer.append(message)

        scope = {
            "type": "http",
            "method": "POST",
            "path": "/",
            "headers": [(name.encode(), value.encode()) for name, value in (headers or {}).items()],
        }
        await self.app(scope, receive, send)
        return answer[0]["status"], b"".join(message.get("body", b"") for message in answer[1:])


def test_a_body_in_another_encoding_is_415() -> None:
    async def run() -> None:
        status, body = await Server().ask([gzip.compress(b"{}")], headers={"content-encoding": "gzip"})
        assert (status, json.loads(body)["error"]["code"]) == (415, "unsupported_content_encoding")
        assert (await Server().ask([b"{}"], headers={"content-encoding": "identity"}))[0] == 200

    asyncio.run(run())


@pytest.mark.parametrize(("length", "status"), [("0" * 5000 + "2", 200), ("9" * 5002, 413), ("²", 200), ("x", 200)])
def test_lengths_that_are_no_numbers(length: str, status: int) -> None:
    assert asyncio.run(Server().ask([b"{}"], headers={"content-length": length}))[0] == status


def test_large_bodies_wait_for_each_other_and_small_ones_do_not() -> None:
    async def run() -> None:
        server = Server()
        server.go_on.clear()
        large = [asyncio.create_task(server.ask([b"x" * 90_000, b"x" * 10_000])) for _ in range(10)]
        await asyncio.sleep(0.1)
        assert server.num_held == 4
        small = [asyncio.create_task(server.ask([b"x" * 30_000, b"x" * 30_000])) for _ in range(10)]
        await asyncio.sleep(0.1)
        assert server.num_held == 14
        server.go_on.set()
        assert await asyncio.gather(*large) == [(200, b"100000")] * 10
        assert await asyncio.gather(*small) == [(200, b"60000")] * 10

    asyncio.run(run())


def test_bodies_that_stay_away_give_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(body_budget, "_PATIENCE_S", 0.2)

    async def run() -> None:
        server = Server()
        unfinished = [asyncio.create_task(server.ask([b"x" * 90_000], is_whole=False)) for _ in range(6)]
        await asyncio.sleep(0.01)
        assert await server.ask([b"x" * 90_000, b"x" * 10_000]) == (200, b"100000")
        given_way, _ = await asyncio.wait(unfinished, timeout=0)
        assert {task.result()[0] for task in given_way} == {408}
        assert len(given_way) == 3  # two for those that waited before us, one for us
        for task in unfinished:
            task.cancel()
        await asyncio.wait(unfinished)

    asyncio.run(run())


def test_a_slow_body_has_the_time_that_its_length_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(body_layer, "_ARRIVAL_GRACE_S", 0.2)
    monkeypatch.setattr(body_layer, "_MIN_ARRIVAL_BYTES_PER_S", 10_000)

    async def run() -> None:
        assert (await Server().ask([b"x" * 5000] * 10, pause_s=0.1))[0] == 200
        status, body = await Server().ask([b"x"] * 100, pause_s=0.1)
        assert (status, json.loads(body)["error"]["code"]) == (408, "body_timeout")

    asyncio.run(run())


def test_a_byte_order_mark_is_no_part_of_the_json() -> None:
    assert parse_body(b"\xef\xbb\xbf" + msgspec.json.encode(CHAT), ChatCompletionRequest)[0].model == "m"


def test_whole_numbers_may_have_a_point() -> None:
    asked, _ = parse_body(
        b'{"model": "m", "prompt": [1.0, 2e0], "max_tokens": 6.0, "temperature": 1.0, "stop_token_ids": [3.0]}',
        CompletionRequest,
    )
    assert (asked.prompt, asked.max_tokens, asked.temperature, asked.stop_token_ids) == ([1, 2], 6, 1.0, [3])
    with pytest.raises(InvalidRequestError, match="max_tokens must be an integer"):
        parse_body(b'{"model": "m", "prompt": "x", "max_tokens": 6.5}', CompletionRequest)


@pytest.mark.parametrize("many", [b"[]", b"{}", b"1", b'""', b'{"a":[1]}'])
@pytest.mark.parametrize("field", ["messages", "frobnicate", "stop"])
def test_more_values_than_anybody_needs_are_not_decoded(field: str, many: bytes) -> None:
    body = b'{"model": "m", "%s": [' % field.encode() + (many + b",") * 1_100_000 + many + b"]}"
    with pytest.raises(InvalidRequestError, match="too many commas"):
        parse_body(body, ChatCompletionRequest)


@pytest.mark.parametrize("depth", [150, 900, 990, 5000])
def test_deep_nesting_is_a_mistake_like_others(depth: int) -> None:
    from aphrodite.adapters.inbound.http.preparation import _conversation
    from aphrodite.domain.errors import RequestError

    calls = b'[{"a":' * (depth // 2) + b"1" + b"}]" * (depth // 2)
    body = b'{"model": "m", "messages": [{"role": "assistant", "tool_calls": %s}]}' % calls
    with pytest.raises(RequestError, match="nested too deeply"):
        _conversation(parse_body(body, ChatCompletionRequest)[0].messages, (), 1)


def test_a_mistake_does_not_repeat_all_that_was_written() -> None:
    body = b'{"model": "m", "messages": [{"content": "x", "role": "%s"}]}' % (b"x" * 5_000_000)
    with pytest.raises(InvalidRequestError, match="unknown value") as raised:
        parse_body(body, ChatCompletionRequest)
    assert len(str(raised.value)) < 2000
    assert raised.value.param == "messages[0].role"
