"""Chat completions with the real `openai` client."""

import asyncio
import base64
import io
from pathlib import Path
from typing import Any

import numpy as np
import openai
import pytest
from PIL import Image, ImageOps
from tests.e2e.conftest import MODEL, picture
from tests.e2e.server_process import ServerProcess

NUM_IMAGE_TOKENS = 16  # of the tiny tower: 28 / 7 patches a side


def ask(text: str, image_url: str | None = None) -> list[dict[str, Any]]:
    parts: list[dict[str, Any]] = [{"type": "text", "text": text}]
    if image_url is not None:
        parts.append({"type": "image_url", "image_url": {"url": image_url, "detail": "low"}})
    return [{"role": "user", "content": parts}]


def data_url(data: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(data).decode()}"


def answer(client: openai.OpenAI, messages: list[dict[str, Any]], **fields: Any) -> Any:
    return client.chat.completions.create(model=MODEL, messages=messages, **({"max_tokens": 12} | fields))


def test_every_kind_of_picture_gives_one_answer(client: openai.OpenAI, images: str, media: Path) -> None:
    kinds = ("jpeg", "palette", "rgb", "rgba")
    urls = [f"{images}/{kind}" for kind in kinds] + [data_url(picture(kind)) for kind in kinds]
    urls.append((media / "grey.png").as_uri())
    answers = {answer(client, ask("What is this?", url)).choices[0].message.content for url in urls}
    assert len(answers) == 1
    assert answer(client, ask("What is this?", f"{images}/red")).choices[0].message.content not in answers


def test_a_picture_is_turned_once_as_its_metadata_says(client: openai.OpenAI) -> None:
    def first_token(data: bytes) -> list[tuple[str, float]]:
        chosen = answer(client, ask("What is this?", data_url(data)), max_tokens=1, logprobs=True, top_logprobs=5)
        return [(token.token, token.logprob) for token in chosen.choices[0].logprobs.content[0].top_logprobs]

    def png(image: Image.Image) -> bytes:
        file = io.BytesIO()
        image.save(file, "PNG")
        return file.getvalue()

    ramp = np.linspace(0, 255, 56, dtype=np.uint8)
    lying = Image.merge("RGB", [Image.fromarray(np.broadcast_to(part, (56, 56))) for part in (ramp, ramp[::-1], ramp)])
    exif, file = Image.Exif(), io.BytesIO()
    exif[0x0112] = 6
    lying.save(file, "JPEG", exif=exif)
    with Image.open(file) as photo:
        upright, twice = ImageOps.exif_transpose(photo), ImageOps.exif_transpose(photo).transpose(Image.ROTATE_270)
    asked = first_token(file.getvalue())
    assert asked == first_token(png(upright))
    assert asked != first_token(png(twice))


def test_bare_string_as_image_url(client: openai.OpenAI, images: str) -> None:
    messages = ask("What is this?", f"{images}/rgb")
    expected = answer(client, messages).choices[0].message.content
    messages[0]["content"][1]["image_url"] = f"{images}/rgb"
    assert answer(client, messages).choices[0].message.content == expected


def test_usage_counts_image_and_cached_tokens(client: openai.OpenAI) -> None:
    with_image = ask("Usage, please?", data_url(picture("rgb", 77)))
    plain = answer(client, ask("Usage, please?")).usage
    first, second = answer(client, with_image).usage, answer(client, with_image).usage
    assert plain.prompt_tokens_details.image_tokens == 0
    assert first.prompt_tokens_details.image_tokens == NUM_IMAGE_TOKENS
    assert first.prompt_tokens > plain.prompt_tokens + NUM_IMAGE_TOKENS
    assert second.prompt_tokens_details.cached_tokens >= 16  # a block at least
    assert first.total_tokens == first.prompt_tokens + first.completion_tokens == second.total_tokens


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"n": 3, "temperature": 1.0, "seed": 7},
        {"logprobs": True, "top_logprobs": 3},
        {"stop": ["e"]},
        {"stop": "0", "extra_body": {"include_stop_str_in_output": True}},
        {"max_tokens": 64, "temperature": 2.0, "seed": 1},  # characters of several tokens
        {"extra_body": {"ignore_eos": True, "skip_special_tokens": False, "repetition_penalty": 1.2, "top_k": 5}},
    ],
)
def test_streamed_equals_whole(client: openai.OpenAI, fields: dict[str, Any]) -> None:
    messages = ask("Tell me about it.", data_url(picture("rgb")))
    whole = answer(client, messages, **fields)
    chunks = list(answer(client, messages, stream=True, stream_options={"include_usage": True}, **fields))
    num_choices = fields.get("n", 1)
    assert len(whole.choices) == num_choices
    *said, last = chunks
    assert last.choices == []
    assert last.usage.completion_tokens == whole.usage.completion_tokens
    assert all(chunk.usage is None for chunk in said)
    for expected in whole.choices:
        mine = [chunk.choices[0] for chunk in said if chunk.choices[0].index == expected.index]
        assert mine[0].delta.role == "assistant"
        assert [choice.finish_reason for choice in mine if choice.finish_reason] == [expected.finish_reason]
        assert "".join(choice.delta.content or "" for choice in mine) == expected.message.content
        if fields.get("logprobs"):
            pieces = [choice.logprobs.content for choice in mine if choice.logprobs]
            tokens = [token for piece in pieces for token in piece]
            assert [token.token for token in tokens] == [token.token for token in expected.logprobs.content]
            # Batches of other sizes round in other places.
            logprobs = [token.logprob for token in expected.logprobs.content]
            assert [token.logprob for token in tokens] == pytest.approx(logprobs, abs=1e-4)


def test_logprobs_are_those_of_a_greedy_choice(client: openai.OpenAI) -> None:
    choice = answer(client, ask("Hello"), logprobs=True, top_logprobs=4, temperature=0).choices[0]
    for token in choice.logprobs.content:
        values = [candidate.logprob for candidate in token.top_logprobs]
        assert len(values) == 4
        assert values == sorted(values, reverse=True)
        assert token.logprob == values[0]
        assert bytes(token.bytes).decode(errors="backslashreplace") == token.token.removeprefix("bytes:")


def test_stop_string_ends_the_text(client: openai.OpenAI) -> None:
    text = answer(client, ask("Hello"), max_tokens=40).choices[0].message.content
    stop = text[3:5]
    choice = answer(client, ask("Hello"), max_tokens=40, stop=[stop]).choices[0]
    assert choice.message.content == text[: text.index(stop)]
    assert choice.finish_reason == "stop"
    assert choice.model_extra["stop_reason"] == stop


def test_seed_repeats_and_n_differ(client: openai.OpenAI) -> None:
    def texts(seed: int) -> list[str]:
        completion = answer(client, ask("Hello"), n=4, temperature=1.5, seed=seed)
        return [choice.message.content for choice in completion.choices]

    assert texts(3) == texts(3)
    assert len(set(texts(3))) > 1


def test_several_turns(client: openai.OpenAI) -> None:
    messages = [{"role": "system", "content": "Be short."}, *ask("What is this?", data_url(picture("rgb")))]
    first = answer(client, messages).choices[0].message.content
    messages += [{"role": "assistant", "content": first}, {"role": "user", "content": "And behind it?"}]
    second = answer(client, messages)
    assert second.usage.prompt_tokens_details.image_tokens == NUM_IMAGE_TOKENS
    assert second.usage.prompt_tokens_details.cached_tokens > 0
    assert second.choices[0].message.content


def test_echo_gives_the_begun_answer_back(client: openai.OpenAI) -> None:
    messages = [*ask("Hello"), {"role": "assistant", "content": "Well, "}]
    extra = {"echo": True, "add_generation_prompt": False}
    text = answer(client, messages, extra_body=extra).choices[0].message.content
    plain = answer(client, messages, extra_body=extra | {"echo": False}).choices[0].message.content
    assert text == "Well, " + plain


def test_async_client(server: ServerProcess) -> None:
    async def texts() -> list[str]:
        async with openai.AsyncOpenAI(api_key="EMPTY", base_url=f"{server.url}/v1", max_retries=0) as client:
            asked = [
                client.chat.completions.create(model=MODEL, messages=ask(f"Question {i % 2}"), max_tokens=8)
                for i in range(8)
            ]
            whole = [completion.choices[0].message.content or "" for completion in await asyncio.gather(*asked)]
            stream = await client.chat.completions.create(
                model=MODEL, messages=ask("Question 0"), max_tokens=8, stream=True
            )
            pieces = [chunk.choices[0].delta.content or "" async for chunk in stream]
        return [*whole, "".join(pieces)]

    found = asyncio.run(texts())
    assert len(set(found)) == 2
    assert found[8] == found[0]


def test_request_id_is_given_back(client: openai.OpenAI) -> None:
    raw = client.chat.completions.with_raw_response.create(
        model=MODEL, messages=ask("Hi"), max_tokens=1, extra_headers={"x-request-id": "my-id.1"}
    )
    assert raw.headers["x-request-id"] == "my-id.1"
    assert raw.parse().id == "chatcmpl-my-id.1"


def test_unknown_fields_are_ignored_and_logged_and_prompts_are_not(
    client: openai.OpenAI, server: ServerProcess
) -> None:
    answer(client, ask("A very secret sentence."), max_tokens=1, extra_body={"frobnicate": 1})
    assert "'frobnicate'" in server.log
    assert "secret" not in server.log


def test_token_ids_and_what_the_prompt_could_have_been(client: openai.OpenAI) -> None:
    messages: Any = ask("What is this?", data_url(picture("rgb", (200, 10, 10))))
    fields: dict[str, Any] = {"model": MODEL, "messages": messages, "max_tokens": 6, "temperature": 0}
    extra = {"return_token_ids": True, "prompt_logprobs": 2}
    whole = client.chat.completions.create(**fields, n=2, extra_body=extra)
    tokenized: Any = client.post("/tokenize", body={"messages": messages}, cast_to=object)
    assert whole.model_extra["prompt_token_ids"] == tokenized["tokens"]
    first, *others = whole.model_extra["prompt_logprobs"]
    assert first is None
    for token_id, candidates in zip(tokenized["tokens"][1:], others, strict=True):
        assert {candidate["rank"] for candidate in candidates.values()} >= {1, 2}
        assert candidates[str(token_id)]["logprob"] <= max(each["logprob"] for each in candidates.values())
    for choice in whole.choices:
        text: Any = client.post("/detokenize", body={"tokens": choice.model_extra["token_ids"]}, cast_to=object)
        assert text["prompt"] == choice.message.content
    chunks = list(client.chat.completions.create(**fields, stream=True, extra_body={"return_token_ids": True}))
    assert chunks[0].model_extra["prompt_token_ids"] == tokenized["tokens"]
    assert all("prompt_token_ids" not in chunk.model_extra for chunk in chunks[1:])
    streamed = [chunk.choices[0].model_extra.get("token_ids", []) for chunk in chunks]
    assert [token_id for ids in streamed for token_id in ids] == whole.choices[0].model_extra["token_ids"]
    with pytest.raises(openai.BadRequestError, match="not told in a stream"):
        client.chat.completions.create(**fields, stream=True, extra_body=extra)
    plain = client.chat.completions.create(**fields)
    assert not {"prompt_token_ids", "prompt_logprobs"} & plain.model_extra.keys()


def test_prompt_logprobs_are_those_of_a_text_completion(client: openai.OpenAI) -> None:
    extra = {"prompt_logprobs": 1, "return_token_ids": True}
    messages: Any = [{"role": "user", "content": "The quick brown fox"}]
    chat = client.chat.completions.create(model=MODEL, messages=messages, max_tokens=1, extra_body=extra)
    ids = chat.model_extra["prompt_token_ids"]
    [text] = client.completions.create(model=MODEL, prompt=ids, max_tokens=1, extra_body=extra).choices
    for one, other in zip(
        chat.model_extra["prompt_logprobs"][1:], text.model_extra["prompt_logprobs"][1:], strict=True
    ):
        assert {key: value["logprob"] for key, value in one.items()} == pytest.approx(
            {key: value["logprob"] for key, value in other.items()}, abs=1e-4
        )
