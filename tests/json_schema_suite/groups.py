"""The required part of the JSON-Schema-Test-Suite for draft 2020-12."""

import json
from pathlib import Path
from typing import Any, NamedTuple


class Group(NamedTuple):
    keyword: str  # the suite's file
    description: str
    schema: dict[str, Any]
    instances: list[tuple[Any, bool]]  # and whether they are valid


def groups() -> list[Group]:
    """All of them; a schema that is true or false stands in an object, as requests must have one."""
    lines = Path(__file__).with_name("draft2020-12.jsonl").read_text(encoding="utf-8").splitlines()
    found = []
    for keyword, description, schema, instances in map(json.loads, lines):
        whole = {"allOf": [schema]} if isinstance(schema, bool) else schema
        found.append(Group(keyword, description, whole, [(data, valid) for data, valid in instances]))
    return found
