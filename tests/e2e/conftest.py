"""One server for most tests: a tiny LLaVA on the CPU, and pictures by URL."""

import io
from collections.abc import Iterator
from pathlib import Path

import openai
import pytest
from PIL import Image
from tests.builders import tiny_llava
from tests.e2e.server_process import SMALL, ServerProcess, image_server, running

MODEL = "tiny"


def picture(kind: str, colour: int | tuple[int, int, int] = 128) -> bytes:
    """A flat picture; of one grey every kind has the same pixels."""
    grey = colour if isinstance(colour, int) else colour[0]
    rgb = (colour,) * 3 if isinstance(colour, int) else colour
    images = {
        "jpeg": (Image.new("RGB", (40, 40), rgb), "JPEG"),
        "palette": (Image.new("L", (40, 40), grey).convert("P"), "PNG"),
        "rgb": (Image.new("RGB", (40, 40), rgb), "PNG"),
        "rgba": (Image.new("RGBA", (40, 40), (*rgb, 255)), "PNG"),
    }
    image, file_format = images[kind]
    buffer = io.BytesIO()
    image.save(buffer, file_format)
    return buffer.getvalue()


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    # Room for answers that take seconds, so that there is time to interrupt them.
    return tiny_llava(tmp_path_factory.mktemp("llava"), text_overrides={"max_position_embeddings": 4096})


@pytest.fixture(scope="session")
def images() -> Iterator[str]:
    files = {f"/{kind}": picture(kind) for kind in ("jpeg", "palette", "rgb", "rgba")}
    files["/red"], files["/text"] = picture("rgb", (200, 10, 10)), b"no picture at all"
    with image_server(files) as url:
        yield url


@pytest.fixture(scope="session")
def media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that file:// URLs may point into."""
    folder = tmp_path_factory.mktemp("media")
    (folder / "grey.png").write_bytes(picture("rgb"))
    return folder


@pytest.fixture(scope="session")
def server(checkpoint: Path, media: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    log = tmp_path_factory.mktemp("server") / "log"
    args = ("--allowed-image-hosts", "127.0.0.1", "--allowed-local-media-path", str(media))
    names = ("--served-model-name", MODEL, "--served-model-name", "llava-hf/llava-1.5-7b-hf")
    with running(log, str(checkpoint), *SMALL, *args, *names) as process:
        yield process


@pytest.fixture(scope="session")
def client(server: ServerProcess) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(api_key="EMPTY", base_url=f"{server.url}/v1", max_retries=0, timeout=60) as made:
        yield made
