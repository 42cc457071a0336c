"""The folders of InternVL's authors: what is read beside their config.json, and what of it is refused."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from tests.internvl_chat import tiny_internvl_chat
from transformers import AutoTokenizer

from aphrodite.adapters.outbound.huggingface.configuration import read_config
from aphrodite.domain.architectures.registry import read_model
from aphrodite.domain.errors import CheckpointError, UnsupportedModelError


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_internvl_chat(tmp_path_factory.mktemp("internvl-chat"))


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    for file in made.glob("*.json"):
        shutil.copy(file, tmp_path)
    return tmp_path


def edit(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize("place", ["tokenizer.json", "tokenizer_config.json", "added_tokens.json"])
def test_ids_of_tokens_come_from_any_file_that_has_them(folder: Path, place: str) -> None:
    """The ids of strings that the model's own code asks its tokenizer for."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    ids = {token: tokenizer.convert_tokens_to_ids(token) for token in ("<IMG_CONTEXT>", "<|im_end|>")}
    if place != "tokenizer.json":
        (folder / "tokenizer.json").unlink()
    if place == "tokenizer_config.json":
        decoder = {str(token_id): {"content": token, "special": True} for token, token_id in ids.items()}
        edit(folder / "tokenizer_config.json", added_tokens_decoder=decoder)
    if place == "added_tokens.json":
        (folder / "added_tokens.json").write_text(json.dumps(ids))
    config = read_config(folder)
    assert (config["image_token_id"], config["eos_token_id"]) == tuple(ids.values())
    assert read_model(config).image_token_id == ids["<IMG_CONTEXT>"]


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ({"added_tokens": []}, "has no added token <IMG_CONTEXT>"),
        ({"added_tokens": [{"id": 3}]}, "The added tokens of the tokenizer in"),
    ],
)
def test_a_tokenizer_that_does_not_know_the_image_token(folder: Path, content: dict[str, Any], sentence: str) -> None:
    (folder / "tokenizer.json").write_text(json.dumps(content))
    with pytest.raises(CheckpointError, match=sentence):
        read_config(folder)


def test_a_decoder_that_is_not_valid(folder: Path) -> None:
    edit(folder / "config.json", llm_config={"model_type": "qwen2", "num_hidden_layers": "many"})
    with pytest.raises(CheckpointError, match=r"The llm_config of .*config.json is not valid for a qwen2 model"):
        read_config(folder)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"ps_version": "v1"}, "ps_version = 'v1'; supported is one of v2"),
        ({"force_image_size": 56}, "force_image_size = 56; supported is the tower's image_size, 28"),
        ({"pad2square": True}, "pad2square = True; supported is false"),
        ({"use_thumbnail": False}, "use_thumbnail = False; supported is true where dynamic_image_size is"),
        ({"select_layer": -4}, "select_layer = -4; supported is integers from -3 to 2"),
        ({"downsample_ratio": 0.3}, "downsample_ratio = 0.3"),
        ({"max_dynamic_patch": 0}, "max_dynamic_patch = 0"),
        ({"llm_config": {"model_type": "internlm2"}}, "llm_config.model_type = 'internlm2'; supported is one of"),
        ({"llm_config": None}, "llm_config = None; supported is a dictionary"),
    ],
)
def test_what_we_cannot_run_is_named_in_the_words_of_the_file(
    folder: Path, change: dict[str, Any], sentence: str
) -> None:
    edit(folder / "config.json", **change)
    with pytest.raises(UnsupportedModelError, match=re.escape(sentence)):
        read_model(read_config(folder))


def test_a_folder_without_tiles_makes_one_of_each_picture(folder: Path) -> None:
    edit(folder / "config.json", dynamic_image_size=False, use_thumbnail=False)
    model = read_model(read_config(folder))
    assert model.image_processor is not None
    assert model.image_processor["max_patches"] == 1
