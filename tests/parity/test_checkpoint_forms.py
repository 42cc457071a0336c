"""One model in all the forms that checkpoints come in: the answers are those of the plain one."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file, save_file
from tests.builders import tiny_llava
from tests.parity.cases import IMAGE_CASES, TEXT_CASES, about
from tests.parity.comparison import REPORTED, assert_answers
from tests.parity.fixture_types import Folders, OpenLlm, References
from tests.parity.reference import Reference
from tests.parity.selection import not_on_jax_tpu, sparing
from torch import Tensor
from transformers import LlavaForConditionalGeneration

CASES = (*IMAGE_CASES, *TEXT_CASES)


def early_version_4(name: str) -> str:
    """model.vision_tower.encoder... -> vision_tower.vision_model.encoder..., and so on."""
    for new, old in (
        ("model.vision_tower.", "vision_tower.vision_model."),
        ("model.language_model.", "language_model.model."),
        ("model.multi_modal_projector.", "multi_modal_projector."),
        ("lm_head.", "language_model.lm_head."),
    ):
        if name.startswith(new):
            return old + name.removeprefix(new)
    return name


def late_version_4(name: str) -> str:
    return name.replace("model.vision_tower.", "model.vision_tower.vision_model.")


@not_on_jax_tpu  # names are read in domain/architectures
@pytest.mark.parametrize("rename", [early_version_4, late_version_4])
@pytest.mark.parametrize("name", ["clip-llama", "siglip-qwen2"])
def test_names_of_older_versions(
    name: str, rename: Callable[[str], str], tmp_path: Path, folder: Folders, open_llm: OpenLlm, reference: References
) -> None:
    copy = Path(shutil.copytree(folder(name), tmp_path / "copy"))
    tensors = saved_by_version_5(folder(name), tmp_path)
    renamed = {rename(key): tensor for key, tensor in tensors.items()}
    assert len(renamed) == len(tensors)
    assert not renamed.keys() & {key for key in tensors if "vision_tower" in key}
    save_file(renamed, copy / "model.safetensors")
    with open_llm(copy) as llm:
        assert_answers(llm, reference(name), CASES)


def saved_by_version_5(folder: Path, tmp_path: Path) -> dict[str, Tensor]:
    """The weights under the names that the modules have in memory."""
    model = LlavaForConditionalGeneration.from_pretrained(folder)
    model.save_pretrained(tmp_path / "plain", save_original_format=False)
    tensors = load_file(tmp_path / "plain" / "model.safetensors")
    assert any(name.startswith("model.vision_tower.e") for name in tensors)
    return tensors


@pytest.mark.parametrize("name", sparing(["clip-llama", "llava-tied", "qwen3"], ["llava-tied"]))
def test_sharded(name: str, tmp_path: Path, folder: Folders, open_llm: OpenLlm, reference: References) -> None:
    copy = Path(shutil.copytree(folder(name), tmp_path / "copy"))
    (copy / "model.safetensors").unlink()
    reference(name).model.save_pretrained(copy, max_shard_size="30KB")
    assert len(list(copy.glob("model-*.safetensors"))) > 3
    with open_llm(copy) as llm:
        assert_answers(llm, reference(name), CASES if name != "qwen3" else TEXT_CASES)


@pytest.mark.parametrize("name", ["llama-tied", "llava-tied"])
@pytest.mark.parametrize("form", ["two different matrices", "two equal matrices", "the head alone"])
def test_the_file_decides_whether_embeddings_are_tied(
    form: str, name: str, tmp_path: Path, folder: Folders, open_llm: OpenLlm, caplog: pytest.LogCaptureFixture
) -> None:
    """As transformers loads it; the configuration says that they are."""
    copy = Path(shutil.copytree(folder(name), tmp_path / "copy"))
    tensors = load_file(copy / "model.safetensors")
    (embedding,) = [key for key in tensors if key.endswith("embed_tokens.weight")]
    head = "language_model.lm_head.weight" if embedding.startswith("language_model.") else "lm_head.weight"
    tensors[head] = tensors[embedding].clone()
    if form == "two different matrices":
        tensors[head] = tensors[head].flip(0).contiguous()
    if form == "the head alone":
        del tensors[embedding]
    save_file(tensors, copy / "model.safetensors", metadata={"format": "pt"})
    reference = Reference(copy)
    with open_llm(copy) as llm:
        assert_answers(llm, reference, CASES if name == "llava-tied" else TEXT_CASES)
    assert ("says that the output head is the embeddings' matrix" in caplog.text) == (form == "two different matrices")


@not_on_jax_tpu  # how weights are stored is read in domain/architectures
@pytest.mark.parametrize("form", ["swapped", "one by one"])
def test_forms_of_experts(form: str, tmp_path: Path, folder: Folders, open_llm: OpenLlm, reference: References) -> None:
    """transformers saves this model's experts merged; in its first checkpoints the axes of each are swapped."""
    copy = Path(shutil.copytree(folder("qwen3-vl-moe"), tmp_path / "copy"))
    tensors = {}
    for name, tensor in load_file(copy / "model.safetensors").items():
        if not name.endswith(("experts.gate_up_proj", "experts.down_proj")):
            tensors[name] = tensor
        elif form == "swapped":
            tensors[name] = tensor.mT.contiguous()
        else:
            prefix, _, part = name.rpartition(".")
            halves = ("gate_proj", "up_proj") if part == "gate_up_proj" else ("down_proj",)
            for index, expert in enumerate(tensor):
                for half, rows in zip(halves, expert.chunk(len(halves)), strict=True):
                    tensors[f"{prefix}.{index}.{half}.weight"] = rows.clone()
    save_file(tensors, copy / "model.safetensors")
    theirs = reference("qwen3-vl-moe")
    cases = [replace(case, prompt=theirs.in_its_words(case.prompt)) for case in (about(1), *TEXT_CASES)]
    with open_llm(copy) as llm:
        assert_answers(llm, theirs, cases)


@not_on_jax_tpu  # the processor knows of no backend
@pytest.mark.parametrize("name", ["clip-llama", "siglip-qwen3"])
def test_processor_configuration_without_patch_size(
    name: str, tmp_path: Path, folder: Folders, open_llm: OpenLlm, reference: References
) -> None:
    """As transformers 4 wrote it. Transformers 5 asks for patch_size, so the reference reads the modern form."""
    tower, family = name.split("-")
    legacy = tiny_llava(tmp_path, tower, family, legacy_processor=True)
    assert (legacy / "model.safetensors").read_bytes() == (folder(name) / "model.safetensors").read_bytes()
    assert "patch_size" not in json.loads((legacy / "preprocessor_config.json").read_text())
    assert not (legacy / "processor_config.json").exists()
    with open_llm(legacy) as llm:
        assert_answers(llm, reference(name), CASES)


def test_random_weights_are_those_of_the_seed(folder: Folders, open_llm: OpenLlm) -> None:
    def logprobs(seed: int) -> np.ndarray:
        with open_llm("clip-llama", load_format="dummy", seed=seed) as llm:
            (output,) = llm.generate(CASES[0].inputs, REPORTED, use_tqdm=False)
        return np.array([next(iter(found.values())).logprob for found in output.prompt_logprobs[1:]])

    assert np.array_equal(logprobs(1), logprobs(1))
    assert not np.allclose(logprobs(1), logprobs(2))
