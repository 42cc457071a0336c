"""PaliGemma (arXiv 2407.07726) and PaliGemma 2 (arXiv 2412.03555): a SigLIP, one matrix, a Gemma or a Gemma 2, and a
prompt of which each token sees all others.
"""

from dataclasses import replace

from aphrodite.domain.architectures.config_fields import ConfigFields
from aphrodite.domain.architectures.families.llava import read_image_token_id, with_ties
from aphrodite.domain.architectures.images.layout import FixedLayout
from aphrodite.domain.architectures.spec import DecoderSpec, ModelSpec
from aphrodite.domain.architectures.vision_spec import Project, VisionSpec


def read_paligemma(config: ConfigFields, decoder: DecoderSpec, tower: VisionSpec) -> ModelSpec:
    """Raises UnsupportedModelError."""
    if config.integer("projection_dim") != decoder.hidden_size:
        raise config.unsupported("projection_dim", f"the decoder's hidden_size, {decoder.hidden_size}")
    projector = (Project("linear", tower.hidden_size, decoder.hidden_size, bias=True),)
    vision = replace(tower, has_post_norm=True, projector=projector)
    layout = FixedLayout(read_image_token_id(config), vision.num_image_tokens)
    return ModelSpec(
        with_ties(config, decoder), vision, layout, sees_forward="prompt", text_start="<bos>", text_end="\n"
    )
