"""What native relays have in common: events split off and passed on, whole answers read and priced.

A native relay stands where client and upstream speak the same dialect. What it does not know goes on
as it came; it changes the model's name and the usage, and reads what billing and logs must know.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any, ClassVar, Final, TypeVar

import msgspec

from tollway.core import sse
from tollway.core.dialects.base import AnswerFailed, Bill, Reading
from tollway.core.dialects.framing import Array
from tollway.core.errors import GatewayError
from tollway.core.exchange import Event, Response, Usage
from tollway.core.fold import outline
from tollway.core.json import decode, encode
from tollway.core.relay import BadAnswer, Carrier, Fed, Receipt

UNREADABLE: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What decoding raises for bytes that are not the JSON that was expected."""

END: Final = b"\n\n"

_Read = TypeVar("_Read")
_KIND: Final = re.compile(r"[A-Za-z0-9_.:-]{1,128}")
_ESCAPE: Final = re.compile(
    rb"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(u[dD][89a-fA-F][0-9a-fA-F]{2})|.)"
)


def read_anyway(payload: bytes, read: Callable[[bytes], _Read]) -> _Read:
    """Read again what could not be read, taking halves of characters for unknown ones. Raises BadAnswer.

    Proxies that cut text by UTF-16 units write such halves, and clients may put them together again: that
    we cannot is no reason to break off an answer.
    """
    try:
        return read(_ESCAPE.sub(lambda found: rb"\ufffd" if found[1] else found[0], payload))
    except UNREADABLE as error:
        raise BadAnswer(f"it is not in its dialect: {error}") from None


def read_object(payload: bytes) -> dict[str, Any]:
    """A payload as the object it must be. Raises BadAnswer."""
    try:
        found = decode(payload)
    except UNREADABLE:
        found = read_anyway(payload, decode)
    if type(found) is not dict:
        raise BadAnswer("it is not a JSON object")
    return found


def size(text: object) -> int:
    """Bytes of UTF-8 of generated text; 0 for what is no text."""
    if type(text) is not str:
        return 0
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


@lru_cache(maxsize=256)
def head(kind: str) -> bytes:
    """What comes before the payload of a named event: clients go by the name. Raises BadAnswer for no name."""
    if not _KIND.fullmatch(kind):
        raise BadAnswer("the type of an event is no name")
    return b"event: %b\ndata: " % kind.encode()


def named(obj: dict[str, Any]) -> bytes:
    """An object with a `type` as a named event."""
    return head(obj["type"]) + encode(obj) + END


def one_line(payload: bytes) -> bytes:
    """A payload without line breaks; between the tokens of JSON they mean what a space means."""
    return payload.replace(b"\n", b" ") if b"\n" in payload else payload


def priced(
    usage: dict[str, Any] | None,
    receipt: Receipt,
    theirs: Iterable[str],
    write: Callable[[Usage, Bill], dict[str, Any]],
) -> dict[str, Any]:
    """The usage a client sees: the upstream's own members, `theirs` (its price) replaced by what we charged.

    Where the charge rests on our own count, `write` shows that count.
    """
    if usage is None or receipt.estimated:
        bill = Bill(cost=receipt.cost, estimated=receipt.estimated)
        return write(Usage(input=receipt.input, output=receipt.output), bill)
    return {**without(usage, theirs), "cost": receipt.cost}


def without(usage: dict[str, Any], names: Iterable[str]) -> dict[str, Any]:
    """An object without some of its members."""
    return {name: value for name, value in usage.items() if name not in names}


class Stream(ABC):
    """A streamed answer. See Relay for the contract; a dialect says what an event means, and how it all ends.

    `name`: the model as the client calls it. `token`: see `base.Reply`. `echo`: members that every object
    which stands for the whole answer must have as given. `array`: one JSON array instead of server-sent
    events, where the dialect has that form (Gemini).
    """

    streamed = True
    content_type = b"text/event-stream; charset=utf-8"
    pulse = sse.COMMENT

    def __init__(
        self, name: str, token: str, *, echo: dict[str, Any] | None = None, array: bool = False
    ) -> None:
        self._name = name
        self._token = token
        self._echo = echo or {}
        self._array = Array() if array else None
        if array:
            self.content_type = b"application/json"
            self.pulse = b"\n"
        self._split = sse.Splitter()
        self._ended = False
        self.answer: dict[str, Any] | None = None

    @property
    def carrier(self) -> Carrier | None:
        return None

    def feed(self, chunk: bytes) -> Fed:
        try:
            payloads = self._split.feed(chunk)
        except sse.EventTooLong as error:
            raise BadAnswer(str(error)) from None
        return self._pass(payloads)

    def end(self) -> Fed:
        fed = self._pass(self._split.end())
        if not self._ended:
            fed.events.extend(self._conclude())
            self._ended = True
        return fed

    def _pass(self, payloads: list[bytes]) -> Fed:
        out: list[bytes] = []
        events: list[Event] = []
        alive = False
        for payload in payloads:
            if payload:
                if not self._ended:
                    self._take(payload, out, events)
            else:
                alive = True
        if alive and not out:
            out.append(self.pulse)
        return Fed(b"".join(out), events)

    @abstractmethod
    def _take(self, payload: bytes, out: list[bytes], events: list[Event]) -> None:
        """Read one event and pass it on. What ends the answer sets `_ended`; nothing after that is looked at."""

    @abstractmethod
    def _conclude(self) -> list[Event]:
        """The upstream's body ended without a terminal event: what is owed. Raises BadAnswer if the answer is not complete."""

    def keep_alive(self) -> bytes:
        return self.pulse


class Whole:
    """A whole answer: one JSON object, held until it is complete and paid. See Relay, and Stream for the rest."""

    streamed = False
    carrier = None
    content_type = b"application/json"

    read: ClassVar[Callable[[dict[str, Any], Reading], Response]]
    write_error: ClassVar[Callable[[GatewayError, str], tuple[int, dict[str, Any]]]]
    price: ClassVar[Callable[[dict[str, Any] | None, Receipt], dict[str, Any]]]
    model_member: ClassVar[str] = "model"
    usage_member: ClassVar[str] = "usage"

    def __init__(self, name: str, token: str, *, echo: dict[str, Any] | None = None) -> None:
        self._changes: dict[str, Any] = {self.model_member: name, **(echo or {})}
        self._token = token
        self._chunks: list[bytes] = []
        self._body: dict[str, Any] = {}
        self.answer: dict[str, Any] | None = None

    def feed(self, chunk: bytes) -> Fed:
        self._chunks.append(chunk)
        return Fed(b"", [])

    def end(self) -> Fed:
        self._body = read_object(b"".join(self._chunks))
        try:
            response = type(self).read(self._body, Reading())
        except AnswerFailed as error:
            return Fed(b"", [error.failed])
        return Fed(b"", outline(response))

    def close(self, receipt: Receipt) -> bytes:
        usage = self._body.get(self.usage_member)
        self.answer = {**self._body, **self._changes}
        self.answer[self.usage_member] = type(self).price(usage if type(usage) is dict else None, receipt)
        return encode(self.answer)

    def fail(self, error: GatewayError, request_id: str) -> bytes:
        return encode(type(self).write_error(error, request_id)[1])

    def keep_alive(self) -> bytes:
        return b""
