"""What the sandbox remembers between requests: the turn of the flaky model, and prompts it has seen."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from typing import Final

from msgspec import Struct

from tollway.core.json import encode
from tollway.upstream.sandbox.ask import Ask

_PREFIXES_MAX: Final = 10_000


class Cached(Struct, frozen=True):
    """Prompt tokens that were read from a cache, and written to it for five minutes or an hour."""

    read: int = 0
    written_5m: int = 0
    written_1h: int = 0


class Memory:
    """Belongs to one server; forgotten when it is reset."""

    def __init__(self) -> None:
        self._flaky_calls = 0
        self._prefixes: OrderedDict[bytes, None] = OrderedDict()

    def next_flaky_fails(self) -> bool:
        """Whether the flaky model fails this time: yes, no, yes, no."""
        self._flaky_calls += 1
        return self._flaky_calls % 2 == 1

    def cached(self, ask: Ask) -> Cached:
        """What of the prompt was seen before, and what of it is remembered from now on.

        Read is the longest run of first messages that is known. All prefixes are remembered, or in a
        dialect that caches on demand those that are marked; written is what marks ask for and is new.
        """
        chain = hashlib.blake2b(encode(ask.tools), digest_size=16)
        weight = ask.tools_weight
        read = hour = end = 0
        for turn in ask.turns:
            chain.update(encode((turn.role, turn.text, turn.weight, turn.attachments, turn.source)))
            weight += turn.weight
            if self._knows(chain.digest(), remember=bool(turn.mark) or not ask.marked):
                read = weight
            if turn.mark:
                end = weight
            if turn.mark == "1h":
                hour = weight
        while len(self._prefixes) > _PREFIXES_MAX:
            self._prefixes.popitem(last=False)
        long = max(0, hour - read)
        return Cached(read, max(0, end - read) - long, long)

    def _knows(self, prefix: bytes, *, remember: bool) -> bool:
        if prefix in self._prefixes:
            self._prefixes.move_to_end(prefix)
            return True
        if remember:
            self._prefixes[prefix] = None
        return False
