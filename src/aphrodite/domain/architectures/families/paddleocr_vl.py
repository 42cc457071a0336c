"""PaddleOCR-VL (arXiv 2510.14528): a SigLIP of pictures of any size, with interpolated positions beside rotary ones,
and a small ERNIE 4.5 that tells images' rows from columns.
"""

from dataclasses import replace

from aphrodite.domain.architectures.config_fields import ConfigFields
from aphrodite.domain.architectures.decoder_config import check_sections, read_decoder
from aphrodite.domain.architectures.families.llava import with_ties
from aphrodite.domain.architectures.families.qwen_vl_tower import qwen_vl_layout
from aphrodite.domain.architectures.families.siglip import read_siglip
from aphrodite.domain.architectures.spec import DecoderSpec, ModelSpec
from aphrodite.domain.architectures.vision_config import read_axial_rope, two_layers, with_position_square
from aphrodite.domain.architectures.vision_spec import Merge, Normalize, Project, VisionSpec

_PROJECTOR_EPS = 1e-5


def read_paddleocr_vl_text(config: ConfigFields) -> DecoderSpec:
    """Raises UnsupportedModelError."""
    bias = config.flag("use_bias")
    decoder = read_decoder(config, qkv_bias=bias, output_bias=bias, mlp_bias=bias)
    check_sections(config, decoder)
    return decoder


def read_paddleocr_vl_tower(config: ConfigFields) -> VisionSpec:
    """Raises UnsupportedModelError."""
    tower = read_siglip(config)
    rope = read_axial_rope(config, is_interleaved=False, head_dim=tower.hidden_size // tower.num_heads)
    packed = replace(tower, is_packed=True, rope=rope, has_post_norm=True)
    return with_position_square(packed, tower.image_size // tower.patch_size, kind="linear")


def read_paddleocr_vl(config: ConfigFields, decoder: DecoderSpec, tower: VisionSpec) -> ModelSpec:
    """Raises UnsupportedModelError."""
    fields = config.section("vision_config")
    side = fields.integer("spatial_merge_size")
    merged = side**2 * tower.hidden_size
    into, activate, _ = two_layers(merged, merged, "gelu", bias=True)
    out_of = Project("linear_2", merged, decoder.hidden_size, bias=True)
    norm = Normalize("pre_norm", "layer", tower.hidden_size, _PROJECTOR_EPS)
    vision = replace(tower, projector=(norm, Merge(side), into, activate, out_of))
    layout = qwen_vl_layout(config.integer("image_token_id", low=0), fields, vision)
    return ModelSpec(with_ties(config, decoder), vision, layout)
