"""Text completions, tokenising, and what the server says of itself."""

import json
import urllib.request
from importlib.metadata import version
from typing import Any

import openai
import pytest
from tests.e2e.conftest import MODEL, picture
from tests.e2e.server_process import ServerProcess
from tests.e2e.test_chat import NUM_IMAGE_TOKENS, ask, data_url
from tests.e2e.test_errors import check_error, post
from transformers import AutoTokenizer


@pytest.mark.parametrize("fields", [{}, {"n": 2, "temperature": 1.0, "seed": 1}, {"echo": True, "logprobs": 2}])
def test_completions_streamed_equals_whole(client: openai.OpenAI, fields: dict[str, Any]) -> None:
    prompts = ["The quick brown", "How many circles"]
    whole = client.completions.create(model=MODEL, prompt=prompts, max_tokens=8, **fields)
    chunks = list(client.completions.create(model=MODEL, prompt=prompts, max_tokens=8, stream=True, **fields))
    assert [choice.index for choice in whole.choices] == list(range(2 * fields.get("n", 1)))
    for expected in whole.choices:
        mine = [chunk.choices[0] for chunk in chunks if chunk.choices[0].index == expected.index]
        assert "".join(choice.text for choice in mine) == expected.text
        assert [choice.finish_reason for choice in mine if choice.finish_reason] == [expected.finish_reason]
        if "logprobs" in fields:
            for name in ("tokens", "token_logprobs", "top_logprobs", "text_offset"):
                pieces = [value for choice in mine for value in getattr(choice.logprobs, name)]
                for piece, value in zip(pieces, getattr(expected.logprobs, name), strict=True):
                    assert piece == pytest.approx(value)  # batches of other sizes round in other places


def test_echo_has_the_prompt_and_its_logprobs(client: openai.OpenAI, checkpoint: Any) -> None:
    [choice] = client.completions.create(
        model=MODEL, prompt="The quick brown", max_tokens=2, echo=True, logprobs=1
    ).choices
    num_prompt_tokens = len(AutoTokenizer.from_pretrained(checkpoint)("The quick brown").input_ids)
    assert choice.text.startswith("The quick brown")
    assert len(choice.logprobs.tokens) == num_prompt_tokens + 2
    assert choice.logprobs.token_logprobs[0] is None
    assert all(value < 0 for value in choice.logprobs.token_logprobs[1:])


def test_no_tokens_but_the_prompt_and_its_logprobs(client: openai.OpenAI) -> None:
    fields: dict[str, Any] = {"model": MODEL, "prompt": "The quick brown", "echo": True, "logprobs": 1}
    scored = client.completions.create(max_tokens=0, **fields)
    [longer] = client.completions.create(max_tokens=1, **fields).choices
    [choice] = scored.choices
    assert (choice.text, choice.finish_reason, scored.usage.completion_tokens) == ("The quick brown", "length", 0)
    assert choice.logprobs.tokens == longer.logprobs.tokens[:-1]
    assert choice.logprobs.token_logprobs[1:] == pytest.approx(longer.logprobs.token_logprobs[1:-1])
    chunks = [chunk.choices[0] for chunk in client.completions.create(max_tokens=0, stream=True, **fields)]
    assert ("".join(chunk.text for chunk in chunks), chunks[-1].finish_reason) == (choice.text, "length")


def test_a_slash_at_the_end_counts_for_nothing(server: ServerProcess) -> None:
    body = {"model": MODEL, "prompt": "The quick brown", "max_tokens": 4, "temperature": 0}
    answers = [post(server, path, body) for path in ("/v1/completions", "/v1/completions/")]
    assert [status for status, _ in answers] == [200, 200]
    assert answers[0][1]["choices"] == answers[1][1]["choices"]
    assert server.get("/health/")[0] == server.get("/v1/models/")[0] == 200


def test_what_platforms_ask(server: ServerProcess, checkpoint: Any) -> None:
    assert server.get("/ping")[0] == post(server, "/ping", {})[0] == 200
    assert json.loads(server.get("/load")[1])["server_load"] >= 0
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    info = json.loads(server.get("/tokenizer_info")[1])
    assert info["vocab_size"] >= len(tokenizer)  # ids that no token has may be among them
    assert info["chat_template"] == tokenizer.chat_template
    assert info["eos_token_ids"] == [tokenizer.eos_token_id]
    _, counted = post(server, "/tokenize", {"prompt": "The quick brown"})
    assert counted["tokens"] == tokenizer("The quick brown").input_ids
    assert post(server, "/detokenize", {"tokens": counted["tokens"]})[1]["prompt"] == tokenizer.decode(
        counted["tokens"]
    )


def test_openmetrics_where_that_is_asked_for(server: ServerProcess) -> None:
    request = urllib.request.Request(server.url + "/metrics", headers={"Accept": "application/openmetrics-text"})
    with urllib.request.urlopen(request, timeout=30) as response:
        assert response.headers["content-type"].startswith("application/openmetrics-text")
        text = response.read().decode()
    assert text.endswith("# EOF\n")
    assert f'aphrodite:num_requests_running{{model_name="{MODEL}"}}' in text
    assert "_created" not in text


def test_fields_that_ask_for_nothing_more(server: ServerProcess) -> None:
    """Each gives the answer that comes without it."""
    body = {"model": MODEL, "prompt": "The quick brown", "max_tokens": 4, "temperature": 0}
    expected = post(server, "/v1/completions", body)[1]["choices"]
    for more in (
        {"stop": ""},
        {"best_of": 1},
        {"n": 1, "best_of": 1},
        {"store": True, "metadata": {"a": "b"}},
        {"stream_options": {"include_usage": True}},
        {"priority": 3},
    ):
        status, answer = post(server, "/v1/completions", body | more)
        assert (status, answer.get("choices")) == (200, expected), more


def test_a_request_s_own_id(server: ServerProcess) -> None:
    body = {"model": MODEL, "prompt": "Hi", "max_tokens": 1, "request_id": "mine-1", "stream_options": {}}
    request = urllib.request.Request(server.url + "/v1/completions", json.dumps(body).encode())
    with urllib.request.urlopen(request, timeout=30) as response:
        assert json.load(response)["id"] == "cmpl-mine-1"
        assert response.headers["x-request-id"] == "mine-1"
        assert response.headers["x-aphrodite-ignored"] == "stream_options"


def test_token_ids(server: ServerProcess, client: openai.OpenAI, checkpoint: Any) -> None:
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    fields: Any = {"model": MODEL, "prompt": "The quick brown", "max_tokens": 4, "temperature": 0}
    more = {"return_token_ids": True}
    [whole] = client.completions.create(**fields, extra_body=more).choices
    assert whole.prompt_token_ids == tokenizer("The quick brown").input_ids
    assert len(whole.token_ids) == 4
    assert whole.text in tokenizer.decode(whole.token_ids)
    chunks = [chunk.choices[0] for chunk in client.completions.create(**fields, stream=True, extra_body=more)]
    assert chunks[0].prompt_token_ids == whole.prompt_token_ids
    assert [token_id for chunk in chunks for token_id in chunk.token_ids] == whole.token_ids
    assert not hasattr(client.completions.create(**fields).choices[0], "token_ids")


def test_log_probabilities_of_a_prompt(client: openai.OpenAI) -> None:
    fields: Any = {"model": MODEL, "prompt": "The quick brown", "max_tokens": 1, "temperature": 0}
    [choice] = client.completions.create(**fields, extra_body={"prompt_logprobs": 2, "return_token_ids": True}).choices
    [echoed] = client.completions.create(**fields, echo=True, logprobs=2).choices
    first, *others = choice.prompt_logprobs
    assert first is None
    for token_id, candidates, expected in zip(
        choice.prompt_token_ids[1:], others, echoed.logprobs.token_logprobs[1:-1], strict=True
    ):
        assert candidates[str(token_id)]["logprob"] == pytest.approx(expected)
        assert {1, 2} <= {candidate["rank"] for candidate in candidates.values()}
    with pytest.raises(openai.BadRequestError, match="not told in a stream"):
        client.completions.create(**fields, stream=True, extra_body={"prompt_logprobs": 2})


def test_values_that_others_allow(server: ServerProcess) -> None:
    prompt = {"model": MODEL, "prompt": [1.0] + [5] * 1100, "max_tokens": 6.0, "top_p": 0, "ignore_eos": True}
    status, body = post(server, "/v1/completions", prompt)
    assert (status, body["usage"]["prompt_tokens"], body["usage"]["completion_tokens"]) == (200, 1101, 6)
    refusal = [{"type": "refusal", "refusal": "I cannot."}]
    messages = [{"role": "assistant", "content": refusal, "refusal": "No."}, {"role": "user", "content": "Why?"}]
    assert post(server, "/v1/chat/completions", {"model": MODEL, "messages": messages, "max_tokens": 2})[0] == 200
    nothing = {"model": MODEL, "messages": [{"role": "user", "content": []}]}
    check_error(
        post(server, "/v1/chat/completions", nothing), 400, "a list of length of at least 1", "messages[0].content"
    )
    no_tokens = {"model": MODEL, "prompt": "x", "max_tokens": 0}
    check_error(post(server, "/v1/completions", no_tokens), 400, "max_tokens must be", "max_tokens")


def test_token_ids_are_prompts_too(client: openai.OpenAI, checkpoint: Any) -> None:
    ids = AutoTokenizer.from_pretrained(checkpoint)("The quick brown").input_ids
    texts = {
        client.completions.create(model=MODEL, prompt=prompt, max_tokens=8).choices[0].text
        for prompt in ("The quick brown", ids, [ids])
    }
    assert len(texts) == 1


def test_default_of_completions_is_16_tokens(client: openai.OpenAI) -> None:
    done = client.completions.create(model=MODEL, prompt="Hello", extra_body={"ignore_eos": True})
    assert done.usage.completion_tokens == 16


def test_bad_prompts(server: ServerProcess) -> None:
    for prompt, part in ((["a", 1], "token ids"), ([], "prompt must"), ([10**6], "outside")):
        status, body = post(server, "/v1/completions", {"model": MODEL, "prompt": prompt})
        assert status == 400
        assert part in body["error"]["message"]


def test_tokenize_and_back(server: ServerProcess, checkpoint: Any) -> None:
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    text = "A naïve café, £3.50."
    _, found = post(server, "/v1/tokenize", {"prompt": text})
    assert found["tokens"] == tokenizer(text).input_ids
    assert found["count"] == len(found["tokens"])
    assert found["max_model_len"] == 4096
    _, back = post(server, "/v1/detokenize", {"tokens": found["tokens"]})
    assert back["prompt"] == tokenizer.decode(found["tokens"])
    _, literal = post(server, "/v1/tokenize", {"prompt": "<image>"})
    assert literal["count"] > 1
    check_error(post(server, "/v1/tokenize", {}), 400, "Either prompt or messages", "prompt")


def test_tokenize_counts_the_image(server: ServerProcess, client: openai.OpenAI) -> None:
    messages = ask("What is this?", data_url(picture("rgb")))
    _, found = post(server, "/v1/tokenize", {"messages": messages})
    assert found["image_tokens"] == NUM_IMAGE_TOKENS
    usage = client.chat.completions.create(model=MODEL, messages=messages, max_tokens=1).usage  # type: ignore[arg-type]
    assert usage is not None
    assert found["count"] == usage.prompt_tokens


def test_information(server: ServerProcess, client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == [MODEL, "llava-hf/llava-1.5-7b-hf"]
    assert client.models.retrieve("llava-hf/llava-1.5-7b-hf").id == "llava-hf/llava-1.5-7b-hf"
    assert server.get("/health") == (200, '{"status":"ok"}')
    assert json.loads(server.get("/version")[1]) == {"version": version("aphrodite-vlm")}
    _, metrics = server.get("/metrics")
    for name in ("num_requests_running", "time_to_first_token_seconds_bucket", "kv_cache_usage_perc"):
        assert f"aphrodite:{name}" in metrics


def test_the_longest_prompt_is_answered_and_a_longer_one_refused(server: ServerProcess) -> None:
    for num_tokens in (4095, 4096, 1_000_000):
        status, body = post(server, "/v1/completions", {"model": MODEL, "prompt": [[10] * num_tokens], "max_tokens": 1})
        if num_tokens < 4096:
            assert (status, body["usage"]["total_tokens"]) == (200, 4096)
        else:
            assert status == 400
            assert (
                f"length is 4096 tokens. However, you requested {num_tokens + 1} tokens (" in body["error"]["message"]
            )


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/completions", {"prompt": "the picture " * 500_000}),
        ("/v1/completions", {"prompt": "the picture " * 5_000}),
        ("/v1/tokenize", {"prompt": "the picture " * 500_000}),
        ("/v1/detokenize", {"tokens": [10] * 1_000_000}),
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": "the picture " * 500_000}]}),
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": "the picture " * 5_000}]}),
    ],
)
def test_what_is_far_too_long_is_refused_before_it_is_read(
    server: ServerProcess, path: str, body: dict[str, Any]
) -> None:
    status, answer = post(server, path, {"model": MODEL} | body)
    assert status == 400
    assert answer["error"]["code"] == "context_length_exceeded"
    assert "maximum context length is 4096 tokens. However, you requested " in answer["error"]["message"]


def test_every_candidate_has_a_key_and_every_token_its_place(client: openai.OpenAI) -> None:
    """The tiny model's answers are mostly bytes that are no characters."""
    prompt = "A naïve café 🙂, £3.50"
    fields: dict[str, Any] = {"model": MODEL, "prompt": prompt, "max_tokens": 24, "echo": True, "logprobs": 20}
    [choice] = client.completions.create(**fields).choices
    logprobs = choice.logprobs
    assert logprobs is not None
    assert all(len(top) >= 20 for top in logprobs.top_logprobs[1:])
    assert logprobs.tokens[0] == "<s>"
    assert logprobs.text_offset[:2] == [0, 0]
    ends = [*logprobs.text_offset[1:], len(choice.text)]
    for token, start, end in zip(logprobs.tokens, logprobs.text_offset, ends, strict=True):
        if not token.startswith("bytes:") and start != end:
            assert choice.text[start:end].endswith(token.lstrip())


def test_bytes_of_log_probabilities_are_the_tokens_own(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        model=MODEL,
        messages=ask("Hello"),  # type: ignore[arg-type]
        max_tokens=32,
        logprobs=True,
        top_logprobs=20,
        extra_body={"ignore_eos": True},
    )
    [choice] = answer.choices
    assert choice.logprobs is not None
    pieces = [top for token in choice.logprobs.content or [] for top in token.top_logprobs]
    assert any(piece.token.startswith("bytes:") and len(piece.bytes or []) == 1 for piece in pieces)
    assert [239, 191, 189] not in [piece.bytes for piece in pieces]


def test_what_would_be_too_many_choices_is_refused(server: ServerProcess) -> None:
    body = {"model": MODEL, "prompt": ["Hello"] * 256, "n": 16, "echo": True}
    check_error(post(server, "/v1/completions", body), 400, "256 prompts with n = 16 ask for 4096 choices", "n")
    body = {"model": MODEL, "prompt": [[10] * 3000] * 16, "echo": True, "logprobs": 20}
    check_error(post(server, "/v1/completions", body), 400, "1008000 log-probabilities of prompt tokens", "logprobs")
    body = {"model": MODEL, "prompt": "Hello", "stop": ["x" * 3_000_000]}
    check_error(post(server, "/v1/completions", body), 400, "at most 8192 characters in all", "stop")
