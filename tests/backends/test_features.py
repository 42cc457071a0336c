"""The features of pictures on the device take what the books say, and no more."""

from pathlib import Path
from typing import Any

import numpy as np
from tests.builders import tiny_llava

from aphrodite import LLM, SamplingParams


def test_features_of_one_picture_hold_no_others_memory(tmp_path: Path) -> None:
    """Pictures that are encoded together are forgotten one by one."""
    rng = np.random.default_rng(0)
    prompts: list[Any] = [
        {"prompt": "<image>", "multi_modal_data": {"image": rng.integers(0, 256, (30, 30, 3), dtype=np.uint8)}}
        for _ in range(4)
    ]
    with LLM(str(tiny_llava(tmp_path)), backend="cuda", device="cpu", kv_cache_memory=1 << 20) as llm:
        llm.generate(prompts, SamplingParams(temperature=0, max_tokens=1), use_tqdm=False)
        backend: Any = llm._engine._backend
        features = list(backend._features.values())
        booked = llm._engine.scheduler.encoder_cache.used_bytes
        assert len(features) == 4
        assert sum(feature.untyped_storage().nbytes() for feature in features) == booked
