"""Native relays for the tests: golden streams as bytes, run through them, and what comes out read again."""

from __future__ import annotations

import json
from typing import Any

from msgspec.structs import replace
from tests.support.dialects import READING, REPLY, golden

from tollway.core import sse
from tollway.core.dialects.anthropic import native as anthropic
from tollway.core.dialects.gemini import native as gemini
from tollway.core.dialects.openai_responses import native as responses
from tollway.core.dialects.registry import DIALECTS
from tollway.core.dialects.translated import TranslatedStream, TranslatedWhole
from tollway.core.exchange import Counted, Event, Finished, size_of
from tollway.core.relay import Receipt

NATIVES = ("anthropic", "openai_responses", "gemini")
MODULES: dict[str, Any] = {"anthropic": anthropic, "openai_responses": responses, "gemini": gemini}
NAME = REPLY.model
RECEIPT = Receipt(cost=1.25, estimated=False, input=3, output=2)
ESTIMATED = Receipt(cost=0.5, estimated=True, input=30, output=20)


def stream_of(dialect: str, **options: Any):
    return MODULES[dialect].NativeStream(NAME, REPLY.token, **options)


def whole_of(dialect: str, **options: Any):
    return MODULES[dialect].NativeWhole(NAME, REPLY.token, **options)


def wire(dialect: str, objects: list[Any]) -> bytes:
    return b"".join(DIALECTS[dialect].frame(one) for one in objects)


def golden_wire(dialect: str, case: str) -> bytes:
    return wire(dialect, golden(dialect, case)["stream"])


def fed(relay: Any, data: bytes, cuts: tuple[int, ...] = ()) -> tuple[bytes, list[Event]]:
    """Everything up to but without `close`, the data cut at `cuts`."""
    out, events, start = b"", [], 0
    for cut in (*cuts, len(data)):
        found = relay.feed(data[start:cut])
        out, events, start = out + found.out, events + found.events, cut
    found = relay.end()
    return out + found.out, events + found.events


def run(relay: Any, data: bytes, cuts: tuple[int, ...] = (), receipt: Receipt = RECEIPT):
    out, events = fed(relay, data, cuts)
    return out + relay.close(receipt), events


def sent(dialect: str, out: bytes) -> list[Any]:
    """The objects of a stream. Events that must be named are, by what their payload says."""
    objects = []
    for block in out.replace(b"\r\n", b"\n").split(b"\n\n"):
        if not block or block.startswith(b":"):
            continue
        *name, data = block.split(b"\n")
        found = json.loads(data.removeprefix(b"data: "))
        if dialect == "gemini":
            assert name == []
        else:
            assert name == [b"event: " + found["type"].encode()]
        objects.append(found)
    return objects


def translated_stream(dialect: str) -> TranslatedStream:
    spoken = DIALECTS[dialect]
    return TranslatedStream(spoken, spoken, READING, REPLY)


def translated_whole(dialect: str) -> TranslatedWhole:
    spoken = DIALECTS[dialect]
    return TranslatedWhole(spoken, spoken, READING, REPLY)


def told(events: list[Event]) -> dict[str, Any]:
    """What flows learn of an answer: how much was generated, what it used, how it ended."""
    # Bills are made of numbers; the extras are a translation's business.
    usages = [replace(one.usage, extras={}) for one in events if isinstance(one, Counted)]
    return {
        "size": sum(map(size_of, events)),
        "usage": usages[-1] if usages else None,
        "finish": [(one.reason, one.raw, one.stop) for one in events if isinstance(one, Finished)],
    }


def usage_of(dialect: str, objects: list[Any]) -> dict[str, Any]:
    """The usage in the last object that has one."""
    found: dict[str, Any] = {}
    for one in objects:
        usage = one.get("usageMetadata" if dialect == "gemini" else "usage")
        if dialect == "openai_responses":
            usage = one.get("response", {}).get("usage")
        found = usage or found
    return found


def payloads(data: bytes) -> list[bytes]:
    split = sse.Splitter()
    return [one for one in (*split.feed(data), *split.end()) if one]
