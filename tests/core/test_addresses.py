"""Which addresses are public: both edges of every special network, and every wrapping of IPv4."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest

from tollway.core.addresses import inner, is_public, kind_of, read_address, read_network

KINDS = {
    "public": (
        "1.1.1.1 8.8.8.8 9.255.255.255 11.0.0.0 100.63.255.255 100.128.0.0 126.255.255.255 128.0.0.0 "
        "168.63.129.15 168.63.129.17 169.253.255.255 169.255.0.0 172.15.255.255 172.32.0.0 192.0.1.0 "
        "192.167.255.255 192.169.0.0 198.17.255.255 198.20.0.0 203.0.112.255 203.0.114.0 223.255.255.255 "
        "2000:: 2001:200:: 2606:4700:4700::1111 2a00:1450:4001::1 2003:: 3ffd:ffff:: 3fff:1000:: ::ffff:8.8.8.8"
    ),
    "loopback": "127.0.0.0 127.0.0.1 127.255.255.255 ::1 ::ffff:127.0.0.1 ::ffff:7f00:1",
    "private": (
        "10.0.0.0 10.255.255.255 172.16.0.0 172.31.255.255 192.168.0.0 192.168.255.255 fc00:: fd12::1 "
        "fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff fec0::1 feff::1 ::ffff:10.0.0.1 ::ffff:192.168.1.1"
    ),
    "shared": "100.64.0.0 100.127.255.255 ::ffff:100.64.0.1",
    "link_local": "169.254.0.0 169.254.169.253 169.254.255.255 fe80:: febf:ffff:: ::ffff:169.254.1.1 fe80::1%eth0",
    "metadata": (
        "169.254.169.254 169.254.170.2 169.254.170.23 100.100.100.200 168.63.129.16 192.0.0.192 "
        "fd00:ec2::254 fd00:ec2::23 fd20:ce::254 ::ffff:169.254.169.254 ::ffff:a9fe:a9fe"
    ),
    "multicast": "224.0.0.1 239.1.1.1 239.255.255.255 ff02::1 ff0e::1",
    "unspecified": "0.0.0.0 0.255.255.255 :: ::ffff:0.0.0.0",
    "wrapping": (
        "::127.0.0.1 ::8.8.8.8 ::ffff:0:7f00:1 64:ff9b::7f00:1 64:ff9b::808:808 64:ff9b:1::7f00:1 64:ff9b:1:ffff::1 "
        "2001::1 2001:0:4136:e378:8000:63bf:3fff:fdd2 2002:7f00:1:: 2002:a9fe:a9fe:: 2002:808:808::1 "
        "2606:4700::5efe:10.0.0.1 2606:4700::200:5efe:10.0.0.1"
    ),
    "reserved": (
        "192.0.0.0 192.0.0.8 192.0.0.255 192.0.2.1 192.31.196.1 192.52.193.1 192.88.99.1 192.175.48.1 198.18.0.0 "
        "198.19.255.255 198.51.100.1 203.0.113.1 240.0.0.0 255.255.255.254 255.255.255.255 100::1 100:0:0:1::1 "
        "2001:1::1 2001:2::1 2001:10::1 2001:1ff:ffff:: 2001:db8::1 2620:4f:8000::1 3ffe::1 3fff::1 3fff:fff:ffff:: "
        "4000:: 5f00::1 64:ff9a:: 64:ff9b:2:: 1fff:ffff:: fe00::1"
    ),
}
ROWS = [(address, kind) for kind, addresses in KINDS.items() for address in addresses.split()]


@pytest.mark.parametrize(("text", "kind"), ROWS)
def test_an_address_is_what_it_is_for(text: str, kind: str) -> None:
    assert kind_of(ip_address(text)) == kind
    assert is_public(ip_address(text)) is (kind == "public")


@pytest.mark.parametrize(
    ("text", "within"),
    [
        ("::10.1.2.3", "10.1.2.3"),
        ("::ffff:0:10.1.2.3", "10.1.2.3"),
        ("64:ff9b::10.1.2.3", "10.1.2.3"),
        ("64:ff9b:1::10.1.2.3", "10.1.2.3"),
        ("2002:a9fe:a9fe::1", "169.254.169.254"),
        ("2001:0:4136:e378:8000:63bf:3fff:fdd2", "192.0.2.45"),
        ("2606:4700::5efe:10.0.0.1", "10.0.0.1"),
        ("2606:4700::200:5efe:10.0.0.1", "10.0.0.1"),
        ("2606:4700::1", None),
        ("fe80::1", None),
        ("8.8.8.8", None),
    ],
)
def test_the_address_inside_a_wrapping_one_is_found(text: str, within: str | None) -> None:
    assert inner(ip_address(text)) == (None if within is None else IPv4Address(within))


def test_a_mapped_address_is_read_as_the_one_it_maps() -> None:
    assert read_address("::ffff:10.0.0.1") == IPv4Address("10.0.0.1")
    assert read_address("2606:4700::1") == IPv6Address("2606:4700::1")


@pytest.mark.parametrize(
    "text",
    ["", "1", "127.1", "2130706433", "0x7f000001", "0177.0.0.1", "127.0.0.1.", "127.0.0.01", " 127.0.0.1",
     "fe80::1%eth0", "[::1]", "1.2.3.4/32", "host", "１２７.0.0.1", "::1::"],
)  # fmt: skip
def test_only_a_full_address_is_read(text: str) -> None:
    assert read_address(text) is None


def test_networks_are_read_with_or_without_a_length() -> None:
    assert str(read_network("10.1.2.3/8")) == "10.0.0.0/8"
    assert str(read_network("::1")) == "::1/128"
    assert read_network("host") is None
