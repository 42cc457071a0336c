"""Mixtures of experts: what takes the place of a layer's MLP (arXiv 1701.06538), and its weights.

Letters: N experts, I inner units of each, E hidden size.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from aphrodite.domain.architectures.config_fields import ConfigFields
from aphrodite.domain.architectures.names import canonical_name
from aphrodite.domain.architectures.weight import Axis, Source, Weight, linear

if TYPE_CHECKING:
    from aphrodite.domain.architectures.spec import DecoderSpec

_AXES: tuple[Axis, ...] = ("experts", "hidden")
_MERGED = "mlp.experts.gate_up_proj"


@dataclass(frozen=True, slots=True)
class SharedExpert:
    """One that all tokens go through, beside those that are chosen."""

    inner_size: int
    is_gated: bool  # whether its share is the sigmoid of a product; else it is 1
    name: str  # within the checkpoint's layer


@dataclass(frozen=True, slots=True)
class ExpertsSpec:
    """Gated MLPs, a few of which a router chooses for each token by the largest scores of its products.

    Groups and corrections are those of arXiv 2412.19437: of experts in groups only those in the best ones can be
    chosen, by the two best of each; with corrections added, that count for the choice alone.
    """

    num_experts: int
    num_chosen: int  # for a token
    inner_size: int  # of each expert
    is_renormalized: bool  # whether the shares of the chosen ones add up to 1
    scores: Literal["softmax", "sigmoid"] = "softmax"
    num_groups: int = 1
    num_chosen_groups: int = 1
    has_correction: bool = False
    scale: float = 1.0  # of all shares
    shared: SharedExpert | None = None
    is_merged: bool = False  # in the checkpoint, where all experts of a layer are one tensor


def read_experts(config: ConfigFields, inner_size: str, *, is_renormalized: bool) -> ExpertsSpec:
    """From a configuration that has the inner size under a name of its own. Raises UnsupportedModelError."""
    names = ("num_local_experts", "n_routed_experts", "num_experts")
    count = next((name for name in names if config.has(name)), names[0])
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
    weights = [router]
    if spec.has_correction:
        correction = Source(f"{source}.gate.e_score_correction_bias", (count,))
        weights.append(Weight(f"{name}.router_correction", (correction,), ("hidden",), is_precise=True))
    weights.append(Weight(f"{name}.experts_gate_up", gate_up, _AXES, count))
    weights.append(Weight(f"{name}.experts_down", down, _AXES, count))
    if (shared := spec.shared) is not None:
        prefix, inner = f"{source}.{shared.name}.", shared.inner_size
        halves_of = {"gate_proj": inner, "up_proj": inner}
        weights += linear(f"{name}.shared_gate_up", prefix, halves_of, hidden, False, ("mlp", "hidden"))
        weights += linear(f"{name}.shared_down", prefix, {"down_proj": hidden}, inner, False, ("hidden", "mlp"), scale)
        if shared.is_gated:
            gate = Source(f"{source}.{shared.name}_gate.weight", (1, hidden))
            weights.append(Weight(f"{name}.shared_share", (gate,), ("hidden", "hidden")))
    return weights


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
