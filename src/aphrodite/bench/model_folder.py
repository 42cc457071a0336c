"""A model as a folder that everybody in a comparison can read: for what has no tokenizer, or no safetensors."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from aphrodite.bootstrap import OpenedModel
from aphrodite.domain.architectures.names import canonical_name
from aphrodite.domain.config import EngineConfig

_TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json")
_TEXT_PREFIXES = {"decoder.": "model.", "lm_head.": "lm_head."}
_LLAVA_PREFIXES = {  # as in checkpoints of transformers 4, which everybody reads
    "decoder.": "language_model.model.",
    "lm_head.": "language_model.lm_head.",
    "vision.": "vision_tower.vision_model.",
    "projector.": "multi_modal_projector.",
}


def with_tokenizer(config: EngineConfig, into: Path) -> EngineConfig:
    """`config`, or for dummy weights and a folder that holds a configuration alone, one of a completed copy.

    The tokenizer made up for it has a word for each token id, and the image processor the size of the tower's input.
    """
    folder = Path(config.model)
    if config.load_format != "dummy" or config.tokenizer is not None or not (folder / "config.json").is_file():
        return config
    if any((folder / file).is_file() for file in _TOKENIZER_FILES):
        return config
    settings = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    for file in folder.glob("*.json"):
        shutil.copy(file, into)
    _write_tokenizer(settings, into)
    if "vision_config" in settings and not (folder / "preprocessor_config.json").is_file():
        _write_processor(settings, into)
    return replace(config, model=str(into))


def shared_folder(model: OpenedModel, load_format: str, into: Path) -> Path:
    """Where the model lies with its weights in safetensors; written to `into` unless they lie so already."""
    if model.location.gguf_file is None and load_format != "dummy":
        return model.location.folder
    if model.location.gguf_file is None:
        for file in (*model.location.folder.glob("*.json"), *model.location.folder.glob("tokenizer.model")):
            if file.name != "model.safetensors.index.json" and file.resolve().parent != into.resolve():
                shutil.copy(file, into)
    else:
        from transformers import AutoTokenizer

        loader: Any = AutoTokenizer
        loader.from_pretrained(model.location.folder, gguf_file=model.location.gguf_file).save_pretrained(into)
        (into / "config.json").write_text(json.dumps(dict(model.checkpoint.config), default=str), encoding="utf-8")
    _write_weights(model, into / "model.safetensors")
    return into


def _write_weights(model: OpenedModel, file: Path) -> None:
    from safetensors.numpy import save_file

    prefixes = _TEXT_PREFIXES if model.spec.vision is None else _LLAVA_PREFIXES
    tensors: dict[str, np.ndarray] = {}
    for raw_name, tensor in model.checkpoint.tensors():
        name = canonical_name(raw_name)
        prefix = next(prefix for prefix in prefixes if name.startswith(prefix))
        tensors[prefixes[prefix] + name.removeprefix(prefix)] = np.ascontiguousarray(tensor)
    save_file(tensors, file, metadata={"format": "pt"})


def _write_tokenizer(settings: dict[str, Any], into: Path) -> None:
    from tokenizers import AddedToken, Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    wrapper: Any = PreTrainedTokenizerFast
    text = settings.get("text_config") or settings
    image_token_id = settings.get("image_token_index", settings.get("image_token_id"))
    words = [f"word{token_id}" for token_id in range(text.get("vocab_size", 32000))]
    if image_token_id is not None:
        words[image_token_id] = "<image>"
    tokenizer = Tokenizer(models.WordLevel({word: token_id for token_id, word in enumerate(words)}, words[0]))
    if image_token_id is not None:
        tokenizer.add_special_tokens([AddedToken("<image>", special=True, normalized=False)])
    wrapper(tokenizer_object=tokenizer, clean_up_tokenization_spaces=False).save_pretrained(into)


def _write_processor(settings: dict[str, Any], into: Path) -> None:
    vision = settings["vision_config"]
    is_clip = vision.get("model_type") == "clip_vision_model"
    size = vision.get("image_size", 224)
    square = {"height": size, "width": size}
    image = (
        {"image_processor_type": "CLIPImageProcessor", "size": {"shortest_edge": size}, "crop_size": square}
        if is_clip
        else {"image_processor_type": "SiglipImageProcessor", "size": square}
    )
    processor = {
        "processor_class": "LlavaProcessor",
        "image_token": "<image>",
        "patch_size": vision.get("patch_size", 32),
        "vision_feature_select_strategy": settings.get("vision_feature_select_strategy", "default"),
        "num_additional_image_tokens": int(is_clip),
    }
    for name, content in (("preprocessor_config.json", image), ("processor_config.json", processor)):
        (into / name).write_text(json.dumps(content), encoding="utf-8")
