"""Measure what LLaVA-1.5-7B's shapes are held to on an H100, on the GPU of this machine; the weights are random.

python tools/bench_gpu.py                       writes benchmarks/results/gpu-llava-7b.json, and .md beside it
python tools/bench_gpu.py --config FOLDER       a tiny amount of work with another model's shapes, on a CPU too: to
                                                see that every row can be measured; the bars mean nothing there
"""

import argparse
import json
import sys
import traceback
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from aphrodite import bootstrap
from aphrodite.bench.device_rates import better, measure_rates
from aphrodite.bench.model_folder import with_tokenizer
from aphrodite.bench.report import report, write_json
from aphrodite.bench.subject import Subject
from aphrodite.domain.config import Dtype, EngineConfig
from aphrodite.domain.errors import AphroditeError
from gpu_rows import ASKED, SMALL, Figure, Rows
from llava_7b import CONFIG

RESULTS = Path(__file__).parents[1] / "benchmarks" / "results"


@dataclass(frozen=True)
class Figures:
    """What was measured, and what this device can do."""

    device: str
    dtype: str
    bytes_per_s: float
    operations_per_s: float
    rows: list[Figure]


def measure(config: Path | None) -> Iterator[Figures]:
    """After each row all so far; `config` is a folder that holds another model's config.json.

    Where one cannot be measured the others are. Raises RuntimeError at the end then.
    """
    dtype: Dtype = "bfloat16" if torch.cuda.is_available() else "float32"
    # Before the engine takes the memory.
    device, rates = measure_rates("cuda", "auto", dtype)
    rates = better(rates, measure_rates("cuda", "auto", dtype)[1])
    torch.cuda.empty_cache()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="aphrodite-bench-")))
        engine = _asked_engine(folder / "llava-1.5-7b") if config is None else _small_engine(config)
        completed = folder / "completed"
        completed.mkdir()
        engine = with_tokenizer(replace(engine, dtype=dtype), completed)
        model = bootstrap.open_model(engine)
        subject = stack.enter_context(Subject(engine, model))
        figures = Figures(device, dtype, rates.bytes_per_s, rates.operations_per_s, [])
        num_failed = 0
        sizes = ASKED if config is None else SMALL
        for measured in Rows(subject, model.spec, Path(engine.model), rates, sizes).measurements():
            try:
                figure = measured()
            except (AphroditeError, RuntimeError):  # of ours, and of torch or the device
                traceback.print_exc()
                num_failed += 1
                continue
            figures.rows.append(figure if config is None else replace(figure, bar=None))
            print(line(figures.rows[-1]), file=sys.stderr, flush=True)
            yield figures
    if num_failed:
        raise RuntimeError(f"{num_failed} rows could not be measured; what stopped them stands above.")


def _asked_engine(folder: Path) -> EngineConfig:
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(CONFIG), encoding="utf-8")
    # 160 sequences of 700 tokens take 62.7 GB beside 14.1 of weights and some 2 that steps need, of an H100's 85.
    return EngineConfig(model=str(folder), load_format="dummy", gpu_memory_utilization=0.97)


def _small_engine(folder: Path) -> EngineConfig:
    return EngineConfig(model=str(folder), load_format="dummy", kv_cache_memory=16 << 20, max_num_seqs=8)


def table(figures: Figures) -> str:
    """As markdown: the figures, and the kernels behind them."""
    rates = f"{figures.bytes_per_s / 1e12:.2f} TB/s, {figures.operations_per_s / 1e12:.0f} TFLOP/s ({figures.dtype})"
    head = ["| what | measured | limit here | bar | |", "|---|---:|---:|---:|---|"]
    kernels = [part for figure in figures.rows if figure.kernels for part in kernel_lines(figure)]
    return "\n".join([f"{figures.device}: {rates}.", "", *head, *map(line, figures.rows), *kernels]) + "\n"


def kernel_lines(figure: Figure) -> Iterator[str]:
    """What takes the most of a step's time."""
    yield from ("", f"{figure.what}:", "", "| kernel | calls a step | microseconds a step |", "|---|---:|---:|")
    for kernel in figure.kernels:
        yield f"| `{kernel.name}` | {number(kernel.calls)} | {number(kernel.microseconds)} |"


def line(figure: Figure) -> str:
    """One row of the table."""
    measured = "does not fit" if figure.measured is None else f"{number(figure.measured)} {figure.unit}"
    limit, bar = ("-" if value is None else number(value) for value in (figure.limit, figure.bar))
    return f"| {figure.what} | {measured} | {limit} | {bar} | {'reached' if figure.reached else ''} |"


def number(value: float) -> str:
    """Four digits."""
    return f"{value:,.0f}" if value >= 1000 else f"{value:.4g}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, help="folder of another model's config.json")
    parser.add_argument("--output", type=Path, default=RESULTS, help="folder for the results")
    arguments = parser.parse_args()
    if arguments.config is None and not torch.cuda.is_available():
        sys.exit("There is no NVIDIA GPU here to measure; --config FOLDER tries everything on a tiny model instead.")
    name = "gpu-llava-7b" if arguments.config is None else f"gpu-{arguments.config.name}"
    settings = {"config": str(arguments.config or "llava-1.5-7b"), "load_format": "dummy"}
    written: dict[str, Any] = {}
    # After each row: what is measured is measured, whatever becomes of the rest.
    for figures in measure(arguments.config):
        # Asked once: the file itself, written again, makes the commit a dirty one.
        written = written or report(settings, figures) | {"command": ["python", *sys.argv]}
        write_json(arguments.output / f"{name}.json", written | {"figures": asdict(figures)})
        (arguments.output / f"{name}.md").write_text(table(figures), encoding="utf-8")
    print((arguments.output / f"{name}.md").read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
