"""Numbers as people write them: 4096, 4k, 2G, 1e4."""

import re

import typer

_COUNT = re.compile(r"([+-]?\d+(?:_\d+)*(?:\.\d+)?(?:[eE][+]?\d{1,2})?)([kmgtKMGT]?)")
_FACTORS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


def parse_count(text: object) -> int:
    """A whole number; k, m, g, t stand for powers of 1000, K, M, G, T for powers of 1024. Raises typer.BadParameter."""
    match = _COUNT.fullmatch(str(text).strip())
    if match is not None:
        digits, unit = match.groups()
        value = int(digits) * _FACTORS[unit] if re.fullmatch(r"[+-]?[\d_]+", digits) else float(digits) * _FACTORS[unit]
        if value == int(value):
            return int(value)
    raise typer.BadParameter(f"takes a whole number, as in 4096, 4k, 2G or 1e4; got {str(text)!r}.")


def parse_real(text: object) -> float:
    """Raises typer.BadParameter."""
    try:
        return float(str(text))
    except ValueError as error:
        raise typer.BadParameter(f"takes a number, as in 0.9 or 30; got {str(text)!r}.") from error
