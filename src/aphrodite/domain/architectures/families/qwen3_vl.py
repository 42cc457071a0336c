"""Qwen3-VL (arXiv 2511.21631): learned positions beside rotary ones in the tower, of which features of lower layers are
added behind a Qwen3's first; time, rows and columns take turns at its frequencies."""

import math
from dataclasses import replace

from aphrodite.domain.architectures.config_fields import ConfigFields
from aphrodite.domain.architectures.decoder_config import check_sections
from aphrodite.domain.architectures.families.qwen2_vl import read_qwen2_vl
from aphrodite.domain.architectures.families.qwen3 import read_qwen3
from aphrodite.domain.architectures.spec import DecoderSpec, ModelSpec
from aphrodite.domain.architectures.vision_config import read_packed_tower, with_position_square
from aphrodite.domain.architectures.vision_spec import (
    Activate,
    DeepLevel,
    Merge,
    Normalize,
    Project,
    ProjectorStep,
    VisionSpec,
)

_NORM_EPS = 1e-6


def read_qwen3_vl_text(config: ConfigFields) -> DecoderSpec:
    """Raises UnsupportedModelError."""
    decoder = read_qwen3(config)
    check_sections(config, decoder)
    return replace(decoder, ropes=tuple(replace(rope, alternates=True) for rope in decoder.ropes))


def read_qwen3_vl_tower(config: ConfigFields) -> VisionSpec:
    """Raises UnsupportedModelError."""
    hidden_size, inner = config.integer("hidden_size"), config.integer("intermediate_size")
    tower = read_packed_tower(config, hidden_size, inner, norm="layer", norm_eps=_NORM_EPS)
    num_positions = config.integer("num_position_embeddings")
    side = math.isqrt(num_positions)
    if side**2 != num_positions:
        raise config.unsupported("num_position_embeddings", "a square")
    squares = Merge(config.integer("spatial_merge_size"))
    merged, outputs = squares.side**2 * hidden_size, config.integer("out_hidden_size")
    levels = []
    for level, layer in enumerate(_read_deep_layers(config, tower.num_layers)):
        name = f"deepstack.{level}."
        levels.append(DeepLevel(layer + 1, (squares, _norm(name, merged), *_layers(name, merged, outputs))))
    return replace(
        with_position_square(tower, side, kind="corners"),
        patch_bias=True,
        projector=(_norm("", hidden_size), squares, *_layers("", merged, outputs)),
        deep_levels=tuple(levels),
    )


def read_qwen3_vl(config: ConfigFields, decoder: DecoderSpec, tower: VisionSpec) -> ModelSpec:
    """Images stand in the prompt as Qwen2-VL's. Raises UnsupportedModelError."""
    num_levels = len(tower.deep_levels)
    if num_levels > decoder.num_layers:
        raise config.section("vision_config").unsupported(
            "deepstack_visual_indexes", f"at most one for each of the decoder's {decoder.num_layers} layers"
        )
    return read_qwen2_vl(config, replace(decoder, deepstack_layers=tuple(range(num_levels))), tower)


def _read_deep_layers(config: ConfigFields, num_layers: int) -> list[int]:
    layers = config.values.get("deepstack_visual_indexes")
    if (
        not isinstance(layers, list | tuple)
        or not all(type(index) is int and 0 <= index < num_layers for index in layers)
        or sorted(set(layers)) != list(layers)
    ):
        raise config.unsupported("deepstack_visual_indexes", f"a rising list of the {num_layers} layers, from 0")
    return list(layers)


def _norm(prefix: str, width: int) -> ProjectorStep:
    return Normalize(f"{prefix}norm", "layer", width, _NORM_EPS)


def _layers(prefix: str, inputs: int, outputs: int) -> tuple[ProjectorStep, ...]:
    return (
        Project(f"{prefix}linear_fc1", inputs, inputs, bias=True),
        Activate("gelu"),
        Project(f"{prefix}linear_fc2", inputs, outputs, bias=True),
    )
