"""The shapes of llava-hf/llava-1.5-7b-hf, for what needs no weights."""

from aphrodite.domain.architectures.images.layout import FixedLayout
from aphrodite.domain.architectures.spec import AttentionSpec, DecoderSpec, ModelSpec, RopeSpec
from aphrodite.domain.architectures.vision_config import two_layers
from aphrodite.domain.architectures.vision_spec import VisionSpec

LLAVA_7B = ModelSpec(
    decoder=DecoderSpec(
        vocab_size=32064,
        hidden_size=4096,
        intermediate_size=11008,
        num_layers=32,
        num_heads=32,
        num_kv_heads=32,
        head_dim=128,
        max_position=4096,
        rms_norm_eps=1e-5,
        ropes=(RopeSpec(10000.0),) * 32,
        activation="silu",
        qkv_bias=False,
        output_bias=False,
        mlp_bias=False,
        qk_norm=False,
        attention=(AttentionSpec(128**-0.5),) * 32,
        experts=(None,) * 32,
        tied_embeddings=False,
    ),
    vision=VisionSpec(
        image_size=336,
        patch_size=14,
        hidden_size=1024,
        intermediate_size=4096,
        num_layers=24,
        num_heads=16,
        norm="layer",
        norm_eps=1e-5,
        activation="quick_gelu",
        has_class_token=True,
        has_pre_norm=True,
        patch_bias=False,
        feature_layers=(23,),
        drop_first_token=True,
        projector=two_layers(1024, 4096, "gelu", bias=True),
    ),
    images=FixedLayout(32000, 576),
)

CONFIG = {
    "architectures": ["LlavaForConditionalGeneration"],
    "model_type": "llava",
    "dtype": "bfloat16",
    "image_token_index": 32000,
    "vision_feature_layer": -2,
    "vision_feature_select_strategy": "default",
    "text_config": {
        "model_type": "llama",
        "vocab_size": 32064,
        "hidden_size": 4096,
        "intermediate_size": 11008,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 32,
        "max_position_embeddings": 4096,
        "rms_norm_eps": 1e-5,
    },
    "vision_config": {
        "model_type": "clip_vision_model",
        "image_size": 336,
        "patch_size": 14,
        "hidden_size": 1024,
        "intermediate_size": 4096,
        "num_hidden_layers": 24,
        "num_attention_heads": 16,
    },
}
"""What is read as LLAVA_7B."""
