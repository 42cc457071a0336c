"""Mixtures of experts: what takes the place of a layer's MLP (arXiv 1701.06538), and its weights.

Letters: N experts, I inner units of each, E hidden size.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from aphrodite.domain.architectures.config_fields import ConfigFields
from aphrodite.domain.architectures.names import canonical_name
from aphrodite.domain.architectures.weight import Axis, Source, Weight

if TYPE_CHECKING:
    from aphrodite.domain.architectures.spec import DecoderSpec

_AXES: tuple[Axis, ...] = ("experts", "hidden")
_MERGED = "mlp.experts.gate_up_proj"


@dataclass(frozen=True, slots=True)
class ExpertsSpec:
    """Gated MLPs, a few of which a router chooses for each token by the largest softmax of its products."""

    num_experts: int
    num_chosen: int  # for a token
    inner_size: int  # of each expert
    is_renormalized: bool  # whether the shares of the chosen ones add up to 1
    is_merged: bool = False  # in the checkpoint, where all experts of a layer are one tensor


def read_experts(config: ConfigFields, inner_size: str, *, is_renormalized: bool) -> ExpertsSpec:
    """From a configuration that has the inner size under a name of its own. Raises UnsupportedModelError."""
    count = "num_local_experts" if config.has("num_local_experts") else "num_experts"
    num_experts, num_chosen = config.integer(count), config.integer("num_experts_per_tok")
    if num_chosen > num_experts:
        raise config.unsupported("num_experts_per_tok", f"at most the {num_experts} experts that there are")
    return ExpertsSpec(num_experts, num_chosen, config.integer(inner_size), is_renormalized)


def with_experts_of(decoder: "DecoderSpec", names: Iterable[str]) -> "DecoderSpec":
    """`decoder` with its experts as a checkpoint with tensors of these names has them: one by one, or merged."""
    is_merged = any(canonical_name(name).endswith(_MERGED) for name in names)
    experts = (None if layer is None else replace(layer, is_merged=is_merged) for layer in decoder.experts)
    return replace(decoder, experts=tuple(experts))


def expert_weights(spec: ExpertsSpec, name: str, source: str, hidden_size: int, scale: float) -> list[Weight]:
    """Of one layer: the router's [N, E], [N * 2I, E] and [N * E, I]; what comes out is multiplied with `scale`."""
    count, inner, hidden = spec.num_experts, spec.inner_size, hidden_size
    router = Weight(f"{name}.router", (Source(f"{source}.gate.weight", (count, hidden)),), ("hidden", "hidden"))
    if spec.is_merged:
        gate_up: tuple[Source, ...] = (_merged(f"{source}.experts.gate_up_proj", count, (inner, inner), hidden),)
        down: tuple[Source, ...] = (_merged(f"{source}.experts.down_proj", count, (hidden,), inner, scale),)
    else:
        each = [f"{source}.experts.{expert}" for expert in range(count)]
        halves = ("gate_proj", "up_proj")
        gate_up = tuple(Source(f"{one}.{half}.weight", (inner, hidden)) for one in each for half in halves)
        down = tuple(Source(f"{one}.down_proj.weight", (hidden, inner), scale=scale) for one in each)
    return [
        router,
        Weight(f"{name}.experts_gate_up", gate_up, _AXES),
        Weight(f"{name}.experts_down", down, _AXES),
    ]


def _merged(name: str, count: int, rows: tuple[int, ...], num_inputs: int, scale: float = 1.0) -> Source:
    """All experts' [rows, inputs], which early checkpoints have the other way round."""
    num_rows = sum(rows)
    return Source(
        name,
        (count, num_rows, num_inputs),
        scale=scale,
        read=lambda tensor: tensor.reshape(-1, num_inputs),
        held_shape=(count * num_rows, num_inputs),
        parts=rows * count,
        is_maybe_transposed=True,
    )
