"""Public addresses, against the standard library's table and by hand where that knows less."""

from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aphrodite.adapters.outbound.images.addresses import is_public

addresses = st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6))


@given(addresses)
def test_nothing_is_public_that_the_standard_library_knows_to_be_special(address: IPv4Address | IPv6Address) -> None:
    special = not address.is_global or address.is_multicast or address.is_reserved or address.is_unspecified
    nat64 = isinstance(address, IPv6Address) and str(address).startswith("64:ff9b:")
    assert not (is_public(address) and special and not nat64)


@given(st.ip_addresses(v=4))
def test_nat64_is_judged_by_what_it_carries_and_other_embeddings_are_closed(address: IPv4Address) -> None:
    def inside(prefix: str, shift: int = 0) -> IPv6Address:
        return IPv6Address(int(IPv6Address(prefix)) | int(address) << shift)

    assert is_public(inside("64:ff9b::")) == is_public(address)
    for closed in (inside("::ffff:0:0"), inside("::"), inside("2002::", 80), inside("2001::"), inside("64:ff9b:1::")):
        assert not is_public(closed)


@pytest.mark.parametrize("text", ["1.1.1.1", "172.15.9.9", "172.32.0.0", "100.128.0.0", "223.255.255.255", "2a00::1"])
def test_public(text: str) -> None:
    assert is_public(ip_address(text))


def test_zones_are_closed() -> None:
    assert not is_public(IPv6Address("2a00::1%eth0"))
