"""The prompt's log-probabilities are worked out a few tokens at a time."""

from pathlib import Path

import pytest
from tests.builders import tiny_llava

from aphrodite import LLM, SamplingParams
from aphrodite.backends.cuda import backend


def test_how_many_at_a_time_makes_no_difference(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    params = SamplingParams(temperature=0, max_tokens=2, prompt_logprobs=2)
    prompts = ["The sky above it is blue.", "Three of them", "A naïve café with 12 tables and a large red square"]
    with LLM(str(tiny_llava(tmp_path)), backend="cuda", device="cpu", dtype="float32", kv_cache_memory=1 << 20) as llm:
        together = llm.generate(prompts, params, use_tqdm=False)
        monkeypatch.setattr(backend, "_REPORTED_AT_ONCE", 3)
        in_pieces = llm.generate(prompts, params, use_tqdm=False)
    for one, other in zip(together, in_pieces, strict=True):
        assert one.prompt_logprobs is not None
        assert other.prompt_logprobs is not None
        assert len(other.prompt_logprobs) == len(one.prompt_logprobs) > 3
        for whole, piece in zip(one.prompt_logprobs[1:], other.prompt_logprobs[1:], strict=True):
            assert whole is not None
            assert piece is not None
            assert list(piece) == list(whole)
            for token_id in whole:
                assert piece[token_id].logprob == pytest.approx(whole[token_id].logprob, abs=1e-4)
