"""Whom a guarded fetch may reach: the operator's settings, and the judgement of hosts and addresses.

A host name of `fetch_allow` may lead to loopback and private addresses; only a network of it opens
what hands out credentials (cloud metadata) or has no single owner (link-local, multicast, reserved).
An IPv6 address around an IPv4 one needs a network that allows it and an inside that is allowed too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from msgspec import Struct

from tollway.config import BadSettings, Settings
from tollway.core.addresses import Address, Network, inner, is_public, kind_of, read_address, read_network
from tollway.upstream.guard_faults import FetchFault
from tollway.upstream.guard_urls import Place, read_url

_LOCAL_NAMES: Final = (
    ".local",
    ".localhost",
    ".internal",
    ".intranet",
    ".lan",
    ".home",
    ".home.arpa",
    ".corp",
    ".onion",
)
_NEIGHBOURS: Final = frozenset(("public", "loopback", "private", "shared"))
"""What a host that the operator trusts by name may be."""

_NOT_IN_HOSTS: Final = frozenset(":/?#")


class Rules(Struct, frozen=True, kw_only=True):
    """What may be fetched. `own_hosts`: the gateway's own names. Times are seconds, sizes bytes."""

    hosts: frozenset[str] = frozenset()
    networks: tuple[Network, ...] = ()
    ports: frozenset[int] = frozenset((80, 443))
    own_hosts: frozenset[str] = frozenset()
    bytes_max: int = 20 * 1024 * 1024
    timeout: float = 20.0
    connect_timeout: float = 5.0


class Vetted(Struct, frozen=True):
    """Addresses that may be dialled. `public`: all of them are, so that what goes wrong may be told."""

    addresses: tuple[str, ...]
    public: bool


def rules_of(settings: Settings) -> Rules:
    """The settings as rules. Raises BadSettings."""
    hosts: set[str] = set()
    networks: list[Network] = []
    for entry in _listed(settings.fetch_allow):
        network = read_network(entry)
        if network is not None:
            networks.append(network)
        else:
            hosts.add(_host(entry))
    return Rules(
        hosts=frozenset(hosts),
        networks=tuple(networks),
        ports=frozenset(_port(entry) for entry in _listed(settings.fetch_ports)),
        own_hosts=_own(settings.public_url),
        bytes_max=settings.fetch_max,
        timeout=settings.fetch_timeout,
        connect_timeout=settings.connect_timeout,
    )


def refuse_place(rules: Rules, place: Place, *, secure: bool) -> None:
    """Refuse what need not be resolved to be refused. `secure`: https only. Raises FetchFault."""
    if place.host in rules.hosts:
        return
    address = place.address
    if address is not None and _in_networks(rules, address):
        return
    if secure and place.scheme != "https":
        raise FetchFault("bad_url", "the URL must begin with https://")
    if place.port not in rules.ports:
        raise FetchFault("forbidden", f"port {place.port} may not be fetched from")
    if address is not None and not is_public(address):
        raise FetchFault("forbidden", f"{place.host} is not a public address")
    if address is None and ("." not in place.host or place.host.endswith(_LOCAL_NAMES)):
        raise FetchFault("forbidden", f"{place.host} is not a public name")
    if place.host in rules.own_hosts:
        raise FetchFault("forbidden", "the gateway does not fetch from itself")


def vet(rules: Rules, host: str, found: Iterable[str], ours: Callable[[str], bool]) -> Vetted:
    """The addresses of a host, if every one of them may be reached. `ours`: whether an address is this machine's.

    Raises FetchFault: the same for a host without addresses and for one that leads inside.
    """
    addresses: list[Address] = []
    for text in found:
        address = read_address(text)
        if address is None or not _admits(rules, address, host in rules.hosts, ours):
            raise unknown(host)
        if address not in addresses:
            addresses.append(address)
    if not addresses:
        raise unknown(host)
    return Vetted(tuple(str(one) for one in addresses), all(is_public(one) for one in addresses))


def unknown(host: str) -> FetchFault:
    """What is said of every host that has no address or leads inside, so that neither can be told from the other."""
    return FetchFault("forbidden", f"{host} is unknown or leads to an address that is not public")


def _admits(rules: Rules, address: Address, trusted: bool, ours: Callable[[str], bool]) -> bool:
    if _in_networks(rules, address):
        within = inner(address)
        return within is None or _admits(rules, within, trusted, ours)
    if trusted:
        return kind_of(address) in _NEIGHBOURS
    return is_public(address) and not ours(str(address))


def _in_networks(rules: Rules, address: Address) -> bool:
    return any(address in network for network in rules.networks)


def _listed(setting: str) -> list[str]:
    return [entry.strip() for entry in setting.split(",") if entry.strip()]


def _host(entry: str) -> str:
    try:
        place = read_url(f"https://{entry}")
    except FetchFault:
        place = None
    if place is None or _NOT_IN_HOSTS.intersection(entry) or place.address is not None:
        raise BadSettings(f"fetch_allow: {entry!r} is neither a host name nor a network in CIDR notation")
    return place.host


def _port(entry: str) -> int:
    if not (entry.isascii() and entry.isdigit() and 0 < int(entry) < 65_536):
        raise BadSettings(f"fetch_ports: {entry!r} is not a port")
    return int(entry)


def _own(public_url: str) -> frozenset[str]:
    try:
        return frozenset((read_url(public_url).host,))
    except FetchFault:
        return frozenset()
