from collections.abc import Callable

import ml_dtypes
import numpy as np
import pytest
from tests.fakes import FakeCheckpoint
from transformers import PreTrainedConfig

from aphrodite.domain.architectures.registry import read_model
from aphrodite.domain.architectures.tying import untie_by_checkpoint

EMBEDDING = np.random.default_rng(0).random((3000, 32), np.float32).astype(ml_dtypes.bfloat16)
OTHER = EMBEDDING.copy()
OTHER[2999, 31] += 1


@pytest.mark.parametrize(
    ("tied", "weights", "is_tied"),
    [
        (True, {"model.embed_tokens.weight": EMBEDDING}, True),
        (True, {"lm_head.weight": EMBEDDING}, True),
        (True, {"lm_head.weight": EMBEDDING, "model.embed_tokens.weight": EMBEDDING.copy()}, True),
        (True, {"lm_head.weight": OTHER, "model.embed_tokens.weight": EMBEDDING}, False),
        (True, {"embed_tokens.weight": EMBEDDING, "language_model.lm_head.weight": OTHER[1:]}, False),
        (False, {"lm_head.weight": EMBEDDING, "model.embed_tokens.weight": EMBEDDING}, False),
    ],
)
def test_two_different_matrices_are_not_tied(
    make_decoder: Callable[..., PreTrainedConfig], tied: bool, weights: dict[str, np.ndarray], is_tied: bool
) -> None:
    model = read_model(make_decoder("llama", tie_word_embeddings=tied).to_dict())
    found = untie_by_checkpoint(model, FakeCheckpoint({}, {}, weights | {"model.norm.weight": EMBEDDING[0]}))
    assert found.decoder.tied_embeddings == is_tied
