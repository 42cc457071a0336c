"""Gemma 3 (arXiv 2503.19786): a Gemma 2 with normed queries and keys, whose layers with a window turn by a rope of
their own; with a SigLIP, images of which each feature sees the others.
"""

import math
from dataclasses import replace

from aphrodite.domain.architectures.config_fields import ConfigFields
from aphrodite.domain.architectures.families.gemma2 import read_gemma2
from aphrodite.domain.architectures.families.llava import read_image_token_id, with_ties
from aphrodite.domain.architectures.images.layout import FixedLayout
from aphrodite.domain.architectures.spec import DecoderSpec, ModelSpec
from aphrodite.domain.architectures.vision_spec import Average, Normalize, Project, VisionSpec


def read_gemma3_text(config: ConfigFields) -> DecoderSpec:
    """Raises UnsupportedModelError."""
    return replace(read_gemma2(config), qk_norm=True)


def read_gemma3(config: ConfigFields, decoder: DecoderSpec, tower: VisionSpec) -> ModelSpec:
    """Raises UnsupportedModelError."""
    num_features, side = config.integer("mm_tokens_per_image"), tower.image_size // tower.patch_size
    features_side = math.isqrt(num_features)
    if features_side**2 != num_features or side % features_side != 0:
        raise config.unsupported("mm_tokens_per_image", f"the square of a divisor of {side}")
    width = tower.hidden_size
    vision = replace(
        tower,
        has_post_norm=True,
        projector=(
            Average(side // features_side),
            Normalize("mm_soft_emb_norm", "rms", width, tower.norm_eps, offset=1.0),
            Project("mm_input_projection", width, decoder.hidden_size, bias=False, is_transposed=True),
        ),
    )
    placeholder_id = config.integer("boi_token_index" if config.has("boi_token_index") else "boi_token_id", low=0)
    layout = FixedLayout(
        placeholder_id,
        num_features,
        before="<start_of_image>",
        after="<end_of_image>",
        feature_id=read_image_token_id(config),
    )
    return ModelSpec(with_ties(config, decoder), vision, layout, sees_forward="image", image_margin="\n\n")
