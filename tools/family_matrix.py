"""The table of model families: what of each the parity suite holds against transformers, on which backend.

    python tools/family_matrix.py --write   # into README.md and docs/models.md; without, prints it

A family's row is by hand; what was tested is read from the parameters of the tests themselves, and what a checkpoint of
theirs is from the checkpoint. `tests/tools/test_family_matrix.py` holds both pages to it.
"""

import argparse
import importlib
import json
import re
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from aphrodite.domain.architectures.registry import DECODERS, VISION_MODELS

ROOT = Path(__file__).parents[1]
BACKENDS = ("cuda", "jax_tpu")
FEATURES = ("answers", "chunks", "cache", "preemption")
_WITHIN = {name for name in DECODERS if name.endswith("_text")} - {"gemma3_text"}  # decoders that no folder has alone
_LLAVA = "clip-llama"  # the checkpoint of tests that are of no family


class Row(NamedTuple):
    family: str
    model_types: tuple[str, ...]
    images: str
    real_weights: str = "no"


ROWS = (
    Row("LLaVA-1.5", ("llava",), "one tile, or their own size with Pixtral's tower", "the demo model"),
    Row("LLaVA-NeXT (1.6), Granite Vision 3.x", ("llava_next",), "any resolution, in tiles"),
    Row("LLaVA-OneVision", ("llava_onevision",), "any resolution, in tiles, shrunk beyond nine"),
    Row("ViP-LLaVA", ("vipllava",), "one tile, features of several layers"),
    Row("Idefics3, SmolVLM", ("idefics3", "smolvlm"), "any resolution, in labelled tiles"),
    Row("DeepSeek-VL (1.3B)", ("deepseek_vl",), "one tile, padded to a square"),
    Row("Gemma 3", ("gemma3",), "one tile, whose features see each other"),
    Row("PaliGemma, PaliGemma 2", ("paligemma",), "one tile; all of a prompt sees itself, so it is never in chunks"),
    Row(
        "InternVL 2 to 3.5 over Qwen2 and Qwen3, `-hf` or with code of its own (not run)",
        ("internvl", "internvl_chat"),
        "any resolution, in tiles with a thumbnail",
    ),
    Row("Mistral 3.1, 3.2, Ministral 3", ("mistral3",), "their own size"),
    Row("LightOnOCR, PaddleOCR-VL", ("lighton_ocr", "paddleocr_vl"), "their own size"),
    Row("GLM-4.1V, GLM-4.5V, GLM-4.6V, GLM-OCR", ("glm4v", "glm4v_moe", "glm46v", "glm_ocr"), "their own size"),
    Row("Qwen2-VL, Qwen2.5-VL, Qwen3-VL", ("qwen2_vl", "qwen2_5_vl", "qwen3_vl"), "their own size"),
    Row("Qwen3-VL with experts", ("qwen3_vl_moe",), "their own size"),
    Row("Llama", ("llama",), "text alone", "SmolLM2-135M"),
    Row("Mistral, Ministral 3", ("mistral", "ministral3"), "text alone"),
    Row("Qwen2, Qwen3", ("qwen2", "qwen3"), "text alone"),
    Row("Mixtral, Qwen2 and Qwen3 with experts", ("mixtral", "qwen2_moe", "qwen3_moe"), "text alone"),
    Row("GLM-4.5, with experts", ("glm4_moe",), "text alone"),
    Row("Gemma 1, 2 and 3", ("gemma", "gemma2", "gemma3_text"), "text alone"),
    Row("Granite", ("granite",), "text alone"),
    Row("GLM-4, GLM-4-0414", ("glm", "glm4"), "text alone"),
    Row("Phi-3, Phi-3.5, Phi-4-mini (LongRoPE by `max_model_len`)", ("phi3",), "text alone"),
    Row("ERNIE 4.5 (dense)", ("ernie4_5",), "text alone"),
)


class Run(NamedTuple):
    """A test of one feature, with one checkpoint on one backend."""

    checkpoint: str
    backend: str
    feature: str


def runs() -> set[Run]:
    """Every one that the parity suite has."""
    pairings, seeing = _suite("test_pairings"), _suite("test_seeing")
    preemption, masks = _suite("test_preemption"), _suite("test_prefix_masks")
    in_chunks = pairings.test_decoder_in_chunks_and_cached
    found = {
        Run(each["name"], backend, "answers")
        for test in (pairings.test_pairing, pairings.test_decoder_alone, in_chunks)
        for each, backend in _parameters(test)
    }
    for each, backend in _parameters(seeing.test_pictures_of_every_shape):
        features = {"answers"}
        if each["options"] == seeing.CHUNKS:
            features.add("chunks")
        if each["options"].get("enable_prefix_caching", True):
            features.add("cache")
        found |= {Run(each["name"], backend, feature) for feature in features}
    alike: dict[str, tuple[Callable[..., None], ...]] = {
        "chunks": (_suite("test_scheduling").test_chunked_prefill, in_chunks),
        "cache": (_suite("test_prefix_cache").test_hits_and_misses, in_chunks),
        "preemption": (preemption.test_preemption, preemption.test_preemption_of_a_family, masks.test_preemption),
    }
    for feature, tests in alike.items():
        for test in tests:
            found |= {Run(each.get("name", _LLAVA), backend, feature) for each, backend in _parameters(test)}
    return found


def _suite(name: str) -> Any:
    """A module of the parity suite."""
    if str(ROOT) not in sys.path:
        sys.path.insert(0, str(ROOT))
    return importlib.import_module(f"tests.parity.{name}")


def _parameters(test: Callable[..., None]) -> Iterator[tuple[dict[str, Any], str]]:
    """The values of each parametrisation of a test, and the backends that it is run on."""
    for mark in test.pytestmark:  # type: ignore[attr-defined]
        if mark.name == "parametrize":
            names, values = mark.args[0], mark.args[1]
            for value in values:
                left_out = {name for each in getattr(value, "marks", ()) for name in each.args}
                given = value.values if hasattr(value, "marks") else (value,) if isinstance(names, str) else value
                named = dict(zip([names] if isinstance(names, str) else names, given, strict=True))
                yield from ((named, backend) for backend in BACKENDS if backend not in left_out)


def model_types(checkpoints: set[str]) -> dict[str, set[str]]:
    """What each tiny checkpoint is, and its decoder."""
    types, makers = {}, _suite("checkpoints").MAKERS
    for name in checkpoints:
        with tempfile.TemporaryDirectory() as folder:
            makers[name](Path(folder))
            config = json.loads((Path(folder) / "config.json").read_text())
        text = config.get("text_config") or config.get("llm_config") or {}
        types[name] = {config["model_type"], text.get("model_type")}
    return types


class Line(NamedTuple):
    """A row with what was tested of it: features by backend, of all its model types."""

    row: Row
    tested: dict[str, tuple[str, ...]]


def lines() -> list[Line]:
    """Raises ValueError for a family that has no row."""
    missing = {*VISION_MODELS, *DECODERS} - _WITHIN - {name for row in ROWS for name in row.model_types}
    if missing:
        raise ValueError(f"these have no row: {', '.join(sorted(missing))}")
    all_runs = runs()
    types = model_types({run.checkpoint for run in all_runs})

    def tested(row: Row, backend: str) -> tuple[str, ...]:
        def holds(model_type: str, feature: str) -> bool:
            return any(
                run.backend == backend and run.feature == feature and model_type in types[run.checkpoint]
                for run in all_runs
            )

        return tuple(name for name in FEATURES if all(holds(each, name) for each in row.model_types))

    return [Line(row, {backend: tested(row, backend) for backend in BACKENDS}) for row in ROWS]


def _cell(features: tuple[str, ...]) -> str:
    return "all four" if features == FEATURES else ", ".join(features) or "no"


def table(found: list[Line], *, is_short: bool) -> str:
    """In Markdown; a short one is without model types and images."""
    head = ["family", "`model_type`", "images", "torch", "JAX", "real weights"]
    rows = [head, ["---"] * len(head)]
    for (family, types, images, real), tested in found:
        names = ", ".join(f"`{name}`" for name in types)
        rows.append([family, names, images, *(_cell(tested[backend]) for backend in BACKENDS), real])
    kept = [[*row[:1], *row[3:]] if is_short else row for row in rows]
    return "\n".join(f"| {' | '.join(row)} |" for row in kept)


PAGES = {ROOT / "README.md": True, ROOT / "docs" / "models.md": False}  # whether the table there is short
_PLACE = re.compile(r"(<!-- family matrix -->\n).*?(\n<!-- end of family matrix -->)", re.DOTALL)


def with_table(page: Path, found: list[Line]) -> str:
    """The page's text as it should be."""
    made = table(found, is_short=PAGES[page])
    text, count = _PLACE.subn(lambda match: match[1] + made + match[2], page.read_text())
    if count != 1:
        raise ValueError(f"{page} has no place for the table")
    return text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="into README.md and docs/models.md")
    found = lines()
    if not parser.parse_args().write:
        print(table(found, is_short=False))
        return
    for page in PAGES:
        page.write_text(with_table(page, found))


if __name__ == "__main__":
    main()
