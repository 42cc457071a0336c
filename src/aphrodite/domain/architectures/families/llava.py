"""LLaVA-1.5 (arXiv 2310.03744): a vision tower whose features a two-layer projector brings into the decoder."""

from dataclasses import replace

from aphrodite.domain.architectures.config_fields import ConfigFields
from aphrodite.domain.architectures.families.pixtral import pixtral_layout
from aphrodite.domain.architectures.images.layout import FixedLayout
from aphrodite.domain.architectures.spec import DecoderSpec, ModelSpec
from aphrodite.domain.architectures.vision_config import two_layers
from aphrodite.domain.architectures.vision_spec import VisionSpec


def read_llava(config: ConfigFields, decoder: DecoderSpec, tower: VisionSpec) -> ModelSpec:
    """The model from its configuration, its decoder and its tower already read.

    Raises UnsupportedModelError.
    """
    vision = with_projector(config, decoder, with_features(config, tower))
    placeholder_id = read_image_token_id(config)
    if vision.is_packed:
        return ModelSpec(with_ties(config, decoder), vision, pixtral_layout(placeholder_id, vision))
    return ModelSpec(with_ties(config, decoder), vision, FixedLayout(placeholder_id, vision.num_image_tokens))


def with_ties(config: ConfigFields, decoder: DecoderSpec) -> DecoderSpec:
    """The flag's place changed over the years: transformers ties where either configuration says so."""
    return replace(decoder, tied_embeddings=config.flag("tie_word_embeddings") or decoder.tied_embeddings)


def read_image_token_id(config: ConfigFields) -> int:
    """The id of the image token, under both names that it had."""
    return config.integer("image_token_index" if config.has("image_token_index") else "image_token_id", low=0)


def with_features(config: ConfigFields, tower: VisionSpec) -> VisionSpec:
    """The tower with the features that the model takes of it. Raises UnsupportedModelError."""
    drop_first_token = config.choice("vision_feature_select_strategy", ("default", "full")) == "default"
    if tower.is_packed and drop_first_token:
        raise config.unsupported("vision_feature_select_strategy", "full")
    return replace(tower, feature_layers=feature_layers(config, tower.num_layers), drop_first_token=drop_first_token)


def with_projector(config: ConfigFields, decoder: DecoderSpec, tower: VisionSpec) -> VisionSpec:
    """The tower with the two-layer projector that all LLaVAs have. Raises UnsupportedModelError."""
    projector = two_layers(
        tower.hidden_size * len(tower.feature_layers),
        decoder.hidden_size,
        config.activation("projector_hidden_act"),
        bias=config.flag("multimodal_projector_bias"),
    )
    return replace(tower, projector=projector)


def feature_layers(config: ConfigFields, num_layers: int, name: str = "vision_feature_layer") -> tuple[int, ...]:
    """One layer or several, as indexes from 0 (the embeddings) to `num_layers` (the last layer)."""
    value = config.values.get(name)
    layers: list[int] = []
    for layer in value if isinstance(value, list | tuple) else (value,):
        if not isinstance(layer, int) or isinstance(layer, bool) or not -num_layers - 1 <= layer <= num_layers:
            raise config.unsupported(name, f"integers from {-num_layers - 1} to {num_layers}")
        layers.append(layer % (num_layers + 1))
    if not layers:
        raise config.unsupported(name, "at least one layer")
    return tuple(layers)
