"""InternVL checkpoints as their authors publish them, made of those that transformers writes."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from tests.builders import tiny_internvl

CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
_NAMES = (
    (r"^model\.language_model\.", "language_model.model."),
    (r"^lm_head\.", "language_model.lm_head."),
    (r"^model\.multi_modal_projector\.layer_norm\.", "mlp1.0."),
    (r"^model\.multi_modal_projector\.linear_1\.", "mlp1.1."),
    (r"^model\.multi_modal_projector\.linear_2\.", "mlp1.3."),
    (r"^model\.vision_tower\.", "vision_model."),
    (r"\.encoder\.layer\.", ".encoder.layers."),
    (r"\.cls_token$", ".class_embedding"),
    (r"\.position_embeddings$", ".position_embedding"),
    (r"\.patch_embeddings\.projection\.", ".patch_embedding."),
    (r"\.lambda_", ".ls"),
    (r"\.attention\.projection_layer\.", ".attn.proj."),
    (r"\.attention\.", ".attn."),
    (r"\.layernorm_before\.", ".norm1."),
    (r"\.layernorm_after\.", ".norm2."),
)


def tiny_internvl_chat(folder: Path, **settings: Any) -> Path:
    """Save an InternVLChatModel, and in the folder's `transformers` the same model in that library's form."""
    theirs = tiny_internvl(folder / "transformers", **settings)
    for name in ("tokenizer.json", "tokenizer_config.json", "generation_config.json"):
        shutil.copy(theirs / name, folder)
    tokenizer = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer | {"chat_template": CHATML}))
    (theirs / "chat_template.jinja").unlink(missing_ok=True)
    config = json.loads((theirs / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(_config(config)))
    processor = {"feature_extractor_type": "CLIPFeatureExtractor", "size": 28, "crop_size": 28, "do_center_crop": True}
    (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    save_file(_tensors(load_file(theirs / "model.safetensors")), folder / "model.safetensors")
    return folder


def _config(theirs: dict[str, Any]) -> dict[str, Any]:
    """As files of transformers 4 have it."""
    vision, decoder = theirs["vision_config"], theirs["text_config"]
    rope = decoder.pop("rope_parameters")
    decoder |= {
        "rope_theta": rope["rope_theta"],
        "rope_scaling": {"type": "dynamic", "rope_type": "dynamic", "factor": 2.0},
        "architectures": ["Qwen2ForCausalLM"],
        "torch_dtype": "bfloat16",
        "_attn_implementation_autoset": True,
        "use_bfloat16": True,
    }
    return {
        "model_type": "internvl_chat",
        "architectures": ["InternVLChatModel"],
        "auto_map": {"AutoConfig": "configuration_internvl_chat.InternVLChatConfig"},
        "torch_dtype": "bfloat16",
        "force_image_size": 28,
        "downsample_ratio": theirs["downsample_ratio"],
        "select_layer": theirs["vision_feature_layer"],
        "template": "internvl2_5",
        "ps_version": "v2",
        "pad2square": False,
        "dynamic_image_size": True,
        "use_thumbnail": True,
        "min_dynamic_patch": 1,
        "max_dynamic_patch": 4,
        "llm_config": decoder,
        "vision_config": {
            "model_type": "intern_vit_6b",
            "qkv_bias": vision["attention_bias"],
            "qk_normalization": vision["use_qk_norm"],
            "image_size": vision["image_size"][0],
            "patch_size": vision["patch_size"][0],
            **{name: vision[name] for name in _SAME_IN_THE_TOWER},
        },
    }


_SAME_IN_THE_TOWER = (
    "hidden_act", "hidden_size", "intermediate_size", "layer_norm_eps", "norm_type", "num_attention_heads",
    "num_channels", "num_hidden_layers",
)  # fmt: skip


def _tensors(theirs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    tensors: dict[str, torch.Tensor] = {}
    for name, tensor in theirs.items():
        renamed = name
        for pattern, words in _NAMES if "language_model" not in name else _NAMES[:1]:
            renamed = re.sub(pattern, words, renamed)
        tensors[renamed] = tensor
    for name in [name for name in tensors if ".attn.q_proj." in name]:
        parts = [tensors.pop(name.replace("q_proj", f"{part}_proj")) for part in "qkv"]
        tensors[name.replace("q_proj", "qkv")] = torch.cat(parts)
    return tensors
