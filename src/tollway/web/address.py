"""Who is calling: the peer's address, or what a trusted proxy says of it."""

from __future__ import annotations

from functools import lru_cache

from tollway.core.access.scopes import inside


@lru_cache(maxsize=8)
def _networks(setting: str) -> tuple[str, ...]:
    return tuple(one.strip() for one in setting.split(",") if one.strip())


def client_address(peer: str, headers: list[tuple[bytes, bytes]], trusted: str) -> str:
    """The caller's address. X-Forwarded-For counts only as far back as proxies are trusted.

    `trusted`: comma-separated networks, the setting `trusted_proxies`. The list is read from its
    end, where our own proxies wrote, and stops at the first address that is not one of them.
    """
    if not trusted or not inside(_networks(trusted), peer):
        return peer
    hops = [
        hop.strip().decode("latin-1")
        for name, value in headers
        if name == b"x-forwarded-for"
        for hop in value.split(b",")
    ]
    for hop in reversed(hops):
        if not inside(_networks(trusted), hop):
            return hop
    return hops[0] if hops else peer
