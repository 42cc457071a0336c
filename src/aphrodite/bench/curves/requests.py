"""Throughput against the number of requests."""

from typing import Literal, get_args

import numpy as np

from aphrodite.bench.curves.figures import RequestsPoint
from aphrodite.bench.subject import Subject
from aphrodite.bench.token_workload import TokenPrompt, draw_token_ids
from aphrodite.bench.workload import draw_picture
from aphrodite.domain.architectures.spec import ModelSpec

Kind = Literal["own text", "shared text", "own picture", "shared picture"]
SHARED_TEXT: Kind = "shared text"
SHARED_PICTURE: Kind = "shared picture"
COUNTS = (1, 3, 10, 30, 100, 300, 1000)
TEXT_TOKENS = 128  # before the question
QUESTION_TOKENS = 16
OUTPUT_TOKENS = 8
_PICTURE_SIZE = (96, 96)  # pixels, of the file; the tower's input has its own


def measure_requests(subject: Subject, model: ModelSpec, seed: int) -> list[RequestsPoint]:
    """Questions of their own about a text or a picture: each about its own, or all about the same."""
    kinds = [kind for kind in get_args(Kind) if model.vision is not None or kind.endswith("text")]
    return [_measure(subject, model, kind, count, seed) for kind in kinds for count in COUNTS]


def _measure(subject: Subject, model: ModelSpec, kind: Kind, count: int, seed: int) -> RequestsPoint:
    prompts = _prompts(model, kind, count, seed)
    before = subject.engine.stats()
    measurement = subject.run(prompts).measurement
    after = subject.engine.stats()
    subject_tokens = TEXT_TOKENS if kind.endswith("text") or model.vision is None else model.vision.num_image_tokens
    queries = after.num_prefix_cache_queries - before.num_prefix_cache_queries
    hits = after.num_prefix_cache_hits - before.num_prefix_cache_hits
    encoded = after.num_images_encoded - before.num_images_encoded
    duration_s = measurement.ended_s - measurement.started_s
    return RequestsPoint(
        kind=kind,
        num_requests=count,
        requests_per_s=round(count / duration_s, 3),
        output_tokens_per_s=round(count * OUTPUT_TOKENS / duration_s, 2),
        prompt_tokens_run=queries - hits,
        prefix_cache_hits=round(hits / (count * subject_tokens), 4),
        encoder_cache_hits=round(1 - encoded / count, 4) if kind.endswith("picture") else None,
    )


def _prompts(model: ModelSpec, kind: Kind, count: int, seed: int) -> list[TokenPrompt]:
    """Nothing in them occurs with another kind or count."""
    random = np.random.default_rng((seed, get_args(Kind).index(kind), count))

    def tokens(number: int) -> list[int]:
        return draw_token_ids(random, number, model.decoder.vocab_size, model.image_token_id)

    if kind.endswith("text"):
        texts = [tokens(TEXT_TOKENS)] * count if kind == SHARED_TEXT else [tokens(TEXT_TOKENS) for _ in range(count)]
        return [TokenPrompt([*text, *tokens(QUESTION_TOKENS)], OUTPUT_TOKENS, None) for text in texts]
    assert model.image_token_id is not None
    picture = draw_picture(random, _PICTURE_SIZE)
    return [
        TokenPrompt(
            [model.image_token_id, *tokens(QUESTION_TOKENS)],
            OUTPUT_TOKENS,
            picture if kind == SHARED_PICTURE else draw_picture(random, _PICTURE_SIZE),
        )
        for _ in range(count)
    ]
