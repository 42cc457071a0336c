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
    # The flag's place changed over the years: transformers ties where either configuration says so.
    tied = config.flag("tie_word_embeddings") or decoder.tied_embeddings
    token_field = "image_token_index" if config.has("image_token_index") else "image_token_id"
    vision = _read_vision(config, config.section("vision_config"), decoder.hidden_size, family)
    return ModelSpec(
        decoder=replace(decoder, tied_embeddings=tied),
        vision=vision,
        images=FixedLayout(config.integer(token_field, low=0), vision.num_image_tokens),
    )


def _read_vision(config: ConfigFields, tower: ConfigFields, text_hidden_size: int, family: VisionFamily) -> VisionSpec:
    if tower.integer("num_channels") != 3:
        raise tower.unsupported("num_channels", "3")
    image_size, patch_size = tower.side("image_size"), tower.side("patch_size")
    if patch_size > image_size:
        raise tower.unsupported("patch_size", f"at most image_size, {image_size}")
    hidden_size, num_heads = tower.integer("hidden_size"), tower.integer("num_attention_heads")
    if hidden_size % num_heads != 0:
        raise tower.unsupported("num_attention_heads", f"a divisor of hidden_size, {hidden_size}")
    num_layers = tower.integer("num_hidden_layers")
    strategy = config.choice("vision_feature_select_strategy", ("default", "full"))
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
        drop_first_token=strategy == "default",
        projector_activation=config.activation("projector_hidden_act"),
        projector_bias=config.flag("multimodal_projector_bias"),
        text_hidden_size=text_hidden_size,
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
