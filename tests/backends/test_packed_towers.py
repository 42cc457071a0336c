"""The towers of Qwen-VL and GLM-V with pictures of several sizes at once, against transformers' own."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
import torch
from tests.parity.pictures import make
from transformers.models.glm4v.configuration_glm4v import Glm4vVisionConfig
from transformers.models.glm4v.modeling_glm4v import Glm4vVisionModel
from transformers.models.glm_ocr.configuration_glm_ocr import GlmOcrVisionConfig
from transformers.models.glm_ocr.modeling_glm_ocr import GlmOcrVisionModel
from transformers.models.qwen2_5_vl.configuration_qwen2_5_vl import Qwen2_5_VLVisionConfig
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import Qwen2_5_VisionTransformerPretrainedModel
from transformers.models.qwen2_vl.configuration_qwen2_vl import Qwen2VLVisionConfig
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil
from transformers.models.qwen2_vl.modeling_qwen2_vl import Qwen2VisionTransformerPretrainedModel
from transformers.models.qwen3_vl.configuration_qwen3_vl import Qwen3VLVisionConfig
from transformers.models.qwen3_vl.modeling_qwen3_vl import Qwen3VLVisionModel

from aphrodite.adapters.outbound.huggingface.image_processing import HuggingFaceImageProcessing, TileSize
from aphrodite.backends.cuda.vision import VisionTower
from aphrodite.backends.jax_tpu import vision as jax_vision
from aphrodite.backends.jax_tpu.encoder import batches
from aphrodite.domain.architectures.config_fields import ConfigFields
from aphrodite.domain.architectures.families.glm4v import read_glm4v_tower, read_glm_ocr_tower
from aphrodite.domain.architectures.families.qwen3_vl import read_qwen3_vl_tower
from aphrodite.domain.architectures.families.qwen_vl_tower import (
    qwen_vl_layout,
    read_qwen2_5_vl_tower,
    read_qwen2_vl_tower,
)
from aphrodite.domain.architectures.images.image import ImageInput, cut_patches
from aphrodite.domain.architectures.images.layout import Tiles
from aphrodite.domain.architectures.names import canonical_name
from aphrodite.domain.architectures.spec import PixelNormalization
from aphrodite.domain.architectures.vision_spec import VisionSpec
from aphrodite.domain.architectures.vision_weights import vision_weights
from aphrodite.domain.scheduling.encoding import encoder_inputs
from aphrodite.domain.scheduling.step import ImageToEncode

Encode = Callable[
    [VisionSpec, PixelNormalization, dict[str, np.ndarray], list[ImageToEncode]], np.ndarray
]  # features [F, E]
SIZES = ((60, 60), (100, 30), (7, 90), (57, 83))
PATCH = {"patch_size": 6, "temporal_patch_size": 2}
GLM = {
    "depth": 2,
    "hidden_size": 32,
    "num_heads": 2,
    "intermediate_size": 40,
    "out_hidden_size": 24,
    "attention_bias": True,
}
TOWERS: dict[str, tuple[Any, Any, Callable[[ConfigFields], VisionSpec]]] = {
    "qwen2_vl": (
        Qwen2VisionTransformerPretrainedModel,
        Qwen2VLVisionConfig(depth=2, embed_dim=32, num_heads=2, hidden_size=24, mlp_ratio=2, **PATCH),
        read_qwen2_vl_tower,
    ),
    "qwen2_5_vl": (
        Qwen2_5_VisionTransformerPretrainedModel,
        Qwen2_5_VLVisionConfig(
            depth=3,
            hidden_size=32,
            num_heads=2,
            intermediate_size=40,
            out_hidden_size=24,
            window_size=36,
            fullatt_block_indexes=[1],
            **PATCH,
        ),
        read_qwen2_5_vl_tower,
    ),
    "qwen3_vl": (
        Qwen3VLVisionModel,
        Qwen3VLVisionConfig(
            depth=4,
            hidden_size=32,
            num_heads=2,
            intermediate_size=40,
            out_hidden_size=24,
            num_position_embeddings=25,
            deepstack_visual_indexes=[0, 2],
            **PATCH,
        ),
        read_qwen3_vl_tower,
    ),
    "glm4v": (Glm4vVisionModel, Glm4vVisionConfig(image_size=31, **GLM, **PATCH), read_glm4v_tower),
    "glm_ocr": (GlmOcrVisionModel, GlmOcrVisionConfig(**GLM, **PATCH), read_glm_ocr_tower),
}


def on_torch(
    spec: VisionSpec, normalization: PixelNormalization, weights: dict[str, np.ndarray], images: list[ImageToEncode]
) -> np.ndarray:
    tower = VisionTower(spec, {name: torch.from_numpy(array) for name, array in weights.items()}, normalization)
    given = encoder_inputs(images, spec)
    patches, coordinates = torch.from_numpy(given.patches), torch.from_numpy(given.coordinates)
    positions = None
    if given.position_taps is not None and given.position_weights is not None:
        positions = torch.from_numpy(given.position_taps), torch.from_numpy(given.position_weights)
    rows = tower.encode_packed(patches, coordinates, given.segments, given.windows, positions)
    return rows[torch.from_numpy(given.taps).long()].numpy()


def on_jax(
    spec: VisionSpec, normalization: PixelNormalization, weights: dict[str, np.ndarray], images: list[ImageToEncode]
) -> np.ndarray:
    """Padded, as in the backend."""
    [batch] = batches(images, spec, (1024,), padding_row=-1)
    on_device = jax.tree.map(jax.numpy.asarray, weights)
    with jax.default_matmul_precision("highest"):
        rows = jax.jit(lambda patches, places: jax_vision.encode(spec, normalization, on_device, patches, places)[0])(
            batch.arrays.patches, batch.arrays.places
        )
    return np.asarray(rows)[batch.arrays.taps[batch.arrays.rows >= 0]]


@pytest.mark.parametrize("encode", [on_torch, on_jax])
@pytest.mark.parametrize("name", TOWERS)
@torch.inference_mode()
def test_features_are_those_of_transformers(name: str, encode: Encode, tmp_path: Path) -> None:
    kind, config, read = TOWERS[name]
    theirs = kind(config).eval()
    generator = torch.Generator().manual_seed(0)
    for parameter in theirs.parameters():
        parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.2)
    processor = Qwen2VLImageProcessorPil(size={"shortest_edge": 24 * 24, "longest_edge": 72 * 72}, **PATCH)
    pictures = [make("RGB", *size).rgb for size in SIZES]
    read_by_them = processor(pictures, return_tensors="pt")
    answer = theirs(read_by_them["pixel_values"], read_by_them["image_grid_thw"])
    expected = torch.cat((answer.pooler_output, *getattr(answer, "deepstack_features", ())), dim=-1)

    fields = ConfigFields(config.to_dict())
    spec = read(fields)
    layout = qwen_vl_layout(7, fields, spec)
    processor.save_pretrained(tmp_path)
    processing = HuggingFaceImageProcessing(tmp_path, TileSize.of(spec), fingerprint=b"")
    images, first = list[ImageToEncode](), 0
    for picture in pictures:
        tiles = processing.read(picture).tiles
        height, width = tiles.shape[1] // spec.patch_size, tiles.shape[2] // spec.patch_size
        laid_out = layout.lay_out(*picture.size, Tiles(1, 0, 0, height, width))
        image = ImageInput(cut_patches(tiles, spec.patch_size)[laid_out.order], laid_out.plan, b"")
        rows = np.arange(first, first + laid_out.plan.num_features, dtype=np.int32)
        first += len(rows)
        images.append(ImageToEncode(image, rows))
    tensors = {canonical_name(f"visual.{key}"): value.numpy() for key, value in theirs.state_dict().items()}
    weights = {
        weight.name: np.concatenate([source.prepare(tensors[source.name]) for source in weight.sources])
        for weight in vision_weights(spec)
    }
    found = encode(spec, processing.normalization, weights, images)
    np.testing.assert_allclose(found, expected.numpy(), rtol=1e-4, atol=1e-4)
