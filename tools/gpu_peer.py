"""transformers with the same shapes on the same device, its weights random: what our rows are compared with."""

import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import torch

from aphrodite.bench.peers.transformers_model import TransformersModel
from aphrodite.bench.peers.worker import Asked
from aphrodite.bench.token_workload import TokenPrompt
from aphrodite.domain.architectures.spec import ModelSpec

_ROUNDS = 3
_STEPS = 16


class TransformersPeer:
    """Greedy `generate`, as `aphrodite bench --compare transformers` runs it. `folder` holds the model's settings."""

    def __init__(self, folder: Path, model: ModelSpec, dtype: str, device: torch.device, max_num_seqs: int) -> None:
        assert model.vision is not None
        settings = {
            "model": str(folder),
            "load_format": "dummy",
            "dtype": dtype,
            "device": str(device),
            "max_num_seqs": max_num_seqs,
            "image_token_id": model.image_token_id,
        }
        self._placeholder_id = model.image_token_id
        self._num_image_tokens = model.vision.num_image_tokens
        self._peer = TransformersModel(settings)
        self._device = device
        self._image_size = model.vision.image_size

    def step_s(self, contexts: list[list[int]]) -> float:
        """Seconds of a decode step after prompts of these tokens: of an answer's tokens all but the first."""

        def seconds(num_tokens: int) -> float:
            return self._median_s(lambda: self._answer([TokenPrompt(ids, num_tokens, None) for ids in contexts]))

        return (seconds(1 + _STEPS) - seconds(1)) / _STEPS

    def first_token_s(self, rounds: list[list[TokenPrompt]]) -> float:
        """Seconds up to the token that each round of one prompt asks for; the first round is none of them."""
        times = []
        for prompts in rounds:
            started_s = time.perf_counter()
            self._answer(prompts)
            times.append(time.perf_counter() - started_s)
        return median(times[1:])

    @torch.inference_mode()
    def tower_s(self, count: int) -> float:
        """Seconds of the vision tower and the projector on so many pictures, which are on the device already."""
        pixels = torch.rand(count, 3, self._image_size, self._image_size, dtype=self._peer._dtype, device=self._device)

        def encode() -> None:
            self._peer._model.get_image_features(pixel_values=pixels)
            if self._device.type == "cuda":
                torch.cuda.synchronize(self._device)

        return self._median_s(encode)

    def _answer(self, prompts: list[TokenPrompt]) -> list[list[int]]:
        return self._peer.answer(
            [Asked(one.token_ids, self._expand(one.token_ids), one.num_output_tokens, one.picture) for one in prompts]
        )

    def _expand(self, token_ids: list[int]) -> list[int]:
        """The image token as often as a picture has features."""
        counts = (self._num_image_tokens if token_id == self._placeholder_id else 1 for token_id in token_ids)
        return [token_id for token_id, count in zip(token_ids, counts, strict=True) for _ in range(count)]

    def _median_s(self, call: Callable[[], object]) -> float:
        call()
        times = []
        for _ in range(_ROUNDS):
            started_s = time.perf_counter()
            call()
            times.append(time.perf_counter() - started_s)
        return median(times)
