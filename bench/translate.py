"""CPU of the relays and translations alone, without sockets: `python -m bench.translate` prints three tables."""

from __future__ import annotations

import argparse
import gc
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence

from tollway.core import sse
from tollway.core.dialects.base import Reading, Reply, Target
from tollway.core.dialects.natives import NATIVES
from tollway.core.dialects.openai_chat.native import NativeStream, NativeWhole
from tollway.core.dialects.registry import DIALECTS
from tollway.core.dialects.translated import TranslatedStream, TranslatedWhole
from tollway.core.exchange import (
    Counted,
    Event,
    Finished,
    PartEnded,
    PartGrew,
    PartStarted,
    Request,
    Started,
    Text,
    Tool,
    ToolCall,
    ToolResult,
    Turn,
    Usage,
)
from tollway.core.fold import fold
from tollway.core.json import decode, encode
from tollway.core.relay import Receipt, Relay

EVENT_TARGET = 15.0
"""Most microseconds an event may cost more when it is translated."""
TALK_TARGET = 2.0
"""Most milliseconds a conversation of 100 KB may take."""
NAMES = tuple(DIALECTS)
READING = Reading(token="R0")
REPLY = Reply(token="T0ken", model="public-model", created=1_790_000_000)
RECEIPT = Receipt(cost=1, estimated=False, input=9, output=9)
WORDS = ["the", "quick", "brown", "fox", "jumps", "over", "a", "lazy", "dog,", "über", "alles", ""]


def answer_events(count: int) -> list[Event]:
    """One text in `count` pieces of about a token each."""
    grown: list[Event] = [PartGrew(0, f" {WORDS[at % len(WORDS)]}") for at in range(count)]
    ended: list[Event] = [PartEnded(0), Finished("stop", ""), Counted(Usage(input=9, output=count))]
    return [Started("A1", "m-1"), PartStarted(0, Text("")), *grown, *ended]


def upstream_chunks(name: str, count: int) -> list[bytes]:
    """What an upstream of a dialect sends for such an answer, an event at a time."""
    spoken = DIALECTS[name]
    writer = spoken.writer(Reply())
    objects = [one for event in answer_events(count) for one in writer.send(event)] + writer.close()
    if name == "gemini":
        for at, one in enumerate(objects[:-1]):
            # Gemini counts in every chunk.
            one["usageMetadata"] = {
                "promptTokenCount": 9,
                "candidatesTokenCount": at,
                "totalTokenCount": 9 + at,
                "promptTokensDetails": [{"modality": "TEXT", "tokenCount": 9}],
            }
    return [spoken.frame(one) for one in objects]


def native_stream(name: str) -> Relay:
    if name == "openai_chat":
        return NativeStream(REPLY.model, include_usage=True)
    return NATIVES[name].stream(REPLY.model, REPLY.token)


def native_whole(name: str) -> Relay:
    if name == "openai_chat":
        return NativeWhole(REPLY.model)
    return NATIVES[name].whole(REPLY.model, REPLY.token)


def best(work: Callable[[], object], rounds: int) -> float:
    """CPU seconds of the quickest of several runs."""
    found = float("inf")
    for _ in range(rounds):
        gc.collect()
        began = time.process_time()
        work()
        found = min(found, time.process_time() - began)
    return found


def relay_all(relay: Relay, chunks: Sequence[bytes]) -> None:
    for chunk in chunks:
        relay.feed(chunk)
    relay.end()
    relay.close(RECEIPT)


def split_all(chunks: Sequence[bytes]) -> None:
    split = sse.Splitter()
    for chunk in chunks:
        split.feed(chunk)


def per_event(told: argparse.Namespace) -> Iterator[list[str]]:
    """Microseconds per streamed event."""
    yield ["upstream", "splitting", "native", "beyond it", *(f"to {name}" for name in NAMES)]
    for upstream in NAMES:
        chunks = upstream_chunks(upstream, told.events)

        def cost(work: Callable[[], object], chunks: list[bytes] = chunks) -> float:
            return best(work, told.rounds) / len(chunks) * 1e6

        split = cost(lambda chunks=chunks: split_all(chunks))
        native = cost(lambda chunks=chunks, name=upstream: relay_all(native_stream(name), chunks))
        row = [upstream, f"{split:.2f}", f"{native:.2f}", f"{native - split:.2f}"]
        for client in NAMES:
            if client == upstream:
                row.append("-")
                continue
            spent = cost(
                lambda chunks=chunks, names=(upstream, client): relay_all(
                    TranslatedStream(DIALECTS[names[0]], DIALECTS[names[1]], READING, REPLY), chunks
                )
            )
            row.append(f"{spent:.2f} ({_marked(spent - native, EVENT_TARGET)})")
        yield row


def _marked(more: float, target: float) -> str:
    return f"+{more:.2f}" + ("" if more <= target else " MISSED")


def conversation(size: int) -> Request:
    """A conversation of an agent with its tools, of about `size` bytes."""
    schema = {"type": "object", "properties": {"path": {"type": "string"}}, "required": ["path"]}
    tools = tuple(Tool(name=f"tool_{at}", description="Reads a file.", schema=schema) for at in range(10))
    page = " ".join(WORDS * 16)
    turns = [Turn(role="system", parts=(Text("You are careful."),))]
    while sum(len(encode(turn)) for turn in turns) < size:
        call_id = f"call_{len(turns)}"
        arguments = '{"path":"src/main.py"}'
        turns += [
            Turn(role="user", parts=(Text(page),)),
            Turn(role="assistant", parts=(Text(page), ToolCall(call_id, "tool_1", arguments))),
            Turn(role="user", parts=(ToolResult(call_id, (Text(page),), "tool_1"), Text("Go on."))),
        ]
    return Request(model="m-1", turns=tuple(turns), origin="", tools=tools)


def per_conversation(told: argparse.Namespace) -> Iterator[list[str]]:
    """Milliseconds to read a request of 100 KB and write it for an upstream, from bytes to bytes."""
    yield ["client", "bytes", *(f"to {name}" for name in NAMES)]
    talk = conversation(told.bytes)
    for client in NAMES:
        body = {"model": "m-1", **DIALECTS[client].write_request(talk, Target()).body}
        raw = encode({**body, "stream": True} if client == "gemini" else body)
        row = [client, str(len(raw))]
        for upstream in NAMES:
            spent = best(lambda raw=raw, names=(client, upstream): _translate(raw, *names), told.rounds) * 1e3
            row.append(f"{spent:.2f}" + ("" if spent <= TALK_TARGET else " MISSED"))
        yield row


def _translate(raw: bytes, client: str, upstream: str) -> bytes:
    request = DIALECTS[client].read_request(decode(raw))
    return encode(DIALECTS[upstream].write_request(request, Target()).body)


def per_answer(told: argparse.Namespace) -> Iterator[list[str]]:
    """Microseconds per whole answer of some hundred bytes."""
    yield ["upstream", "bytes", "native", *(f"to {name}" for name in NAMES)]
    response = fold(answer_events(40))
    for upstream in NAMES:
        raw = encode(DIALECTS[upstream].write_response(response, Reply(), None))
        row = [upstream, str(len(raw))]
        makers: list[Callable[[], Relay] | None] = [lambda name=upstream: native_whole(name)]
        for client in NAMES:
            names = (upstream, client)
            translated = None if client == upstream else lambda names=names: _translated_whole(*names)
            makers.append(translated)
        for make in makers:
            row.append("-" if make is None else f"{_many(make, raw, told.rounds):.1f}")
        yield row


def _translated_whole(upstream: str, client: str) -> Relay:
    return TranslatedWhole(DIALECTS[upstream], DIALECTS[client], READING, REPLY)


def _many(make: Callable[[], Relay], raw: bytes, rounds: int, count: int = 200) -> float:
    def work() -> None:
        for _ in range(count):
            relay_all(make(), [raw])

    return best(work, rounds) / count * 1e6


def table(rows: Iterator[list[str]]) -> str:
    """Rows as aligned text, the first of them the head."""
    found = list(rows)
    widths = [max(len(row[at]) for row in found) for at in range(len(found[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in found]
    return "\n".join(
        line.rstrip() for line in [lines[0], "  ".join("-" * width for width in widths), *lines[1:]]
    )


def parse(words: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.translate", description=__doc__)
    parser.add_argument("--events", type=int, default=2000, help="events of a stream (default %(default)s)")
    parser.add_argument(
        "--bytes", type=int, default=100_000, help="size of a conversation (default %(default)s)"
    )
    parser.add_argument(
        "--rounds", type=int, default=10, help="runs, of which the best counts (default %(default)s)"
    )
    parser.add_argument("--json", action="store_true", help="print the rows as JSON instead")
    return parser.parse_args(words)


def main(words: Sequence[str] | None = None) -> int:
    told = parse(words)
    parts = (per_event, per_conversation, per_answer)
    if told.json:
        print(json.dumps({part.__name__: list(part(told)) for part in parts}, indent=1))
        return 0
    for part in parts:
        print(f"{part.__doc__}\n\n{table(part(told))}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
