"""What the prefix cache shares, and that it changes no answer."""

from dataclasses import replace

import pytest
from tests.parity.cases import IMAGE_CASES, TEXT_CASES, TEXTS, Case
from tests.parity.comparison import GREEDY, MAX_TOKENS, REPORTED, assert_answers
from tests.parity.fixture_types import OpenLlm, References
from tests.parity.reference import Reference
from tests.parity.selection import sparing

from aphrodite import LLM

CASES = (*IMAGE_CASES, *TEXT_CASES)


def asked(picture: int, question: str) -> Case:
    """A prompt with more than 32 tokens before its picture and as many after it."""
    return Case(f"{TEXTS[2]}\nUSER: <image>\n{TEXTS[2]} {question}\nASSISTANT:", picture)


@pytest.mark.parametrize("block_size", sparing([1, 8, 16, 32], [1, 16]))
def test_hits_and_misses(block_size: int, open_llm: OpenLlm, reference: References) -> None:
    """Hits reach as far as tokens and picture are the same, in whole blocks, and the last token is always run."""
    theirs = reference("clip-llama")
    first, other_question, other_picture = asked(1, "Why?"), asked(1, "How many?"), asked(2, "Why?")
    start = image_start(theirs, other_picture)
    with open_llm("clip-llama", block_size=block_size) as llm:

        def num_cached(case: Case) -> int:
            return assert_answers(llm, theirs, [case], GREEDY)[0].num_cached_tokens

        def num_shared(one: Case, other: Case) -> int:
            """Tokens in the whole blocks that two prompts begin with."""
            ids, others = (theirs.answer(case, MAX_TOKENS).prompt_token_ids for case in (one, other))
            same = next((i for i, pair in enumerate(zip(ids, others, strict=False)) if pair[0] != pair[1]), len(ids))
            return min(same, len(ids) - 1) // block_size * block_size

        assert num_cached(first) == 0
        assert num_cached(first) == num_shared(first, first)
        assert num_cached(other_question) == num_shared(other_question, first) > start
        # The tokens of another picture are the same, their content is not.
        assert num_cached(other_picture) == start // block_size * block_size > 0
        assert num_cached(other_picture) == num_shared(other_picture, other_picture)
        assert num_cached(first) == num_shared(first, first)


def test_answers_extend_the_cache(open_llm: OpenLlm, reference: References) -> None:
    theirs, question = reference("clip-llama"), asked(1, "Why?")
    with open_llm("clip-llama", block_size=1) as llm:
        (output,) = assert_answers(llm, theirs, [question], GREEDY)
        start = image_start(theirs, question)
        num_image_tokens = output.prompt_token_ids.count(theirs.model.config.image_token_id)
        prompt = [*output.prompt_token_ids[: start + 1], *output.prompt_token_ids[start + num_image_tokens :]]
        longer = {
            "prompt_token_ids": prompt + output.outputs[0].token_ids,
            "multi_modal_data": {"image": question.image},
        }
        (continued,) = llm.generate(longer, GREEDY, use_tqdm=False)
    # The last token of the first answer was sampled and never run.
    assert continued.num_cached_tokens == len(continued.prompt_token_ids) - 1
    assert continued.outputs[0].token_ids == theirs.answer(question, 2 * MAX_TOKENS).token_ids[MAX_TOKENS:]


def test_switched_off(open_llm: OpenLlm, reference: References) -> None:
    with open_llm("clip-llama", enable_prefix_caching=False, block_size=1) as llm:
        for _ in range(2):
            outputs = assert_answers(llm, reference("clip-llama"), CASES)
            assert [output.num_cached_tokens for output in outputs] == [0] * len(CASES)


def test_prompt_logprobs_are_complete_after_a_hit(llava: LLM, reference: References) -> None:
    assert_answers(llava, reference("clip-llama"), [asked(1, "Why?")], GREEDY)
    (output,) = assert_answers(llava, reference("clip-llama"), [asked(1, "Why?")], REPORTED)
    assert output.num_cached_tokens == 0


def test_evicted_blocks_are_not_found(open_llm: OpenLlm, reference: References) -> None:
    """A cache that holds one prompt at a time forgets, and never mixes up."""
    cases = [asked(picture, question) for picture in (1, 2) for question in ("Why?", "How many?")]
    longest = max(len(reference("clip-llama").answer(case, MAX_TOKENS).prompt_token_ids) for case in cases)
    with open_llm("clip-llama", block_size=8, max_model_len=longest + MAX_TOKENS, max_num_seqs=1) as llm:
        for _ in range(2):
            for case in cases:
                assert_answers(llm, reference("clip-llama"), [case], GREEDY)
                assert_answers(llm, reference("clip-llama"), TEXT_CASES, replace(GREEDY, max_tokens=3))


def image_start(reference: Reference, case: Case) -> int:
    return reference.answer(case, MAX_TOKENS).prompt_token_ids.index(reference.model.config.image_token_id)
