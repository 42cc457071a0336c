"""What "the same as transformers" means."""

from collections.abc import Mapping, Sequence

import numpy as np
from tests.parity.cases import Case
from tests.parity.reference import Answer, Reference

from aphrodite import LLM, Logprob, RequestOutput, SamplingParams

MAX_TOKENS = 8
TOLERANCE = 1e-4  # in log-probabilities
NUM_CANDIDATES = 5
GREEDY = SamplingParams(temperature=0, max_tokens=MAX_TOKENS)
REPORTED = SamplingParams(
    temperature=0, max_tokens=MAX_TOKENS, logprobs=NUM_CANDIDATES, prompt_logprobs=NUM_CANDIDATES - 2
)


def assert_answers(
    llm: LLM, reference: Reference, cases: Sequence[Case], params: SamplingParams = REPORTED
) -> list[RequestOutput]:
    """Ask all `cases` in one call; tokens, and log-probabilities where `params` asks for them, must be the same."""
    outputs = llm.generate([case.inputs for case in cases], params, use_tqdm=False)
    for case, output in zip(cases, outputs, strict=True):
        assert params.max_tokens is not None
        assert_same(output, reference.answer(case, params.max_tokens))
        assert (output.prompt_logprobs is None) == (params.prompt_logprobs is None)
        assert (output.outputs[0].logprobs is None) == (params.logprobs is None)
    return outputs


def assert_same(output: RequestOutput, answer: Answer) -> None:
    (completion,) = output.outputs
    assert output.prompt_token_ids == answer.prompt_token_ids
    assert completion.token_ids == answer.token_ids
    if completion.logprobs is not None:
        assert len(completion.logprobs) == len(completion.token_ids)
        for token_id, candidates, row in zip(completion.token_ids, completion.logprobs, answer.logprobs, strict=True):
            _assert_candidates(candidates, token_id, row, NUM_CANDIDATES)
        total = sum(row[token] for token, row in zip(answer.token_ids, answer.logprobs, strict=True))
        assert completion.cumulative_logprob is not None
        assert abs(completion.cumulative_logprob - total) <= TOLERANCE * len(answer.token_ids)
    if output.prompt_logprobs is not None:
        first, *rest = output.prompt_logprobs
        assert first is None
        for token_id, found, row in zip(answer.prompt_token_ids[1:], rest, answer.prompt_logprobs[:-1], strict=True):
            assert found is not None
            _assert_candidates(found, token_id, row, NUM_CANDIDATES - 2)


def _assert_candidates(found: Mapping[int, Logprob], token_id: int, row: np.ndarray, num_candidates: int) -> None:
    """`found` holds the token that stands there and the best few, with value and rank as in `row` [V]."""
    assert next(iter(found)) == token_id
    assert len(found) in (num_candidates, num_candidates + 1)
    for candidate, (value, rank) in {key: (entry.logprob, entry.rank) for key, entry in found.items()}.items():
        assert abs(value - row[candidate]) <= TOLERANCE
        # Neighbours within the tolerance may change places.
        assert np.sum(row > row[candidate] + TOLERANCE) < rank <= np.sum(row > row[candidate] - TOLERANCE)
    best = sorted((entry.logprob for entry in found.values()), reverse=True)[:num_candidates]
    assert np.abs(np.sort(row)[::-1][:num_candidates] - best).max() <= TOLERANCE
