"""LLaVA-1.5 (arXiv 2310.03744): a vision tower whose features a two-layer projector brings into the decoder."""

from dataclasses import replace

from aphrodite.domain.architectures.config_fields import ConfigFields
from aphrodite.domain.architectures.images.layout import FixedLayout
from aphrodite.domain.architectures.spec import DecoderSpec, ModelSpec, VisionSpec
from aphrodite.domain.architectures.vision_config import read_tower
from aphrodite.domain.architectures.vision_family import VisionFamily


def read_llava(config: ConfigFields, decoder: DecoderSpec, family: VisionFamily) -> ModelSpec:
    """The model from its configuration, its decoder already read from `text_config`.

    Raises UnsupportedModelError.
    """
    strategy = config.choice("vision_feature_select_strategy", ("default", "full"))
    bias = config.flag("multimodal_projector_bias")
    vision = read_llava_tower(config, decoder, family, drop_first_token=strategy == "default", projector_bias=bias)
    layout = FixedLayout(read_image_token_id(config), vision.num_image_tokens)
    return ModelSpec(with_ties(config, decoder), vision, layout)


def with_ties(config: ConfigFields, decoder: DecoderSpec) -> DecoderSpec:
    """The flag's place changed over the years: transformers ties where either configuration says so."""
    return replace(decoder, tied_embeddings=config.flag("tie_word_embeddings") or decoder.tied_embeddings)


def read_image_token_id(config: ConfigFields) -> int:
    """The id of the image token, under both names that it had."""
    return config.integer("image_token_index" if config.has("image_token_index") else "image_token_id", low=0)


def read_llava_tower(
    config: ConfigFields, decoder: DecoderSpec, family: VisionFamily, *, drop_first_token: bool, projector_bias: bool
) -> VisionSpec:
    """Tower and two-layer projector, as all LLaVAs have them. Raises UnsupportedModelError."""
    tower = config.section("vision_config")
    return read_tower(
        tower,
        family,
        feature_layers=_feature_layers(config, tower.integer("num_hidden_layers")),
        drop_first_token=drop_first_token,
        projector_activation=config.activation("projector_hidden_act"),
        projector_bias=projector_bias,
        text_hidden_size=decoder.hidden_size,
    )


def _feature_layers(config: ConfigFields, num_layers: int) -> tuple[int, ...]:
    """`vision_feature_layer`, one or several, as indexes from 0 (the embeddings) to `num_layers` (the last layer)."""
    value = config.values.get("vision_feature_layer")
    layers: list[int] = []
    for layer in value if isinstance(value, list | tuple) else (value,):
        if not isinstance(layer, int) or isinstance(layer, bool) or not -num_layers - 1 <= layer <= num_layers:
            raise config.unsupported("vision_feature_layer", f"integers from {-num_layers - 1} to {num_layers}")
        layers.append(layer % (num_layers + 1))
    if not layers:
        raise config.unsupported("vision_feature_layer", "at least one layer")
    return tuple(layers)
