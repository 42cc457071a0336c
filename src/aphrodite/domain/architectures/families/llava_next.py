"""LLaVA-NeXT (LLaVA-1.6): pictures of any resolution in tiles, over the tower and projector of LLaVA-1.5."""

from dataclasses import replace

from aphrodite.domain.architectures.config_fields import ConfigFields
from aphrodite.domain.architectures.families.llava import (
    read_image_token_id,
    with_features,
    with_projector,
    with_ties,
)
from aphrodite.domain.architectures.images.anyres import AnyResLayout
from aphrodite.domain.architectures.spec import DecoderSpec, ModelSpec
from aphrodite.domain.architectures.vision_spec import VisionSpec


def read_llava_next(config: ConfigFields, decoder: DecoderSpec, tower: VisionSpec) -> ModelSpec:
    """Raises UnsupportedModelError."""
    vision = replace(with_projector(config, decoder, with_features(config, tower)), has_newline=True)
    side = vision.image_size // vision.patch_size
    if vision.num_image_tokens != side**2:
        raise config.unsupported("vision_feature_select_strategy", "one that leaves a feature for each patch")
    layout = AnyResLayout(
        placeholder_id=read_image_token_id(config),
        grid_sizes=_grid_sizes(config, vision.image_size),
        tile_size=vision.image_size,
        tile_side=side,
    )
    return ModelSpec(with_ties(config, decoder), vision, layout)


def _grid_sizes(config: ConfigFields, tile_size: int) -> tuple[tuple[int, int], ...]:
    """`image_grid_pinpoints`: sizes (height, width) in pixels, whole tiles."""
    sizes = config.values.get("image_grid_pinpoints")
    wanted = f"a list of [height, width], multiples of {tile_size}"
    if not isinstance(sizes, list | tuple) or not sizes:
        raise config.unsupported("image_grid_pinpoints", wanted)
    for size in sizes:
        is_pair = isinstance(size, list | tuple) and len(size) == 2
        if not is_pair or not all(type(side) is int and side > 0 and side % tile_size == 0 for side in size):
            raise config.unsupported("image_grid_pinpoints", wanted)
    return tuple((height, width) for height, width in sizes)
