"""Checkpoint tensor names: what transformers wrote over the years, to one canonical form.

canonical     text-only         LLaVA, transformers 4         late 4.x                            5
decoder.      model. or none    language_model.model.         model.language_model.               as late 4.x
lm_head.      lm_head.          language_model.lm_head.       lm_head.                            lm_head.
vision.                         vision_tower.vision_model.    model.vision_tower.vision_model.    model.vision_tower.
projector.                      multi_modal_projector.        model.multi_modal_projector.        as late 4.x
image_newline                   image_newline                 model.image_newline                 as late 4.x
"""

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aphrodite.domain.architectures.spec import ModelSpec

_PREFIXES = (
    (re.compile(r"(?:model\.)?vision_tower\.(?:vision_model\.)?"), "vision."),
    (re.compile(r"(?:model\.)?vision_model\.(?:vision_model\.)?"), "vision."),
    (re.compile(r"model\.vision_encoder\."), "vision."),
    (re.compile(r"model\.vision_projection\."), "projector."),
    (re.compile(r"model\.aligner\.linear(?=[12]\.)"), "projector.linear_"),
    (re.compile(r"(?:model\.)?visual\.vision_model\."), "vision."),
    (re.compile(r"(?:model\.projector|mlp_AR)\."), "projector."),
    (re.compile(r"mlp1\.0\."), "projector.layer_norm."),
    (re.compile(r"mlp1\.1\."), "projector.linear_1."),
    (re.compile(r"mlp1\.3\."), "projector.linear_2."),
    (re.compile(r"(?:model\.)?visual\.merger\.mlp\.0\."), "projector.linear_1."),
    (re.compile(r"(?:model\.)?visual\.merger\.mlp\.2\."), "projector.linear_2."),
    (re.compile(r"(?:model\.)?visual\.(?:merger\.|(?=(?:post_layernorm|downsample)\.))"), "projector."),
    (re.compile(r"(?:model\.)?visual\.deepstack_merger_list\."), "projector.deepstack."),
    (re.compile(r"(?:model\.)?visual\."), "vision."),
    (re.compile(r"(?:model\.)?multi_modal_projector\.mm_input_projection_weight"), "projector.mm_input_projection"),
    (re.compile(r"(?:model\.)?multi_modal_projector\."), "projector."),
    (re.compile(r"model\.connector\.modality_projection\.proj\."), "projector.linear_1."),
    (re.compile(r"model\.text_model\."), "decoder."),
    (re.compile(r"(?:model\.)?(?=image_newline$)"), ""),
    (re.compile(r"(?:model\.)?language_model\.lm_head\."), "lm_head."),
    (re.compile(r"(?:model\.)?language_model\.(?:model\.)?"), "decoder."),
    (re.compile(r"(?:model\.)?(?=(?:embed_tokens|layers|norm|rotary_emb)\.)"), "decoder."),
)

# Within the tower: the names of InternViT, Pixtral, Qwen's and GLM's towers in CLIP's words.
_TOWER_NAMES = (
    (re.compile(r"vision\.encoder\.layer\."), "vision.encoder.layers."),
    (re.compile(r"\.attention\.projection_layer\."), ".self_attn.out_proj."),
    (re.compile(r"\.attention\.(?=[qkv]_(?:proj|norm)\.)"), ".self_attn."),
    (re.compile(r"\.layernorm_before\."), ".layer_norm1."),
    (re.compile(r"\.layernorm_after\."), ".layer_norm2."),
    (re.compile(r"embeddings\.cls_token$"), "embeddings.class_embedding"),
    (re.compile(r"embeddings\.position_embeddings?$"), "embeddings.position_embedding.weight"),
    (re.compile(r"embeddings\.patch_embeddings\.projection\."), "embeddings.patch_embedding."),
    (re.compile(r"vision\.layernorm\."), "vision.post_layernorm."),
    (re.compile(r"vision\.patch_conv\."), "vision.embeddings.patch_embedding."),
    (re.compile(r"vision\.ln_pre\."), "vision.pre_layrnorm."),
    (re.compile(r"vision\.transformer\.layers\."), "vision.encoder.layers."),
    (re.compile(r"\.attention\.o_proj\."), ".self_attn.out_proj."),
    (re.compile(r"\.attention_norm\."), ".layer_norm1."),
    (re.compile(r"\.ffn_norm\."), ".layer_norm2."),
    (re.compile(r"\.feed_forward\."), ".mlp."),
    (re.compile(r"vision\.patch_embed\.proj\."), "vision.embeddings.patch_embedding."),
    (re.compile(r"vision\.blocks\."), "vision.encoder.layers."),
    (re.compile(r"\.norm(?=[12]\.)"), ".layer_norm"),
    (re.compile(r"\.ls(?=[12]$)"), ".lambda_"),
    (re.compile(r"\.attn\.qkv\."), ".self_attn.qkv."),
    (re.compile(r"\.attn\.proj\."), ".self_attn.out_proj."),
    (re.compile(r"\.attn\.(?=[qk]_norm\.)"), ".self_attn."),
    (re.compile(r"\.mlp\.linear_fc(?=[12]\.)"), ".mlp.fc"),
    (re.compile(r"vision\.pos_embed\."), "vision.embeddings.position_embedding."),
    (re.compile(r"vision\.post_conv_layernorm\."), "vision.patch_norm."),
)

# Within the decoder: Mixtral's names of experts.
_EXPERT_NAMES = (
    (re.compile(r"\.block_sparse_moe\."), ".mlp."),
    (re.compile(r"(?<=\.experts)\.(\d+)\.w1\."), r".\1.gate_proj."),
    (re.compile(r"(?<=\.experts)\.(\d+)\.w2\."), r".\1.down_proj."),
    (re.compile(r"(?<=\.experts)\.(\d+)\.w3\."), r".\1.up_proj."),
)

_ROTARY_BUFFER = re.compile(r"decoder\.(?:layers\.\d+\.self_attn\.)?rotary_emb\.inv_freq")
_DECODER_LAYER = re.compile(r"decoder\.layers\.(\d+)\.")
_UNUSED_VISION = re.compile(
    r"vision\.(?:post_layernorm\.(?:weight|bias)|embeddings\.(?:position_ids|mask_token|packing_position_embedding\.weight)|head\..+)"
)
_VISION_LAYER = re.compile(
    r"vision\.encoder\.layers\.(\d+)"
    r"\.(?:(?:layer_norm[12]|self_attn\.(?:(?:q|k|v|out)_proj|qkv|[qk]_norm)|mlp\.(?:fc[12]|(?:gate|up|down)_proj))\.(?:weight|bias)|lambda_[12])"
)


def canonical_name(raw: str) -> str:
    """The canonical form of a tensor's name; a canonical or unknown name comes back unchanged."""
    for pattern, prefix in _PREFIXES:
        match = pattern.match(raw)
        if match:
            name = prefix + raw[match.end() :]
            if prefix == "vision.":
                return _renamed(name, _TOWER_NAMES)
            return _renamed(name, _EXPERT_NAMES) if ".block_sparse_moe." in name else name
    return raw


def _renamed(name: str, table: Iterable[tuple[re.Pattern[str], str]]) -> str:
    for pattern, words in table:
        name = pattern.sub(words, name, count=1)
    return name


def is_unused(canonical: str, model: "ModelSpec") -> bool:
    """Whether checkpoints of `model` may carry this tensor although it never takes part in the computation.

    These are a decoder's spare layers, the tower's last norm, pooling head and layers above the highest feature layer,
    and buffers that newer versions compute.
    """
    if _ROTARY_BUFFER.fullmatch(canonical):
        return True
    spare = _DECODER_LAYER.match(canonical)
    if spare:
        return 0 <= int(spare[1]) - model.decoder.num_layers < model.decoder.num_spare_layers
    if model.vision is None:
        return False
    layer = _VISION_LAYER.fullmatch(canonical)
    if layer:
        return model.vision.num_used_layers <= int(layer[1]) < model.vision.num_layers
    is_post_norm = canonical.startswith("vision.post_layernorm.")
    return _UNUSED_VISION.fullmatch(canonical) is not None and not (is_post_norm and model.vision.has_post_norm)
