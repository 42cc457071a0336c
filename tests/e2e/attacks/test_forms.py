"""Forms of answers that are short to write, and long to follow."""

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from tests.e2e.attacks.process_tree import tree_bytes
from tests.e2e.attacks.promise import MODEL, besiege, http_post, promise_kept, send
from tests.e2e.server_process import ServerProcess


def asking(**form: Any) -> bytes:
    """A request for an answer of a form, in one token."""
    return http_post(
        "/v1/completions",
        json.dumps({"model": MODEL, "prompt": "Hello", "max_tokens": 1} | form).encode(),
        "Connection: close",
    )


def chain(number: int, kind: str) -> dict[str, Any]:
    """A schema of 1,600 definitions, each of which leads to the next."""
    definitions: dict[str, Any] = {"1600": {"type": "integer"}}
    for index in range(1600):
        reference = {"$ref": f"#/$defs/{index + 1}"}
        definitions[str(index)] = {"properties": {"a": reference}} if kind == "object" else {kind: [reference]}
    return {"title": str(number), "$ref": "#/$defs/0", "$defs": definitions}


def primes(number: int) -> dict[str, Any]:
    factors = [{"type": "integer", "multipleOf": prime} for prime in (9973, 9967)]
    return {"title": str(number), "allOf": factors}


def rules(number: int, name: str) -> str:
    return "\n".join(
        [
            f"start: {name}0",
            *(f'{name}{index}: "a" {name}{index + 1}' for index in range(8000)),
            f'{name}8000: "{number}"',
        ]
    )


FORMS: dict[str, Callable[[int], bytes]] = {
    "1,600 objects in a row": lambda number: asking(guided_json=chain(number, "object")),
    "1,600 times allOf in a row": lambda number: asking(guided_json=chain(number, "allOf")),
    "8,000 rules in a row": lambda number: asking(guided_grammar=rules(number, "r")),
    "8,000 terminals in a row": lambda number: asking(guided_grammar=rules(number, "R")),
    "products of primes": lambda number: asking(guided_json=primes(number)),
    "86,000 classes of Unicode": lambda number: asking(guided_regex=f"{number}" + r"\pL\PL" * 43_000),
}


@pytest.mark.parametrize("attack", FORMS)
def test_what_cannot_be_compiled(demo: ServerProcess, attack: str) -> None:
    """Twelve at once, as a dozen of them ended the server when one ended the engine."""
    with promise_kept(demo, f"12 forms of {attack}"), ThreadPoolExecutor(12) as attackers:
        statuses = [status for status, _ in attackers.map(lambda number: send(demo, FORMS[attack](number)), range(12))]
    assert set(statuses) == {400}


def test_who_has_left_is_not_waited_for(demo: ServerProcess) -> None:
    """Forty that each take the compiler a second; others' forms come when it has ended those that it had begun."""
    requests = [asking(guided_json=primes(number)) for number in range(40)]
    with promise_kept(demo, "40 forms whose clients left"):
        besiege(demo, requests, within_s=0.5)
        assert send(demo, asking(guided_choice=["yes", "no"]), timeout_s=15)[0] == 200


@pytest.mark.attack
def test_large_forms_in_use(demo: ServerProcess) -> None:
    """Each takes some 80 MiB compiled, and answers that go on for long hold them."""
    requests = [
        asking(guided_regex=f"{number}" + r"\pL\PL" * 3000, max_tokens=500, ignore_eos=True) for number in range(24)
    ]
    with promise_kept(demo, "24 forms of 80 MiB each"):
        statuses = besiege(demo, requests)
    print("statuses:", {status: statuses.count(status) for status in set(statuses)})
    assert set(statuses) <= {200, 400}


@pytest.mark.attack
@pytest.mark.parametrize(
    "form",
    [
        {"guided_grammar": 'start: e\ne: e e | "a" | /[a-z ]/ | /[a-y ]/\n'},
        {"guided_grammar": "start: x*\nx: " + " | ".join(f"/[a-z ]{{1,{number}}}/" for number in range(1, 100))},
        {"guided_regex": r"(\w|\s|\pL){0,2000}x"},
        {
            "guided_json": {
                "properties": {str(n): {"type": "string", "pattern": "^(a|b|ab|[a-z]+)*$"} for n in range(200)}
            }
        },
    ],
    ids=["an ambiguous grammar", "99 expressions at once", "a long expression", "200 patterns"],
)
def test_forms_that_take_long_to_follow(
    demo: ServerProcess, form: dict[str, Any], request: pytest.FixtureRequest
) -> None:
    """What may come next takes up to 60 ms a token in the first."""
    asked = asking(**form, n=128, max_tokens=300, temperature=1.5, ignore_eos=True)
    with promise_kept(demo, f"{request.node.callspec.id}, twice 128 times"):
        statuses = besiege(demo, [asked] * 2, within_s=20)
    assert set(statuses) <= {200, 400}


@pytest.mark.attack
def test_forms_that_grow_while_they_are_followed(demo: ServerProcess) -> None:
    """By 47 MiB each within 24 tokens, if nothing bounded what their lexers find out."""
    pattern = r"(([ -~]*[a-m][ -~]{400})|([ -~]*[g-z][ -~]{300})|([ -~]*[ -z][ -~]{350}))"
    requests = [asking(guided_regex=f"{n}{pattern}", n=8, max_tokens=100, temperature=1.5) for n in range(100, 160)]
    with promise_kept(demo, "60 forms that grow"), ThreadPoolExecutor(12) as attackers:
        statuses = [status for status, _ in attackers.map(lambda request: send(demo, request), requests)]
    assert set(statuses) <= {200, 400}


@pytest.mark.attack
def test_refusals_leave_nothing_behind(demo: ServerProcess) -> None:
    """Two rounds, of which the second needs no more memory."""
    request = asking(guided_regex="(?=a)b", n=128)

    def ask(_: int) -> int:
        return send(demo, request)[0]

    with ThreadPoolExecutor(4) as attackers:
        assert set(attackers.map(ask, range(600))) == {400}
        first_bytes = tree_bytes(demo.process.pid)
        with promise_kept(demo, "1,200 forms that are refused, n = 128"):
            assert set(attackers.map(ask, range(1200))) == {400}
        growth = tree_bytes(demo.process.pid) - first_bytes
    assert growth < 64 << 20, growth
