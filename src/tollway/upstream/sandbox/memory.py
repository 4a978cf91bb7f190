"""What the sandbox remembers between requests: the turn of the flaky model, and prompts it has seen."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from typing import Final

from tollway.core.json import encode
from tollway.upstream.sandbox.ask import Ask

_PREFIXES_MAX: Final = 10_000


class Memory:
    """Belongs to one server; forgotten when it is reset."""

    def __init__(self) -> None:
        self._flaky_calls = 0
        self._prefixes: OrderedDict[bytes, None] = OrderedDict()

    def next_flaky_fails(self) -> bool:
        """Whether the flaky model fails this time: yes, no, yes, no."""
        self._flaky_calls += 1
        return self._flaky_calls % 2 == 1

    def cached_tokens(self, ask: Ask) -> int:
        """Prompt tokens of the longest run of first messages seen before; remembers all of them."""
        chain = hashlib.blake2b(encode(ask.tools), digest_size=16)
        weight = ask.tools_weight
        cached = 0
        for turn in ask.turns:
            chain.update(encode(turn))
            weight += turn.weight
            prefix = chain.digest()
            if prefix in self._prefixes:
                cached = weight
                self._prefixes.move_to_end(prefix)
            else:
                self._prefixes[prefix] = None
        while len(self._prefixes) > _PREFIXES_MAX:
            self._prefixes.popitem(last=False)
        return cached
