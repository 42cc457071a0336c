"""The public API of offline inference: names, arguments, results."""

import inspect
import re
import subprocess
import sys
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, get_args, get_type_hints

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoTokenizer

import aphrodite
from aphrodite import LLM, CompletionOutput, Logprob, RequestOutput, SamplingParams
from aphrodite.domain.config import EngineConfig
from aphrodite.domain.errors import ImageError, SamplingParamsError
from aphrodite.inputs import PromptInputs, TextPrompt, TokensPrompt
from aphrodite.multimodal import MultiModalDataDict

GREEDY = SamplingParams(temperature=0, max_tokens=6)
QUESTION = "USER: <image>\nWhat is it?\nASSISTANT:"


def test_exported_names() -> None:
    assert sorted(aphrodite.__all__) == [
        "AsyncLLM", "CompletionOutput", "LLM", "Logprob", "RequestMetrics", "RequestOutput", "SamplingParams",
        "StructuredOutputs",
    ]  # fmt: skip
    for name in aphrodite.__all__:
        assert getattr(aphrodite, name).__name__ == name
    assert dir(aphrodite) == sorted(aphrodite.__all__)
    with pytest.raises(AttributeError, match="nothing"):
        _ = aphrodite.nothing


def test_prompt_types() -> None:
    assert get_args(PromptInputs) == (str, TextPrompt, TokensPrompt)
    optional = {"multi_modal_data", "mm_processor_kwargs"}
    assert (TextPrompt.__required_keys__, TextPrompt.__optional_keys__) == ({"prompt"}, optional)
    assert TokensPrompt.__required_keys__ == {"prompt_token_ids"}
    assert MultiModalDataDict.__optional_keys__ == {"image"}
    assert "multi_modal_data" in get_type_hints(TextPrompt, localns={"Image": Image.Image, "npt": np.typing, "np": np})


def test_import_is_light() -> None:
    code = (
        "import sys, aphrodite, aphrodite.inputs, aphrodite.multimodal\n"
        "heavy = {'torch', 'jax', 'transformers', 'PIL', 'numpy'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_arguments() -> None:
    def arguments(function: Any) -> dict[str, Any]:
        return {name: p.default for name, p in inspect.signature(function).parameters.items() if name != "self"}

    documented = {
        "model": inspect.Parameter.empty,
        "tokenizer": None,
        "backend": "auto",
        "device": "auto",
        "dtype": "auto",
        "revision": None,
        "trust_remote_code": False,
        "load_format": "auto",
        "max_model_len": None,
        "max_num_seqs": 256,
        "max_num_batched_tokens": None,
        "block_size": 16,
        "gpu_memory_utilization": 0.9,
        "kv_cache_memory": None,
        "enable_prefix_caching": True,
        "enforce_eager": False,
        "chat_template": None,
        "seed": 0,
    }
    assert arguments(LLM) | documented == arguments(LLM)
    kinds = {p.kind for name, p in inspect.signature(LLM).parameters.items() if name != "model"}
    assert kinds == {inspect.Parameter.KEYWORD_ONLY}
    assert arguments(LLM.generate) == {
        "prompts": inspect.Parameter.empty,
        "sampling_params": None,
        "use_tqdm": True,
        "priority": 0,
    }
    assert arguments(LLM.chat) == {
        "messages": inspect.Parameter.empty,
        "sampling_params": None,
        "chat_template": None,
        "add_generation_prompt": True,
        "tools": None,
        "use_tqdm": True,
        "mm_processor_kwargs": None,
        "priority": 0,
    }


def test_unknown_argument_is_named(llava_folder: Path) -> None:
    with pytest.raises(TypeError, match="max_model_length"):
        LLM(str(llava_folder), max_model_length=64)  # type: ignore[call-arg]


def test_prompt_forms(llm: LLM, image: Image.Image) -> None:
    pixels = np.asarray(image)
    data: MultiModalDataDict = {"image": image}
    as_text: TextPrompt = {"prompt": QUESTION, "multi_modal_data": data}
    (first,) = llm.generate(as_text, GREEDY, use_tqdm=False)
    image_token_id = max(set(first.prompt_token_ids), key=first.prompt_token_ids.count)
    assert first.prompt_token_ids.count(image_token_id) == 16
    start = first.prompt_token_ids.index(image_token_id)
    short = first.prompt_token_ids[: start + 1] + first.prompt_token_ids[start + 16 :]
    outputs = llm.generate(
        [
            as_text,
            {"prompt": QUESTION, "multi_modal_data": {"image": pixels}},
            {"prompt": QUESTION, "multi_modal_data": {"image": [image]}},
            {"prompt_token_ids": short, "multi_modal_data": {"image": image}},
            "Hello",
            {"prompt": "Hello"},
            {"prompt": "Hello", "multi_modal_data": {}},
        ],
        GREEDY,
        use_tqdm=False,
    )
    answers = [output.outputs[0].token_ids for output in outputs]
    assert answers == [first.outputs[0].token_ids] * 4 + [answers[-1]] * 3
    assert [output.prompt for output in outputs] == [QUESTION] * 3 + [None] + ["Hello"] * 3
    assert first.prompt_token_ids == outputs[3].prompt_token_ids


def test_results_in_input_order(llm: LLM) -> None:
    prompts = [f"Number {index}" for index in range(20)]
    params = [SamplingParams(temperature=0, max_tokens=20 - index) for index in range(20)]
    outputs = llm.generate(prompts, params, use_tqdm=False)
    assert [output.prompt for output in outputs] == prompts
    assert [len(output.outputs[0].token_ids) for output in outputs] == list(range(20, 0, -1))
    assert len({output.request_id for output in outputs}) == 20
    assert llm.generate([], GREEDY, use_tqdm=False) == []
    assert llm.generate([], use_tqdm=False) == llm.generate([], [], use_tqdm=False) == []


def test_the_lowest_priority_comes_first(llava_folder: Path) -> None:
    params = SamplingParams(temperature=0, max_tokens=2)
    with LLM(str(llava_folder), device="cpu", kv_cache_memory=4 << 20, max_num_seqs=1) as llm:
        outputs = llm.generate(["one", "two", "three"], params, use_tqdm=False, priority=[1, 2, -1])
        times_s = [output.metrics.finished_s or 0.0 for output in outputs]
        assert times_s[2] < times_s[0] < times_s[1]
        conversation = [{"role": "user", "content": "Hi"}]
        assert llm.chat(conversation, params, use_tqdm=False, priority=3)[0].outputs[0].text
        for wrong in ([1], [1, 2.5], 2**31):
            with pytest.raises(SamplingParamsError, match="priority"):
                llm.generate(["one", "two"], params, priority=wrong)


def test_output_fields(llm: LLM) -> None:
    params = SamplingParams(temperature=0, max_tokens=5, logprobs=2, prompt_logprobs=1)
    (output,) = llm.generate("Hello there", params, use_tqdm=False)
    assert isinstance(output, RequestOutput)
    assert isinstance(output.request_id, str)
    assert output.prompt == "Hello there"
    assert output.finished is True
    assert output.num_cached_tokens == 0
    assert output.prompt_logprobs is not None
    assert len(output.prompt_logprobs) == len(output.prompt_token_ids)
    (completion,) = output.outputs
    assert isinstance(completion, CompletionOutput)
    assert (completion.index, completion.finish_reason, completion.stop_reason) == (0, "length", None)
    assert isinstance(completion.text, str)
    assert all(isinstance(token_id, int) for token_id in completion.token_ids)
    assert completion.logprobs is not None
    for token_id, found in zip(completion.token_ids, completion.logprobs, strict=True):
        assert isinstance(found, Mapping)
        assert all(isinstance(candidate, Logprob) and candidate.logprob <= 0 for candidate in found.values())
        assert found[token_id].rank == 1
        assert isinstance(found[token_id].decoded_token, str)
    assert completion.cumulative_logprob == pytest.approx(
        sum(found[token_id].logprob for token_id, found in zip(completion.token_ids, completion.logprobs, strict=True))
    )


def test_without_text(llm: LLM) -> None:
    (output,) = llm.generate("Hello", SamplingParams(temperature=0, max_tokens=5, detokenize=False), use_tqdm=False)
    assert output.outputs[0].text == ""
    assert output.outputs[0].logprobs is None
    assert output.outputs[0].cumulative_logprob is None
    assert len(output.outputs[0].token_ids) == 5


@pytest.mark.parametrize("enable_prefix_caching", [True, False])
def test_several_completions(enable_prefix_caching: bool, llava_folder: Path, image: Image.Image) -> None:
    prompt: TextPrompt = {"prompt": QUESTION, "multi_modal_data": {"image": image}}
    with LLM(
        str(llava_folder), device="cpu", kv_cache_memory=1 << 20, enable_prefix_caching=enable_prefix_caching
    ) as llm:
        same, drawn = llm.generate(
            [prompt, prompt],
            [
                SamplingParams(n=3, temperature=0, max_tokens=6),
                SamplingParams(n=5, temperature=1.5, max_tokens=6, seed=1),
            ],
            use_tqdm=False,
        )
        assert not llm._engine.has_unfinished
        assert llm._engine.scheduler.pool.num_used == 0
    assert [completion.index for completion in same.outputs] == [0, 1, 2]
    assert len({tuple(completion.token_ids) for completion in same.outputs}) == 1
    assert [completion.index for completion in drawn.outputs] == [0, 1, 2, 3, 4]
    assert len({tuple(completion.token_ids) for completion in drawn.outputs}) == 5


def test_metrics_are_monotone(llm: LLM) -> None:
    for output in llm.generate(["Hello"] * 3, GREEDY, use_tqdm=False):
        metrics = output.metrics
        assert metrics is not None
        times = [metrics.arrival_s, metrics.first_scheduled_s, metrics.first_token_s, metrics.finished_s]
        assert times == sorted(times)  # type: ignore[type-var]
        assert metrics.queue_time_s == metrics.first_scheduled_s - metrics.arrival_s
        assert metrics.queue_time_s >= 0


def test_progress_bar(llm: LLM, capsys: pytest.CaptureFixture[str]) -> None:
    llm.generate(["Hello"] * 3, GREEDY)
    shown = capsys.readouterr()
    assert "3/3" in shown.err
    assert "in " in shown.err
    assert shown.err.count("tokens/s") >= 2
    assert shown.out == ""
    llm.generate(["Hello"] * 3, GREEDY, use_tqdm=False)
    assert capsys.readouterr() == ("", "")


def test_version_and_description(llm: LLM) -> None:
    assert aphrodite.__version__ == version("aphrodite-vlm")
    described = repr(llm)
    assert described.startswith(f"LLM(model={llm.config.model!r}, device='cpu', dtype='float32'")
    assert re.search(r", num_threads=\d+, max_model_len=\d+\)$", described)


def test_tokenizer(llm: LLM, llava_folder: Path) -> None:
    theirs = AutoTokenizer.from_pretrained(llava_folder)
    text = "What is it? 12 🙂"
    assert llm.encode(text) == llm.get_tokenizer().encode(text) == theirs.encode(text)
    assert llm.encode(text, add_special_tokens=False) == theirs.encode(text, add_special_tokens=False)
    ids = theirs.encode(text)
    assert llm.decode(ids) == theirs.decode(ids, skip_special_tokens=True)


@pytest.mark.parametrize("form", [str, Path])
def test_a_path_is_opened(llm: LLM, image: Image.Image, tmp_path: Path, form: type) -> None:
    file = tmp_path / "picture.png"
    image.save(file)

    def tokens(given: object) -> list[int]:
        prompt: Any = {"prompt": QUESTION, "multi_modal_data": {"image": given}}
        return llm.generate(prompt, GREEDY, use_tqdm=False)[0].outputs[0].token_ids

    assert tokens(form(file)) == tokens(image)
    with pytest.raises(ImageError, match="cannot be opened: No such file"):
        tokens(form(tmp_path / "none.png"))
    (tmp_path / "text.png").write_text("no picture")
    with pytest.raises(ImageError, match="must be one of PNG"):
        tokens(form(tmp_path / "text.png"))


def test_a_path_in_a_conversation_and_urls_that_are_not_followed(llm: LLM, image: Image.Image, tmp_path: Path) -> None:
    image.save(tmp_path / "picture.png")

    def tokens(part: dict[str, Any]) -> list[int]:
        messages = [{"role": "user", "content": [part, {"type": "text", "text": "What is it?"}]}]
        template = "{% for p in messages[0].content %}{{ '<image>' if p.type == 'image' else p.text }}{% endfor %}"
        return llm.chat(messages, GREEDY, chat_template=template, use_tqdm=False)[0].outputs[0].token_ids

    found = tokens({"type": "image_pil", "image_pil": tmp_path / "picture.png"})
    assert found == tokens({"type": "image_pil", "image_pil": image})
    for url in (f"file://{tmp_path}/picture.png", "http://example.org/picture.png"):
        with pytest.raises(ImageError, match=r'pass .*{"type": "image_pil"'):
            tokens({"type": "image_url", "image_url": {"url": url}})


def test_sampling_params_as_a_dictionary_show_the_class(llm: LLM) -> None:
    given: Any = {"temperature": 0.5, "stop": "."}
    for params in (given, [given]):
        with pytest.raises(SamplingParamsError, match=r"not a dict: SamplingParams\(temperature=0.5, stop='.'\)"):
            llm.generate("Hello", params, use_tqdm=False)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (torch.float32, "float32"),
        ("torch.bfloat16", "bfloat16"),
        ("half", "float16"),
        ("bf16", "bfloat16"),
        ("auto", "auto"),
    ],
)
def test_names_of_number_formats(given: Any, expected: str) -> None:
    assert EngineConfig(model="demo", dtype=given).dtype == expected
