import numpy as np
import torch
from tests.backends.cuda.place import Place

from aphrodite.backends.cuda.staging import Staging


def arrays(seed: int, length: int) -> list[np.ndarray]:
    generator = np.random.default_rng(seed)
    return [
        generator.integers(-9, 9, length, dtype=np.int32),
        np.empty((0, 2), np.int32),
        generator.integers(0, 256, (3, 5, 3), dtype=np.uint8),
        generator.normal(size=(2, 3)).astype(np.float32),
    ]


def test_every_send_arrives_whatever_follows_it(place: Place) -> None:
    """More sends than there are buffers, of growing sizes, while the device is busy with what came before."""
    staging = Staging(2, place.device)
    if place.device.type == "cuda":
        torch.cuda._sleep(100_000_000)
    expected = [arrays(seed, length) for seed, length in enumerate((3, 5, 1000, 4, 70_000, 2))]
    found = []
    for sent in expected:
        copies = [array.copy() for array in sent]
        found.append(staging.send(copies))
        for array in copies:
            array.fill(0)
    for sent, received in zip(expected, found, strict=True):
        for array, tensor in zip(sent, received, strict=True):
            assert tensor.device.type == place.device.type
            assert tensor.data_ptr() % 16 == 0
            np.testing.assert_array_equal(tensor.cpu().numpy(), array)


def test_pictures_that_cannot_be_written_to(place: Place) -> None:
    picture = np.ones((2, 4, 3), np.uint8)
    picture.flags.writeable = False
    [sent] = Staging(1, place.device).send([picture])
    assert sent.tolist() == picture.tolist()
