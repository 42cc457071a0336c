"""LLaVA-OneVision (arXiv 2408.03326): LLaVA-NeXT whose features are shrunk where a picture has too many."""

import re
from dataclasses import replace

from aphrodite.domain.architectures.config_fields import ConfigFields
from aphrodite.domain.architectures.families.llava_next import read_llava_next
from aphrodite.domain.architectures.images.anyres import AnyResLayout
from aphrodite.domain.architectures.spec import DecoderSpec, ModelSpec
from aphrodite.domain.architectures.vision_spec import VisionSpec


def read_llava_onevision(config: ConfigFields, decoder: DecoderSpec, tower: VisionSpec) -> ModelSpec:
    """Raises UnsupportedModelError."""
    kind = config.values.get("vision_aspect_ratio")
    limit = re.fullmatch(r"anyres_max_([1-9]\d*)", kind) if isinstance(kind, str) else None
    if limit is None:
        raise config.unsupported("vision_aspect_ratio", "anyres_max_ and a number")
    model = read_llava_next(config, decoder, tower)
    assert model.vision is not None
    assert isinstance(model.images, AnyResLayout)
    layout = replace(model.images, max_tiles=int(limit[1]))
    return replace(model, vision=replace(model.vision, taps_per_feature=4), images=layout)
