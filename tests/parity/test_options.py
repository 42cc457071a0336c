"""Sampling options against transformers' `generate` with the same options, or a replay of them over its logits."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.parity.cases import IMAGE_CASES, TEXT_CASES, Case, about
from tests.parity.fixture_types import Folders, OpenLlm, References
from tests.parity.reference import Reference
from transformers import LogitsProcessor, LogitsProcessorList

from aphrodite import LLM, CompletionOutput, SamplingParams, bootstrap
from aphrodite.domain.config import EngineConfig
from aphrodite.domain.errors import ConfigError

CASES = (*IMAGE_CASES, *TEXT_CASES)
MAX_TOKENS = 12


def ask(llm: LLM, cases: tuple[Case, ...], **options: Any) -> list[CompletionOutput]:
    params = SamplingParams(temperature=0, max_tokens=MAX_TOKENS, **options)
    return [out.outputs[0] for out in llm.generate([case.inputs for case in cases], params, use_tqdm=False)]


def theirs(reference: Reference, case: Case, **options: Any) -> list[int]:
    return reference.generate(case.prompt, case.image, max_new_tokens=MAX_TOKENS, **options).token_ids


@pytest.mark.parametrize("penalty", [0.5, 1.3, 4.0])
@pytest.mark.parametrize("name", ["clip-llama", "siglip-qwen3"])
def test_repetition_penalty(name: str, penalty: float, open_llm: OpenLlm, reference: References) -> None:
    with open_llm(name) as llm:
        found = ask(llm, CASES, repetition_penalty=penalty)
    for case, completion in zip(CASES, found, strict=True):
        assert completion.token_ids == theirs(reference(name), case, repetition_penalty=penalty)


class Penalties(LogitsProcessor):
    """Presence and frequency penalties as the OpenAI API's documentation defines them:
    logit[j] - count[j] * frequency_penalty - (count[j] > 0) * presence_penalty, over the generated tokens."""

    def __init__(self, num_prompt_tokens: int, presence: float, frequency: float) -> None:
        self._num_prompt_tokens = num_prompt_tokens
        self._presence = presence
        self._frequency = frequency

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        counts = np.bincount(input_ids[0, self._num_prompt_tokens :].numpy(), minlength=scores.shape[1])
        return scores - torch.from_numpy(counts * self._frequency + (counts > 0) * self._presence).float()


@pytest.mark.parametrize(("presence", "frequency"), [(2.0, 0.0), (0.0, 1.5), (-1.5, -0.7), (0.4, 2.0)])
def test_presence_and_frequency_penalty(presence: float, frequency: float, llava: LLM, reference: References) -> None:
    found = ask(llava, CASES, presence_penalty=presence, frequency_penalty=frequency)
    for case, completion in zip(CASES, found, strict=True):
        num_prompt_tokens = len(reference("clip-llama").inputs(case.prompt, case.image)["input_ids"][0])
        processor = LogitsProcessorList([Penalties(num_prompt_tokens, presence, frequency)])
        assert completion.token_ids == theirs(reference("clip-llama"), case, logits_processor=processor)


def test_logit_bias(llava: LLM, reference: References) -> None:
    plain = theirs(reference("clip-llama"), CASES[0])
    bias = {plain[0]: -100.0, plain[2]: 1.5, 42: 3.25, 7: 2.0}
    for case, completion in zip(CASES, ask(llava, CASES, logit_bias=bias), strict=True):
        sequence_bias = {(token_id,): value for token_id, value in bias.items()}
        assert completion.token_ids == theirs(reference("clip-llama"), case, sequence_bias=sequence_bias)


def test_allowed_token_ids(llava: LLM, reference: References) -> None:
    allowed = list(range(40, 90, 3))
    for case, completion in zip(CASES, ask(llava, CASES, allowed_token_ids=allowed), strict=True):
        assert set(completion.token_ids) <= set(allowed)
        assert completion.token_ids == theirs(
            reference("clip-llama"), case, prefix_allowed_tokens_fn=lambda batch, ids: allowed
        )


@pytest.mark.parametrize("size", [1, 2, 3])
def test_no_ngram_comes_twice(size: int, llava: LLM, reference: References) -> None:
    few = {"suppress_tokens": list(range(60, len(reference("clip-llama").tokenizer)))}  # of which to repeat some
    found = ask(llava, CASES, no_repeat_ngram_size=size, custom_token_bans=few["suppress_tokens"])
    for case, completion in zip(CASES, found, strict=True):
        expected = theirs(reference("clip-llama"), case, no_repeat_ngram_size=size, **few)
        assert completion.token_ids == expected


def test_bad_words_of_one_token_and_of_several(llava: LLM, reference: References) -> None:
    for case in CASES:
        said = theirs(reference("clip-llama"), case)
        bad = [said[1:3], said[4:5], said[5:8]]
        [found] = ask(llava, (case,), bad_words=bad)
        assert found.token_ids == theirs(reference("clip-llama"), case, bad_words_ids=bad)
        assert found.token_ids != said


def test_bad_words_as_text(llava: LLM, reference: References) -> None:
    model = reference("clip-llama")
    words = [id_ for token, id_ in model.tokenizer.get_vocab().items() if token.startswith("▁") and len(token) > 1]
    said = theirs(model, CASES[0], prefix_allowed_tokens_fn=lambda batch, ids: words)
    bad = model.tokenizer.decode(said[:1]).strip()
    others = sorted(set(range(model.model.config.text_config.vocab_size)) - set(words))
    [found] = ask(llava, CASES[:1], bad_words=[bad], custom_token_bans=others)
    assert said[0] not in found.token_ids
    assert found.token_ids == theirs(
        model, CASES[0], prefix_allowed_tokens_fn=lambda batch, ids: [id_ for id_ in words if id_ != said[0]]
    )


class Dry(LogitsProcessor):
    """multiplier * base ** (length - 2) off what goes on with the longest repetition of at least two tokens."""

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        tokens, longest = input_ids[0].tolist(), dict[int, int]()
        for place in range(1, len(tokens)):
            length = 0
            while length < place and tokens[place - 1 - length] == tokens[-1 - length]:
                length += 1
            longest[tokens[place]] = max(longest.get(tokens[place], 0), length)
        for token_id, length in longest.items():
            if length >= 2:
                scores[0, token_id] -= 0.3 * 1.5 ** (length - 2)
        return scores


def test_dry(llava: LLM, reference: References) -> None:
    few = {"suppress_tokens": list(range(30, len(reference("clip-llama").tokenizer)))}
    found = ask(
        llava, CASES, dry_multiplier=0.3, dry_base=1.5, dry_sequence_breakers=[],
        custom_token_bans=few["suppress_tokens"],
    )  # fmt: skip
    for case, completion in zip(CASES, found, strict=True):
        processor = LogitsProcessorList([Dry()])
        assert completion.token_ids == theirs(reference("clip-llama"), case, logits_processor=processor, **few)


def test_penalties_and_bias_together(llava: LLM, reference: References) -> None:
    """Without a bias on any token that was seen, the order of the two makes no difference."""
    allowed = list(range(100, 300))
    found = ask(llava, CASES, repetition_penalty=1.4, allowed_token_ids=allowed)
    for case, completion in zip(CASES, found, strict=True):
        assert completion.token_ids == theirs(
            reference("clip-llama"),
            case,
            repetition_penalty=1.4,
            prefix_allowed_tokens_fn=lambda batch, ids: allowed,
        )


def test_options_of_one_request_leave_the_others_alone(llava: LLM, reference: References) -> None:
    base = {"temperature": 0, "max_tokens": MAX_TOKENS}
    options: list[tuple[dict[str, Any], dict[str, Any]]] = [
        ({}, {}),
        ({"repetition_penalty": 1.5}, {"repetition_penalty": 1.5}),
        ({"logit_bias": {42: 9.0}}, {"sequence_bias": {(42,): 9.0}}),
        ({}, {}),
        ({"allowed_token_ids": [50, 60, 70]}, {"prefix_allowed_tokens_fn": lambda batch, ids: [50, 60, 70]}),
        ({"repetition_penalty": 0.7}, {"repetition_penalty": 0.7}),
    ]
    for _ in range(2):  # the second time in slots that others have used
        outputs = llava.generate(
            [about(1).inputs] * len(options), [SamplingParams(**base, **ours) for ours, _ in options], use_tqdm=False
        )
        for output, (_, same) in zip(outputs, options, strict=True):
            assert output.outputs[0].token_ids == theirs(reference("clip-llama"), about(1), **same)
        options.reverse()


def test_top_k_beyond_any_vocabulary(llava: LLM, reference: References) -> None:
    """It leaves all tokens in, and disturbs nobody."""
    wide, plain = (SamplingParams(max_tokens=MAX_TOKENS, seed=3, top_k=top_k) for top_k in (2**40, 0))
    greedy = SamplingParams(max_tokens=MAX_TOKENS, temperature=0)
    outputs = llava.generate([about(1).inputs] * 3, [wide, plain, greedy], use_tqdm=False)
    first, second, third = (output.outputs[0].token_ids for output in outputs)
    assert first == second
    assert third == theirs(reference("clip-llama"), about(1))


@pytest.fixture(scope="module")
def early_end(folder: Folders, reference: References, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of a checkpoint in which the third greedy token of one question ends the sequence."""
    third = theirs(reference("clip-llama"), about(1))[2]
    copy = Path(shutil.copytree(folder("clip-llama"), tmp_path_factory.mktemp("early-end") / "copy"))
    edit(copy, eos_token_id=[third])
    return copy


def edit(folder: Path, **changes: Any) -> None:
    path = folder / "generation_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_end_of_sequence(early_end: Path, open_llm: OpenLlm, reference: References) -> None:
    ending, plain = Reference(early_end), reference("clip-llama")
    with open_llm(early_end) as llm:
        (ends,), (at_least,), (ignores,) = (
            ask(llm, (about(1),), **options) for options in ({}, {"min_tokens": 6}, {"ignore_eos": True})
        )
    assert ends.token_ids == theirs(ending, about(1))
    assert len(ends.token_ids) == 3
    assert (ends.finish_reason, ends.stop_reason) == ("stop", None)
    assert ends.text == ending.tokenizer.decode(ends.token_ids[:-1], skip_special_tokens=True)
    assert at_least.token_ids == theirs(ending, about(1), min_new_tokens=6)
    assert len(at_least.token_ids) >= 6
    assert ignores.token_ids == theirs(plain, about(1))
    assert len(ignores.token_ids) == MAX_TOKENS
    assert (ignores.finish_reason, ignores.stop_reason) == ("length", None)


def test_stop_token_ids(llava: LLM, reference: References) -> None:
    plain = theirs(reference("clip-llama"), about(1))
    for index in range(3):
        stop = plain[index]
        (found,) = ask(llava, (about(1),), stop_token_ids=[stop, 11])
        assert found.token_ids == theirs(reference("clip-llama"), about(1), eos_token_id=[stop, 11])
        assert (found.finish_reason, found.stop_reason) == ("stop", stop)
        (later,) = ask(llava, (about(1),), stop_token_ids=[stop, 11], min_tokens=index + 2)
        assert later.token_ids == theirs(
            reference("clip-llama"), about(1), eos_token_id=[stop, 11], min_new_tokens=index + 2
        )


def test_stop_strings(llava: LLM, reference: References) -> None:
    model = reference("clip-llama")
    words = readable(model)
    for case in CASES:
        said = theirs(model, case, prefix_allowed_tokens_fn=lambda batch, ids: words)
        text = model.tokenizer.decode(said)
        for stop in (text[3:5], text[6], text[-2:]):
            expected = theirs(
                model,
                case,
                prefix_allowed_tokens_fn=lambda batch, ids: words,
                stop_strings=[stop, "never said"],
                tokenizer=model.tokenizer,
            )
            (found,) = ask(llava, (case,), allowed_token_ids=words, stop=[stop, "never said"])
            assert found.token_ids == expected
            assert (found.finish_reason, found.stop_reason) == ("stop", stop)
            assert found.text == text[: text.index(stop)]
            (kept,) = ask(llava, (case,), allowed_token_ids=words, stop=stop, include_stop_str_in_output=True)
            assert kept.text == text[: text.index(stop)] + stop


def test_defaults_are_those_of_generation_config(folder: Folders, tmp_path: Path, open_llm: OpenLlm) -> None:
    copy = Path(shutil.copytree(folder("clip-llama"), tmp_path / "copy"))
    edit(copy, do_sample=False, repetition_penalty=1.3, max_new_tokens=7)
    reference = Reference(copy)
    with open_llm(copy) as llm:
        outputs = llm.generate([case.inputs for case in CASES], use_tqdm=False)
    for case, output in zip(CASES, outputs, strict=True):
        answer = reference.generate(case.prompt, case.image)
        assert len(answer.token_ids) == 7
        assert output.outputs[0].token_ids == answer.token_ids


def test_defaults_may_come_from_another_folder_or_from_none(folder: Folders, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(folder("clip-llama"), tmp_path / "copy"))
    edit(copy, do_sample=True, temperature=0.5, max_new_tokens=7)
    other = tmp_path / "other"
    other.mkdir()
    (other / "generation_config.json").write_text('{"do_sample": true, "temperature": 0.25}')

    def defaults(source: str) -> SamplingParams:
        return bootstrap.prepare(EngineConfig(model=str(copy), generation_config=source))[0].default_sampling

    assert (defaults("auto").temperature, defaults("auto").max_tokens) == (0.5, 7)
    assert defaults("none").greedy
    assert (defaults(str(other)).temperature, defaults(str(other)).max_tokens) == (0.25, SamplingParams().max_tokens)
    with pytest.raises(ConfigError, match="generation_config must be auto, none, or a folder"):
        defaults(str(tmp_path))


@pytest.mark.parametrize("skip", [True, False])
def test_text_is_the_tokenizers(skip: bool, llava: LLM, reference: References) -> None:
    tokenizer = reference("clip-llama").tokenizer
    often = dict.fromkeys(tokenizer.all_special_ids, 2.0)
    found = ask(
        llava, CASES, skip_special_tokens=skip, ignore_eos=True, logit_bias=often,
        allowed_token_ids=[*readable(reference("clip-llama")), *often],
    )  # fmt: skip
    for completion in found:
        assert completion.text == tokenizer.decode(completion.token_ids, skip_special_tokens=skip)
    assert any(set(completion.token_ids) & set(often) for completion in found)


def readable(reference: Reference) -> list[int]:
    """Tokens that are words or letters: no single bytes, which random models string together to invalid UTF-8."""
    vocabulary: dict[str, int] = reference.tokenizer.get_vocab()
    return [id_ for token, id_ in vocabulary.items() if not token.startswith("<")]
