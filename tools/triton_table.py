"""Compile the Triton kernels for NVIDIA GPUs, on a machine without one, and tabulate what they take.

The launchers run as they are, on tensors without memory; only the launch is left out. ptxas comes with triton.

    python tools/triton_table.py                        every model on sm_80, sm_90 and sm_100, as a markdown table
    python tools/triton_table.py --targets 90 --models LLaVA-1.5-7B

Exits with 1 if a kernel spills registers to memory.
"""

import argparse
import math
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import triton
from torch import Tensor
from triton.backends.compiler import GPUTarget
from triton.runtime.driver import driver
from triton.runtime.jit import JITFunction

from aphrodite.backends.cuda.gpu.kernels.add_rms_norm import add_rms_norm
from aphrodite.backends.cuda.gpu.kernels.gated_activation import gated_activation
from aphrodite.backends.cuda.gpu.kernels.paged_attention import paged_attention
from aphrodite.backends.cuda.gpu.kernels.quick_gelu import quick_gelu
from aphrodite.backends.cuda.gpu.kernels.rotary_cache import rotate_and_cache
from aphrodite.backends.cuda.gpu.kernels.sampling import sample_tokens
from aphrodite.backends.cuda.gpu.kernels.split_workspace import SplitWorkspace
from aphrodite.domain.architectures.activation import Activation
from aphrodite.domain.architectures.spec import AttentionSpec

NUM_MULTIPROCESSORS = 132  # of an H100
MAX_MODEL_LEN = 4096
BLOCK_SIZE = 16


@dataclass(frozen=True, slots=True)
class Model:
    name: str
    num_heads: int
    num_kv_heads: int
    head_dim: int
    hidden_size: int
    intermediate_size: int
    vocab_size: int
    window: int | None = None
    softcap: float | None = None
    sees_forward: bool = False
    has_head_norms: bool = False
    activation: Activation = "silu"
    dtype: torch.dtype = torch.bfloat16


MODELS = [
    Model("LLaVA-1.5-7B", 32, 32, 128, 4096, 11008, 32064),
    Model("LLaVA-1.5-7B fp16", 32, 32, 128, 4096, 11008, 32064, dtype=torch.float16),
    Model("LLaVA-1.5-7B fp32", 32, 32, 128, 4096, 11008, 32064, dtype=torch.float32),
    Model("Mistral-7B", 32, 8, 128, 4096, 14336, 32064, window=4096),
    Model("Qwen2-7B", 28, 4, 128, 3584, 18944, 152064),
    Model("Qwen3-8B", 32, 8, 128, 4096, 12288, 151936, has_head_norms=True),
    Model("Mistral-7B fp32", 32, 8, 128, 4096, 14336, 32064, window=4096, dtype=torch.float32),
    Model(
        "Gemma-3-4B",
        8,
        4,
        256,
        2560,
        10240,
        262208,
        window=1024,
        has_head_norms=True,
        sees_forward=True,
        activation="gelu_tanh",
    ),
    Model("Gemma-2-9B", 16, 8, 256, 3584, 14336, 256000, window=4096, softcap=50.0, activation="gelu_tanh"),
    Model("Gemma-7B", 16, 16, 256, 3072, 24576, 256000, activation="gelu_tanh"),
]


@dataclass(frozen=True, slots=True)
class Resources:
    """What one compiled kernel takes."""

    kernel: str
    model: str
    case: str
    target: int
    num_warps: int
    registers: int  # a thread
    shared_bytes: int  # a program
    spill_bytes: int  # a thread: its frame in local memory, of which Triton makes no other use
    load_bytes: int  # that a thread moves at once, at most: 16 where triton knows how the memory is aligned
    copies_ahead: int  # to shared memory, that are on their way while the loop works on those before them


class _Driver:
    """What triton asks of a GPU's driver before a launch."""

    def __init__(self, capability: int) -> None:
        self._target = GPUTarget("cuda", capability, 32)

    def get_current_target(self) -> GPUTarget:
        return self._target

    def get_current_device(self) -> int:
        return int(self._target.arch)  # triton keeps what it has compiled by device

    def get_current_stream(self, _device: int) -> int:
        return 0


@contextmanager
def compiling(capability: int) -> Iterator[list[Any]]:
    """Within, launches compile for that capability (90: sm_90) and launch nothing. Yields the kernels as they come."""
    compiled: list[Any] = []
    run = JITFunction.run

    def compile_only(self: Any, *args: Any, grid: Any, **kwargs: Any) -> Any:
        compiled.append(run(self, *args, grid=grid, **kwargs | {"warmup": True}))
        return compiled[-1]

    driver.set_active(_Driver(capability))
    JITFunction.run = compile_only
    try:
        yield compiled
    finally:
        JITFunction.run = run


def measure(models: list[Model], targets: list[int]) -> Iterator[Resources]:
    """Compile every kernel for every model and target."""
    for target in targets:
        seen: set[str] = set()
        for model in models:
            for case, launch in cases(model).items():
                with compiling(target) as compiled:
                    launch()
                for kernel in compiled:
                    if kernel.hash not in seen:  # models share kernels
                        seen.add(kernel.hash)
                        yield _resources(kernel, model.name, case, target)


def cases(model: Model, offset: int = 0) -> dict[str, Callable[[], object]]:
    """Every way in which a step of this model launches a kernel. `offset` moves the step's fields, by 4 bytes each."""
    heads, kv_heads, head_dim = model.num_heads, model.num_kv_heads, model.head_dim

    def tensor(*shape: int, dtype: torch.dtype = model.dtype) -> Tensor:
        return torch.empty(shape, dtype=dtype, device="meta")

    def field(*shape: int, dtype: torch.dtype = torch.int32) -> Tensor:
        return tensor(offset + math.prod(shape), dtype=dtype)[offset:].view(shape)

    def floats(*shape: int) -> Tensor:
        return field(*shape, dtype=torch.float32)

    def attend(rows: int, tokens: int) -> None:
        queries = tensor(tokens, heads, head_dim)
        cache = tensor(8192 * BLOCK_SIZE, kv_heads, head_dim)
        workspace = SplitWorkspace.for_multiprocessors(
            NUM_MULTIPROCESSORS, heads, kv_heads, head_dim, MAX_MODEL_LEN, queries.device
        )
        attention = AttentionSpec(head_dim**-0.5, model.window, model.softcap)
        table = field(rows, MAX_MODEL_LEN // BLOCK_SIZE)
        arrays = (table, field(rows + 1), field(rows), BLOCK_SIZE, attention, workspace, queries)
        is_decode = tokens == rows
        paged_attention(
            queries, cache, cache, *arrays, has_single_rows=is_decode, has_chunks=not is_decode,
            visible_until=field(tokens) if model.sees_forward else None,
        )  # fmt: skip

    def rotate() -> None:
        norm = tensor(head_dim) if model.has_head_norms else None
        angles = tensor(32, head_dim // 2)
        cache = tensor(8192 * BLOCK_SIZE, kv_heads, head_dim)
        qkv = tensor(32, heads + 2 * kv_heads, head_dim)
        rotate_and_cache(qkv, angles, angles, field(32), cache, cache, norm, norm, 1e-6)

    hidden, weight = tensor(32, model.hidden_size), tensor(model.hidden_size)
    return {
        "batch 1": lambda: attend(1, 1),
        "batch 32": lambda: attend(32, 32),
        "batch 160": lambda: attend(160, 160),
        "prefill": lambda: attend(32, 2048),
        "rotary, cache": rotate,
        "norm": lambda: add_rms_norm(hidden, None, weight, 1e-6),
        "add, norm": lambda: add_rms_norm(hidden, hidden, weight, 1e-6),
        "gated": lambda: gated_activation(tensor(32, 2 * model.intermediate_size), model.activation),
        "picture": lambda: quick_gelu(tensor(8, 577, 4096)),
        "sampling": lambda: sample_tokens(
            tensor(32, model.vocab_size, dtype=torch.float32), floats(32), field(32), floats(32), floats(32), floats(32)
        ),
    }


def _resources(kernel: Any, model: str, case: str, target: int) -> Resources:
    cuobjdump = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as cubin:
        cubin.write(kernel.asm["cubin"])
        cubin.flush()
        command = [str(cuobjdump), "--dump-resource-usage", cubin.name]
        usage = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    registers, stack = re.findall(rf"Function {kernel.metadata.name}:\s+REG:(\d+) STACK:(\d+)", usage)[0]
    return Resources(
        kernel=kernel.metadata.name.removeprefix("_"),
        model=model,
        case=case,
        target=target,
        num_warps=kernel.metadata.num_warps,
        registers=int(registers),
        shared_bytes=kernel.metadata.shared,
        spill_bytes=int(stack),
        load_bytes=_widest_load(kernel.asm["ptx"]),
        copies_ahead=max(map(int, re.findall(r"cp\.async\.wait_group\s+(\d+)", kernel.asm["ptx"])), default=0),
    )


def _widest_load(ptx: str) -> int:
    """In bytes, of the loads from global memory and the copies from there to shared memory."""
    loads = re.findall(r"ld\.global\S*?(?:\.v(\d))?\.b(\d+)", ptx)
    copies = re.findall(r"cp\.async\.c[ag]\.shared\.global.*?, (0x[0-9a-f]+)", ptx)
    return max([int(count or 1) * int(bits) // 8 for count, bits in loads] + [int(size, 16) for size in copies])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--targets", type=int, nargs="+", default=[80, 90, 100], help="compute capabilities, 90: sm_90")
    known = [model.name for model in MODELS]
    parser.add_argument("--models", nargs="+", default=known, choices=known)
    arguments = parser.parse_args()
    models = [model for model in MODELS if model.name in arguments.models]
    names = ("kernel", "first needed by", "case", "target", "warps", "registers", "shared, bytes", "spills, bytes")
    print(f"| {' | '.join(names)} | load, bytes | ahead |")
    print("|---|---|---|---|---:|---:|---:|---:|---:|---:|")
    spilled = 0
    for found in measure(models, arguments.targets):
        print(
            f"| {found.kernel} | {found.model} | {found.case} | sm_{found.target} | {found.num_warps} "
            f"| {found.registers} | {found.shared_bytes} | {found.spill_bytes} | {found.load_bytes} "
            f"| {found.copies_ahead} |",
            flush=True,
        )
        spilled += found.spill_bytes
    sys.exit(1 if spilled else 0)


if __name__ == "__main__":
    main()
