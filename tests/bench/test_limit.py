"""Bytes and operations of a step against transformers' own parameters, and pairs of attention counted one by one."""

from pathlib import Path

import numpy as np
import pytest
import transformers
from tests.builders import tiny_llava, tiny_text
from tests.fakes import fake_span

from aphrodite.bench.limit import DeviceRates, ModelCosts, total_limit_s
from aphrodite.domain.architectures.registry import read_model
from aphrodite.domain.prompting.sampling_params import SamplingParams
from aphrodite.domain.scheduling.step import ImageToEncode, RowPlan, StepPlan


def row(start: int, num_tokens: int, samples: bool = True) -> RowPlan:
    token_ids = None if num_tokens == 1 else np.zeros(num_tokens, np.int32)
    return RowPlan(0, start, num_tokens, token_ids, np.zeros(1, np.int32), samples, SamplingParams(), 0)


@pytest.mark.parametrize("tied", [False, True])
def test_a_decode_step_reads_every_parameter_once_and_multiplies_it_once_a_token(tmp_path: Path, tied: bool) -> None:
    folder = tiny_text(tmp_path, "qwen3", tie_word_embeddings=tied)
    model = transformers.AutoModelForCausalLM.from_pretrained(folder)
    config = model.config
    layers, pair = config.num_hidden_layers, config.num_attention_heads * config.head_dim
    embedding = model.get_input_embeddings().weight.numel()
    parameters = model.num_parameters() - (0 if tied else embedding)  # it counts tied ones once
    matrices = sum(p.numel() for p in model.model.layers.parameters() if p.dim() == 2) + embedding
    step = ModelCosts(read_model(config.to_dict()), 4).step(StepPlan.of((row(10, 1), row(20, 1))))
    kv = layers * 2 * config.num_key_value_heads * config.head_dim * 4
    assert step.is_decode
    assert step.num_bytes == parameters * 4 + (10 + 20) * kv
    assert step.num_operations == 2 * (2 * matrices) + layers * 4 * pair * (11 + 21)


def test_a_chunk_without_a_sample_needs_no_head_and_windows_bound_attention(tmp_path: Path) -> None:
    folder = tiny_text(tmp_path, "mistral", sliding_window=8)
    model = transformers.AutoModelForCausalLM.from_pretrained(folder)
    config = model.config
    step = ModelCosts(read_model(config.to_dict()), 2).step(StepPlan.of((row(5, 7, samples=False),)))
    matrices = sum(p.numel() for p in model.model.layers.parameters() if p.dim() == 2)
    pairs = sum(min(position + 1, 8) for position in range(5, 12))
    attention = config.num_hidden_layers * 4 * config.num_attention_heads * config.head_dim * pairs
    assert not step.is_decode
    assert step.num_operations == 2 * 7 * matrices + attention


def test_a_picture_runs_through_the_used_layers_of_the_tower(tmp_path: Path) -> None:
    model = transformers.LlavaForConditionalGeneration.from_pretrained(tiny_llava(tmp_path))
    costs = ModelCosts(read_model(model.config.to_dict()), 4)
    picture = ImageToEncode(fake_span(b"", 0, 16).image, np.arange(16, dtype=np.int32))
    plan = (row(0, 20),)
    with_picture, without = costs.step(StepPlan.of(plan, (picture,))), costs.step(StepPlan.of(plan))
    tower = next(m for m in model.modules() if isinstance(m, transformers.CLIPVisionModel))
    projector = next(m for name, m in model.named_modules() if name.endswith("multi_modal_projector"))
    named = dict(tower.named_parameters())
    unused = [name for name in named if "layers.2." in name or "post_layernorm" in name]  # features of layer -2
    used = {name: p for name, p in named.items() if name not in unused}
    read = sum(p.numel() for p in (*used.values(), *projector.parameters()))
    assert with_picture.num_bytes - without.num_bytes == 4 * read
    patch = next(p.numel() for name, p in used.items() if "patch_embedding" in name)
    matrices = sum(p.numel() for name, p in used.items() if p.dim() == 2 and ".layers." in name)
    in_projector = sum(p.numel() for p in projector.parameters() if p.dim() == 2)
    expected = 2 * (patch * 16 + matrices * 17 + in_projector * 16) + 4 * 17 * 17 * 32 * 2
    assert with_picture.num_operations - without.num_operations == expected


def test_the_limit_is_the_slower_of_memory_and_arithmetic(tmp_path: Path) -> None:
    model = transformers.AutoModelForCausalLM.from_pretrained(tiny_text(tmp_path))
    step = ModelCosts(read_model(model.config.to_dict()), 4).step(StepPlan.of((row(3, 1),)))
    assert step.limit_s(DeviceRates(step.num_bytes / 2, 1e30)) == pytest.approx(2)
    assert step.limit_s(DeviceRates(1e30, step.num_operations / 3)) == pytest.approx(3)
    assert total_limit_s([step, step], DeviceRates(step.num_bytes / 2, 1e30)) == pytest.approx(4)
