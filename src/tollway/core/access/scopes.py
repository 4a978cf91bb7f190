"""What a key may do: its status, its networks and its models, each refusal with a code of its own.

`may_call` decides whether a key may call a model. Authorisation (`denied`) and listing
(`allowed_models`) both ask it, so that a model is listed exactly when it can be called.

Globs are case-sensitive: `*` is any run of characters, `?` one character, `[ab]` one of a set.
A network that cannot be parsed admits nobody, and so does an address that cannot be parsed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from fnmatch import translate
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Protocol, TypeVar

from tollway.core.access.keys import Key
from tollway.core.errors import GatewayError

# Keys and models are rows, so these caches see a bounded set of values in normal use. The bounds
# are for the hostile case: many addresses, or keys that are made and dropped in a loop.
_NETWORK_LISTS = 4096
_ADDRESSES = 16_384
_GLOB_LISTS = 4096
_PAIRS = 32_768


class Listed(Protocol):
    """What this module needs to know of a model: its public name and the other names it answers to."""

    @property
    def id(self) -> str: ...
    @property
    def aliases(self) -> tuple[str, ...]: ...


M = TypeVar("M", bound=Listed)


def denied(key: Key, model_id: str, aliases: tuple[str, ...], ip: str, now: int) -> GatewayError | None:
    """Why this key may not call this model from `ip` at `now` (Unix ms), or None if it may."""
    return key_denied(key, ip, now) or model_denied(key, model_id, aliases)


def key_denied(key: Key, ip: str, now: int) -> GatewayError | None:
    """Why this key may do nothing at all from `ip` at `now` (Unix ms), or None."""
    if key.status == "active" and key.account_status == "active":
        if key.expires_at is not None and now >= key.expires_at:
            return GatewayError(
                "key_expired",
                f"the key {key.name!r} has expired; create a new one or extend its expiry",
                scope="key",
            )
        if key.networks and not inside(key.networks, ip):
            return GatewayError(
                "ip_not_allowed",
                f"the key {key.name!r} may not be used from {ip or 'an unknown address'}; "
                "add the address to the key's networks if it is yours",
                scope="key",
            )
        return None
    return _inactive(key)


def _inactive(key: Key) -> GatewayError:
    if key.status == "revoked":
        return GatewayError(
            "key_revoked", f"the key {key.name!r} has been revoked; create a new one", scope="key"
        )
    if key.status != "active":
        return GatewayError(
            "key_disabled", f"the key {key.name!r} is disabled; enable it to use it again", scope="key"
        )
    return GatewayError(
        "account_suspended", "the account is suspended; ask the operator to reactivate it", scope="account"
    )


def model_denied(key: Key, model_id: str, aliases: tuple[str, ...]) -> GatewayError | None:
    """Why this key may not call this model, or None if it may."""
    if may_call(key.models, model_id, aliases):
        return None
    return GatewayError(
        "model_not_allowed",
        f"the key {key.name!r} may not call {model_id!r}; it is limited to {_few(key.models)}",
        param="model",
        scope="key",
    )


def _few(globs: tuple[str, ...]) -> str:
    shown = ", ".join(globs[:8])
    return f"{shown} and {len(globs) - 8} more" if len(globs) > 8 else shown


def may_call(globs: tuple[str, ...], model_id: str, aliases: tuple[str, ...]) -> bool:
    """Whether an allow-list admits a model, under its public name or any alias. An empty list admits all."""
    return not globs or _matches(globs, model_id, aliases)


def allowed_models(key: Key, models: Iterable[M]) -> list[M]:
    """Those of `models` the key may call, in their order. The caller passes the ones that are callable at all."""
    globs = key.models
    return [model for model in models if may_call(globs, model.id, model.aliases)]


@lru_cache(maxsize=_PAIRS)
def _matches(globs: tuple[str, ...], model_id: str, aliases: tuple[str, ...]) -> bool:
    matcher = _matcher(globs)
    return any(matcher(name) is not None for name in (model_id, *aliases))


@lru_cache(maxsize=_GLOB_LISTS)
def _matcher(globs: tuple[str, ...]) -> _Matcher:
    # fnmatch's translation commits to the shortest match of each star, so that a hostile glob of
    # many stars stays linear. Its group names repeat from one glob to the next, hence the list.
    compiled = [re.compile(translate(glob)).match for glob in globs]
    return lambda name: next((found for one in compiled if (found := one(name))), None)


class _Matcher(Protocol):
    def __call__(self, name: str, /) -> re.Match[str] | None: ...


@lru_cache(maxsize=_ADDRESSES)
def inside(networks: tuple[str, ...], ip: str) -> bool:
    """Whether an address is in one of the networks (CIDR or single addresses, v4 or v6).

    IPv4 written as IPv6 (`::ffff:192.0.2.1`) is IPv4 on both sides, because a dual-stack socket
    reports it that way. An IPv6 zone (`%eth0`) is ignored.
    """
    try:
        address = _plain(ip_address(ip.partition("%")[0]))
    except ValueError:
        return False
    return any(address in network for network in _parsed(networks) if network.version == address.version)


def _plain(address: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address


@lru_cache(maxsize=_NETWORK_LISTS)
def _parsed(networks: tuple[str, ...]) -> tuple[IPv4Network | IPv6Network, ...]:
    found = []
    for text in networks:
        try:
            found.append(parse_network(text))
        except ValueError:
            continue
    return tuple(found)


def parse_network(text: str) -> IPv4Network | IPv6Network:
    """A CIDR or an address as a network; host bits are dropped. Raises ValueError.

    `::ffff:a.b.c.d/96+n` is the IPv4 network `a.b.c.d/n`.
    """
    network = ip_network(text.strip(), strict=False)
    if isinstance(network, IPv6Network) and network.prefixlen >= 96:
        mapped = network.network_address.ipv4_mapped
        if mapped is not None:
            return IPv4Network((mapped, network.prefixlen - 96))
    return network
