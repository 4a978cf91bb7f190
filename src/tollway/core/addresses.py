"""Which IP addresses are public: whom a URL that a user gave may lead to.

The tables are our own and spelled out, because the standard library's idea of a global address
includes multicast and most ways of wrapping an IPv4 address into an IPv6 one, and changes between
releases. What no table names is public in IPv4, and only within 2000::/3 in IPv6.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final, Literal

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network
AddressKind = Literal[
    "public",
    "loopback",
    "private",
    "shared",
    "link_local",
    "metadata",
    "multicast",
    "unspecified",
    "wrapping",
    "reserved",
]
"""`shared`: a carrier's. `metadata`: a cloud's service that hands out credentials. `wrapping`: IPv6 around IPv4."""

# The first network that holds an address decides, so that exceptions stand before what they are excepted from.
_IPV4: Final[tuple[tuple[str, AddressKind], ...]] = (
    ("0.0.0.0/8", "unspecified"),
    ("10.0.0.0/8", "private"),
    ("100.100.100.200/32", "metadata"),  # Alibaba
    ("100.64.0.0/10", "shared"),
    ("127.0.0.0/8", "loopback"),
    ("168.63.129.16/32", "metadata"),  # Azure
    ("169.254.169.254/32", "metadata"),
    ("169.254.170.0/24", "metadata"),  # containers and pods on AWS
    ("169.254.0.0/16", "link_local"),
    ("172.16.0.0/12", "private"),
    ("192.0.0.192/32", "metadata"),  # Oracle
    ("192.0.0.0/24", "reserved"),
    ("192.0.2.0/24", "reserved"),
    ("192.31.196.0/24", "reserved"),
    ("192.52.193.0/24", "reserved"),
    ("192.88.99.0/24", "reserved"),
    ("192.168.0.0/16", "private"),
    ("192.175.48.0/24", "reserved"),
    ("198.18.0.0/15", "reserved"),
    ("198.51.100.0/24", "reserved"),
    ("203.0.113.0/24", "reserved"),
    ("224.0.0.0/4", "multicast"),
    ("240.0.0.0/4", "reserved"),
)
_IPV6: Final[tuple[tuple[str, AddressKind], ...]] = (
    ("::/128", "unspecified"),
    ("::1/128", "loopback"),
    ("::/96", "wrapping"),
    ("::ffff:0:0:0/96", "wrapping"),
    ("64:ff9b::/96", "wrapping"),
    ("64:ff9b:1::/48", "wrapping"),
    ("2001::/32", "wrapping"),  # Teredo
    ("2001::/23", "reserved"),
    ("2001:db8::/32", "reserved"),
    ("2002::/16", "wrapping"),  # 6to4
    ("2620:4f:8000::/48", "reserved"),
    ("3ffe::/16", "reserved"),
    ("3fff::/20", "reserved"),
    ("2000::/3", "public"),
    ("fd00:ec2::/32", "metadata"),
    ("fd20:ce::254/128", "metadata"),
    ("fc00::/7", "private"),
    ("fe80::/10", "link_local"),
    ("fec0::/10", "private"),
    ("ff00::/8", "multicast"),
)
_IPV4_NETWORKS: Final[tuple[tuple[IPv4Network, AddressKind], ...]] = tuple(
    (IPv4Network(text), kind) for text, kind in _IPV4
)
_IPV6_NETWORKS: Final[tuple[tuple[IPv6Network, AddressKind], ...]] = tuple(
    (IPv6Network(text), kind) for text, kind in _IPV6
)
_TEREDO: Final = IPv6Network("2001::/32")
_SIX_TO_FOUR: Final = IPv6Network("2002::/16")
_LOW_32: Final = (1 << 32) - 1
_ISATAP: Final = frozenset((0x5EFE, 0x0200_5EFE))
"""The upper half of an interface identifier whose lower half is an IPv4 address."""


def read_address(text: str) -> Address | None:
    """The address a text spells in full, IPv4 inside IPv6 taken out of its mapping; None for anything else, zones too."""
    try:
        found = ip_address(text)
    except ValueError:
        return None
    if isinstance(found, IPv4Address):
        return found
    return None if found.scope_id is not None else found.ipv4_mapped or found


def read_network(text: str) -> Network | None:
    """A network in CIDR notation, or a single address; None for anything else. Bits of the host part are ignored."""
    try:
        return ip_network(text, strict=False)
    except ValueError:
        return None


def kind_of(address: Address) -> AddressKind:
    """What an address is for. A mapped IPv4 address is what its IPv4 address is."""
    if isinstance(address, IPv4Address):
        for network, kind in _IPV4_NETWORKS:
            if address in network:
                return kind
        return "public"
    if address.ipv4_mapped is not None:
        return kind_of(address.ipv4_mapped)
    if address.scope_id is not None:
        return "link_local"
    for wide, kind in _IPV6_NETWORKS:
        if address in wide:
            return "wrapping" if kind == "public" and _is_isatap(address) else kind
    return "reserved"


def is_public(address: Address) -> bool:
    """Whether anybody on the internet may be behind the address, and nobody else."""
    return kind_of(address) == "public"


def inner(address: Address) -> IPv4Address | None:
    """The IPv4 address that traffic to a wrapping IPv6 address ends at; None where there is none."""
    if isinstance(address, IPv4Address) or kind_of(address) != "wrapping":
        return None
    if address in _SIX_TO_FOUR:
        return IPv4Address(int(address) >> 80 & _LOW_32)
    low = int(address) & _LOW_32
    if address in _TEREDO:
        return IPv4Address(low ^ _LOW_32)
    return IPv4Address(low)


def _is_isatap(address: IPv6Address) -> bool:
    return int(address) >> 32 & _LOW_32 in _ISATAP
