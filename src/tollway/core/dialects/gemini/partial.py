"""A function call whose arguments arrive piece by piece, each at a path into the object."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import Any, Final

from tollway.core.exchange import Seal

_STEP: Final = re.compile(r"\.([^.\[\]]+)|\[(\d+)\]|\['([^']*)'\]")
_INDEX_MAX: Final = 10_000


class PartialCall:
    """One call while its arguments come in. `value`: the object so far."""

    def __init__(self, call: dict[str, Any], seal: Seal | None) -> None:
        self.call = call
        self.seal = seal
        args = call.get("args")
        self.value: dict[str, Any] = dict(args) if type(args) is dict else {}
        self._going_on: str | None = None

    def add(self, fragments: object) -> None:
        """Set what the fragments say; a string that goes on is added to."""
        for one in fragments if type(fragments) is list else ():
            path = one.get("jsonPath") if type(one) is dict else None
            if type(path) is not str:
                continue
            _put(self.value, path, _value(one), more=path == self._going_on)
            self._going_on = path if one.get("willContinue") else None


def _value(fragment: dict[str, Any]) -> Any:
    for name in ("stringValue", "numberValue", "boolValue"):
        if name in fragment:
            return fragment[name]
    return None


def _put(root: dict[str, Any], path: str, value: Any, *, more: bool) -> None:
    steps: list[str | int] = []
    for name, index, quoted in _STEP.findall(path):
        steps.append(int(index) if index else name or quoted)
    if not steps:
        return
    place: Any = root
    for step, following in pairwise(steps):
        place = _step(place, step, [] if type(following) is int else {})
        if place is None:
            return
    last = steps[-1]
    if more and type(value) is str:
        old = _peek(place, last)
        value = old + value if type(old) is str else value
    _set(place, last, value)


def _peek(place: Any, step: str | int) -> Any:
    if type(place) is dict:
        return place.get(step)
    if type(place) is list and type(step) is int and step < len(place):
        return place[step]
    return None


def _step(place: Any, step: str | int, empty: Any) -> Any:
    found = _peek(place, step)
    if type(found) not in (dict, list):
        found = empty
        if not _set(place, step, found):
            return None
    return found


def _set(place: Any, step: str | int, value: Any) -> bool:
    if type(place) is dict and type(step) is str:
        place[step] = value
        return True
    if type(place) is list and type(step) is int and step <= _INDEX_MAX:
        while len(place) <= step:
            place.append(None)
        place[step] = value
        return True
    return False
