"""What the TPU compiler says of one program, on chips that are not there."""

import os
import re
from dataclasses import dataclass
from typing import Any

import jax
from jax.experimental import topologies
from jax.sharding import Mesh

from aphrodite.backends.jax_tpu.programs import Program
from tpu_traffic import UnknownTrafficError, array_bytes, hbm_bytes


@dataclass(frozen=True)
class Chip:
    """Published numbers of one chip."""

    memory_bytes: float
    bandwidth: float  # bytes/s
    peak: float  # bfloat16 operations/s


CHIPS = {"v5e": Chip(16e9, 819e9, 197e12), "v6e": Chip(32e9, 1640e9, 918e12)}


def describe_chips(chip_name: str, count: int) -> list[Any]:
    """So many of four chips of that kind that lie in a square, for the compiler alone."""
    jax.config.update("jax_platforms", "cpu")
    os.environ["TPU_SKIP_MDS_QUERY"] = "1"
    os.environ["ALLOW_MULTIPLE_LIBTPU_LOAD"] = "1"  # nothing runs, so several compilers do not disturb each other
    os.environ.setdefault("TPU_ACCELERATOR_TYPE", "v5litepod-4")
    os.environ.setdefault("TPU_WORKER_HOSTNAMES", "localhost")
    os.environ.setdefault("TPU_WORKER_ID", "0")
    return list(topologies.get_topology_desc(platform="tpu", topology_name=f"{chip_name}:2x2").devices[:count])


@dataclass(frozen=True)
class Compiled:
    """Bytes and operations of one run, on one chip."""

    name: str
    operations: float
    counted_bytes: float  # by the compiler, which tells HBM from fast memory nowhere
    moved_bytes: int | None  # between the chip and HBM, but for the KV cache that attention reads; None: not known
    expected_seconds: float  # by the compiler, the attention kernel left out
    reduced_bytes: int  # that are summed over the chips
    temporary_bytes: int
    code_bytes: int
    aliased_bytes: int
    gathered_bytes: int  # of the largest array that chips hand one another


def compile_program(program: Program, mesh: Mesh) -> Compiled:
    with jax.set_mesh(mesh):  # Pallas asks the mesh for the kind of chip
        compiled = program.lower().compile()
    memory, cost, text = compiled.memory_analysis(), compiled.cost_analysis(), compiled.as_text()
    assert memory is not None
    assert cost is not None
    assert text is not None
    try:
        moved_bytes = hbm_bytes(text)
    except UnknownTrafficError:
        moved_bytes = None
    return Compiled(
        name=f"{program.name[0].split(',')[0]} {program.name[1]}",
        operations=cost.get("flops", 0.0),
        counted_bytes=cost["bytes accessed"],
        moved_bytes=moved_bytes,
        # Minus one second stands for each ConcatBitcast, which moves nothing: it says that pieces lie in a row.
        expected_seconds=cost["optimal_seconds"] % 1.0,
        reduced_bytes=sum(_results_of("all-reduce", text)),
        temporary_bytes=memory.temp_size_in_bytes,
        code_bytes=memory.generated_code_size_in_bytes,
        aliased_bytes=memory.alias_size_in_bytes,
        gathered_bytes=max(_results_of("(?:all-gather|all-to-all|collective-permute)", text), default=0),
    )


def _results_of(operation: str, text: str) -> list[int]:
    """Bytes of what each such operation returns; an asynchronous one names its operands first, as large or smaller."""
    found = re.findall(rf"= (\(.*?\)|\S+) {operation}(?:-start)?\(", text)
    return [max(array_bytes(types)) for types in found]
