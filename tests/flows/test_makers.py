"""Seals that go by are known again by the account that made them, wherever the bytes are cut."""

from __future__ import annotations

import json

import pytest

from tollway.flows import makers
from tollway.flows.makers import Makers, Watch

SHORT = "c2hvcnQgc2VhbCBvZiBvbmU="
LONG = "QUJD" * 400
EVENT = json.dumps({"delta": {"type": "signature_delta", "signature": LONG}}).encode()
PLACES = {
    "anthropic": {"type": "thinking", "thinking": "why", "signature": SHORT},
    "redacted": {"type": "redacted_thinking", "data": SHORT},
    "responses": {"type": "reasoning", "summary": [], "encrypted_content": SHORT},
    "gemini": {"text": "", "thoughtSignature": SHORT},
}


@pytest.mark.parametrize("spaced", [True, False])
@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES)
def test_every_dialects_seals_are_known_again(place, spaced):
    found = Makers()
    separators = None if spaced else (",", ":")
    Watch(found, "one").see(json.dumps(place, separators=separators).encode())
    assert found.scopes([SHORT]) == {"one"}
    assert found.scopes([SHORT[:-4] + "aaa="]) == set()


def test_a_seal_is_known_wherever_the_bytes_are_cut():
    for size in (1, 7, 64, 200):
        found = Makers()
        watch = Watch(found, "one")
        for at in range(0, len(EVENT), size):
            watch.see(EVENT[at : at + size])
        assert found.scopes([LONG]) == {"one"}, size


def test_the_last_maker_counts_and_the_oldest_seal_makes_room(monkeypatch):
    monkeypatch.setattr(makers, "KNOWN_MAX", 2)
    found = Makers()
    found.learn(b"a" * 20, "one")
    found.learn(b"b" * 20, "one")
    found.learn(b"a" * 20, "two")
    found.learn(b"c" * 20, "three")
    assert found.scopes(["a" * 20, "b" * 20, "c" * 20]) == {"two", "three"}
