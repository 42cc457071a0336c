"""What a decoder step compiled for a TPU moves between the chip and its memory (HBM), read from the compiled text.

XLA's own count of bytes makes no difference between HBM and the chip's fast memory: a weight that is fetched ahead of
its use counts three times, as read from HBM, as written to fast memory, and as read from there. Here only what lies in
HBM counts: arrays whose layout names no other memory, as bf16[64,4096]{1,0:T(8,128)(2,1)S(1)} names S(1), the fast one.
"""

import math
import re
from typing import NamedTuple

_ARRAY = re.compile(r"([a-z]+\d*)\[([\d,]*)\](?:\{([^}]*)\})?")
_INSTRUCTION = re.compile(r"^  (?:ROOT )?%(\S+) = (\(.*?\)|\S+) ([\w-]+)\((.*?)\)(?:, (.*))?$")
_COMPUTATION = re.compile(r"^(ENTRY )?%(\S+) \(.*\{$")
_MOVES_NOTHING = {
    "parameter", "constant", "bitcast", "tuple", "get-tuple-element", "copy-done", "slice-done", "call-done",
    "partition-id",
}  # fmt: skip


class UnknownTrafficError(Exception):
    """The text does not say what a run moves."""


class _Array(NamedTuple):
    size: int  # bytes
    in_hbm: bool


def hbm_bytes(text: str) -> int:
    """Bytes that one run of the program reads from and writes to a chip's HBM.

    Of branches the cheapest counts, which is what greedy rows without log-probabilities take. What the attention kernel
    reads of the KV cache is left out: the step's rows decide that. A loop is taken to go over the arrays that it
    carries once, a part a turn, and arrays as large for those. Raises UnknownTrafficError for loops whose turns are not
    told, for calls, and for numbers of a kind that is not known.
    """
    computations: dict[str, list[str]] = {}
    entry, lines = "", list[str]()
    for line in text.splitlines():
        if begun := _COMPUTATION.match(line):
            lines = computations[begun[2]] = []
            entry = begun[2] if begun[1] else entry
        lines.append(line)
    return _moved_by(computations, entry)


def _moved_by(computations: dict[str, list[str]], name: str, turns: int = 1) -> int:
    """By all turns of a loop's body; else by one run of a computation."""
    arrays_of: dict[str, list[_Array]] = {}
    carried = set[int]()  # sizes of what goes from turn to turn
    total = 0
    for found in filter(None, map(_INSTRUCTION.match, computations[name])):
        result_name, result, opcode, operands, attributes = found.groups(default="")
        arrays = _arrays(result)
        if opcode == "parameter" and turns > 1:
            carried |= {array.size for array in arrays}
        arrays_of[result_name] = [array._replace(size=array.size // turns) if array.size in carried else array
                                  for array in arrays]  # fmt: skip
        if opcode == "call":
            raise UnknownTrafficError("what a call moves cannot be counted")
        if opcode == "while":
            condition, body = re.findall(r"(?:condition|body)=%([\w.-]+)", attributes)
            total += _moved_by(computations, body, _turns(computations[condition]))
        elif opcode == "conditional":
            branches = re.findall(r"%([\w.-]+)", attributes.partition("branch_computations=")[2].partition("}")[0])
            total += min(_moved_by(computations, branch) for branch in branches)
        elif opcode not in _MOVES_NOTHING:
            sources = [array for operand in re.findall(r"%([\w.-]+)", operands) for array in arrays_of[operand]]
            total += _moved(opcode, arrays_of[result_name], sources, attributes)
    return total * turns


def _turns(condition: list[str]) -> int:
    """Of a loop that counts from nought to a constant."""
    limits = [int(found[1]) for line in condition if (found := re.search(r" = s32\[\]\S* constant\((\d+)\)", line))]
    if len(limits) != 1 or not any("direction=LT" in line for line in condition):
        raise UnknownTrafficError("how often a loop turns is not told")
    return limits[0]


def _moved(opcode: str, results: list[_Array], sources: list[_Array], attributes: str) -> int:
    if "ConcatBitcast" in attributes:  # says that pieces lie side by side
        return 0
    if opcode == "copy-start":  # (target, source, flag)
        return _moved_of(results[0].size, sources[0], results[0])
    if opcode == "slice-start":  # ((source), target, flag)
        return _moved_of(results[1].size, sources[0], results[1])
    if '/gather"' in attributes:  # of the table only what it returns
        return _moved_of(results[0].size, sources[0], *results)
    others = [source for source in sources if source.size]  # a token has no size
    if re.search(r'/scatter(-add)?"', attributes) and len(others) > 1 and others[0].size == results[0].size:
        added = max(others[1:])  # to the first, in its place; indices are smaller
        return _moved_of(added.size, results[0], added)
    if opcode == "call-start":
        raise UnknownTrafficError("what a call moves cannot be counted")
    if "tpu_custom_call" in attributes:
        sources = sources[:-1]  # without the cache
    return sum(array.size for array in (*results, *sources) if array.in_hbm)


def _moved_of(size: int, *ends: _Array) -> int:
    return size * sum(end.in_hbm for end in ends)


def array_bytes(types: str) -> list[int]:
    """The size of each array in a type such as `(bf16[64,4096]{1,0}, u32[])`."""
    return [array.size for array in _arrays(types)]


def _arrays(types: str) -> list[_Array]:
    return [
        _Array(
            math.prod(int(size) for size in shape.split(",") if size) * _bits(kind) // 8,
            re.search(r"S\([1-9]\)", layout) is None,
        )
        for kind, shape, layout in _ARRAY.findall(types)
    ]


def _bits(kind: str) -> int:
    if kind == "token":
        return 0
    found = re.fullmatch(r"(?:pred|[a-z]+(\d+))", kind)
    if found is None:
        raise UnknownTrafficError(f"how many bits a {kind} has is not known")
    return int(found[1] or 8)
