"""The fake and the real adapters behind each port; the suites here run on all of them."""

from pathlib import Path

import pytest
from tests import compiled_programs, fakes
from tests.builders import tiny_llava

from aphrodite.adapters.outbound.huggingface.checkpoint import SafetensorsCheckpoint
from aphrodite.adapters.outbound.huggingface.location import ModelLocation
from aphrodite.adapters.outbound.huggingface.processor import HuggingFaceProcessor
from aphrodite.adapters.outbound.huggingface.tokenizer import HuggingFaceTokenizer
from aphrodite.domain.architectures.registry import read_model
from aphrodite.domain.ports import CheckpointSource, Processor, Tokenizer


@pytest.fixture(scope="session", autouse=True)
def _keep_compiled_programs(pytestconfig: pytest.Config) -> None:
    compiled_programs.keep(pytestconfig)


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("contract")
    tiny_llava(folder, tower="clip", text="llama")
    return folder


@pytest.fixture(scope="session")
def real_checkpoint(folder: Path) -> SafetensorsCheckpoint:
    return SafetensorsCheckpoint(folder)


@pytest.fixture(scope="session")
def real_tokenizer(folder: Path, real_checkpoint: SafetensorsCheckpoint) -> HuggingFaceTokenizer:
    model = read_model(real_checkpoint.config)
    return HuggingFaceTokenizer(
        ModelLocation(folder),
        vocab_size=model.decoder.vocab_size,
        config=real_checkpoint.config,
        generation_config=real_checkpoint.generation_config,
        image_token_id=model.image_token_id,
    )


@pytest.fixture(scope="session")
def real_processor(
    folder: Path, real_checkpoint: SafetensorsCheckpoint, real_tokenizer: HuggingFaceTokenizer
) -> HuggingFaceProcessor:
    return HuggingFaceProcessor(real_tokenizer, read_model(real_checkpoint.config), folder, fingerprint=b"contract")


@pytest.fixture(params=["fake", "safetensors"])
def checkpoint(request: pytest.FixtureRequest, real_checkpoint: SafetensorsCheckpoint) -> CheckpointSource:
    weights = dict(real_checkpoint.tensors())
    return real_checkpoint if request.param == "safetensors" else fakes.FakeCheckpoint({}, {}, weights)


@pytest.fixture(params=["fake", "huggingface"])
def tokenizer(request: pytest.FixtureRequest, real_tokenizer: HuggingFaceTokenizer) -> Tokenizer:
    return real_tokenizer if request.param == "huggingface" else fakes.FakeTokenizer()


@pytest.fixture(params=["fake", "huggingface"])
def processor(request: pytest.FixtureRequest, real_processor: HuggingFaceProcessor) -> Processor:
    return real_processor if request.param == "huggingface" else fakes.FakeProcessor()
