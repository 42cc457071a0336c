"""In which order the stages of sampling run, by the names that are in use for them."""

from collections.abc import Sequence

from aphrodite.domain.errors import SamplingParamsError
from aphrodite.domain.prompting.parameter import shown

_FIRST = {"dry", "penalties", "no_repeat_ngram"}  # whatever their place: they change logits that all others read
_OTHER_NAMES = {
    "temperature": ("temperature", "dynatemp"),
    "dynamic_temperature": ("dynatemp",),
    "top_nsigma": ("nsigma",),
    "top_n_sigma": ("nsigma",),
    "top_p_top_k": ("top_k", "top_p"),
    "typical": ("typical_p",),
    "quadratic": ("smoothing",),
    "quadratic_sampling": ("smoothing",),
    "repetition_penalty": ("penalties",),
    "presence_penalty": ("penalties",),
    "frequency_penalty": ("penalties",),
    "encoder_repetition_penalty": ("penalties",),
    # The numbers of the first Aphrodite.
    "0": ("top_k", "top_p"),
    "1": ("top_a",),
    "2": ("min_p",),
    "3": ("tfs",),
    "4": ("typical_p",),
    "5": ("temperature", "dynatemp"),
    "6": ("penalties",),
    "7": ("dry",),
    "8": ("no_repeat_ngram",),
    "9": ("nsigma",),
    "10": ("eta_cutoff",),
    "11": ("epsilon_cutoff",),
    "12": ("smoothing",),
    "13": ("xtc",),
}
_KOBOLD_NAMES = (("top_k",), ("top_a",), ("top_p", "min_p"), ("tfs",), ("typical_p",), ("temperature", "dynatemp"), ())


def parse_priority(value: object, stages: Sequence[str]) -> tuple[str, ...]:
    """The stages that a sampler_priority names, each once, without those that come first in any case.

    Raises SamplingParamsError for a name that nothing has.
    """
    if not isinstance(value, list | tuple):
        raise SamplingParamsError(f"sampler_priority must be a list of samplers' names, got {shown(value)}.")
    named: list[str] = []
    for item in value:
        name = str(item).lower() if isinstance(item, str | int) and not isinstance(item, bool) else ""
        found = _OTHER_NAMES.get(name, (name,))
        if not _FIRST.issuperset(found) and not set(stages).issuperset(found):
            raise SamplingParamsError(
                f"sampler_priority holds {shown(item)}, which is no sampler; there are: {', '.join(stages)}."
            )
        named += found
    return tuple(dict.fromkeys(stage for stage in named if stage not in _FIRST))


def parse_kobold_order(order: Sequence[int]) -> list[str | int]:
    """Kobold's sampler_order, numbers from 0 to 6, as a sampler_priority; penalties (6) come first in any case."""
    return [name for number in order for name in _KOBOLD_NAMES[number]]


def in_order(stages: Sequence[str], priority: Sequence[object] | None, *, temperature_last: bool) -> list[str]:
    """All stages: those of `priority` first, then the others in their own order.

    Without one the temperature may come last, but for what changes the distribution as a whole (skew).
    """
    if priority is not None:
        return [*map(str, priority), *(stage for stage in stages if stage not in priority)]
    late = ("temperature", "dynatemp", "skew", "mirostat") if temperature_last else ()
    return [*(stage for stage in stages if stage not in late), *late]
