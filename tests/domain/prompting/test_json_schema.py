from typing import Any

import pytest

from aphrodite.domain.errors import FormError
from aphrodite.domain.prompting.json_schema import check_schema, parse_object

REFUSED: list[tuple[Any, str]] = [
    ({"type": "objekt"}, "at #/type: there must be a type or a list of types out of array, boolean"),
    ({"properties": {"a/b": {"not": {}}}}, "at #/properties/a~1b/not: the keyword not is not supported"),
    ({"items": {"uniqueItems": True}}, "at #/items/uniqueItems: the keyword uniqueItems"),
    ({"anyOf": [{}, {"if": {}}]}, "at #/anyOf/1/if: the keyword if"),
    ({"anyOf": []}, "at #/anyOf: there must be a list of schemas"),
    ({"properties": []}, "at #/properties: there must be an object of schemas"),
    ({"properties": {"a": 5}}, "at #/properties/a: a schema must be an object, true or false"),
    ({"items": [{}]}, "at #/items: a list of schemas is not supported; write it as prefixItems"),
    ({"enum": []}, "at #/enum: there must be a list of 1 to"),
    ({"enum": list(range(20_000))}, "at #/enum: there must be a list of 1 to 5000 values"),
    ({"properties": {str(index): True for index in range(401)}}, "at #/properties: an object has more than 400"),
    ({"required": "a"}, "at #/required: there must be a list of strings"),
    ({"pattern": 5}, "at #/pattern: there must be a string"),
    ({"format": "credit-card"}, "at #/format: there must be one of the formats date, date-time"),
    ({"minLength": -1}, "at #/minLength: there must be an integer of at least 0"),
    ({"maximum": "5"}, "at #/maximum: there must be a number"),
    ({"multipleOf": 0}, "at #/multipleOf: there must be a number above 0"),
    ({"$ref": "https://example.com/schema"}, r"at #/\$ref: a reference must lead to a place in this schema"),
    ({"$ref": "#/$defs/missing"}, r"at #/\$ref: the reference leads nowhere"),
    ({"$ref": "#/$defs/a", "$defs": {"a": 5}}, r"at #/\$ref: there must be a reference to a schema"),
]


@pytest.mark.parametrize(("schema", "sentence"), REFUSED)
def test_what_cannot_be_followed_is_named_with_its_place(schema: Any, sentence: str) -> None:
    with pytest.raises(FormError, match=f"^the_field cannot be followed {sentence}"):
        check_schema(schema, "the_field")


def test_what_is_an_annotation_or_of_another_draft_is_taken() -> None:
    schema = {
        "$schema": "http://json-schema.org/draft-04/schema#",
        "title": "A thing",
        "x-order": ["a"],
        "discriminator": {"propertyName": "a"},
        "minimum": 0,
        "exclusiveMinimum": True,
        "properties": {"not": True, "if": {"$ref": "#/definitions/~1"}},
        "definitions": {"/": {"$ref": "#"}},
    }
    check_schema(schema, "the_field")


def test_depth_and_number_are_bounded() -> None:
    deep: dict[str, Any] = {}
    for _ in range(65):
        deep = {"items": deep}
    with pytest.raises(FormError, match="nested more than 64 deep"):
        check_schema(deep, "the_field")
    with pytest.raises(FormError, match="more than 5000 schemas"):
        check_schema({"$defs": {str(index): True for index in range(20_000)}}, "the_field")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ('{"a":\n  ]}', "is not valid JSON: see line 2, column 3"),
        ('{"a": NaN}', "is not valid JSON"),
        ("[]", "must be a JSON object"),
        ('{"a":' * 100_000, "is nested too deeply"),
    ],
)
def test_text_that_is_no_schema(text: str, sentence: str) -> None:
    with pytest.raises(FormError, match=f"^the_field {sentence}"):
        parse_object(text, "the_field")
