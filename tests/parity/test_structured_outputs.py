"""Answers of a model with random weights under forms of every kind: each that ends by itself has its form."""

import json
import re
from contextlib import suppress
from decimal import Decimal
from typing import Any

import jsonschema
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from tests.json_schema_suite.groups import groups
from tests.parity.cases import Case, about
from tests.parity.fixture_types import OpenLlm
from tests.parity.selection import not_on_jax_tpu

from aphrodite import LLM, SamplingParams, StructuredOutputs
from aphrodite.domain.errors import FormError, SamplingParamsError
from aphrodite.domain.prompting.json_schema import check_schema

PROMPT = "USER: Hello\nASSISTANT:"


def answers(llm: LLM, forms: list[StructuredOutputs], **sampling: Any) -> list[tuple[str, str | None]]:
    """For each form one answer, and why it ended."""
    params = [
        SamplingParams(**({"max_tokens": 60, "temperature": 1.0, "seed": index, "structured_outputs": form} | sampling))
        for index, form in enumerate(forms)
    ]
    outputs = llm.generate([PROMPT] * len(forms), params, use_tqdm=False)
    return [(choice.text, choice.finish_reason) for output in outputs for choice in output.outputs]


# Keywords of the standard's vocabularies, so that few answers are long.
SHORT = {"type": "string", "maxLength": 3}
SCHEMAS: list[dict[str, Any]] = [
    {"type": "null"},
    {"type": "boolean"},
    {"type": ["integer", "null"], "minimum": -5, "maximum": 12},
    {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1, "multipleOf": 0.25},
    {"type": "integer", "multipleOf": 7, "minimum": 1, "maximum": 50},
    {"type": "string", "minLength": 2, "maxLength": 4},
    {"type": "string", "pattern": "^[a-c]{1,3}$"},
    {"type": "string", "format": "ipv4"},
    {"type": "string", "format": "uuid"},
    {"enum": ["a", 5, None, {"b": [1]}, "é\n"]},
    {"const": {"a": "x"}},
    {"type": "array", "items": {"enum": [1, 2]}, "minItems": 1, "maxItems": 3},
    {"type": "array", "prefixItems": [{"const": 1}, {"type": "boolean"}], "items": False, "minItems": 2},
    {"type": "object", "properties": {"a": SHORT, "b": {"type": "boolean"}}, "required": ["b"],
     "additionalProperties": False},
    {"type": "object", "patternProperties": {"^[xy]{1,2}$": {"const": 1}}, "additionalProperties": False,
     "minProperties": 1, "maxProperties": 2},
    {"anyOf": [{"const": "one"}, {"type": "integer", "minimum": 3, "maximum": 4}]},
    {"oneOf": [{"type": "object", "properties": {"k": {"const": kind}}, "required": ["k"],
                "additionalProperties": False} for kind in ("p", "q")]},
    {"allOf": [{"type": "integer", "minimum": 3}, {"maximum": 6}]},
    {"$ref": "#/$defs/tree", "$defs": {"tree": {
        "type": "object", "properties": {"leaf": {"const": 1}, "next": {"$ref": "#/$defs/tree"}},
        "required": ["leaf"], "additionalProperties": False}}},
]  # fmt: skip


def check(schema: dict[str, Any], text: str) -> None:
    Draft202012Validator(schema, format_checker=jsonschema.FormatChecker()).validate(json.loads(text))


def test_keywords(llava: LLM) -> None:
    forms = [StructuredOutputs(json=schema) for schema in SCHEMAS]
    ended: set[int] = set()
    for n in (4, 1):  # several of one prompt, and once more from the cache
        found = answers(llava, forms, n=n)
        for index, (text, reason) in enumerate(found):
            if reason == "stop":
                check(SCHEMAS[index // n], text)
                ended.add(index // n)
    assert ended == set(range(len(SCHEMAS)))


names = st.text("abcdef", min_size=1, max_size=3)
small = st.integers(0, 3)
leaves = st.one_of(
    st.just({"type": "boolean"}),
    st.builds(
        lambda low, more: {"type": "integer", "minimum": low, "maximum": low + more}, st.integers(-99, 99), small
    ),
    st.builds(lambda low, more: {"type": "string", "minLength": low, "maxLength": low + more}, small, small),
    st.builds(lambda values: {"enum": values}, st.lists(names | small | st.none(), min_size=1, max_size=4)),
)


def inner(parts: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[dict[str, Any]]:
    @st.composite
    def objects(draw: st.DrawFn) -> dict[str, Any]:
        properties = draw(st.dictionaries(names, parts, max_size=3))
        required = [name for name in properties if draw(st.booleans())]
        return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}

    return st.one_of(
        objects(),
        st.builds(lambda items, most: {"type": "array", "items": items, "maxItems": most}, parts, st.integers(0, 2)),
        st.builds(lambda options: {"anyOf": options}, st.lists(parts, min_size=1, max_size=3)),
    )


@settings(max_examples=5, suppress_health_check=list(HealthCheck))
@given(schemas=st.lists(st.recursive(leaves, inner, max_leaves=5), min_size=16, max_size=16))
def test_schemas_made_at_random(llava: LLM, schemas: list[dict[str, Any]]) -> None:
    found = answers(llava, [StructuredOutputs(json=schema) for schema in schemas])
    ended = [(schema, text) for schema, (text, reason) in zip(schemas, found, strict=True) if reason == "stop"]
    for schema, text in ended:
        check(schema, text)
    assert len(ended) >= len(schemas) // 2


@not_on_jax_tpu
def test_schemas_of_the_json_schema_test_suite(llava: LLM) -> None:
    """Those that are followed: what answers them is valid, by a validator that passes the suite."""
    followed: list[dict[str, Any]] = []
    for group in groups():
        with suppress(FormError):  # tests/adapters/outbound/test_json_schema_suite.py says which
            check_schema(group.schema, "json")
            llava._engine.compile(StructuredOutputs(json=group.schema))
            followed.append(group.schema)
    found = answers(llava, [StructuredOutputs(json=schema) for schema in followed], max_tokens=40)
    ended = [(schema, text) for schema, (text, reason) in zip(followed, found, strict=True) if reason == "stop"]
    for schema, text in ended:
        # 780126.4441 is a multiple of 0.0001 in decimal fractions alone; and 14e21401260, a number, is none of those.
        real = Decimal if "multipleOf" in schema else float
        exact = json.loads(json.dumps(schema), parse_float=real)
        Draft202012Validator(exact).validate(json.loads(text, parse_float=real))
    assert len(ended) > len(followed) // 2 > 70


def test_a_stop_string_within_a_form(llava: LLM) -> None:
    [(text, reason), (whole, why)] = [
        answers(llava, [StructuredOutputs(regex="(abc){4}[d-f]{2}")], **more)[0] for more in ({"stop": "cab"}, {})
    ]
    assert (text, reason) == ("ab", "stop")
    assert re.fullmatch("(abc){4}[d-f]{2}", whole)
    assert why == "stop"


def test_forms_of_cached_and_of_chunked_prompts(llava: LLM, open_llm: OpenLlm) -> None:
    """The answers of prompts computed whole, computed anew in chunks of a few tokens, and found in the cache."""
    forms = [*(StructuredOutputs(json=SCHEMAS[index]) for index in (5, 9, 11, 13)), StructuredOutputs(choice=["a"])]
    asked = (Case("The quick brown fox jumps, and then? " * 2), about(1))
    prompts = [asked[index % 2].inputs for index in range(len(forms))]
    params = [SamplingParams(temperature=0, max_tokens=40, structured_outputs=form) for form in forms]

    def ask(llm: LLM) -> list[tuple[list[int], int]]:
        outputs = llm.generate(prompts, params, use_tqdm=False)
        return [(output.outputs[0].token_ids, output.num_cached_tokens) for output in outputs]

    whole = ask(llava)
    with open_llm("clip-llama", max_num_batched_tokens=5, block_size=8) as llm:
        first, again = ask(llm), ask(llm)
    assert [ids for ids, _ in first] == [ids for ids, _ in again] == [ids for ids, _ in whole]
    assert all(num_cached > 0 for _, num_cached in again)
    assert len({tuple(ids) for ids, _ in whole}) == len(forms)


def test_other_kinds(llava: LLM) -> None:
    tag = {"structures": [{"begin": "<f>", "schema": {"const": 7}, "end": "</f>"}], "triggers": ["<f"]}
    forms = [
        StructuredOutputs(regex="^(ab|c){1,3}$"),
        StructuredOutputs(choice=["left", "right", 'a "quoted" one']),
        StructuredOutputs(grammar='start: "a" B\nB: /[0-9]{1,3}/'),
        StructuredOutputs(grammar='root ::= "yes" | "no" digit\ndigit ::= [0-9]'),
        StructuredOutputs(json_object=True),
        StructuredOutputs(structural_tag=tag),
    ]
    patterns = ["(ab|c){1,3}", 'left|right|a "quoted" one', "a[0-9]{1,3}", "yes|no[0-9]", r"\{(.|\n)*\}", r"(.|\n)*"]
    found = answers(llava, forms, n=3, logprobs=1)
    for index, (text, reason) in enumerate(found):
        assert reason == "length" or re.fullmatch(patterns[index // 3], text), text
    assert all(reason == "stop" for _, reason in found[:12])


def test_log_probabilities_are_the_models_own(llava: LLM) -> None:
    params = {"temperature": 0, "max_tokens": 1, "logprobs": 5}
    [free] = llava.generate([PROMPT], SamplingParams(**params), use_tqdm=False)
    form = StructuredOutputs(choice=["zebra"])
    [formed] = llava.generate([PROMPT], SamplingParams(**params, structured_outputs=form), use_tqdm=False)
    assert free.outputs[0].logprobs is not None
    assert formed.outputs[0].logprobs is not None
    [of_free], [of_formed] = free.outputs[0].logprobs, formed.outputs[0].logprobs
    assert set(of_free) < set(of_formed)
    assert all(of_formed[token].logprob == pytest.approx(of_free[token].logprob, abs=1e-4) for token in of_free)


def test_what_cannot_be_followed_is_said_before_anything_runs(llava: LLM) -> None:
    with pytest.raises(FormError, match=r"json cannot be followed at #/properties/a/not: the keyword not"):
        answers(llava, [StructuredOutputs(regex="a"), StructuredOutputs(json={"properties": {"a": {"not": {}}}})])
    with pytest.raises(SamplingParamsError, match=r"structured_outputs\.regex cannot be followed at character 1"):
        answers(llava, [StructuredOutputs(regex="a(")])
    assert answers(llava, [StructuredOutputs(choice=["on"])]) == [("on", "stop")]
