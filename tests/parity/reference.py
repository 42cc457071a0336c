"""Transformers' own answers: greedy tokens, and the logits behind them and behind the prompt."""

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from tests.parity.cases import Case
from tests.processors import load_processor
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoTokenizer,
)

CLEAR_MARGIN = 1e-4
"""Greedy tokens can be compared where the best logit leads by more than float32 noise, which is some 1e-5 here."""


@dataclass(frozen=True)
class Answer:
    """What transformers makes of one case. Letters: P prompt tokens, N new tokens, V vocabulary."""

    prompt_token_ids: list[int]
    token_ids: list[int]
    prompt_logprobs: np.ndarray  # float64 [P, V], of what follows each prompt token
    logprobs: np.ndarray  # float64 [N, V], of each new token, before any option changes them


class Reference:
    """One checkpoint in transformers, float32, on the CPU."""

    def __init__(self, folder: Path) -> None:
        sees = hasattr(AutoConfig.from_pretrained(folder), "vision_config")
        loader: Any = AutoModelForImageTextToText if sees else AutoModelForCausalLM
        self.model: Any = loader.from_pretrained(folder, dtype=torch.float32).eval()
        self.tokenizer: Any = AutoTokenizer.from_pretrained(folder)
        self._read: Any = load_processor(folder) if sees else self.tokenizer
        self._placeholder = self._read.image_token if sees else "<image>"
        self._answers: dict[tuple[Case, int], Answer] = {}

    def in_its_words(self, prompt: str) -> str:
        """A prompt in LLaVA's words, with the model's own placeholder."""
        return prompt.replace("<image>", self._placeholder)

    def inputs(self, prompt: str, image: Image.Image | list[Image.Image] | None = None) -> dict[str, torch.Tensor]:
        if image is None and self.model.config.model_type == "paligemma":  # whose processor wants a picture
            return self._framed(prompt)
        pictures = {} if image is None else {"images": image}
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "__array__ impl", DeprecationWarning)  # of torch and NumPy 2
            read = dict(self._read(text=prompt, return_tensors="pt", **pictures))
        read.pop("labels", None)
        if self.model.config.model_type not in ("gemma3", "paligemma"):  # which see by them what sees forward
            read.pop("token_type_ids", None)
        return read

    def _framed(self, prompt: str) -> dict[str, torch.Tensor]:
        """Text alone in the form that PaliGemma's processor gives to text behind a picture."""
        text = f"{self.tokenizer.bos_token}{prompt}\n"
        read = dict(self.tokenizer(text, return_tensors="pt", add_special_tokens=False))
        return read | {"token_type_ids": torch.zeros_like(read["input_ids"])}

    def answer(self, case: Case, max_tokens: int) -> Answer:
        """The greedy answer without options; computed once."""
        key = (case, max_tokens)
        if key not in self._answers:
            self._answers[key] = self.generate(case.prompt, case.image, max_new_tokens=max_tokens)
        return self._answers[key]

    @torch.inference_mode()
    def generate(self, prompt: str, image: Image.Image | list[Image.Image] | None = None, **options: Any) -> Answer:
        """The greedy answer, with options of transformers' own `generate`; asserts that every choice is clear."""
        inputs = self.inputs(prompt, image)
        output = self.model.generate(
            **inputs, do_sample=False, output_logits=True, output_scores=True, return_dict_in_generate=True, **options
        )
        prompt_token_ids = inputs["input_ids"][0].tolist()
        best = torch.cat(output.scores).topk(2).values  # scores are what options made of the logits
        assert (best[:, 0] - best[:, 1]).min() > CLEAR_MARGIN, "a choice within float noise; ask something else"
        return Answer(
            prompt_token_ids,
            output.sequences[0, len(prompt_token_ids) :].tolist(),
            _log_softmax(self.model(**inputs).logits[0]),
            _log_softmax(torch.cat(output.logits)),
        )


def _log_softmax(logits: torch.Tensor) -> np.ndarray:
    return torch.log_softmax(logits.double(), dim=-1).numpy()
