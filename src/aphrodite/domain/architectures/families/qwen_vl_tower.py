"""The vision towers of Qwen2-VL (arXiv 2409.12191) and Qwen2.5-VL (arXiv 2502.13923): pictures of any size, in squares
of patches; the latter with windows in most layers."""

from dataclasses import replace

from aphrodite.domain.architectures.config_fields import ConfigFields
from aphrodite.domain.architectures.images.grid import GridLayout
from aphrodite.domain.architectures.vision_config import read_packed_tower
from aphrodite.domain.architectures.vision_spec import Activate, Merge, Normalize, NormKind, Project, VisionSpec

_NORM_EPS = 1e-6
_MAX_PATCHES = 1 << 16  # as many as the image processors in the published folders make


def read_qwen2_vl_tower(config: ConfigFields) -> VisionSpec:
    """Raises UnsupportedModelError."""
    hidden_size = config.integer("embed_dim")
    inner = round(hidden_size * config.number("mlp_ratio"))
    return _tower(config, hidden_size, inner, config.integer("hidden_size"), norm="layer")


def read_qwen2_5_vl_tower(config: ConfigFields) -> VisionSpec:
    """Raises UnsupportedModelError."""
    hidden_size, inner = config.integer("hidden_size"), config.integer("intermediate_size")
    full = config.values.get("fullatt_block_indexes")
    if not isinstance(full, list | tuple) or not all(type(index) is int for index in full):
        raise config.unsupported("fullatt_block_indexes", "a list of layers")
    windowed = tuple(index for index in range(config.integer("depth")) if index not in full)
    return _tower(config, hidden_size, inner, config.integer("out_hidden_size"), norm="rms", windowed_layers=windowed)


def qwen_vl_layout(placeholder_id: int, config: ConfigFields, vision: VisionSpec) -> GridLayout:
    """How a picture stands in a prompt: features alone; `config` is the tower's. Raises UnsupportedModelError."""
    window_side = None
    if vision.windowed_layers:
        window_side = config.integer("window_size") // vision.patch_size // vision.merge_side
        if window_side == 0:
            raise config.unsupported("window_size", f"at least {vision.patch_size * vision.merge_side}")
    return GridLayout(
        placeholder_id,
        vision.merge_side,
        _MAX_PATCHES,
        row_end="",
        end="",
        processor_options={},
        window_side=window_side,
        positions=vision.position_square,
        has_rope_grid=True,
    )


def _tower(
    config: ConfigFields,
    hidden_size: int,
    intermediate_size: int,
    output_size: int,
    *,
    norm: NormKind,
    windowed_layers: tuple[int, ...] = (),
) -> VisionSpec:
    tower = read_packed_tower(config, hidden_size, intermediate_size, norm=norm, norm_eps=_NORM_EPS)
    side = config.integer("spatial_merge_size")
    merged = side**2 * hidden_size
    return replace(
        tower,
        windowed_layers=windowed_layers,
        is_gated=norm == "rms",
        projector=(
            Normalize("ln_q", norm, hidden_size, _NORM_EPS),
            Merge(side),
            Project("linear_1", merged, merged, bias=True),
            Activate("gelu"),
            Project("linear_2", merged, output_size, bias=True),
        ),
    )
