"""Compile the JAX backend's programs for TPUs, on a machine without one.

libtpu holds the TPU compiler; a description of the chips stands in for them. The real XLA:TPU and Mosaic compilers run
and report memory and cost; nothing is executed, so every number here is the compiler's estimate, not a measurement.

    python tools/tpu_compile.py                     LLaVA-1.5-7B on v5e and v6e, on 1 chip and 4; the demo model
    python tools/tpu_compile.py --models llava --chips v5e --sizes 1 --kernel ours
"""

import argparse
import json
import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["TPU_SKIP_MDS_QUERY"] = "1"
os.environ.setdefault("TPU_ACCELERATOR_TYPE", "v5litepod-4")
os.environ.setdefault("TPU_WORKER_HOSTNAMES", "localhost")
os.environ.setdefault("TPU_WORKER_ID", "0")

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import topologies

import aphrodite
from aphrodite.backends.jax_tpu.attention import AttentionShape, attend_packaged, cache_width, packaged_takes
from aphrodite.backends.jax_tpu.attention_pallas import attend_pallas
from aphrodite.backends.jax_tpu.buckets import Buckets
from aphrodite.backends.jax_tpu.memory import bytes_of
from aphrodite.backends.jax_tpu.model import NUM_HELD_BACK, DeviceModel
from aphrodite.backends.jax_tpu.programs import Program
from aphrodite.backends.jax_tpu.sharding import make_mesh
from aphrodite.domain.architectures.registry import read_model
from aphrodite.domain.architectures.spec import ModelSpec, PixelNormalization
from aphrodite.domain.ports import BackendLimits
from llava_7b import LLAVA_7B

KERNELS = {"ours": attend_pallas, "packaged": attend_packaged}
DECODE_ROWS, DECODE_CONTEXT = 64, 1024  # tokens of context a row, for the limit that the table compares with
MAX_TEMPORARY_BYTES = 1 << 30


@dataclass(frozen=True)
class Chip:
    """Published numbers of one chip."""

    memory_bytes: float
    bandwidth: float  # bytes/s
    peak: float  # bfloat16 operations/s


CHIPS = {"v5e": Chip(16e9, 819e9, 197e12), "v6e": Chip(32e9, 1640e9, 918e12)}


@dataclass(frozen=True)
class Compiled:
    """What the compiler says of one program, a chip."""

    name: str
    argument_bytes: int
    alias_bytes: int
    temporary_bytes: int
    output_bytes: int
    flops: float
    bytes_accessed: float
    seconds: float
    gathered: list[int]  # elements of each all-gather's result

    @property
    def resident_bytes(self) -> int:
        return self.argument_bytes + self.temporary_bytes + self.output_bytes - self.alias_bytes

    def row(self, chip: Chip, weight_bytes: int, cache_bytes: int) -> str:
        """A line of the table; `cache_bytes` are read by the attention kernel, which the compiler does not count.

        The compiler's own seconds are left out where it does not know an operation's.
        """
        own = f"{self.seconds * 1e3:.2f}" if self.seconds > 0 else "-"
        counted = max((self.bytes_accessed + cache_bytes) / chip.bandwidth, self.flops / chip.peak)
        limit = max((weight_bytes + cache_bytes) / chip.bandwidth, self.flops / chip.peak)
        numbers = [
            f"{self.flops / 1e9:,.1f}", f"{self.bytes_accessed / 1e9:.2f}", f"{self.temporary_bytes / 1e6:,.1f}",
            f"{self.resident_bytes / 1e9:.2f}", own, f"{counted * 1e3:.2f}", f"{limit * 1e3:.2f}",
            f"{counted / limit:.2f}",
        ]  # fmt: skip
        return f"| {self.name} | {' | '.join(numbers)} |"


def device_model(
    model: ModelSpec,
    devices: list[Any],
    kernel: str,
    *,
    num_blocks: int,
    max_num_seqs: int,
    max_num_batched_tokens: int,
) -> DeviceModel:
    assert model.vision is not None
    bytes_per_feature = model.decoder.hidden_size * 2
    num_features = 16
    limits = BackendLimits(
        num_blocks=num_blocks,
        block_size=16,
        max_num_seqs=max_num_seqs,
        max_num_batched_tokens=max_num_batched_tokens,
        max_model_len=model.decoder.max_position,
        max_steps_in_flight=2,
        encoder_cache_bytes=num_features * model.vision.num_image_tokens * bytes_per_feature,
        bytes_per_feature=bytes_per_feature,
    )
    return DeviceModel(
        spec=model,
        normalization=PixelNormalization(1 / 255, (0.48, 0.46, 0.41), (0.27, 0.26, 0.28)),
        mesh=make_mesh(devices),
        dtype=np.dtype(jnp.bfloat16),
        attend=KERNELS[kernel],
        head_width=cache_width(model.decoder.head_dim, "tpu"),
        limits=limits,
        buckets=Buckets.of(limits, growth=2),
        num_feature_slots=num_features,
    )


def compile_program(program: Program) -> Compiled:
    compiled = program.lower().compile()
    memory, cost = compiled.memory_analysis(), compiled.cost_analysis()
    assert memory is not None
    assert cost is not None
    gathered = [
        int(np.prod([int(size) for size in shape.split(",") if size]))
        for shape in re.findall(r"= \(?\w+\[([\d,]*)\][^=]* all-gather(?:-start)?\(", compiled.as_text() or "")
    ]
    return Compiled(
        name=f"{program.name[0].split(',')[0]} {program.name[1]}",
        argument_bytes=memory.argument_size_in_bytes,
        alias_bytes=memory.alias_size_in_bytes,
        temporary_bytes=memory.temp_size_in_bytes,
        output_bytes=memory.output_size_in_bytes,
        flops=cost.get("flops", 0.0),
        bytes_accessed=cost.get("bytes accessed", 0.0),
        seconds=cost.get("optimal_seconds", 0.0),
        gathered=gathered,
    )


def bytes_read_of_cache(num_tokens: int, cache_bytes: int, num_blocks: int, block_size: int) -> int:
    """Of a chip's cache: each decode row reads its context, a prompt's chunk that of one row; never more than all."""
    rows = DECODE_ROWS if num_tokens == DECODE_ROWS else 1
    return min(cache_bytes, int(rows * DECODE_CONTEXT * cache_bytes / num_blocks / block_size))


def check(condition: bool, what: str, failures: list[str]) -> None:
    if not condition:
        failures.append(what)


def describe_chips(chip_name: str, count: int) -> list[Any]:
    return list(topologies.get_topology_desc(platform="tpu", topology_name=f"{chip_name}:2x2").devices[:count])


def run(chip_name: str, num_chips: int, kernel: str) -> list[str]:
    """Compile LLaVA-1.5-7B for one mesh, print its table, and return what is not as it should be."""
    chip = CHIPS[chip_name]
    num_blocks = 16 * 8 if chip_name == "v5e" and num_chips == 1 else 1024
    model = device_model(
        LLAVA_7B, describe_chips(chip_name, num_chips), kernel,
        num_blocks=num_blocks, max_num_seqs=DECODE_ROWS, max_num_batched_tokens=1024,
    )  # fmt: skip
    cache_bytes = bytes_of(model.cache())
    failures: list[str] = []
    print(f"\n{chip_name} x {num_chips}, {kernel} kernel: weights {bytes_of(model.weights()) / 1e9:.2f} GB, "
          f"KV cache {cache_bytes / 1e9:.2f} GB a chip")  # fmt: skip
    print("| program | GFLOP | GB read and written | temporary MB | resident GB | its own ms | its counts' ms | "
          "limit ms | counts / limit |")  # fmt: skip
    print("| --- |" + " ---: |" * 8)
    with jax.set_mesh(model.mesh):  # Pallas asks the mesh for the kind of chip
        for program in (
            model.forward_program(DECODE_ROWS),
            model.forward_program(1024),
            model.sample_program(DECODE_ROWS, NUM_HELD_BACK),
            model.encode_program(8),
        ):
            found = compile_program(program)
            weight_bytes, read_bytes = bytes_of(program.arguments[0]), 0
            if program.name[0] == "forward":
                read_bytes = bytes_read_of_cache(program.name[1], cache_bytes, num_blocks, model.limits.block_size)
                check(found.alias_bytes >= cache_bytes, f"{found.name}: the KV cache is not donated", failures)
            print(found.row(chip, weight_bytes, read_bytes), flush=True)
            check(found.temporary_bytes <= MAX_TEMPORARY_BYTES, f"{found.name}: temporaries above 1 GiB", failures)
            check(found.resident_bytes <= chip.memory_bytes, f"{found.name}: does not fit the chip", failures)
            logits = DECODE_ROWS * LLAVA_7B.decoder.vocab_size
            check(
                all(size <= logits for size in found.gathered),
                f"{found.name}: gathers {max(found.gathered, default=0):,} elements",
                failures,
            )
    return [f"{chip_name} x {num_chips}: {failure}" for failure in failures]


def run_demo(chip_name: str) -> list[str]:
    """Compile every program that the demo model has by default, on one chip, and return what is not as it should be."""
    config = Path(aphrodite.__file__).parent / "demo_model" / "config.json"
    spec = read_model(json.loads(config.read_text()))
    decoder = spec.decoder
    shape = AttentionShape(decoder.num_heads, decoder.num_kv_heads, decoder.head_dim, 16, np.dtype(jnp.bfloat16))
    model = device_model(
        spec, describe_chips(chip_name, 1), "packaged" if packaged_takes(shape) else "ours",
        num_blocks=4096, max_num_seqs=256, max_num_batched_tokens=2048,
    )  # fmt: skip
    cache_bytes, failures, largest = bytes_of(model.cache()), list[str](), 0
    programs = model.programs()
    with jax.set_mesh(model.mesh):
        for program in programs:
            found = compile_program(program)
            largest = max(largest, found.temporary_bytes)
            if program.name[0] == "forward":
                check(found.alias_bytes >= cache_bytes, f"{found.name}: the KV cache is not donated", failures)
    check(largest <= MAX_TEMPORARY_BYTES, "temporaries above 1 GiB", failures)
    print(f"\n{chip_name} x 1, the demo model: {len(programs)} programs, temporaries up to {largest / 1e6:,.1f} MB")
    return [f"{chip_name}, demo model: {failure}" for failure in failures]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=("llava", "demo"), default=["llava", "demo"])
    parser.add_argument("--chips", nargs="+", choices=CHIPS, default=list(CHIPS))
    parser.add_argument("--sizes", nargs="+", type=int, default=[1, 4])
    parser.add_argument("--kernel", nargs="+", choices=KERNELS, default=list(KERNELS))
    options = parser.parse_args()
    failures = [failure for chip in options.chips if "demo" in options.models for failure in run_demo(chip)]
    failures += [
        failure
        for kernel in options.kernel
        for chip in options.chips
        for size in options.sizes
        if "llava" in options.models
        for failure in run(chip, size, kernel)
    ]
    print("\nThe compiler's estimates, not measurements; with what the kernel reads of the cache added to its counts.")
    print(*failures, sep="\n")
    sys.exit(bool(failures))


if __name__ == "__main__":
    main()
