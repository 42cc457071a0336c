"""Compile the JAX backend's programs for TPUs, on a machine without one, and check what the compiler made of them.

libtpu holds the TPU compiler; a description of the chips stands in for them. The real XLA:TPU and Mosaic compilers run
and report memory and cost; nothing is executed, so every number here is the compiler's estimate, not a measurement.

    python tools/tpu_compile.py                     LLaVA-1.5-7B on v5e and v6e, on 1 chip and 4; the demo model on v5e;
                                                    a layer of Mistral-7B with 256 sequences of 32,768 tokens;
                                                    a few layers of Qwen2.5-VL-7B and Gemma-3-4B on v5e, and of
                                                    Qwen3-VL-30B-A3B on four
    python tools/tpu_compile.py --layers 2          the same, of which only so many layers are compiled
    python tools/tpu_compile.py --models llava --kernels ours --decode-only --json FILE.json

Exits with 1 if a cache is not donated or is copied, a program takes too much memory beside its arguments, a decode step
moves half as much again as it must, the model does not fit the chips, or a weight or the cache is gathered.
"""

import argparse
import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from aphrodite.backends.jax_tpu.memory import bytes_of
from aphrodite.backends.jax_tpu.model import DeviceModel
from aphrodite.backends.jax_tpu.programs import Program
from llava_7b import LLAVA_7B
from tpu_models import DECODE_ROWS, KERNELS, MIXED_TOKENS, demo, experts, gemma, llava, mistral, qwen
from tpu_program import CHIPS, Chip, Compiled, compile_program, describe_chips

MODELS = ("llava", "demo", "mistral", "qwen", "gemma", "experts")
NUM_IMAGES = 8
NUM_PATCHES = 4096
MAX_TEMPORARY_BYTES = 128 << 20
MAX_PATCH_BYTES = 64 << 10  # of temporaries for each patch of a packed tower, whose scores would be many times that
MAX_DECODE_RATIO = 1.5  # the goal is 1.3; of two layers alone the table of embeddings is no small part
COLUMNS = (
    "program", "GFLOP", "GB counted", "expected ms", "GB of HBM", "MB summed", "temporary MB", "ms", "limit ms",
    "expected ratio", "ratio"
)  # fmt: skip
HEADER = f"| {' | '.join(COLUMNS)} |\n| --- |{' ---: |' * (len(COLUMNS) - 1)}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--chips", nargs="+", choices=CHIPS, default=list(CHIPS))
    parser.add_argument("--sizes", nargs="+", type=int, default=[1, 4])
    parser.add_argument("--kernels", nargs="+", choices=KERNELS, default=list(KERNELS))
    parser.add_argument("--layers", type=int, default=LLAVA_7B.decoder.num_layers)
    parser.add_argument("--decode-only", action="store_true", help="of the LLaVA only the program of a decode step")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    failures: list[str] = []
    rows: list[dict[str, Any]] = []
    run = origin()
    first, *_ = options.chips  # their programs are many, or slow to compile, and alike on every kind of chip
    if "demo" in options.models:
        failures += check_demo(first)
    if "qwen" in options.models:
        failures += check_qwen(first)
    if "gemma" in options.models:
        failures += check_gemma(first)
    if "experts" in options.models:
        failures += check_experts(first)
    for chip in options.chips:
        if "mistral" in options.models:
            failures += check_mistral(chip, options.kernels)
        for size in options.sizes if "llava" in options.models else []:
            failures += check_llava(chip, size, options.kernels, options.layers, options.decode_only, rows)
    print("\nThe compiler's estimates, not measurements.", *failures, sep="\n")
    if options.json:
        options.json.write_text(json.dumps(run | {"programs": rows}, indent=1) + "\n")
    sys.exit(bool(failures))


def origin() -> dict[str, Any]:
    """What another run needs for comparison."""
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True)
    return {
        "command": ["python", *sys.argv],
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit.stdout.strip(),
        "versions": {name: version(name) for name in ("jax", "jaxlib", "libtpu")},
    }


def check_llava(
    chip_name: str, num_chips: int, kernels: list[str], num_layers: int, decode_only: bool, rows: list[Any]
) -> list[str]:
    """Compile LLaVA-1.5-7B for one mesh, print its table, and return what is not as it should be."""
    chip = CHIPS[chip_name]
    devices = describe_chips(chip_name, num_chips)
    num_blocks = 128 if (chip_name, num_chips) == ("v5e", 1) else 1024  # there is little room beside the weights
    whole = llava(devices, kernels[0], num_blocks, LLAVA_7B.decoder.num_layers)
    weight_bytes, cache_bytes = bytes_of(whole.weights()), bytes_of(whole.cache())
    print(f"\n{chip_name} x {num_chips}: weights {weight_bytes / 1e9:.2f} GB and KV cache {cache_bytes / 1e9:.2f} GB "
          f"a chip; {num_layers} layers compiled\n{HEADER}")  # fmt: skip
    models = {kernel: llava(devices, kernel, num_blocks, num_layers) for kernel in kernels}
    programs = [
        (f"{kernel}: ", model.forward_program(num_tokens))
        for kernel, model in models.items()
        for num_tokens in ((DECODE_ROWS,) if decode_only else (DECODE_ROWS, MIXED_TOKENS))
    ]
    model = models[kernels[0]]
    if not decode_only:
        programs += [
            ("", model.sample_program(DECODE_ROWS, model.num_held_back)),
            ("", model.encode_program(NUM_IMAGES)),
        ]
    found = compile_all([program for _, program in programs], model)
    failures = []
    for (kernel, program), compiled in zip(programs, found, strict=True):
        row = estimate(chip, model, program, replace(compiled, name=kernel + compiled.name))
        print(markdown(row), flush=True)
        rows.append({"chip": chip_name, "num_chips": num_chips, "num_layers": num_layers, **row})
        failures += [f"{row['name']}: {fault}" for fault in faults(compiled, model)]
        if program.name == ("forward", DECODE_ROWS) and row["ratio"] > MAX_DECODE_RATIO:
            failures.append(f"{row['name']}: {row['ratio']:.2f} times its limit")
    needed = bytes_of((whole.weights(), whole.cache(), whole.features(), whole.slots()))
    needed += max(each.temporary_bytes for each in found) + sum(each.code_bytes for each in found)
    if needed > chip.memory_bytes:
        failures.append(f"{needed / 1e9:.1f} GB do not fit the chip")
    return [f"{chip_name} x {num_chips}, {failure}" for failure in failures]


def check_programs(title: str, model: DeviceModel, programs: list[Program]) -> list[str]:
    """Compile some programs of a model, and return what is not as it should be."""
    found = compile_all(programs, model)
    largest = max(compiled.temporary_bytes for compiled in found)
    print(f"\n{title}: {len(found)} programs, temporaries up to {largest / 1e6:,.1f} MB", flush=True)
    return [f"{title}, {compiled.name}: {fault}" for compiled in found for fault in faults(compiled, model)]


def check_demo(chip_name: str) -> list[str]:
    """Every program that the demo model has by default, on one chip."""
    model = demo(describe_chips(chip_name, 1))
    return check_programs(f"{chip_name} x 1, the demo model", model, model.programs())


def check_mistral(chip_name: str, kernels: list[str]) -> list[str]:
    """A decode step of the most sequences, as long as they may be, on one chip."""
    failures = []
    for kernel in kernels:
        model = mistral(describe_chips(chip_name, 1), kernel)
        failures += check_programs(f"{chip_name} x 1, Mistral-7B, {kernel}", model, [model.forward_program(256)])
    return failures


def check_qwen(chip_name: str) -> list[str]:
    """Steps of Qwen2.5-VL-7B, and the encoding of a picture of some 900 pixels on a side."""
    model = qwen(describe_chips(chip_name, 1))
    forwards = [model.forward_program(num_tokens) for num_tokens in (DECODE_ROWS, MIXED_TOKENS)]
    return check_programs(f"{chip_name} x 1, Qwen2.5-VL-7B", model, [*forwards, model.encode_program(NUM_PATCHES)])


def check_experts(chip_name: str) -> list[str]:
    """Steps of Qwen3-VL-30B-A3B on four chips, each of which has a quarter of the experts."""
    model = experts(describe_chips(chip_name, 4))
    forwards = [model.forward_program(num_tokens) for num_tokens in (DECODE_ROWS, MIXED_TOKENS)]
    return check_programs(f"{chip_name} x 4, Qwen3-VL-30B-A3B", model, forwards)


def check_gemma(chip_name: str) -> list[str]:
    """Steps of Gemma-3-4B and the encoding of a picture: wide heads, windows, pictures that see forward."""
    model = gemma(describe_chips(chip_name, 1))
    forwards = [model.forward_program(num_tokens) for num_tokens in (DECODE_ROWS, MIXED_TOKENS)]
    return check_programs(f"{chip_name} x 1, Gemma-3-4B", model, [*forwards, model.encode_program(1)])


def compile_all(programs: list[Program], model: DeviceModel) -> list[Compiled]:
    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(lambda program: compile_program(program, model.mesh), programs))


def faults(compiled: Compiled, model: DeviceModel) -> list[str]:
    # A step's logits, or the features of the images that the chips share out among themselves, may be gathered.
    gathered_bytes = model.limits.max_num_seqs * model.spec.decoder.vocab_size * 4
    if compiled.name == f"encode {NUM_IMAGES}" and model.spec.vision is not None:
        gathered_bytes = bytes_of(model.encoded(NUM_IMAGES))
    # A copy of a layer's cache would show in a decode step, whose other temporaries are small.
    is_decode = compiled.name == f"forward {DECODE_ROWS}"
    temporary_bytes = bytes_of(model.cache()[0]) if is_decode else MAX_TEMPORARY_BYTES
    if compiled.name == f"encode {NUM_PATCHES}":
        temporary_bytes = NUM_PATCHES * MAX_PATCH_BYTES
    found = {
        "the KV cache is not donated": compiled.name.startswith("forward")
        and compiled.aliased_bytes < bytes_of(model.cache()),
        f"takes {compiled.temporary_bytes:,} bytes": compiled.temporary_bytes > temporary_bytes,
        f"gathers {compiled.gathered_bytes:,} bytes": compiled.gathered_bytes > gathered_bytes,
    }
    return [fault for fault, is_there in found.items() if is_there]


def estimate(chip: Chip, model: DeviceModel, program: Program, compiled: Compiled) -> dict[str, Any]:
    """What a run takes by the published numbers of the chip, beside the least that it could take.

    A decode step reads the whole cache: its rows share it among them. The limit reads each weight and each key and
    value once; where not all traffic is known, what the compiler counts stands for it.
    """
    weights, cache_bytes = dict(program.arguments[0]) if isinstance(program.arguments[0], dict) else {}, 0
    for unread in ("embed.weight", "lm_head.weight"):  # by the decoder, of which the first is read by row
        weights.pop(unread, None)
    if program.name == ("forward", DECODE_ROWS):
        cache_bytes = bytes_of(model.cache())
    weight_bytes = bytes_of(weights or program.arguments[0])
    moved = compiled.counted_bytes if compiled.moved_bytes is None else compiled.moved_bytes
    seconds = max((moved + cache_bytes) / chip.bandwidth, compiled.operations / chip.peak)
    limit = max((weight_bytes + cache_bytes) / chip.bandwidth, compiled.operations / chip.peak)
    expected = compiled.expected_seconds + cache_bytes / chip.bandwidth
    found = {"cache_bytes_read": cache_bytes, "seconds": seconds, "limit_seconds": limit}
    return asdict(compiled) | found | {"expected_ratio": expected / limit, "ratio": seconds / limit}


def markdown(row: dict[str, Any]) -> str:
    moved = "-" if row["moved_bytes"] is None else f"{(row['moved_bytes'] + row['cache_bytes_read']) / 1e9:.2f}"
    numbers = [
        f"{row['operations'] / 1e9:,.1f}", f"{row['counted_bytes'] / 1e9:.2f}", f"{row['expected_seconds'] * 1e3:.2f}",
        moved, f"{row['reduced_bytes'] / 1e6:.1f}", f"{row['temporary_bytes'] / 1e6:.1f}",
        f"{row['seconds'] * 1e3:.2f}", f"{row['limit_seconds'] * 1e3:.2f}", f"{row['expected_ratio']:.2f}",
        f"{row['ratio']:.2f}",
    ]  # fmt: skip
    return f"| {row['name']} | {' | '.join(numbers)} |"


if __name__ == "__main__":
    main()
