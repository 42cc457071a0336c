"""The MLP of a decoder's layer: one, or a mixture of experts.

Letters: T tokens, E hidden size, I inner units, N experts, K of them chosen for a token.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from aphrodite.backends.cuda.linear import Linear, linear
from aphrodite.domain.architectures.experts import ExpertsSpec
from aphrodite.domain.errors import BackendError

Gate = Callable[[Tensor], Tensor]
"""The activation of the first half of [T, 2I], times the second half: [T, I]."""


@dataclass(frozen=True, slots=True)
class Mlp:
    """The same for all tokens."""

    gate_up: Linear  # [T, E] -> [T, 2I]
    down: Linear  # [T, I] -> [T, E]

    def __call__(self, hidden: Tensor, gate: Gate) -> Tensor:
        """Hidden states [T, E] to what is added to them."""
        return self.down(gate(self.gate_up(hidden)))


class Experts:
    """For each token those that its router chooses, each times its share."""

    def __init__(self, spec: ExpertsSpec, weights: Mapping[str, Tensor]) -> None:
        """`weights` are a layer's, by their names within it.

        Raises BackendError for a number format that the device has no product of many matrices for.
        """
        self._spec = spec
        self._router = router = weights["router"]  # [N, E]
        self._correction = weights.get("router_correction")  # float32 [N]
        self._shared_share = weights.get("shared_share")  # [1, E]
        self._shared = None
        if spec.shared is not None:
            shared = (linear(weights[f"shared_{part}.weight"], None) for part in ("gate_up", "down"))
            self._shared = Mlp(*shared)
        gate_up, down = weights["experts_gate_up"], weights["experts_down"]  # [N * 2I, E], [N * E, I]
        self._run = self._run_on_cpu if router.device.type == "cpu" else self._run_on_gpu
        if router.device.type == "cpu":
            self._experts = [
                Mlp(linear(expert_gate_up, None), linear(expert_down, None))
                for expert_gate_up, expert_down in zip(
                    gate_up.chunk(spec.num_experts), down.chunk(spec.num_experts), strict=True
                )
            ]
        elif router.dtype != torch.bfloat16:
            raise BackendError("Models with experts run in bfloat16 on a GPU; choose dtype=bfloat16.")
        else:
            self._gate_up = gate_up.view(spec.num_experts, -1, gate_up.shape[1]).mT  # [N, E, 2I]
            self._down = down.view(spec.num_experts, -1, down.shape[1]).mT  # [N, I, E]

    def __call__(self, hidden: Tensor, gate: Gate) -> Tensor:
        """Hidden states [T, E] to what is added to them."""
        shares, chosen = self._route(hidden)
        in_order = chosen.flatten().argsort(stable=True)  # the T * K choices, by expert
        tokens = in_order // self._spec.num_chosen
        made = self._run(hidden[tokens], chosen.flatten()[in_order], gate)
        weighted = made * shares.flatten()[in_order, None]
        added = torch.zeros_like(hidden).index_add_(0, tokens, weighted.to(hidden.dtype))
        return added if self._shared is None else added.add_(self._run_shared(self._shared, hidden, gate))

    def _run_shared(self, shared: Mlp, hidden: Tensor, gate: Gate) -> Tensor:
        made = shared(hidden, gate)
        share = self._shared_share
        return made if share is None else made * functional.linear(hidden, share).sigmoid()

    def _route(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """Shares and numbers of the chosen ones, [T, K] each."""
        spec = self._spec
        if spec.scores == "softmax":
            scores = functional.linear(hidden, self._router).float().softmax(dim=-1)
        else:
            scores = functional.linear(hidden.float(), self._router.float()).sigmoid()
        chosen = self._eligible(scores).topk(spec.num_chosen, dim=-1)[1]
        shares = scores.gather(1, chosen)
        if spec.is_renormalized:
            shares /= shares.sum(dim=-1, keepdim=True)
        return shares * spec.scale, chosen

    def _eligible(self, scores: Tensor) -> Tensor:
        """What is chosen by, of scores [T, N]: corrected, and -inf outside of the best groups."""
        if self._correction is not None:
            scores = scores + self._correction
        if self._spec.num_groups == 1:
            return scores
        groups = scores.view(len(scores), self._spec.num_groups, -1)
        best = groups.topk(2, dim=-1)[0].sum(dim=-1).topk(self._spec.num_chosen_groups, dim=-1)[1]  # [T, chosen]
        is_best = torch.zeros_like(groups[..., 0], dtype=torch.bool).scatter_(1, best, True)
        return groups.masked_fill(~is_best[..., None], -torch.inf).view_as(scores)

    def _run_on_cpu(self, x: Tensor, chosen: Tensor, gate: Gate) -> Tensor:
        """What experts [T * K], in rising order, make of x [T * K, E]."""
        counts: list[int] = chosen.bincount(minlength=self._spec.num_experts).tolist()
        rows = torch.split(x, counts)
        made = [self._experts[index](rows[index], gate) for index, count in enumerate(counts) if count]
        return torch.cat(made)

    def _run_on_gpu(self, x: Tensor, chosen: Tensor, gate: Gate) -> Tensor:
        """As `_run_on_cpu`, without a word from the device."""
        numbers = torch.arange(self._spec.num_experts, device=x.device, dtype=chosen.dtype)
        ends = torch.searchsorted(chosen, numbers, right=True).int()  # of each expert's rows
        inner = gate(functional.grouped_mm(x, self._gate_up, offs=ends))
        return functional.grouped_mm(inner, self._down, offs=ends)
