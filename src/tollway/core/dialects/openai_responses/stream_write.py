"""Events written as a Responses stream: the whole ladder of items, parts and deltas.

Texts that follow one another share a message item; everything else is an item of its own. Items may be
open together, each at its own place in the output. The last event carries the whole response, and is
held back until `close` because it carries the usage.
"""

from __future__ import annotations

from typing import Any, Final

from msgspec.structs import replace

from tollway.core.dialects.base import Bill, Reply
from tollway.core.dialects.faults import failed_error
from tollway.core.dialects.openai_responses import answer, output
from tollway.core.dialects.openai_responses.counts import write_counts
from tollway.core.dialects.openai_responses.errors import stream_error, write_error
from tollway.core.dialects.order import Order
from tollway.core.errors import GatewayError
from tollway.core.exchange import (
    Counted,
    Event,
    Failed,
    Finished,
    Media,
    Part,
    PartEnded,
    PartGrew,
    PartStarted,
    Reasoning,
    Refusal,
    Seal,
    Started,
    Text,
    ToolCall,
    Usage,
)
from tollway.core.fold import Growing
from tollway.core.seals import NEXT, PREVIOUS, carrier

NAME: Final = "openai_responses"


class _Item:
    """A place in the output. `open`: how many of its parts are open; a message ends once nothing more can join it."""

    __slots__ = ("content", "id", "index", "open", "own", "shown")

    def __init__(self, index: int, shown: dict[str, Any], own: dict[str, Any] | None = None) -> None:
        self.index = index
        self.id: str = shown.get("id") or ""
        self.shown = shown
        self.own = own
        self.content: list[Any] = []
        self.open = 0


class _Part:
    """An open part: the item it belongs to, its place there, and what it has grown to."""

    __slots__ = ("at", "growing", "item", "sealed", "wrote")

    def __init__(self, item: _Item, at: int, part: Part) -> None:
        self.item = item
        self.at = at
        self.growing = Growing(part)
        self.sealed = part.seal is not None
        self.wrote = False


class Writer:
    """Writes one response's events. See StreamWriter."""

    def __init__(self, reply: Reply) -> None:
        self._reply = reply
        self._order = Order()
        self._sequence = 0
        self._shown: answer.Shown | None = None
        self._items: list[Any] = []
        self._message: _Item | None = None
        self._parts: dict[int, _Part] = {}
        self._usage: Usage | None = None
        self._finish: Finished | None = None

    def send(self, event: Event) -> list[Any]:
        self._order.take(event)
        out: list[Any] = []
        match event:
            case PartGrew():
                self._grow(event, out)
            case PartStarted():
                self._start(event, out)
            case PartEnded():
                self._end(event, out)
            case Counted():
                self._usage = event.usage
            case Started():
                self._begin(event, out)
            case Finished():
                self._finished(event, out)
            case Failed():
                self._failed(failed_error(event), self._reply.token, out)
            case _:
                # Nor is the upstream's sign of life told: response.in_progress would start a client's copy anew.
                pass
        return out

    def close(self, bill: Bill | None = None) -> list[Any]:
        self._order.close()
        assert self._finish is not None
        assert self._shown is not None
        whole = self._shown.finished(self._finish, self._items, write_counts(self._usage, bill))
        out: list[Any] = []
        self._emit(out, f"response.{whole['status']}", response=whole)
        return out

    def fail(self, error: GatewayError, request_id: str) -> list[Any]:
        self._order.fail()
        out: list[Any] = []
        self._failed(error, request_id, out)
        return out

    def _emit(self, out: list[Any], kind: str, **members: Any) -> None:
        out.append({"type": kind, "sequence_number": self._sequence, **members})
        self._sequence += 1

    def _now(self, status: str) -> dict[str, Any]:
        assert self._shown is not None
        return self._shown.response(status, [item for item in self._items if item is not None])

    def _begin(self, event: Started, out: list[Any]) -> None:
        self._shown = answer.Shown(self._reply, event.id, event.model, event.extras.get(NAME, {}))
        self._emit(out, "response.created", response=self._now("in_progress"))
        self._emit(out, "response.in_progress", response=self._now("in_progress"))

    def _failed(self, error: GatewayError, request_id: str, out: list[Any]) -> None:
        """First the error in the form whose clients raise it, then the terminal event the others wait for."""
        if self._shown is None:
            self._begin(Started("", ""), out)
        body = write_error(error, request_id)[1]["error"]
        self._emit(out, "error", error=body)
        failed = {**self._now("failed"), "error": stream_error(error)}
        if self._usage is not None:
            failed["usage"] = write_counts(self._usage)
        self._emit(out, "response.failed", response=failed)

    def _finished(self, event: Finished, out: list[Any]) -> None:
        self._finish = event
        if event.reason == "content_filter" and not self._order.count:
            self._start(PartStarted(0, Refusal(answer.DECLINED)), out)
            self._end(PartEnded(0), out)
        self._leave_message(out)

    def _place(self, shown: dict[str, Any], own: dict[str, Any] | None = None) -> _Item:
        item = _Item(len(self._items), shown, own)
        self._items.append(None)
        return item

    def _done(self, item: _Item, shown: dict[str, Any], out: list[Any]) -> None:
        self._items[item.index] = shown
        self._emit(out, "response.output_item.done", output_index=item.index, item=shown)

    def _added(self, item: _Item, out: list[Any]) -> None:
        self._emit(out, "response.output_item.added", output_index=item.index, item=item.shown)

    def _leave_message(self, out: list[Any]) -> None:
        """No further text joins the message; it is done as soon as its parts are."""
        item, self._message = self._message, None
        if item is not None and not item.open:
            self._message_done(item, out)

    def _message_done(self, item: _Item, out: list[Any]) -> None:
        self._done(item, {**item.shown, "status": "completed", "content": item.content}, out)

    def _start(self, event: PartStarted, out: list[Any]) -> None:
        part = event.part
        if part.seal is not None and isinstance(part, Text | ToolCall | Media):
            self._seal(part.seal, NEXT, out)
        match part:
            case Text() | Refusal():
                self._start_words(event.index, part, out)
            case Reasoning():
                self._leave_message(out)
                self._start_thought(event.index, part, out)
            case ToolCall():
                self._leave_message(out)
                self._start_call(event.index, part, out)
            case _:
                self._start_whole(event.index, part, out)

    def _seal(self, seal: Seal, place: str, out: list[Any]) -> None:
        self._leave_message(out)
        self._put(carrier(seal, place), out)

    def _put(self, part: Part, out: list[Any]) -> None:
        """A part that is complete at once, as an item."""
        assert self._shown is not None
        shown = answer.write_item(part, self._shown, len(self._items))
        if shown is not None:
            item = self._place(shown)
            self._added(item, out)
            self._done(item, shown, out)

    def _start_whole(self, index: int, part: Part, out: list[Any]) -> None:
        words = answer.content_of(part)
        if words is None:
            self._leave_message(out)
            self._put(part, out)
        else:
            self._start_words(index, Text(words["text"]), out)

    def _start_words(self, index: int, part: Text | Refusal, out: list[Any]) -> None:
        assert self._shown is not None
        own = part.extras.get(NAME, {}).get("item")
        if self._message is not None and self._message.own != own:
            self._leave_message(out)
        item = self._message
        if item is None:
            item = self._message = self._place(answer.new_message(self._shown, len(self._items), own), own)
            self._added(item, out)
        at = len(item.content)
        item.content.append(None)
        item.open += 1
        self._parts[index] = _Part(item, at, part)
        empty = output.write_text(Text("")) if isinstance(part, Text) else output.write_refusal(Refusal(""))
        self._emit(
            out,
            "response.content_part.added",
            item_id=item.id,
            output_index=item.index,
            content_index=at,
            part=empty,
        )
        if part.text:
            self._words(
                self._parts[index], part, part.text, [output.write_token(one) for one in _tokens(part)], out
            )
        for citation in part.citations if isinstance(part, Text) else ():
            self._annotate(self._parts[index], output.write_citation(citation, part.text), out)

    def _words(self, state: _Part, part: Part, text: str, tokens: list[Any], out: list[Any]) -> None:
        state.wrote = True
        where = {"item_id": state.item.id, "output_index": state.item.index, "content_index": state.at}
        if type(part) is Text:
            self._emit(out, "response.output_text.delta", **where, delta=text, logprobs=tokens)
        else:
            self._emit(out, "response.refusal.delta", **where, delta=text)

    def _annotate(self, state: _Part, annotation: dict[str, Any], out: list[Any]) -> None:
        self._emit(
            out,
            "response.output_text.annotation.added",
            item_id=state.item.id,
            output_index=state.item.index,
            content_index=state.at,
            annotation_index=0,
            annotation=annotation,
        )

    def _start_thought(self, index: int, part: Reasoning, out: list[Any]) -> None:
        assert self._shown is not None
        own = part.extras.get(NAME, {}).get("id")
        home = part.seal is not None and part.seal.origin == NAME
        item_id = (part.seal.note if home and part.seal is not None else "") or own
        shown: dict[str, Any] = {
            "id": item_id or self._shown.item_id("rs", len(self._items)),
            "type": "reasoning",
            "summary": [],
            "status": "in_progress",
        }
        item = self._place(shown)
        self._parts[index] = _Part(item, 0, part)
        self._added(item, out)
        if part.text:
            self._think(self._parts[index], part.text, out)

    def _think(self, state: _Part, text: str, out: list[Any]) -> None:
        where = {"item_id": state.item.id, "output_index": state.item.index, "summary_index": 0}
        if not state.wrote:
            state.wrote = True
            empty = {"type": "summary_text", "text": ""}
            self._emit(out, "response.reasoning_summary_part.added", **where, part=empty)
        self._emit(out, "response.reasoning_summary_text.delta", **where, delta=text)

    def _start_call(self, index: int, part: ToolCall, out: list[Any]) -> None:
        assert self._shown is not None
        prefix = {"function": "fc", "custom": "ctc", "search": "tsc"}[part.kind]
        bare = ToolCall(part.id, part.name, "", part.kind, part.namespace, extras=part.extras)
        shown = output.write_call(bare, self._shown.item_id(prefix, len(self._items)), "in_progress")
        item = self._place(shown)
        self._parts[index] = _Part(item, 0, part)
        self._added(item, out)
        if part.arguments:
            self._argue(self._parts[index], part, part.arguments, out)

    def _argue(self, state: _Part, part: ToolCall, text: str, out: list[Any]) -> None:
        state.wrote = state.wrote or not text.isspace()
        if part.kind == "search":
            return
        kind = "custom_tool_call_input" if part.kind == "custom" else "function_call_arguments"
        self._emit(
            out,
            f"response.{kind}.delta",
            item_id=state.item.id,
            output_index=state.item.index,
            delta=text,
        )

    def _grow(self, event: PartGrew, out: list[Any]) -> None:
        state = self._parts.get(event.index)
        if state is None:
            return
        part = self._order.parts[event.index]
        state.growing.grow(event)
        if event.text:
            if type(part) is ToolCall:
                self._argue(state, part, event.text, out)
            elif type(part) is Reasoning:
                self._think(state, event.text, out)
            else:
                tokens = [output.write_token(one) for one in event.logprobs] if event.logprobs else []
                self._words(state, part, event.text, tokens, out)
        if event.citation is not None and event.citation.kind == "url" and event.citation.end is not None:
            self._annotate(state, output.write_citation(event.citation, ""), out)

    def _end(self, event: PartEnded, out: list[Any]) -> None:
        state = self._parts.pop(event.index, None)
        if state is None:
            return
        state.growing.end(event)
        part = state.growing.whole()
        late = part.seal if part.seal is not None and isinstance(part, Text | ToolCall) else None
        match part:
            case Text() | Refusal():
                self._end_words(state, part, out)
            case Reasoning():
                self._end_thought(state, part, out)
            case ToolCall():
                self._end_call(state, part, out)
            case _:
                pass
        if late is not None and not state.sealed:
            self._seal(late, PREVIOUS, out)

    def _end_words(self, state: _Part, part: Text | Refusal, out: list[Any]) -> None:
        item = state.item
        where = {"item_id": item.id, "output_index": item.index, "content_index": state.at}
        shown: dict[str, Any]
        if isinstance(part, Text):
            for one in part.citations:
                if one.kind == "url" and one.end is None:
                    self._annotate(state, output.write_citation(one, part.text), out)
            shown = output.write_text(part)
            self._emit(out, "response.output_text.done", **where, text=part.text, logprobs=shown["logprobs"])
        else:
            shown = output.write_refusal(part)
            self._emit(out, "response.refusal.done", **where, refusal=part.text)
        self._emit(out, "response.content_part.done", **where, part=shown)
        item.content[state.at] = shown
        item.open -= 1
        if not item.open and item is not self._message:
            self._message_done(item, out)

    def _end_thought(self, state: _Part, part: Reasoning, out: list[Any]) -> None:
        item = state.item
        shown = output.write_reasoning(replace(part, form="summary") if part.text else part, item.id)
        shown["id"] = item.id
        if state.wrote:
            where = {"item_id": item.id, "output_index": item.index, "summary_index": 0}
            self._emit(out, "response.reasoning_summary_text.done", **where, text=part.text)
            whole = {"type": "summary_text", "text": part.text}
            self._emit(out, "response.reasoning_summary_part.done", **where, part=whole)
        self._done(item, shown, out)

    def _end_call(self, state: _Part, part: ToolCall, out: list[Any]) -> None:
        item = state.item
        shown = output.write_call(part, item.id)
        shown["id"] = item.id
        where = {"item_id": item.id, "output_index": item.index}
        if part.kind == "custom":
            self._emit(out, "response.custom_tool_call_input.done", **where, input=part.arguments)
        elif part.kind == "function":
            if not state.wrote:
                self._argue(state, part, "{}", out)
            arguments = part.arguments
            self._emit(
                out, "response.function_call_arguments.done", **where, name=part.name, arguments=arguments
            )
        self._done(item, shown, out)


def _tokens(part: Text | Refusal) -> Any:
    return part.logprobs if isinstance(part, Text) else ()
