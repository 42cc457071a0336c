from pathlib import Path

import torch
from tests.backends.cuda.place import Place
from tests.builders import tiny_llava

from aphrodite.adapters.outbound.huggingface.checkpoint import SafetensorsCheckpoint
from aphrodite.backends.cuda.encoder import Encoder
from aphrodite.backends.cuda.gpu.graphs import CudaCapture
from aphrodite.backends.cuda.vision import VisionTower
from aphrodite.backends.cuda.weights import load_weights
from aphrodite.domain.architectures.registry import read_model
from aphrodite.domain.architectures.spec import PixelNormalization


@torch.inference_mode()
def test_pictures_have_the_features_that_the_tower_gives_them(place: Place, tmp_path: Path) -> None:
    """Also between the sizes of graphs and past the largest. In the interpreter nothing is captured."""
    checkpoint = SafetensorsCheckpoint(tiny_llava(tmp_path))
    model = read_model(checkpoint.config)
    assert model.vision is not None
    weights = load_weights(model, checkpoint, torch.float32, place.device)
    tower = VisionTower(model.vision, weights, PixelNormalization(1 / 255, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)))
    encoder = Encoder(tower, place.device)
    encoder.capture(CudaCapture(place.device) if place.device.type == "cuda" else lambda function: function, 9)
    shape = (model.vision.num_patches, model.vision.patch_bytes)
    generator = torch.Generator().manual_seed(0)
    for num_images in (1, 3, 8, 2, 9):
        patches = torch.randint(0, 256, (num_images, *shape), dtype=torch.uint8, generator=generator).to(place.device)
        found = encoder.encode_segments(patches)
        torch.testing.assert_close(found, tower.encode(patches), atol=1e-4, rtol=1e-4)
