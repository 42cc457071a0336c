"""SmolLM2-135M-Instruct, a real pretrained model, from a .gguf file: tokens against transformers' in float32."""

from pathlib import Path
from typing import Any

import pytest
import torch
from tests.builders import smollm2_gguf
from tests.parity.fixture_types import OpenLlm
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
from transformers.modeling_gguf_pytorch_utils import load_gguf_checkpoint

from aphrodite import SamplingParams

FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
MAX_TOKENS = 16
CLEAR_MARGIN = 0.01  # between the two best logits; float32 noise is below 0.001 here
PROMPTS = (
    "The capital of France is",
    "Once upon a time, there was a",
    "The three primary colors are",
    "Water boils at a temperature of",
    "def fibonacci(n):",
    "The quick brown fox",
    "1, 2, 3, 4, 5,",
    "To make a cup of tea, first",
    "The largest planet in the solar system is",
    "The opposite of hot is",
    "A haiku about the sea:",
    "SELECT name FROM users WHERE",
    "The chemical symbol of gold is",
    "My favourite animal is the cat because",
    "Q: What is 2 + 2? A:",
    "The Eiffel Tower is located in",
    "import numpy as np",
    "Photosynthesis is the process by which",
    "<|im_start|>user\nWhat is the capital of Italy?<|im_end|>\n<|im_start|>assistant\n",
    "<|im_start|>user\nName three fruits.<|im_end|>\n<|im_start|>assistant\n",
)


@pytest.fixture(scope="module")
def package() -> Path:
    return smollm2_gguf().parent


@pytest.fixture(scope="module")
def expected(package: Path) -> list[list[int]]:
    """Transformers' tokens, prompt by prompt."""
    # `from_pretrained(gguf_file=...)` does the same, but wants one library more.
    model: Any = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(package, gguf_file=FILE)).float().eval()
    tensors = load_gguf_checkpoint(str(package / FILE), return_tensors=True, model_to_load=model)["tensors"]
    keys = model.load_state_dict(tensors, strict=False)
    assert (keys.missing_keys, keys.unexpected_keys) == (["lm_head.weight"], [])  # tied to the embeddings
    model.tie_weights()
    tokenizer: Any = AutoTokenizer.from_pretrained(package, gguf_file=FILE)
    inputs = tokenizer(list(PROMPTS), return_tensors="pt", padding=True, padding_side="left")
    with torch.inference_mode():
        output = model.generate(
            **inputs, max_new_tokens=MAX_TOKENS, do_sample=False, output_logits=True, return_dict_in_generate=True
        )
    rows = []
    best = torch.stack(output.logits, dim=1).topk(2).values  # [prompts, tokens, 2]
    for tokens, values in zip(output.sequences[:, inputs["input_ids"].shape[1] :].tolist(), best, strict=True):
        end = tokens.index(tokenizer.eos_token_id) + 1 if tokenizer.eos_token_id in tokens else len(tokens)
        assert (values[:end, 0] - values[:end, 1]).min() > CLEAR_MARGIN
        rows.append(tokens[:end])
    return rows


def test_greedy_tokens(package: Path, expected: list[list[int]], open_llm: OpenLlm) -> None:
    params = SamplingParams(temperature=0, max_tokens=MAX_TOKENS)
    with open_llm(package / FILE, kv_cache_memory=256 << 20) as llm:
        outputs = llm.generate(PROMPTS, params, use_tqdm=False)
    assert [output.outputs[0].token_ids for output in outputs] == expected
