"""Messages streams: events read into canonical ones, and written as a strict ladder of blocks."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from tollway.core.dialects.anthropic import answer, blocks
from tollway.core.dialects.anthropic.counts import note, ran, read_counts, so_far, write_counts
from tollway.core.dialects.anthropic.errors import error_body, read_error
from tollway.core.dialects.base import Bill, Reading, Reply
from tollway.core.dialects.calls import OpenCall
from tollway.core.dialects.faults import failed_error, failure
from tollway.core.dialects.order import Order
from tollway.core.errors import GatewayError
from tollway.core.exchange import (
    Counted,
    Event,
    Failed,
    Finished,
    Media,
    Opaque,
    Part,
    PartEnded,
    PartGrew,
    PartStarted,
    Reasoning,
    Refusal,
    Seal,
    Started,
    StillAlive,
    Text,
    ToolCall,
    Usage,
)
from tollway.core.json import decode
from tollway.core.relay import BadAnswer
from tollway.core.seals import NEXT, PREVIOUS, carrier

NAME: Final = "anthropic"


class _Block:
    """The upstream's open block. `index` is ours; an opaque block gets one when it is complete."""

    __slots__ = ("call", "index", "payload", "pieces", "wire_index")

    def __init__(self, wire_index: object, index: int) -> None:
        self.wire_index = wire_index
        self.index = index
        self.call: OpenCall | None = None
        self.payload: dict[str, Any] | None = None
        self.pieces: list[str] = []


class Reader:
    """Reads a message's events. See StreamReader."""

    def __init__(self, reading: Reading) -> None:
        self._reading = reading
        self._message: dict[str, Any] | None = None
        self._next = 0
        self._block: _Block | None = None
        self._called = False
        self._usage: dict[str, Any] = {}
        self._ran: dict[str, int] = {}
        self._finish: Finished | None = None
        self._ended = False

    def feed(self, obj: Any) -> list[Event]:
        if self._ended:
            return []
        kind = obj.get("type") if type(obj) is dict else None
        events: list[Event] = []
        match kind:
            case "content_block_delta":
                self._delta(obj, events)
            case "content_block_start":
                self._start_block(obj, events)
            case "content_block_stop":
                self._stop_block(obj, events)
            case "ping":
                events.append(StillAlive())
            case "message_start" | "message_delta" | "message_stop" | "error":
                self._message_event(kind, obj, events)
            case _:
                if type(obj) is not dict:
                    raise BadAnswer("an event is not an object")
        return events

    def close(self) -> list[Event]:
        if self._ended:
            return []
        if self._finish is None:
            raise BadAnswer("the stream ended without a stop reason")
        events: list[Event] = []
        self._end(events)
        return events

    def _message_event(self, kind: str, obj: dict[str, Any], events: list[Event]) -> None:
        match kind:
            case "message_start":
                self._start(obj.get("message"), events)
            case "message_delta":
                self._message_delta(obj, events)
            case "message_stop":
                if self._message is None:
                    raise BadAnswer("message_stop before message_start")
                self._end(events)
            case _:
                self._ended = True
                events.append(failure(read_error(0, obj)))

    def _start(self, message: object, events: list[Event]) -> None:
        if type(message) is not dict:
            raise BadAnswer("message_start holds no message")
        if self._message is not None:
            # A proxy that tried again may repeat the start; a different one is another answer.
            if message.get("id") == self._message.get("id"):
                return
            raise BadAnswer("a second message started inside the first")
        self._message = message
        events.append(
            Started(
                str(message.get("id") or ""), str(message.get("model") or ""), answer.start_extras(message)
            )
        )
        self._count(message.get("usage"), events)

    def _count(self, usage: object, events: list[Event]) -> None:
        if type(usage) is dict and usage:
            # Later totals replace earlier ones member by member; they are never added.
            self._usage.update((name, value) for name, value in usage.items() if value is not None)
            events.append(Counted(read_counts(self._usage, self._ran)))

    def _message_delta(self, obj: dict[str, Any], events: list[Event]) -> None:
        if self._message is None:
            raise BadAnswer("message_delta before message_start")
        delta = obj.get("delta")
        if type(delta) is dict and (delta.get("stop_reason") is not None or self._finish is None):
            known = ("stop_reason", "stop_sequence", "stop_details")
            more = {name: value for name, value in delta.items() if name not in known and value is not None}
            if delta.get("stop_reason") is not None:
                self._finish = answer.read_finish(delta, self._called, more)
        self._count(obj.get("usage"), events)

    def _end(self, events: list[Event]) -> None:
        self._ended = True
        if self._block is not None:
            self._finish_block(self._block, events)
        events.append(self._finish or answer.read_finish({}, self._called))

    def _start_block(self, obj: dict[str, Any], events: list[Event]) -> None:
        source = obj.get("content_block")
        if self._message is None or type(source) is not dict:
            raise BadAnswer("a content block started out of place")
        if self._block is not None:
            raise BadAnswer("a content block started inside another")
        block = self._block = _Block(obj.get("index"), self._next)
        if source.get("type") == "server_tool_use" and note(ran(source), self._ran):
            events.append(Counted(so_far(self._usage, self._ran)))
        part = self._first(source, block)
        if part is not None:
            self._next += 1
            events.append(block.call.started if block.call is not None else PartStarted(block.index, part))

    def _first(self, source: dict[str, Any], block: _Block) -> Part | None:
        """What a block starts as; None if it can be known only when it is complete."""
        match source.get("type"):
            case "text" | "thinking" | "redacted_thinking":
                kept = {name: value for name, value in source.items() if value is not None}
                return answer.read_answer_block(kept, self._reading)
            case "tool_use":
                rest = dict(source)
                for name in ("type", "id", "name", "input"):
                    rest.pop(name, None)
                given, value = source.get("id"), source.get("input")
                call_id = str(given) if given else f"toolu_{self._reading.token}{self._next}"
                call = ToolCall(call_id, str(source.get("name") or ""), extras={NAME: rest} if rest else {})
                block.call = OpenCall(block.index, call, self._reading.undo)
                if type(value) is dict and value:
                    block.pieces.append(msgspec.json.encode(value).decode())
                self._called = self._called or not block.call.answers
                return call
            case _:
                block.payload = dict(source)
                return None

    def _delta(self, obj: dict[str, Any], events: list[Event]) -> None:
        block = self._block
        delta = obj.get("delta")
        if block is None or obj.get("index") != block.wire_index or type(delta) is not dict:
            raise BadAnswer("a delta for a block that is not open")
        match delta.get("type"):
            case "text_delta":
                self._grow(block, delta.get("text"), events)
            case "input_json_delta":
                self._argue(block, delta.get("partial_json"), events)
            case "thinking_delta":
                self._grow(block, delta.get("thinking"), events)
            case "signature_delta":
                signature = delta.get("signature")
                if type(signature) is str and signature and block.payload is None:
                    seal = blocks.own_seal(signature, self._reading.scope, "")
                    events.append(PartGrew(block.index, seal=seal))
            case "citations_delta" if block.payload is None:
                events.append(PartGrew(block.index, citation=blocks.read_citation(delta.get("citation"))))
            case _:
                events.append(StillAlive())

    def _grow(self, block: _Block, text: object, events: list[Event]) -> None:
        if type(text) is str and text and block.payload is None:
            events.append(PartGrew(block.index, text))

    def _argue(self, block: _Block, text: object, events: list[Event]) -> None:
        if type(text) is not str or not text:
            events.append(StillAlive())
        elif block.call is not None:
            events.extend(block.call.grow(text))
        else:
            block.pieces.append(text)
            events.append(StillAlive())

    def _stop_block(self, obj: dict[str, Any], events: list[Event]) -> None:
        block = self._block
        if block is None or obj.get("index") != block.wire_index:
            raise BadAnswer("a content block stopped that is not open")
        self._finish_block(block, events)

    def _finish_block(self, block: _Block, events: list[Event]) -> None:
        self._block = None
        if block.call is not None:
            if block.pieces and not block.call.wrote:
                events.extend(block.call.grow("".join(block.pieces)))
            events.extend(block.call.end())
        elif block.payload is not None:
            self._opaque(block, block.payload, events)
        else:
            events.append(PartEnded(block.index))

    def _opaque(self, block: _Block, payload: dict[str, Any], events: list[Event]) -> None:
        if block.pieces:
            try:
                payload["input"] = decode("".join(block.pieces))
            except ValueError as error:
                raise BadAnswer(f"a server tool's input is not JSON: {error}") from None
        events += [PartStarted(block.index, Opaque(NAME, payload)), PartEnded(block.index)]
        self._next += 1


class Writer:
    """Writes one message's events. See StreamWriter.

    One block is open at a time; indices run from 0 without a gap. Parts that start while another is
    open wait, with what they grow by, until it has ended. The last event with its totals is held back
    until `close`, because it carries both the reason and the usage.
    """

    def __init__(self, reply: Reply) -> None:
        self._reply = reply
        self._order = Order()
        self._next = 0
        self._current: int | None = None
        self._opened = False
        self._wrote = False
        self._part: Part = Text("")
        self._seal: Seal | None = None
        self._texts: list[str] = []
        self._waiting: dict[int, list[Event]] = {}
        self._usage: Usage | None = None
        self._finish: Finished | None = None
        self._refused = False

    def send(self, event: Event) -> list[Any]:
        self._order.take(event)
        out: list[Any] = []
        match event:
            case PartGrew():
                if event.index == self._current:
                    self._grow(event, out)
                else:
                    self._waiting[event.index].append(event)
            case PartStarted():
                if self._current is None:
                    self._start(event, out)
                else:
                    self._waiting[event.index] = [event]
            case PartEnded():
                self._ended(event, out)
            case _:
                self._around(event, out)
        return out

    def close(self, bill: Bill | None = None) -> list[Any]:
        self._order.close()
        assert self._finish is not None
        delta = answer.write_finish(self._finish, self._refused)
        own = self._finish.extras.get(NAME, {})
        return [
            {
                "type": "message_delta",
                "delta": {**own, **delta},
                "usage": write_counts(self._usage, bill),
            },
            {"type": "message_stop"},
        ]

    def fail(self, error: GatewayError, request_id: str) -> list[Any]:
        self._order.fail()
        return [error_body(error, request_id)]

    def _around(self, event: Event, out: list[Any]) -> None:
        match event:
            case Started():
                out.append({"type": "message_start", "message": self._message(event)})
            case Counted():
                self._usage = event.usage
            case Finished():
                self._finish = event
            case StillAlive():
                out.append({"type": "ping"})
            case Failed():
                out.append(error_body(failed_error(event), self._reply.token))
            case _:
                pass

    def _message(self, event: Started) -> dict[str, Any]:
        return {
            "id": f"msg_{self._reply.token}" if self._reply.token else event.id,
            "type": "message",
            "role": "assistant",
            "model": self._reply.model or event.model,
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": write_counts(self._usage),
            **event.extras.get(NAME, {}),
        }

    def _ended(self, event: PartEnded, out: list[Any]) -> None:
        if event.index != self._current:
            self._waiting[event.index].append(event)
            return
        self._end(out)
        while self._waiting and self._current is None:
            index = next(iter(self._waiting))
            for held in self._waiting.pop(index):
                if type(held) is PartStarted:
                    self._start(held, out)
                elif type(held) is PartGrew:
                    self._grow(held, out)
                else:
                    self._end(out)

    def _start(self, event: PartStarted, out: list[Any]) -> None:
        part = event.part
        self._current = event.index
        self._part, self._seal, self._texts = part, None, []
        self._opened = self._wrote = False
        if part.seal is not None and isinstance(part, Text | ToolCall | Media):
            self._whole(blocks.write_thought(carrier(part.seal, NEXT)), out)
        match part:
            case Text() | Refusal():
                self._refused = self._refused or type(part) is Refusal
                if part.text:
                    self._say(part.text, out)
                for citation in part.citations if isinstance(part, Text) else ():
                    self._grow(PartGrew(event.index, citation=citation), out)
            case Reasoning():
                self._seal = part.seal
                if part.text:
                    self._say(part.text, out)
            case ToolCall():
                self._open(out)
                if part.arguments:
                    self._argue(part.arguments, out)
            case _:
                block = blocks.write_answer_part(part)
                if block is not None:
                    self._whole(block, out)

    def _whole(self, block: dict[str, Any], out: list[Any]) -> None:
        """A block that is complete at once. A thought's signature still goes as a delta, as clients expect."""
        index = self._next
        self._next += 1
        signature = block.get("signature") if block.get("type") == "thinking" else None
        shown = {**block, "signature": ""} if signature is not None else block
        out.append({"type": "content_block_start", "index": index, "content_block": shown})
        if signature:
            out.append(_delta(index, {"type": "signature_delta", "signature": signature}))
        elif block.get("type") == "text" and "text" in block:
            out[-1] = {**out[-1], "content_block": {**block, "text": ""}}
            out.append(_delta(index, {"type": "text_delta", "text": block["text"]}))
        out.append({"type": "content_block_stop", "index": index})

    def _open(self, out: list[Any]) -> None:
        if self._opened:
            return
        self._opened = True
        part = self._part
        block: dict[str, Any]
        match part:
            case ToolCall():
                block = {"type": "tool_use", "id": part.id, "name": part.name, "input": {}}
            case Reasoning():
                block = {"type": "thinking", "thinking": "", "signature": ""}
            case _:
                block = {"type": "text", "text": ""}
        block.update(part.extras.get(NAME, {}))
        out.append({"type": "content_block_start", "index": self._next, "content_block": block})

    def _say(self, text: str, out: list[Any]) -> None:
        if not self._opened:
            self._open(out)
        self._wrote = True
        if type(self._part) is Reasoning:
            out.append(_delta(self._next, {"type": "thinking_delta", "thinking": text}))
        else:
            self._texts.append(text)
            out.append(_delta(self._next, {"type": "text_delta", "text": text}))

    def _argue(self, text: str, out: list[Any]) -> None:
        self._wrote = self._wrote or not text.isspace()
        if isinstance(self._part, ToolCall) and self._part.kind == "custom":
            self._texts.append(text)
        else:
            out.append(_delta(self._next, {"type": "input_json_delta", "partial_json": text}))

    def _grow(self, event: PartGrew, out: list[Any]) -> None:
        if event.text:
            if type(self._part) is ToolCall:
                self._argue(event.text, out)
            else:
                self._say(event.text, out)
        if event.citation is not None:
            self._open(out)
            cited = blocks.write_citation(event.citation, "".join(self._texts))
            out.append(_delta(self._next, {"type": "citations_delta", "citation": cited}))
        if event.seal is not None:
            self._seal = event.seal

    def _end(self, out: list[Any]) -> None:
        part, seal = self._part, self._seal
        self._current = None
        late: Seal | None = None
        if type(part) is Reasoning:
            self._end_thought(part, seal, out)
        elif isinstance(part, ToolCall):
            self._end_call(part, out)
            late = seal
        elif isinstance(part, Text | Refusal):
            late = seal
        if self._opened:
            out.append({"type": "content_block_stop", "index": self._next})
            self._next += 1
        if late is not None:
            self._whole(blocks.write_thought(carrier(late, PREVIOUS)), out)

    def _end_thought(self, part: Reasoning, seal: Seal | None, out: list[Any]) -> None:
        if seal is not None and seal.origin == NAME and seal.note == blocks.REDACTED and not self._opened:
            self._whole({"type": "redacted_thinking", "data": seal.value, **part.extras.get(NAME, {})}, out)
            return
        if seal is not None:
            self._open(out)
            signature = blocks.write_seal(seal)
            out.append(_delta(self._next, {"type": "signature_delta", "signature": signature}))

    def _end_call(self, part: ToolCall, out: list[Any]) -> None:
        if part.kind == "custom":
            text = msgspec.json.encode({"input": "".join(self._texts)}).decode()
            out.append(_delta(self._next, {"type": "input_json_delta", "partial_json": text}))
        elif not self._wrote:
            out.append(_delta(self._next, {"type": "input_json_delta", "partial_json": "{}"}))


def _delta(index: int, delta: dict[str, Any]) -> dict[str, Any]:
    return {"type": "content_block_delta", "index": index, "delta": delta}
