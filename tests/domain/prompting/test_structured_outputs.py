import json
from typing import Any

import pytest

from aphrodite.domain.errors import RequestError, SamplingParamsError
from aphrodite.domain.prompting.sampling_params import SamplingParams
from aphrodite.domain.prompting.structured_outputs import MAX_CHOICES, MAX_FORM_CHARS, StructuredOutputs

SCHEMA = {"type": "object", "properties": {"b": {"const": 1}, "a": {"enum": ["é", None]}}}


@pytest.mark.parametrize(
    ("kind", "value", "kept"),
    [
        ("json", SCHEMA, json.dumps(SCHEMA, ensure_ascii=False)),
        ("json", '{"type": "string"}', '{"type": "string"}'),
        ("json", {}, "{}"),
        ("json_object", True, True),
        ("regex", "[a-z]+", "[a-z]+"),
        ("choice", ["yes", "no"], ("yes", "no")),
        ("grammar", 'start: "a"', 'start: "a"'),
        ("structural_tag", {"structures": [], "triggers": []}, '{"structures": [], "triggers": []}'),
    ],
)
def test_each_kind_is_kept_as_text(kind: str, value: Any, kept: object) -> None:
    form = StructuredOutputs(**{kind: value})
    assert form.kind == kind
    assert getattr(form, kind) == kept
    assert hash(form) == hash(StructuredOutputs(**{kind: kept}))
    assert SamplingParams(structured_outputs=form).structured_outputs == form


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({}, "exactly one of json, json_object, .* got none"),
        ({"json_object": False}, "got none"),
        ({"json": {}, "regex": "a"}, "got json and regex"),
        ({"json_object": 1}, "json_object must be True or False"),
        ({"json": []}, "json must be an object or the JSON text of one, got list"),
        ({"json": {"a": object()}}, "json holds what JSON cannot say"),
        ({"json": {"a": float("nan")}}, "json holds what JSON cannot say"),
        ({"regex": ""}, "regex must be a string that is not empty"),
        ({"regex": 5}, "regex must be a string"),
        ({"regex": "\ud800"}, "regex holds half of a surrogate pair"),
        ({"regex": "a" * (MAX_FORM_CHARS + 1)}, f"regex must have at most {MAX_FORM_CHARS} characters"),
        ({"grammar": ["start"]}, "grammar must be a string"),
        ({"choice": "yes"}, "choice must be a list of strings"),
        ({"choice": []}, "choice must be a list of strings"),
        ({"choice": [""]}, "none of them empty"),
        ({"choice": ["a", 5]}, "choice must be a list of strings"),
        ({"choice": ["a"] * (MAX_CHOICES + 1)}, f"at most {MAX_CHOICES} strings"),
        ({"choice": ["a" * 1000] * 300}, f"at most {MAX_FORM_CHARS} characters in all"),
        ({"structural_tag": 5}, "structural_tag must be an object"),
    ],
)
def test_what_is_wrong_is_named(fields: dict[str, Any], sentence: str) -> None:
    with pytest.raises(SamplingParamsError, match=rf"^structured_outputs.*{sentence}") as caught:
        StructuredOutputs(**fields)
    assert isinstance(caught.value, RequestError)
    assert len(str(caught.value)) < 300


def test_a_schema_nested_without_end_is_refused() -> None:
    schema: dict[str, Any] = {}
    schema["items"] = schema
    with pytest.raises(SamplingParamsError, match="nested too deeply"):
        StructuredOutputs(json=schema)


def test_sampling_params_take_nothing_else() -> None:
    wrong: Any = {"regex": "a"}
    with pytest.raises(SamplingParamsError, match="must be a StructuredOutputs"):
        SamplingParams(structured_outputs=wrong)
    with pytest.raises(SamplingParamsError, match=r"^allowed_token_ids cannot be given beside"):
        SamplingParams(structured_outputs=StructuredOutputs(regex="a"), allowed_token_ids=[1])
