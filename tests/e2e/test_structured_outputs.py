"""Forms of answers by all the names that clients have for them, with the real `openai` client."""

import json
from typing import Any

import openai
import pytest
from jsonschema import validate
from tests.e2e.conftest import MODEL

SCHEMA = {
    "type": "object",
    "properties": {"kind": {"enum": ["circle", "square"]}, "count": {"type": "integer", "minimum": 0, "maximum": 9}},
    "required": ["kind", "count"],
    "additionalProperties": False,
}
AS_SCHEMA = {"type": "json_schema", "json_schema": {"name": "thing", "schema": SCHEMA, "strict": True}}
MESSAGES: Any = [{"role": "user", "content": "What is this?"}]


def chat(client: openai.OpenAI, seed: int, **fields: Any) -> Any:
    return client.chat.completions.create(
        model=MODEL, messages=MESSAGES, max_tokens=120, temperature=1, seed=seed, **fields
    )


@pytest.mark.parametrize(
    "fields",
    [
        {"response_format": AS_SCHEMA},
        {"extra_body": {"structured_outputs": {"json": SCHEMA}}},
        {"extra_body": {"guided_json": json.dumps(SCHEMA), "guided_decoding_backend": "auto"}},
        # As guidance sends it, for servers of whatever age.
        {"extra_body": {"guided_json": json.dumps(SCHEMA), "structured_outputs": {"json": json.dumps(SCHEMA)}}},
    ],
    ids=["response_format", "structured_outputs", "guided_json", "twice"],
)
def test_a_schema(client: openai.OpenAI, fields: dict[str, Any]) -> None:
    ended = [choice for choice in chat(client, 1, n=6, **fields).choices if choice.finish_reason == "stop"]
    assert ended
    for choice in ended:
        validate(json.loads(choice.message.content), SCHEMA)


def test_a_schema_in_a_stream(client: openai.OpenAI) -> None:
    whole = chat(client, 3, response_format=AS_SCHEMA)
    pieces = [
        choice.delta.content or ""
        for chunk in chat(client, 3, response_format=AS_SCHEMA, stream=True)
        for choice in chunk.choices
    ]
    assert "".join(pieces) == whole.choices[0].message.content
    assert len(pieces) > 3


def test_other_forms(client: openai.OpenAI) -> None:
    [choice] = chat(client, 0, extra_body={"guided_choice": ["left", "right"]}).choices
    assert choice.message.content in ("left", "right")
    [choice] = chat(client, 0, response_format={"type": "json_object"}).choices
    assert choice.finish_reason == "length" or isinstance(json.loads(choice.message.content), dict)
    assert chat(client, 0, response_format={"type": "text"}).choices[0].message.content is not None
    prompt = {"model": MODEL, "prompt": "Hello", "temperature": 1, "n": 4, "max_tokens": 20}
    completions = client.completions.create(**prompt, extra_body={"structured_outputs": {"regex": "[0-9]{3}"}})
    assert all(choice.text.isdecimal() and len(choice.text) == 3 for choice in completions.choices)
