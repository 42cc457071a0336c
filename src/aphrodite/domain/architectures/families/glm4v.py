"""GLM-4.1V (arXiv 2507.01006), GLM-4.6V and GLM-OCR: a tower of RMS norms and gates, squares of its patches convolved
together, a GLM-4-0414 that tells images' rows from columns."""

from dataclasses import replace

from aphrodite.domain.architectures.config_fields import ConfigFields
from aphrodite.domain.architectures.families.qwen2_vl import read_qwen2_vl
from aphrodite.domain.architectures.spec import DecoderSpec, ModelSpec
from aphrodite.domain.architectures.vision_config import read_packed_tower, with_position_square
from aphrodite.domain.architectures.vision_spec import Activate, Gate, Merge, Normalize, Project, QkNorm, VisionSpec

_PROJECTOR_EPS = 1e-5


def read_glm4v_tower(config: ConfigFields) -> VisionSpec:
    """With learned positions, interpolated. Raises UnsupportedModelError."""
    tower = _read_tower(config, inner=config.integer("out_hidden_size"), gated=config.integer("intermediate_size"))
    side = config.side("image_size") // tower.patch_size
    if side == 0:
        raise config.unsupported("image_size", f"at least patch_size, {tower.patch_size}")
    return replace(with_position_square(tower, side, kind="cubic"), has_patch_norm=True)


def read_glm_ocr_tower(config: ConfigFields) -> VisionSpec:
    """With normed queries and keys. Raises UnsupportedModelError."""
    tower = _read_tower(config, inner=config.integer("intermediate_size"), gated=3 * config.integer("out_hidden_size"))
    bias, head_dim = config.flag("attention_bias"), tower.hidden_size // tower.num_heads
    return replace(tower, output_bias=bias, mlp_bias=bias, qk_norm=QkNorm(head_dim, tower.norm_eps))


def read_glm4v(config: ConfigFields, decoder: DecoderSpec, tower: VisionSpec) -> ModelSpec:
    """Images stand in the prompt as Qwen2-VL's. Raises UnsupportedModelError."""
    return read_qwen2_vl(config, decoder, tower)


def _read_tower(config: ConfigFields, *, inner: int, gated: int) -> VisionSpec:
    """With so many inner units in its layers, and in the projector."""
    hidden_size, outputs = config.integer("hidden_size"), config.integer("out_hidden_size")
    side, epsilon = config.integer("spatial_merge_size"), config.number("rms_norm_eps")
    tower = read_packed_tower(config, hidden_size, inner, norm="rms", norm_eps=epsilon)
    convolution = Project(
        "downsample", side**2 * hidden_size, outputs, bias=True, unfolded=side**2, is_convolution=True
    )
    return replace(
        tower,
        patch_bias=True,
        qkv_bias=config.flag("attention_bias"),
        output_bias=False,
        mlp_bias=False,
        is_gated=True,
        projector=(
            Normalize("post_layernorm", "rms", hidden_size, epsilon),
            Merge(side),
            convolution,
            Project("proj", outputs, outputs, bias=False),
            Normalize("post_projection_norm", "layer", outputs, _PROJECTOR_EPS),
            Activate("gelu"),
            Project("gate_up", outputs, 2 * gated, bias=False, stacked=("gate_proj", "up_proj")),
            Gate(tower.activation),
            Project("down_proj", gated, outputs, bias=False),
        ),
    )
