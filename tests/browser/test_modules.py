"""The page's modules by themselves, in Chromium, on inputs that hypothesis makes."""

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from playwright.sync_api import Page

pytestmark = pytest.mark.browser
some = settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck))

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)


def module(page: Page, name: str, function: str, argument: Any) -> Any:
    return page.evaluate(
        f"async (given) => {{ const module = await import('/playground/{name}'); {function} }}", argument
    )


@given(data=st.data())
@some
def test_every_token_gets_its_part_of_the_text(page: Page, data: st.DataObject) -> None:
    """Tokens of any bytes, text that comes late, and ends of sequence that have none."""
    text = data.draw(TEXTS)
    whole = text.encode()
    cuts = sorted(data.draw(st.sets(st.integers(1, max(1, len(whole) - 1)), max_size=6)) if len(whole) > 1 else [])
    pieces = [whole[start:end] for start, end in zip([0, *cuts], [*cuts, len(whole)], strict=True)] if whole else []
    tokens = [{"token": piece.decode(errors="replace"), "bytes": list(piece), "logprob": -1} for piece in pieces]
    steps, seen = [], 0
    for index in range(len(pieces)):
        sure = b"".join(pieces[: index + 1]).decode(errors="ignore")
        until = data.draw(st.integers(seen, len(sure)))
        steps.append([text[seen:until], [tokens[index]]])
        seen = until
    steps.append([text[seen:], [{"token": "</s>", "bytes": list(b"</s>"), "logprob": -1}]])
    run = """
        const aligner = new module.TokenAligner();
        const pieces = given.flatMap(([text, tokens]) => aligner.push(text, tokens));
        return [...pieces, ...aligner.end()];
    """
    shown = module(page, "tokens.js", run, steps)
    assert "".join(piece["text"] for piece in shown if not piece["isSpecial"]) == text
    assert [token["bytes"] for piece in shown for token in piece["tokens"]] == [*map(list, pieces), list(b"</s>")]
    assert [piece["text"] for piece in shown if piece["isSpecial"]] == ["</s>"]


@given(events=st.lists(st.dictionaries(TEXTS, TEXTS, max_size=2), max_size=4), data=st.data())
@some
def test_events_are_read_however_they_are_cut(page: Page, events: list[dict[str, str]], data: st.DataObject) -> None:
    stream = "".join(f"data: {json.dumps(event)}\n\n" for event in events).encode()
    cuts = sorted(data.draw(st.sets(st.integers(0, len(stream)), max_size=5)))
    parts = [list(stream[start:end]) for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    run = """
        const stream = new ReadableStream({start(controller) {
            for (const part of given) controller.enqueue(new Uint8Array(part));
            controller.close();
        }});
        return Array.fromAsync(module.events(stream));
    """
    assert [json.loads(event) for event in module(page, "server.js", run, parts)] == events


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        (None, {"First token": "120 ms", "In all": "2.12 s"}),
        (
            {"prompt_tokens": 80, "completion_tokens": 11, "prompt_tokens_details": {"image_tokens": 64}},
            {"Tokens": "11", "Tokens/s": "5.0", "Image tokens": "64", "Prompt tokens": "80"},
        ),
    ],
)
def test_figures(page: Page, usage: Any, expected: dict[str, str]) -> None:
    times = {"start": 0, "first": 120, "end": 2120}
    rows = dict(module(page, "figures.js", "return module.figures(given[0], given[1], 'stop');", [times, usage]))
    assert expected.items() <= rows.items()
