"""`aphrodite bench throughput`: how much work `LLM` gets done."""

from typing import Annotated

import typer

from aphrodite.bench import options
from aphrodite.bench.offline_command import run_command
from aphrodite.domain.config import EngineConfig

_ENGINE = EngineConfig(model="demo")  # for the defaults


def throughput(
    model: options.Model = "demo",
    requests: Annotated[int, typer.Option(min=1, help="How many requests to answer, all there at once.")] = 64,
    max_num_seqs: Annotated[int, typer.Option(min=1, help="Most that run at once.")] = _ENGINE.max_num_seqs,
    input_tokens: options.InputTokens = "128",
    output_tokens: options.OutputTokens = "64",
    image_size: options.ImageSize = "0",
    rounds: options.Rounds = 3,
    load_format: options.LoadFormat = _ENGINE.load_format,
    backend: options.Backend = _ENGINE.backend,
    device: options.Device = _ENGINE.device,
    dtype: options.Dtype = _ENGINE.dtype,
    max_num_batched_tokens: options.MaxNumBatchedTokens = None,
    gpu_memory_utilization: options.GpuMemoryUtilization = _ENGINE.gpu_memory_utilization,
    seed: options.Seed = 0,
    compare: options.Compare = None,
    compare_python: options.ComparePython = None,
    compare_dtypes: options.CompareDtypes = None,
    profile: options.Profile = None,
    json_file: options.JsonFile = None,
    plot: options.Plot = None,
) -> None:
    """Answer many requests offline and report throughput, latencies, and how near the hardware's limit that is."""
    engine = EngineConfig(
        model=model,
        load_format=load_format,
        backend=backend,
        device=device,
        dtype=dtype,
        max_num_seqs=max_num_seqs,
        max_num_batched_tokens=max_num_batched_tokens,
        gpu_memory_utilization=gpu_memory_utilization,
        seed=seed,
    )
    run_command(
        engine,
        num_requests=requests,
        input_tokens=input_tokens,
        output_tokens=output_tokens,
        image_size=image_size,
        num_rounds=rounds,
        compare=compare,
        compare_python=compare_python,
        compare_dtypes=compare_dtypes,
        profile=profile,
        json_file=json_file,
        plot=plot,
    )
