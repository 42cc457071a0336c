"""The Responses API with the real `openai` client."""

import json
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import openai
import pytest
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import BaseModel, TypeAdapter
from tests.e2e.conftest import MODEL, picture
from tests.e2e.server_process import SMALL, ServerProcess, running
from tests.e2e.test_chat import ask, data_url
from tests.e2e.test_errors import post

PATH = "/v1/responses"
EVENTS: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)


def create(client: openai.OpenAI, given: Any, **fields: Any) -> Response:
    fields = {"max_output_tokens": 8, "temperature": 0} | fields
    made: Response = client.responses.create(model=MODEL, input=given, **fields)
    return made


def chat_text(client: openai.OpenAI, messages: Any, max_tokens: int = 8) -> str:
    answer = client.chat.completions.create(model=MODEL, messages=messages, max_tokens=max_tokens, temperature=0)
    return str(answer.choices[0].message.content)


def test_a_text_is_what_chat_says(client: openai.OpenAI) -> None:
    response = create(client, "Hello there", instructions="Be brief.", metadata={"a": "b"})
    system = {"role": "system", "content": "Be brief."}
    assert response.output_text == chat_text(client, [system, {"role": "user", "content": "Hello there"}])
    assert (response.status, response.metadata, response.instructions) == ("incomplete", {"a": "b"}, "Be brief.")
    assert response.incomplete_details.reason == "max_output_tokens"
    assert response.usage.output_tokens == 8
    assert response.usage.total_tokens == response.usage.input_tokens + 8


def test_responses_are_what_the_reference_says(server: ServerProcess) -> None:
    body = {"model": MODEL, "input": "Hello", "max_output_tokens": 4, "user": "me", "reasoning": {"effort": "low"}}
    tools = [{"type": "function", "name": "look", "description": None, "parameters": {"type": "object"}}]
    status, written = post(server, PATH, body | {"tools": tools, "tool_choice": "none"})
    assert status == 200, written
    read = Response.model_validate_json(json.dumps(written), strict=True)
    assert read.to_dict() == written


def test_pictures_and_former_answers(client: openai.OpenAI) -> None:
    url = data_url(picture("rgb", (200, 10, 10)))
    parts = [
        {"type": "input_text", "text": "What is this?"},
        {"type": "input_image", "image_url": url, "detail": "low"},
    ]
    said = {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Red."}]}
    given = [{"role": "user", "content": parts}, said, {"role": "user", "content": "Sure?"}]
    messages = [*ask("What is this?", url), {"role": "assistant", "content": "Red."}, given[-1]]
    assert create(client, given).output_text == chat_text(client, messages)


def raw_events(server: ServerProcess, **fields: Any) -> list[str]:
    """The data of each event, as it is on the wire; its name is its type."""
    request = urllib.request.Request(server.url + PATH, json.dumps(fields | {"stream": True}).encode())
    with urllib.request.urlopen(request, timeout=60) as response:
        lines = [line.decode().rstrip("\n") for line in response]
    data = [line.removeprefix("data: ") for line in lines if line.startswith("data: ")]
    names = [line.removeprefix("event: ") for line in lines if line.startswith("event: ")]
    assert names == [json.loads(each)["type"] for each in data]
    return data


def test_a_stream_has_the_reference_s_events_in_order(server: ServerProcess, client: openai.OpenAI) -> None:
    whole = create(client, "Hello there")
    written = raw_events(server, model=MODEL, input="Hello there", max_output_tokens=8, temperature=0)
    events = [EVENTS.validate_json(each, strict=True) for each in written]
    assert [event.sequence_number for event in events] == list(range(len(events)))
    kinds = [event.type for event in events]
    deltas = [event.delta for event in events if event.type == "response.output_text.delta"]
    assert kinds == [
        "response.created", "response.in_progress", "response.output_item.added", "response.content_part.added",
        *["response.output_text.delta"] * len(deltas),
        "response.output_text.done", "response.content_part.done", "response.output_item.done", "response.incomplete",
    ]  # fmt: skip
    assert "".join(deltas) == whole.output_text == events[-1].response.output_text
    with client.responses.stream(model=MODEL, input="Hello there", max_output_tokens=8, temperature=0) as stream:
        texts = [event.delta for event in stream if event.type == "response.output_text.delta"]
    assert "".join(texts) == whole.output_text


@pytest.mark.parametrize("stream", [False, True])
def test_log_probabilities(client: openai.OpenAI, stream: bool) -> None:
    fields: Any = {"include": ["message.output_text.logprobs"], "top_logprobs": 2, "stream": stream}
    made: Any = create(client, "Hello there", **fields)
    [item] = [*made][-1].response.output if stream else made.output
    tokens = item.content[0].logprobs
    expected = client.chat.completions.create(
        model=MODEL,
        messages=[{"role": "user", "content": "Hello there"}],
        max_tokens=8,
        temperature=0,
        logprobs=True,
        top_logprobs=2,
    ).choices[0]
    assert [token.token for token in tokens] == [token.token for token in expected.logprobs.content]
    assert all(len(token.top_logprobs) == 2 for token in tokens)


def test_an_answer_is_kept_and_continued(client: openai.OpenAI) -> None:
    first = create(client, "Hello there")
    second = create(client, "And now?", previous_response_id=first.id)
    user, said = {"role": "user", "content": "Hello there"}, {"role": "assistant", "content": first.output_text}
    assert second.output_text == chat_text(client, [user, said, {"role": "user", "content": "And now?"}])
    assert client.responses.retrieve(second.id).to_dict() == second.to_dict()
    [item] = client.responses.input_items.list(second.id).data
    assert item.content[0].text == "And now?"
    client.responses.delete(first.id)
    for lost in (lambda: client.responses.retrieve(first.id), lambda: client.responses.input_items.list(first.id)):
        with pytest.raises(openai.NotFoundError):
            lost()
    with pytest.raises(openai.BadRequestError) as refused:
        create(client, "And then?", previous_response_id=second.id)
    assert (refused.value.code, refused.value.param) == ("previous_response_not_found", "previous_response_id")


def test_an_answer_keeps_to_a_schema(client: openai.OpenAI) -> None:
    class City(BaseModel):
        city: Literal["Paris", "Rome"]

    for stream in (False, True):
        fields: Any = {"model": MODEL, "input": "Hello", "text_format": City, "max_output_tokens": 60}
        if stream:
            with client.responses.stream(**fields) as events:
                parsed = events.get_final_response().output_parsed
        else:
            parsed = client.responses.parse(**fields).output_parsed
        assert isinstance(parsed, City)


def test_what_is_not_to_be_stored_is_not(client: openai.OpenAI) -> None:
    response = create(client, "Hello there", store=False)
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(response.id)


def test_pages_of_input_items(client: openai.OpenAI) -> None:
    given: Any = [{"role": "user", "content": str(number)} for number in range(5)]
    response = create(client, given)
    for order, expected in (("asc", "01234"), ("desc", "43210")):
        items = client.responses.input_items.list(response.id, order=order, limit=2)
        assert "".join(item.content for item in items) == expected  # page by page
    with pytest.raises(openai.BadRequestError, match="limit must be"):
        client.responses.input_items.list(response.id, limit=1000)
    for order in ("ASC", "", "random"):
        with pytest.raises(openai.BadRequestError, match="order must be") as refused:
            client.responses.input_items.list(response.id, extra_query={"order": order})
        assert refused.value.param == "order"


def test_a_response_that_is_under_way_can_be_cancelled(client: openai.OpenAI) -> None:
    stream = client.responses.create(model=MODEL, input="Hello", stream=True, max_output_tokens=4000)
    response_id = next(stream).response.id
    assert client.responses.retrieve(response_id).status == "in_progress"
    assert client.responses.cancel(response_id).status == "cancelled"
    assert [*stream][-1].response.status == "cancelled"
    assert client.responses.retrieve(response_id).status == "cancelled"
    with pytest.raises(openai.BadRequestError, match="under way"):
        client.responses.cancel(response_id)


def test_an_answer_in_the_background(client: openai.OpenAI) -> None:
    whole = create(client, "Hello there")
    response = create(client, "Hello there", background=True)
    assert (response.status, response.output) == ("in_progress", [])
    while response.status == "in_progress":
        response = client.responses.retrieve(response.id)
    assert (response.status, response.output_text) == (whole.status, whole.output_text)
    endless = create(client, "Hello", background=True, max_output_tokens=4000)
    assert client.responses.cancel(endless.id).status == "cancelled"
    while endless.status == "in_progress":
        endless = client.responses.retrieve(endless.id)
    assert endless.status == "cancelled"


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"background": True, "stream": True}, "background"),
        ({"input": [{"type": "file_search_call"}]}, "input[0].type"),
        ({"tools": [{"type": "web_search"}]}, "tools"),
        ({"metadata": {"a": "x" * 1000}}, "metadata[...]"),
        ({"temperature": -1}, "temperature"),
        ({"text": {"format": {"type": "json_schema", "name": "x", "schema": {"type": "x"}}}}, "text.format.schema"),
        ({"input": []}, "input"),
    ],
)
def test_what_is_refused_is_named(server: ServerProcess, fields: dict[str, Any], param: str) -> None:
    status, body = post(server, PATH, {"model": MODEL, "input": "Hi"} | fields)
    assert (status, body["error"]["param"]) == (400, param)
    assert body["error"]["code"]


@pytest.fixture(scope="module")
def guarded(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    keys = ("--api-key", "sk-one", "--api-key", "sk-two", "--served-model-name", MODEL)
    with running(tmp_path_factory.mktemp("guarded") / "log", str(checkpoint), *SMALL, *keys) as process:
        yield process


def test_nobody_finds_another_s_answers(guarded: ServerProcess) -> None:
    def of(key: str) -> openai.OpenAI:
        return openai.OpenAI(api_key=key, base_url=f"{guarded.url}/v1", max_retries=0, timeout=60)

    with of("sk-one") as one, of("sk-two") as two:
        response = create(one, "Hello there")
        assert one.responses.retrieve(response.id).id == response.id
        for attempt in (
            lambda: two.responses.retrieve(response.id),
            lambda: two.responses.delete(response.id),
            lambda: two.responses.cancel(response.id),
            lambda: two.responses.input_items.list(response.id),
        ):
            with pytest.raises(openai.NotFoundError):
                attempt()
        with pytest.raises(openai.BadRequestError):
            create(two, "And now?", previous_response_id=response.id)
        assert one.responses.retrieve(response.id).id == response.id


def test_every_api_wants_a_key(guarded: ServerProcess) -> None:
    for path in (PATH, "/v1/messages", "/api/chat", "/api/v1/generate", "/api/extra/abort", "/tokenize", "/ping"):
        assert post(guarded, path, {})[0] == 401
        assert post(guarded, path + "/", {})[0] == 401
    with of_anthropic_kind(guarded) as answer:
        assert answer.status == 200


def of_anthropic_kind(server: ServerProcess) -> Any:
    request = urllib.request.Request(server.url + "/v1/models", headers={"x-api-key": "sk-two"})
    return urllib.request.urlopen(request, timeout=30)
