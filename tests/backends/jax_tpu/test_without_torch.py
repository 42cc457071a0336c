"""No torch anywhere on this backend's way: it answers where torch cannot be imported."""

import os
import subprocess
import sys
from pathlib import Path

SCRIPT = """
import importlib.machinery, sys
import numpy as np

find_spec = importlib.machinery.PathFinder.find_spec


def find_all_but_torch(name, path=None, target=None):
    return None if name.split(".")[0] in ("torch", "torchvision") else find_spec(name, path, target)


importlib.machinery.PathFinder.find_spec = find_all_but_torch
try:
    import torch
except ModuleNotFoundError:
    from aphrodite import LLM, SamplingParams

    options = dict(device="cpu", max_num_seqs=1, max_num_batched_tokens=32, kv_cache_memory=1 << 20)
    with LLM(sys.argv[1], **options) as llm:
        picture = np.full((40, 30, 3), 200, dtype=np.uint8)
        prompt = {"prompt": "USER: <image>\\nWhat is this?\\nASSISTANT:", "multi_modal_data": {"image": picture}}
        (output,) = llm.generate(prompt, SamplingParams(temperature=0, max_tokens=4, ignore_eos=True), use_tqdm=False)
    assert len(output.outputs[0].token_ids) == 4
    assert "torch" not in sys.modules
    print("answered")
"""


def test_answers_without_torch(llava_folder: Path, tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("JAX_")}
    environment |= {"JAX_PLATFORMS": "cpu", "XDG_CACHE_HOME": str(tmp_path)}
    ended = subprocess.run(
        [sys.executable, "-W", "error", "-c", SCRIPT, str(llava_folder)],
        env=environment, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert ended.stdout.strip() == "answered", ended.stderr
    assert (tmp_path / "aphrodite" / "xla").is_dir()  # compiled programs are kept
