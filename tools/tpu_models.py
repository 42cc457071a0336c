"""The models that are compiled for TPUs, laid out as the backend would lay them out on such chips."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

import aphrodite
from aphrodite.backends.jax_tpu.attention import (
    AttentionShape,
    attend_packaged,
    cache_width,
    choose_block_size,
    packaged_takes,
)
from aphrodite.backends.jax_tpu.attention_pallas import attend_pallas
from aphrodite.backends.jax_tpu.buckets import Buckets
from aphrodite.backends.jax_tpu.kernels import Kernels
from aphrodite.backends.jax_tpu.model import DeviceModel
from aphrodite.backends.jax_tpu.products import multiply
from aphrodite.backends.jax_tpu.rotary import rotate_and_store
from aphrodite.backends.jax_tpu.sharding import make_mesh
from aphrodite.domain.architectures.registry import read_model
from aphrodite.domain.architectures.spec import ModelSpec, PixelNormalization
from aphrodite.domain.ports import BackendLimits
from llava_7b import LLAVA_7B

KERNELS = {
    name: Kernels(name, multiply, rotate_and_store, attend)
    for name, attend in (("ours", attend_pallas), ("packaged", attend_packaged))
}
DECODE_ROWS, MIXED_TOKENS = 64, 1024
_BLOCK_SIZE = 16
_NUM_FEATURE_ROWS = 16 * 576
_QWEN = {  # Qwen2.5-VL-7B-Instruct's configuration
    "model_type": "qwen2_5_vl",
    "image_token_id": 151655,
    "tie_word_embeddings": False,
    "text_config": {
        "model_type": "qwen2_5_vl_text",
        "vocab_size": 152064,
        "hidden_size": 3584,
        "intermediate_size": 18944,
        "num_hidden_layers": 28,
        "num_attention_heads": 28,
        "num_key_value_heads": 4,
        "hidden_act": "silu",
        "max_position_embeddings": 32768,
        "rms_norm_eps": 1e-6,
        "tie_word_embeddings": False,
        "use_sliding_window": False,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [16, 24, 24]},
    },
    "vision_config": {
        "model_type": "qwen2_5_vl_vision",
        "depth": 32,
        "hidden_size": 1280,
        "intermediate_size": 3420,
        "out_hidden_size": 3584,
        "num_heads": 16,
        "in_channels": 3,
        "patch_size": 14,
        "spatial_merge_size": 2,
        "temporal_patch_size": 2,
        "window_size": 112,
        "fullatt_block_indexes": [7, 15, 23, 31],
        "hidden_act": "silu",
        "rope_parameters": {"rope_type": "axial", "rope_theta": 1e4},
    },
}
_GEMMA = {  # gemma-3-4b-it's configuration
    "model_type": "gemma3",
    "image_token_index": 262144,
    "boi_token_index": 255999,
    "eoi_token_index": 256000,
    "tie_word_embeddings": True,
    "mm_tokens_per_image": 256,
    "text_config": {
        "model_type": "gemma3_text",
        "vocab_size": 262208,
        "hidden_size": 2560,
        "intermediate_size": 10240,
        "num_hidden_layers": 34,
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
        "head_dim": 256,
        "query_pre_attn_scalar": 256,
        "max_position_embeddings": 131072,
        "hidden_activation": "gelu_pytorch_tanh",
        "attention_bias": False,
        "rms_norm_eps": 1e-6,
        "tie_word_embeddings": True,
        "sliding_window": 1024,
        "layer_types": ["full_attention" if layer % 6 == 5 else "sliding_attention" for layer in range(34)],
        "rope_parameters": {
            "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e6},
            "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
        },
    },
    "vision_config": {
        "model_type": "siglip_vision_model",
        "hidden_size": 1152,
        "intermediate_size": 4304,
        "num_hidden_layers": 27,
        "num_attention_heads": 16,
        "image_size": 896,
        "patch_size": 14,
        "hidden_act": "gelu_pytorch_tanh",
        "vision_use_head": False,
        "num_channels": 3,
        "layer_norm_eps": 1e-6,
        "attention_dropout": 0.0,
    },
}
_EXPERTS = {  # Qwen3-VL-30B-A3B-Instruct's configuration
    "model_type": "qwen3_vl_moe",
    "image_token_id": 151655,
    "tie_word_embeddings": False,
    "text_config": {
        "model_type": "qwen3_vl_moe_text",
        "vocab_size": 151936,
        "hidden_size": 2048,
        "intermediate_size": 6144,
        "moe_intermediate_size": 768,
        "num_experts": 128,
        "num_experts_per_tok": 8,
        "decoder_sparse_step": 1,
        "num_hidden_layers": 48,
        "num_attention_heads": 32,
        "num_key_value_heads": 4,
        "head_dim": 128,
        "hidden_act": "silu",
        "max_position_embeddings": 32768,
        "rms_norm_eps": 1e-6,
        "tie_word_embeddings": False,
        "rope_parameters": {"rope_type": "default", "rope_theta": 5e6, "mrope_section": [24, 20, 20]},
    },
    "vision_config": {
        "model_type": "qwen3_vl_moe_vision",
        "depth": 27,
        "hidden_size": 1152,
        "intermediate_size": 4304,
        "out_hidden_size": 2048,
        "num_heads": 16,
        "in_channels": 3,
        "patch_size": 16,
        "spatial_merge_size": 2,
        "temporal_patch_size": 2,
        "num_position_embeddings": 2304,
        "deepstack_visual_indexes": [],
        "hidden_act": "gelu_pytorch_tanh",
        "rope_parameters": {"rope_type": "axial", "rope_theta": 1e4},
    },
}
_DEFAULTS = {"max_num_seqs": 256, "max_num_batched_tokens": 2048}


def llava(devices: list[Any], kernel: str, num_blocks: int, num_layers: int) -> DeviceModel:
    """The first layers of LLaVA-1.5-7B's decoder and of its tower."""
    decoder, vision = LLAVA_7B.decoder, LLAVA_7B.vision
    assert vision is not None
    num_layers = min(num_layers, decoder.num_layers)
    last = min(num_layers, vision.num_layers - 1)
    spec = replace(
        LLAVA_7B,
        decoder=replace(decoder, num_layers=num_layers, attention=decoder.attention[:num_layers]),
        vision=replace(vision, num_layers=last + 1, feature_layers=(last,)),
    )
    return _device_model(spec, devices, KERNELS[kernel], num_blocks, DECODE_ROWS, MIXED_TOKENS)


def mistral(devices: list[Any], kernel: str) -> DeviceModel:
    """One layer of Mistral-7B-Instruct-v0.2 with its 32,768 positions, and the default settings."""
    decoder = replace(
        LLAVA_7B.decoder,
        vocab_size=32000,
        intermediate_size=14336,
        num_layers=1,
        num_kv_heads=8,
        max_position=32768,
        attention=LLAVA_7B.decoder.attention[:1],
    )
    spec = replace(LLAVA_7B, decoder=decoder)
    return _device_model(spec, devices, KERNELS[kernel], num_blocks=1024, **_DEFAULTS)


def qwen(devices: list[Any]) -> DeviceModel:
    """Two layers of Qwen2.5-VL-7B's decoder and two of its tower, one with windows and one without."""
    spec = read_model(_QWEN)
    decoder, vision = spec.decoder, spec.vision
    assert vision is not None
    spec = replace(
        spec,
        decoder=replace(decoder, num_layers=2, attention=decoder.attention[:2], ropes=decoder.ropes[:2]),
        vision=replace(vision, num_layers=2, feature_layers=(2,), windowed_layers=(0,)),
    )
    return _device_model(spec, devices, KERNELS["ours"], 1024, DECODE_ROWS, MIXED_TOKENS)


def experts(devices: list[Any]) -> DeviceModel:
    """Two layers of Qwen3-VL-30B-A3B's decoder."""
    spec = read_model(_EXPERTS)
    decoder, vision = spec.decoder, spec.vision
    assert vision is not None
    spec = replace(
        spec,
        decoder=replace(decoder, num_layers=2, attention=decoder.attention[:2], ropes=decoder.ropes[:2]),
        vision=replace(vision, num_layers=1, feature_layers=(1,)),
    )
    return _device_model(spec, devices, KERNELS["ours"], 1024, DECODE_ROWS, MIXED_TOKENS)


def gemma(devices: list[Any]) -> DeviceModel:
    """Six layers of Gemma-3-4B's decoder, the last without a window, and one of its tower."""
    spec = read_model(_GEMMA)
    decoder, vision = spec.decoder, spec.vision
    assert vision is not None
    spec = replace(
        spec,
        decoder=replace(
            decoder, num_layers=6, max_position=8192, attention=decoder.attention[:6], ropes=decoder.ropes[:6]
        ),
        vision=replace(vision, num_layers=1, feature_layers=(1,)),
    )
    return _device_model(spec, devices, KERNELS["ours"], 1024, DECODE_ROWS, MIXED_TOKENS)


def demo(devices: list[Any]) -> DeviceModel:
    """The demo model with its default settings."""
    config = Path(aphrodite.__file__).parent / "demo_model" / "config.json"
    spec = read_model(json.loads(config.read_text()))
    decoder = spec.decoder
    shape = AttentionShape(
        decoder.num_heads, decoder.num_kv_heads, decoder.head_dim, _BLOCK_SIZE, np.dtype(jnp.bfloat16)
    )
    kernels = KERNELS["packaged" if packaged_takes(shape) else "ours"]
    return _device_model(spec, devices, kernels, num_blocks=4096, **_DEFAULTS)


def _device_model(
    spec: ModelSpec,
    devices: list[Any],
    kernels: Kernels,
    num_blocks: int,
    max_num_seqs: int,
    max_num_batched_tokens: int,
) -> DeviceModel:
    assert spec.vision is not None
    limits = BackendLimits(
        num_blocks=num_blocks,
        block_size=choose_block_size(_BLOCK_SIZE, max_num_seqs, spec.decoder.max_position, "tpu"),
        max_num_seqs=max_num_seqs,
        max_num_batched_tokens=max_num_batched_tokens,
        max_model_len=spec.decoder.max_position,
        max_steps_in_flight=2,
        num_feature_rows=_NUM_FEATURE_ROWS,
        bytes_per_number=2,
    )
    return DeviceModel(
        spec=spec,
        normalization=PixelNormalization(1 / 255, (0.48, 0.46, 0.41), (0.27, 0.26, 0.28)),
        mesh=make_mesh(devices),
        dtype=np.dtype(jnp.bfloat16),
        kernels=kernels,
        head_width=cache_width(spec.decoder.head_dim, "tpu"),
        limits=limits,
        buckets=Buckets.of(limits, growth=2, num_devices=len(devices), model=spec),
    )
