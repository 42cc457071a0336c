"""What each gets of something that there is too little of."""

from collections.abc import Iterable, Mapping
from typing import TypeVar

from aphrodite.domain.scheduling.request import Owner, Request

K = TypeVar("K")


def fair_shares(wanted: Mapping[K, int], total: int) -> dict[K, int]:
    """Of `total` everybody an equal part, and nobody more than wanted: what one leaves goes to the others.

    What cannot be divided goes to those who come first.
    """
    shares: dict[K, int] = {}
    modest = sorted(wanted, key=wanted.__getitem__)
    for place, key in enumerate(modest):
        if wanted[key] > total // (len(modest) - place):
            break
        shares[key] = wanted[key]
        total -= wanted[key]
    others = [key for key in wanted if key not in shares]
    for place, key in enumerate(others):
        shares[key] = total // len(others) + (place < total % len(others))
    return shares


def prompt_shares(requests: Iterable[Request], num_tokens: int) -> dict[Owner, int]:
    """How many of a step's tokens each owner has for prompts: clients share alike, and each client's requests."""
    wanted: dict[str, dict[Owner, int]] = {}
    for request in requests:
        of_client = wanted.setdefault(request.owner.client, {})
        of_client[request.owner] = of_client.get(request.owner, 0) + request.num_runnable
    of_clients = fair_shares({client: sum(amounts.values()) for client, amounts in wanted.items()}, num_tokens)
    shares: dict[Owner, int] = {}
    for client, amounts in wanted.items():
        shares |= fair_shares(amounts, of_clients[client])
    return shares
