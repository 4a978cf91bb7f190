"""How the objects of a stream are put on the wire where server-sent events were not asked for."""

from __future__ import annotations

from typing import Any

from tollway.core.json import encode


class Array:
    """One JSON array, an element at a time, as Gemini streams without `alt=sse`."""

    __slots__ = ("_begun",)

    def __init__(self) -> None:
        self._begun = False

    def frame(self, obj: Any) -> bytes:
        """The next element with what belongs before it."""
        before = b",\r\n" if self._begun else b"["
        self._begun = True
        return before + encode(obj)

    def close(self) -> bytes:
        """The end of the array; an array without elements is still one."""
        return b"]" if self._begun else b"[]"
