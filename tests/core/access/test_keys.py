"""Keys: the format refuses garbage, the digest depends on the pepper, the display hides the middle."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tollway.core.access import keys

SECRETS = st.integers(0, 2**178 - 1).map(lambda number: keys.new_secret("sk-tw-", number))


@given(SECRETS)
def test_a_new_secret_is_well_formed(secret: str) -> None:
    assert keys.well_formed(secret)
    assert secret.startswith("sk-tw-") and len(secret) == 6 + 30 + 6


@given(SECRETS, st.integers(0, 41), st.sampled_from(keys.ALPHABET))
def test_one_changed_character_is_noticed(secret: str, at: int, other: str) -> None:
    changed = secret[:at] + other + secret[at + 1 :]
    assert keys.well_formed(changed) == (changed == secret)


@pytest.mark.parametrize(
    "garbage",
    ["", "sk-", "' OR '1'='1", "x" * 36, "0" * 37, "é" * 60, "sk-tw-" + "0" * 200, "\x00" * 42],
)
def test_garbage_is_not_well_formed(garbage: str) -> None:
    assert not keys.well_formed(garbage)


def test_the_checksum_is_pinned() -> None:
    assert keys.new_secret("sk-tw-", 1) == "sk-tw-" + "0" * 29 + "1" + keys.checksum(
        "sk-tw-" + "0" * 29 + "1"
    )
    assert keys.base62(61, 2) == "0z" and keys.base62(62**2 + 5, 2) == "05"


def test_the_digest_needs_the_pepper() -> None:
    secret = keys.new_secret("sk-tw-", 7)
    assert len(keys.digest(secret, b"p" * 32)) == 32
    assert keys.digest(secret, b"p" * 32) != keys.digest(secret, b"q" * 32)


def test_the_display_hides_the_middle() -> None:
    secret = keys.new_secret("sk-tw-", 2**170)
    shown = keys.display(secret)
    assert shown == secret[:9] + "…" + secret[-4:]
    assert secret[9:-4] not in shown
