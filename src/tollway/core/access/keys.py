"""API keys: their format, checksum and digest, and what a stored key says.

A key reads `<prefix><30 random base62 characters><6 base62 characters of CRC32>`. The checksum
lets garbage be refused without a look at the database; it proves nothing about validity. Only a
keyed digest is ever stored.
"""

from __future__ import annotations

import hashlib
import zlib
from typing import Final

from msgspec import Struct

PREFIX_DEFAULT: Final = "sk-tw-"
ALPHABET: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
RANDOM_LENGTH: Final = 30
CHECK_LENGTH: Final = 6
KEY_LENGTH_MAX: Final = 128


class Key(Struct, frozen=True, kw_only=True):
    """An API key as stored, without its secret.

    `wallet` is the ledger account that pays. `models` and `networks` are globs and CIDRs; empty
    means no restriction. `rpm`, `tpm`, `concurrency` and `budget` (micro-credits per
    `budget_period`: "total", "daily", "weekly" or "monthly") are None where unlimited. Times are
    Unix milliseconds. `status`: "active", "disabled" or "revoked". `caps`: by model, or `*`, the
    micro-credits one call may cost; `own_caps`: the same by whoever holds the key. `project_budget`: what all keys of its project may spend in each
    `project_period`.
    """

    id: str
    account_id: str
    account_status: str
    project_id: str
    project_name: str
    name: str
    display: str
    status: str
    wallet: int
    group: str
    models: tuple[str, ...]
    networks: tuple[str, ...]
    rpm: int | None
    tpm: int | None
    concurrency: int | None
    budget: int | None
    budget_period: str
    expires_at: int | None
    created_at: int
    caps: tuple[tuple[str, int], ...] = ()
    own_caps: tuple[tuple[str, int], ...] = ()
    project_budget: int | None = None
    project_period: str = "total"


def base62(number: int, length: int) -> str:
    """A number as exactly `length` base62 digits (the low ones, if there are more)."""
    digits = []
    for _ in range(length):
        number, digit = divmod(number, 62)
        digits.append(ALPHABET[digit])
    return "".join(reversed(digits))


def checksum(body: str) -> str:
    """The six characters that end a key whose other characters are `body`."""
    return base62(zlib.crc32(body.encode()), CHECK_LENGTH)


def new_secret(prefix: str, random_number: int) -> str:
    """A fresh key from a random number of at least 178 bits."""
    body = prefix + base62(random_number, RANDOM_LENGTH)
    return body + checksum(body)


def well_formed(secret: str) -> bool:
    """Whether the characters and the checksum are those of a key; says nothing about validity."""
    if not RANDOM_LENGTH + CHECK_LENGTH < len(secret) <= KEY_LENGTH_MAX or not secret.isascii():
        return False
    return checksum(secret[:-CHECK_LENGTH]) == secret[-CHECK_LENGTH:]


def digest(secret: str, pepper: bytes) -> bytes:
    """The keyed digest under which a key is stored: 32 bytes of BLAKE2b."""
    return hashlib.blake2b(secret.encode(), key=pepper, digest_size=32).digest()


def display(secret: str) -> str:
    """What may be shown of a key after its creation: its first and last characters."""
    return f"{secret[:9]}…{secret[-4:]}"
