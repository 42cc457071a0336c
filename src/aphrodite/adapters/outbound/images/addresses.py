"""Which network addresses the server may connect to for a stranger: public ones only.

The tables follow IANA's special-purpose registries; they stand here so that all Python versions have one rule.
"""

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

_CLOSED_V4 = tuple(
    IPv4Network(network)
    for network in (
        "0.0.0.0/8",  # this host
        "10.0.0.0/8",  # private
        "100.64.0.0/10",  # carrier-grade NAT; holds a cloud's metadata service, 100.100.100.200
        "127.0.0.0/8",  # loopback
        "168.63.129.16/32",  # a cloud's host service, at a public address
        "169.254.0.0/16",  # link-local; holds the usual metadata service, 169.254.169.254
        "172.16.0.0/12",  # private
        "192.0.0.0/24",  # IETF protocols; holds a cloud's metadata service, 192.0.0.192
        "192.0.2.0/24",  # documentation
        "192.88.99.0/24",  # 6to4 relays
        "192.168.0.0/16",  # private
        "198.18.0.0/15",  # benchmarks
        "198.51.100.0/24",  # documentation
        "203.0.113.0/24",  # documentation
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved; holds broadcast
    )
)

# All that is handed out. Loopback, private, link-local and multicast addresses and ::/96 lie outside.
_GLOBAL_V6 = IPv6Network("2000::/3")
_CLOSED_V6 = tuple(
    IPv6Network(network)
    for network in (
        "2001::/23",  # IETF protocols; holds Teredo, which embeds IPv4 addresses
        "2001:db8::/32",  # documentation
        "2002::/16",  # 6to4, which embeds IPv4 addresses
        "3fff::/20",  # documentation
    )
)
_NAT64 = IPv6Network("64:ff9b::/96")  # the last 32 bits are the IPv4 address that is reached in the end


def is_public(address: IPv4Address | IPv6Address) -> bool:
    """Whether an address is a public unicast one.

    Of the IPv6 forms that carry an IPv4 address only NAT64 is taken, and judged by what it carries: networks without
    IPv4 reach the rest of the world by it. IPv4-mapped, IPv4-compatible, 6to4 and Teredo addresses are not public.
    """
    if isinstance(address, IPv6Address):
        if address.scope_id is not None:
            return False
        if address in _NAT64:
            return is_public(IPv4Address(int(address) & 0xFFFFFFFF))
        return address in _GLOBAL_V6 and not any(address in network for network in _CLOSED_V6)
    return not any(address in network for network in _CLOSED_V4)
