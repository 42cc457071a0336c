"""LLaVA-1.5 (arXiv 2310.03744): a vision tower whose features a two-layer projector brings into the decoder."""

from dataclasses import replace

from aphrodite.domain.architectures.config_fields import ConfigFields
from aphrodite.domain.architectures.images.layout import FixedLayout
from aphrodite.domain.architectures.spec import DecoderSpec, ModelSpec, VisionSpec
from aphrodite.domain.architectures.vision_family import VisionFamily


def read_llava(config: ConfigFields, decoder: DecoderSpec, family: VisionFamily) -> ModelSpec:
    """The model from its configuration, its decoder already read from `text_config`.

    Raises UnsupportedModelError.
    """
    strategy = config.choice("vision_feature_select_strategy", ("default", "full"))
    bias = config.flag("multimodal_projector_bias")
    vision = read_tower(config, decoder, family, drop_first_token=strategy == "default", projector_bias=bias)
    layout = FixedLayout(read_image_token_id(config), vision.num_image_tokens)
    return ModelSpec(with_ties(config, decoder), vision, layout)


def with_ties(config: ConfigFields, decoder: DecoderSpec) -> DecoderSpec:
    """The flag's place changed over the years: transformers ties where either configuration says so."""
    return replace(decoder, tied_embeddings=config.flag("tie_word_embeddings") or decoder.tied_embeddings)


def read_image_token_id(config: ConfigFields) -> int:
    """The id of the image token, under both names that it had."""
    return config.integer("image_token_index" if config.has("image_token_index") else "image_token_id", low=0)


def read_tower(
    config: ConfigFields,
    decoder: DecoderSpec,
    family: VisionFamily,
    *,
    drop_first_token: bool,
    projector_bias: bool,
    projector_norm_eps: float | None = None,
    has_newline: bool = False,
) -> VisionSpec:
    """Tower and two-layer projector, as all LLaVAs have them. Raises UnsupportedModelError."""
    tower = config.section("vision_config")
    if tower.integer("num_channels") != 3:
        raise tower.unsupported("num_channels", "3")
    image_size, patch_size = tower.side("image_size"), tower.side("patch_size")
    if patch_size > image_size:
        raise tower.unsupported("patch_size", f"at most image_size, {image_size}")
    hidden_size, num_heads = tower.integer("hidden_size"), tower.integer("num_attention_heads")
    if hidden_size % num_heads != 0:
        raise tower.unsupported("num_attention_heads", f"a divisor of hidden_size, {hidden_size}")
    num_layers = tower.integer("num_hidden_layers")
    return VisionSpec(
        image_size=image_size,
        patch_size=patch_size,
        hidden_size=hidden_size,
        intermediate_size=tower.integer("intermediate_size"),
        num_layers=num_layers,
        num_heads=num_heads,
        norm_eps=tower.number("layer_norm_eps"),
        activation=tower.activation("hidden_act"),
        has_class_token=family.has_class_token,
        has_pre_norm=family.has_pre_norm,
        patch_bias=family.patch_bias,
        feature_layers=_feature_layers(config, num_layers),
        drop_first_token=drop_first_token,
        projector_activation=config.activation("projector_hidden_act"),
        projector_bias=projector_bias,
        text_hidden_size=decoder.hidden_size,
        projector_norm_eps=projector_norm_eps,
        has_newline=has_newline,
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
