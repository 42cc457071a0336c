"""Transformers' processors, those too that want torchvision or num2words for videos: put together here without. And
ours, of the same folder."""

import json
import sys
from pathlib import Path
from typing import Any
from unittest.mock import patch

from aphrodite.adapters.outbound.huggingface.checkpoint import SafetensorsCheckpoint
from aphrodite.adapters.outbound.huggingface.location import ModelLocation
from aphrodite.adapters.outbound.huggingface.processor import HuggingFaceProcessor
from aphrodite.adapters.outbound.huggingface.tokenizer import HuggingFaceTokenizer
from aphrodite.domain.architectures.registry import read_model

_WANT_TORCHVISION = (
    "Glm46VProcessor", "Glm4vProcessor", "InternVLProcessor", "LightOnOcrProcessor", "LlavaOnevisionProcessor",
    "PaddleOCRVLProcessor", "PixtralProcessor", "Qwen2VLProcessor", "Qwen3VLProcessor", "SmolVLMProcessor",
)  # fmt: skip


def save_processor(name: str, image_processor: Any, folder: Path, **settings: Any) -> None:
    """What a processor of that class would save, beside its tokenizer."""
    image_processor.save_pretrained(folder)
    (folder / "processor_config.json").write_text(json.dumps({"processor_class": name, **settings}))


def load_processor(folder: Path) -> Any:
    """The processor of a checkpoint, whose own code expands placeholders."""
    import transformers
    from transformers.models.pixtral import image_processing_pil_pixtral
    from transformers.processing_utils import ProcessorMixin

    file = folder / "processor_config.json"
    settings = json.loads(file.read_text()) if file.is_file() else {}
    name = settings.pop("processor_class", None)
    if name not in _WANT_TORCHVISION:
        return transformers.AutoProcessor.from_pretrained(folder)
    image_processor = transformers.AutoImageProcessor.from_pretrained(folder, backend="pil")
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    # Of this module a function alone is used, which is the same in both.
    pillow_for_torchvision = {"transformers.models.pixtral.image_processing_pixtral": image_processing_pil_pixtral}
    with (
        patch.dict(sys.modules, pillow_for_torchvision),
        patch.object(ProcessorMixin, "check_argument_for_proper_class", lambda *_: None),
    ):
        if name == "PixtralProcessor":
            from transformers.models.pixtral.processing_pixtral import PixtralProcessor

            return PixtralProcessor(image_processor, tokenizer, **settings)
        if name == "SmolVLMProcessor":
            from transformers.models.smolvlm import processing_smolvlm

            with patch.object(processing_smolvlm, "num2words", str):  # for the number of a video's frames
                return processing_smolvlm.SmolVLMProcessor(image_processor, tokenizer, None, **settings)
        return getattr(transformers, name)(image_processor, tokenizer, **settings)


def load_ours(folder: Path, fingerprint: bytes = b"model", **settings: Any) -> HuggingFaceProcessor:
    """The processor under test."""
    checkpoint = SafetensorsCheckpoint(folder)
    model = read_model(checkpoint.config)
    tokenizer = HuggingFaceTokenizer(
        ModelLocation(folder),
        vocab_size=model.decoder.vocab_size,
        config=checkpoint.config,
        generation_config=checkpoint.generation_config,
        image_token_id=model.image_token_id,
    )
    return HuggingFaceProcessor(tokenizer, model, folder, fingerprint=fingerprint, settings=settings)
