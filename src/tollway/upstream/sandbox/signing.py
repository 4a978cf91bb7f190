"""Signatures, thought signatures and encrypted reasoning: made here, and known again when they come back.

A seal is base64 of a digest of what it vouches for and of a code over that digest, the dialect's kind of
seal and the account that made it. Nothing is stored. One altered character, another kind or another
account, and it is not accepted.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from typing import Final

_DIGEST: Final = 16
_KEY: Final = b"the sandbox's own, and no secret"


class Signer:
    """Makes and knows the seals of one account."""

    def __init__(self, account: str = "") -> None:
        self._account = account

    def sign(self, kind: str, text: str, owner: str = "") -> str:
        """A seal for `text`. `owner`: who alone may send it back, if that matters."""
        digest = _digest(text.encode("utf-8", "replace"))
        return base64.b64encode(digest + self._code(kind, digest, owner)).decode()

    def accepts(self, kind: str, seal: str, text: str | None = None, owner: str = "") -> bool:
        """Whether `seal` was made here; with `text`, whether it was made for just that."""
        try:
            raw = base64.b64decode(seal, validate=True)
        except (binascii.Error, ValueError):
            return False
        digest, code = raw[:_DIGEST], raw[_DIGEST:]
        # Base64 has spellings that decode alike; only the one we wrote is ours.
        if code != self._code(kind, digest, owner) or base64.b64encode(raw).decode() != seal:
            return False
        return text is None or digest == _digest(text.encode("utf-8", "replace"))

    def _code(self, kind: str, digest: bytes, owner: str) -> bytes:
        place = f"{kind}\0{self._account}\0{owner}\0".encode("utf-8", "replace")
        return hashlib.blake2b(place + digest, digest_size=_DIGEST, key=_KEY).digest()


def _digest(text: bytes) -> bytes:
    return hashlib.blake2b(text, digest_size=_DIGEST).digest()
