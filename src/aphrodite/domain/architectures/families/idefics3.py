"""Idefics3 (arXiv 2408.12637) and SmolVLM (arXiv 2504.05299): labelled tiles, several patches a feature."""

from dataclasses import replace

import numpy as np

from aphrodite.domain.architectures.config_fields import ConfigFields
from aphrodite.domain.architectures.families.llava import with_ties
from aphrodite.domain.architectures.images.layout import LabelledTilesLayout
from aphrodite.domain.architectures.spec import DecoderSpec, ModelSpec
from aphrodite.domain.architectures.vision_spec import Merge, Project, VisionSpec

_MAX_SIDE = 6  # tiles; there are labels for no more


def read_idefics3(config: ConfigFields, decoder: DecoderSpec, tower: VisionSpec) -> ModelSpec:
    """Raises UnsupportedModelError."""
    scale, side = config.integer("scale_factor"), tower.image_size // tower.patch_size
    if side % scale != 0:
        raise config.unsupported("scale_factor", f"a divisor of the {side} patches on a side")
    if not _positions_count_up(side):
        raise config.section("vision_config").unsupported("image_size", "one whose patches stand at places in order")
    projection = Project("linear_1", tower.hidden_size * scale**2, decoder.hidden_size, bias=False)
    vision = replace(tower, has_post_norm=True, projector=(Merge(scale), projection))
    layout = LabelledTilesLayout(
        config.integer("image_token_id", low=0), vision.num_image_tokens, max_units=_MAX_SIDE**2 + 1
    )
    return ModelSpec(with_ties(config, decoder), vision, layout)


def _positions_count_up(side: int) -> bool:
    """Whether a whole tile's patches have the positions 0, 1, 2 ...: they are found by fractions, which may round."""
    borders = np.arange(1 / side, 1.0, 1 / side).astype(np.float32)
    places = np.minimum(np.arange(side, dtype=np.float32) * np.float32(1 / side), np.float32(1 - 1e-6))
    return np.array_equal(np.searchsorted(borders, places, side="right"), np.arange(side))
