"""Which account made the signatures and encrypted thoughts that clients hold in their upstream's own form.

A native relay passes them on as they are, so that nothing in them says where they came from. What goes
by is remembered here, in this process and up to a bound; whoever is not remembered is found out by asking.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

KNOWN_MAX: Final = 50_000
"""Seals remembered; the oldest make room."""
_SHOWN: Final = 160
"""Characters by which a seal is known: their beginnings differ, and few pieces of a stream cut them."""
_TAIL: Final = 256
_FIELD: Final = re.compile(
    rb'"(?:signature|thoughtSignature|thought_signature|encrypted_content|data)"\s*:\s*'
    rb'"([A-Za-z0-9+/_=-]{160}|[A-Za-z0-9+/_=-]{16,159}")'
)
_SIGNS: Final = (b"ignature", b"encrypted_", b'"data"')


class Makers:
    """The scopes of accounts by the seals they made."""

    def __init__(self) -> None:
        self._scopes: dict[int, str] = {}

    def learn(self, seal: bytes, scope: str) -> None:
        """A seal that an account made."""
        name = hash(seal[:_SHOWN])
        self._scopes.pop(name, None)
        if len(self._scopes) >= KNOWN_MAX:
            del self._scopes[next(iter(self._scopes))]
        self._scopes[name] = scope

    def scopes(self, seals: Iterable[str]) -> frozenset[str]:
        """The scopes of those among the seals that are known."""
        if not self._scopes:
            return frozenset()
        found = (self._scopes.get(hash(seal.encode("utf-8", "replace")[:_SHOWN])) for seal in seals)
        return frozenset(scope for scope in found if scope is not None)


class Watch:
    """Learns the seals of one native answer as its bytes go by."""

    __slots__ = ("_makers", "_scope", "_tail")

    def __init__(self, makers: Makers, scope: str) -> None:
        self._makers = makers
        self._scope = scope
        self._tail = b""

    def see(self, chunk: bytes) -> None:
        """Take the next bytes of the answer; a seal may be cut anywhere between two of them."""
        seen = self._tail + chunk
        if any(sign in seen for sign in _SIGNS):
            for seal in _FIELD.findall(seen):
                self._makers.learn(seal.rstrip(b'"'), self._scope)
        self._tail = seen[-_TAIL:]
