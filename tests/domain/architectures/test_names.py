import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aphrodite.domain.architectures.names import canonical_name

_WORDS = ("model", "language_model", "vision_tower", "vision_model", "multi_modal_projector", "lm_head", "decoder")
_NAMES = st.lists(
    st.sampled_from((*_WORDS, "layers", "norm", "weight", "embed_tokens", "vision", "projector"))
    | st.text(string.ascii_lowercase + "_0123456789", min_size=1, max_size=5),
    min_size=1,
    max_size=7,
).map(".".join)


@pytest.mark.parametrize(
    ("raw", "canonical"),
    [
        # text-only, with and without the prefix
        ("model.embed_tokens.weight", "decoder.embed_tokens.weight"),
        ("model.layers.10.self_attn.q_proj.bias", "decoder.layers.10.self_attn.q_proj.bias"),
        ("model.norm.weight", "decoder.norm.weight"),
        ("layers.0.mlp.up_proj.weight", "decoder.layers.0.mlp.up_proj.weight"),
        ("norm.weight", "decoder.norm.weight"),
        ("lm_head.weight", "lm_head.weight"),
        # transformers 4
        ("language_model.model.layers.0.input_layernorm.weight", "decoder.layers.0.input_layernorm.weight"),
        ("language_model.lm_head.weight", "lm_head.weight"),
        ("vision_tower.vision_model.embeddings.class_embedding", "vision.embeddings.class_embedding"),
        ("multi_modal_projector.linear_1.bias", "projector.linear_1.bias"),
        # late 4.x and 5
        ("model.language_model.layers.3.mlp.down_proj.weight", "decoder.layers.3.mlp.down_proj.weight"),
        ("model.vision_tower.vision_model.pre_layrnorm.weight", "vision.pre_layrnorm.weight"),
        ("model.vision_tower.encoder.layers.0.mlp.fc1.weight", "vision.encoder.layers.0.mlp.fc1.weight"),
        ("model.multi_modal_projector.linear_2.weight", "projector.linear_2.weight"),
        # towers that a model calls "visual"
        ("visual.blocks.3.attn.proj.bias", "vision.encoder.layers.3.self_attn.out_proj.bias"),
        ("model.visual.blocks.0.attn.q_norm.weight", "vision.encoder.layers.0.self_attn.q_norm.weight"),
        ("model.visual.blocks.0.mlp.linear_fc1.weight", "vision.encoder.layers.0.mlp.fc1.weight"),
        ("model.visual.pos_embed.weight", "vision.embeddings.position_embedding.weight"),
        ("visual.post_conv_layernorm.weight", "vision.patch_norm.weight"),
        ("visual.post_layernorm.weight", "projector.post_layernorm.weight"),
        ("model.visual.downsample.bias", "projector.downsample.bias"),
        ("model.visual.merger.linear_fc2.weight", "projector.linear_fc2.weight"),
        ("model.visual.deepstack_merger_list.1.norm.bias", "projector.deepstack.1.norm.bias"),
        # InternVL's own code
        ("language_model.model.layers.0.self_attn.k_proj.bias", "decoder.layers.0.self_attn.k_proj.bias"),
        ("vision_model.embeddings.position_embedding", "vision.embeddings.position_embedding.weight"),
        ("vision_model.encoder.layers.7.attn.qkv.weight", "vision.encoder.layers.7.self_attn.qkv.weight"),
        ("vision_model.encoder.layers.7.norm2.bias", "vision.encoder.layers.7.layer_norm2.bias"),
        ("vision_model.encoder.layers.7.ls1", "vision.encoder.layers.7.lambda_1"),
        ("mlp1.0.bias", "projector.layer_norm.bias"),
        ("mlp1.3.weight", "projector.linear_2.weight"),
        # unknown names stay recognisable
        ("model.image_newline", "image_newline"),
        ("image_newline", "image_newline"),
        ("model.layerscale.weight", "model.layerscale.weight"),
    ],
)
def test_every_version_of_a_name_has_one_canonical_form(raw: str, canonical: str) -> None:
    assert canonical_name(raw) == canonical


@given(_NAMES)
def test_a_canonical_name_stays_as_it_is(raw: str) -> None:
    assert canonical_name(canonical_name(raw)) == canonical_name(raw)
