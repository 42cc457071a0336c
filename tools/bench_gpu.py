"""Measure what LLaVA-1.5-7B's shapes are held to on an H100, on the GPU of this machine; the weights are random.

python tools/bench_gpu.py                       writes benchmarks/results/gpu-llava-7b.json, and .md beside it
python tools/bench_gpu.py --config FOLDER       a tiny amount of work with another model's shapes, on a CPU too: to
                                                see that every row can be measured; the bars mean nothing there
"""

import argparse
import json
import sys
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from aphrodite import bootstrap
from aphrodite.adapters.inbound.cli.bench.device_rates import better, measure_rates
from aphrodite.adapters.inbound.cli.bench.model_folder import with_tokenizer
from aphrodite.adapters.inbound.cli.bench.report import report, write_json
from aphrodite.adapters.inbound.cli.bench.subject import Subject
from aphrodite.domain.config import EngineConfig
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


def measure(config: Path | None) -> Figures:
    """Every row; `config` is a folder that holds another model's config.json."""
    is_asked = config is None
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="aphrodite-bench-")))
        if config is None:
            config = folder / "llava-1.5-7b"
            config.mkdir()
            (config / "config.json").write_text(json.dumps(CONFIG), encoding="utf-8")
            # 160 sequences of 700 tokens need 94% of an H100's memory.
            engine = EngineConfig(model=str(config), load_format="dummy", gpu_memory_utilization=0.94)
            sizes = ASKED
        else:
            engine = EngineConfig(model=str(config), load_format="dummy", kv_cache_memory=16 << 20, max_num_seqs=8)
            sizes = SMALL
        completed = folder / "completed"
        completed.mkdir()
        engine = with_tokenizer(engine, completed)
        model = bootstrap.open_model(engine)
        subject = stack.enter_context(Subject(engine, model))
        device, before = measure_rates("cuda", "auto", subject.dtype)
        figures = []
        for figure in Rows(subject, model.spec, before, sizes).measure():
            figures.append(figure if is_asked else replace(figure, bar=None))
            print(line(figures[-1]), file=sys.stderr, flush=True)
        rates = better(before, measure_rates("cuda", "auto", subject.dtype)[1])
    return Figures(device, subject.dtype, rates.bytes_per_s, rates.operations_per_s, figures)


def table(figures: Figures) -> str:
    """As markdown."""
    rates = f"{figures.bytes_per_s / 1e12:.2f} TB/s, {figures.operations_per_s / 1e12:.0f} TFLOP/s ({figures.dtype})"
    head = ["| what | measured | limit here | bar | |", "|---|---:|---:|---:|---|"]
    return "\n".join([f"{figures.device}: {rates}.", "", *head, *map(line, figures.rows)]) + "\n"


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
    figures = measure(arguments.config)
    name = "gpu-llava-7b" if arguments.config is None else f"gpu-{arguments.config.name}"
    written = report({"config": str(arguments.config or "llava-1.5-7b"), "load_format": "dummy"}, figures)
    written |= {"command": ["python", *sys.argv]}
    write_json(arguments.output / f"{name}.json", written)
    (arguments.output / f"{name}.md").write_text(table(figures), encoding="utf-8")
    print(table(figures))


if __name__ == "__main__":
    main()
