"""Forms that take too much, in real processes."""

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from aphrodite.adapters.outbound.grammars.checks import FormChecks
from aphrodite.adapters.outbound.huggingface.tokenizer import HuggingFaceTokenizer
from aphrodite.bootstrap import open_model
from aphrodite.domain.config import EngineConfig
from aphrodite.domain.errors import FormError, WorkerError
from aphrodite.domain.prompting.structured_outputs import StructuredOutputs


@pytest.fixture(scope="module")
def tokenizer() -> HuggingFaceTokenizer:
    return open_model(EngineConfig(model="demo")).tokenizer


@pytest.fixture(scope="module")
def checks(tokenizer: HuggingFaceTokenizer) -> Iterator[FormChecks]:
    made = FormChecks(tokenizer.definition, tokenizer.vocab_size, sorted(tokenizer.eos_token_ids))
    yield made
    made.close()


def chain(length: int, link: str) -> dict[str, Any]:
    """A schema of so many definitions, each of which refers to the next."""
    definitions: dict[str, Any] = {str(length): {"type": "integer"}}
    for index in range(length):
        reference = {"$ref": f"#/$defs/{index + 1}"}
        definitions[str(index)] = {
            "object": {"type": "object", "properties": {"a": reference}, "required": ["a"]},
            "anyOf": {"anyOf": [reference, {"type": "null"}]},
            "allOf": {"allOf": [reference]},
            "$ref": reference,
        }[link]
    return {"$ref": "#/$defs/0", "$defs": definitions}


def rules(length: int, first: str, name: str, is_a: str) -> str:
    lines = [first + f"{name}0"]
    lines += [f'{name}{index}{is_a} "a" {name}{index + 1}' for index in range(length)]
    return "\n".join([*lines, f'{name}{length}{is_a} "b"'])


TOO_MUCH = {
    "1,600 objects in a row": StructuredOutputs(json=chain(1600, "object")),
    "1,600 times anyOf in a row": StructuredOutputs(json=chain(1600, "anyOf")),
    "1,600 times allOf in a row": StructuredOutputs(json=chain(1600, "allOf")),
    "4,900 references in a row": StructuredOutputs(json=chain(4900, "$ref")),
    "8,000 rules in a row": StructuredOutputs(grammar=rules(8000, "start: ", "r", ":")),
    "8,000 rules of GBNF in a row": StructuredOutputs(grammar=rules(8000, "root ::= ", "r", " ::=")),
    "4,000 terminals in a row": StructuredOutputs(grammar=rules(4000, "start: ", "T", ":")),
    "a product of two primes": StructuredOutputs(
        json={"allOf": [{"type": "integer", "multipleOf": 9973}, {"type": "integer", "multipleOf": 9967}]}
    ),
    "86,000 classes of Unicode": StructuredOutputs(regex=r"\pL\PL" * 43_000),
}


@pytest.mark.parametrize("what", TOO_MUCH)
def test_what_takes_too_much_is_refused(checks: FormChecks, what: str, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(FormError, match="takes too much time or memory to compile, or leads through too many"):
        checks.run(TOO_MUCH[what])
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("link", ["object", "anyOf", "allOf", "$ref"])
def test_chains_that_people_may_write(checks: FormChecks, link: str) -> None:
    assert checks.run(StructuredOutputs(json=chain(100, link))).num_bytes < 2**25


def test_what_a_form_takes_is_counted(checks: FormChecks) -> None:
    small, large = (checks.run(StructuredOutputs(regex=r"\pL\PL" * number)).num_bytes for number in (1, 1000))
    assert large - small > 2**23


def test_a_nursery_that_was_lost_is_started_again(checks: FormChecks) -> None:
    checks.run(StructuredOutputs(json_object=True))
    assert checks._nursery is not None
    os.kill(checks._nursery._process.pid, signal.SIGKILL)
    checks._nursery._process.wait()
    checks.run(StructuredOutputs(json_object=True))


def test_without_processes_nothing_can_be_told(
    tokenizer: HuggingFaceTokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise BlockingIOError

    checks = FormChecks(tokenizer.definition, tokenizer.vocab_size, sorted(tokenizer.eos_token_ids))
    with monkeypatch.context() as patch:
        patch.setattr(subprocess, "Popen", refuse)
        with pytest.raises(WorkerError):
            checks.run(StructuredOutputs(json_object=True))
    checks.run(StructuredOutputs(json=json.dumps({"type": "null"})))
    checks.close()
