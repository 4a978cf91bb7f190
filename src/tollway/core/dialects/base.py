"""What a dialect is: the functions every one of them offers, and the values they are told.

A reader turns wire JSON into canonical values, a writer turns them into wire JSON; n readers and n
writers serve every pair of dialects. Requests come from clients, whom we answer with GatewayError
naming the field. Answers come from upstreams, which are read leniently; what cannot be an answer at
all raises BadAnswer.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Literal, NamedTuple, Protocol

import msgspec
from msgspec import Struct

from tollway.core.errors import GatewayError
from tollway.core.exchange import DialectName, Event, Failed, Loss, Request, Response, Usage
from tollway.core.relay import BadAnswer

BUDGETS: Final = {
    "minimal": 1_024,
    "low": 2_048,
    "medium": 8_192,
    "high": 24_576,
    "xhigh": 32_768,
    "max": 65_536,
}
"""Tokens of thought for an effort, where the catalogue says nothing better."""

DONE: Final = "[DONE]"
"""The payload that ends a Chat Completions stream; readers take it in place of an object."""


class AnswerFailed(BadAnswer):
    """A whole answer that reports its own failure; `failed` is what it reports."""

    def __init__(self, failed: Failed) -> None:
        super().__init__(failed.message)
        self.failed = failed


class IllegalEvent(ValueError):
    """An event that cannot follow what was sent before; the writer is as it was."""


class Sent(NamedTuple):
    """What a tool was before its declaration was translated."""

    namespace: str
    name: str
    kind: Literal["function", "custom", "search"]


class Undo(Struct, frozen=True, kw_only=True):
    """How to read the answer to a translated request.

    `tools`: name as sent -> what the client calls it. `answer_tool`: the tool that stands in for
    structured output; its arguments are the answer's text.
    """

    tools: dict[str, Sent] = {}
    answer_tool: str = ""


class Written(Struct, frozen=True):
    """A request in an upstream's dialect, what it could not say, and how to read the answer."""

    body: dict[str, Any]
    losses: tuple[Loss, ...] = ()
    undo: Undo = Undo()


class Target(Struct, frozen=True, kw_only=True):
    """What a writer must know of the channel and the model it writes for; the catalogue fills it in.

    `scope`: the channel's seal scope. `max_output_tokens`: the model's limit, None if unknown.
    `default_output_tokens`: sent where the dialect demands a limit and the client gave none.
    `sampling`: whether temperature and its kin are accepted. `thinking`: whether thought is asked for
    by effort or by a token budget. `budgets`: effort -> budget in tokens. `json_schema`: whether
    schemas may be sent as they are (else Gemini's subset; else Anthropic's stand-in tool).
    `completion_tokens_field`: Chat's name for the output limit. `fetches_urls`: whether the upstream
    loads media from URLs; None is what is usual in its dialect. `keeps_reasoning`: whether a Chat upstream wants thoughts back in history.
    `custom_tools`: whether a Chat upstream knows custom tools. `cache_marks`: whether an OpenAI upstream knows prompt_cache_breakpoint. `cache_marks_max`: how
    many marks Anthropic accepts. `mid_system`: whether an Anthropic model takes system messages
    inside the conversation.
    """

    scope: str = ""
    max_output_tokens: int | None = None
    default_output_tokens: int = 16_384
    sampling: bool = True
    thinking: Literal["effort", "budget", "none"] = "effort"
    budgets: dict[str, int] = msgspec.field(default_factory=lambda: dict(BUDGETS))
    json_schema: bool = True
    completion_tokens_field: Literal["max_completion_tokens", "max_tokens"] = "max_completion_tokens"
    fetches_urls: bool | None = None
    keeps_reasoning: bool = False
    custom_tools: bool = False
    cache_marks: bool = False
    cache_marks_max: int = 4
    mid_system: bool = False


class Reading(Struct, frozen=True, kw_only=True):
    """What a reader of an answer must know: the channel's scope, the call's random token, how to undo."""

    scope: str = ""
    token: str = ""
    undo: Undo = Undo()


class Bill(Struct, frozen=True, kw_only=True):
    """What the final usage shows. `cost`: credits. `usage`: counts to show instead of the upstream's."""

    cost: int | float | None = None
    estimated: bool = False
    usage: Usage | None = None


class Reply(Struct, frozen=True, kw_only=True):
    """What a writer must know of the answer it writes for a client.

    `token`: the call's random token, of which every id is made, so that ids agree throughout an
    answer; "" keeps the upstream's id. `model`: what the client asked for; "" keeps the upstream's
    name. `created`: Unix seconds. `include_usage`: whether a Chat client wants the usage chunk.
    `request`: shown where a dialect repeats it (Responses). `echo`: members to be shown as the client
    sent them, because something else was asked upstream. `version`: Anthropic's API version.
    """

    token: str = ""
    model: str = ""
    created: int = 0
    include_usage: bool = True
    request: Request | None = None
    echo: dict[str, Any] = {}
    version: str = "2023-06-01"


FaultKind = Literal[
    "invalid_request",
    "context_length",
    "too_large",
    "authentication",
    "permission",
    "not_found",
    "credits",
    "rate_limit",
    "conflict",
    "overloaded",
    "timeout",
    "server",
]


class Fault(Struct, frozen=True, kw_only=True):
    """An upstream's refusal. `retry_after_ms` is what the body said; headers are the caller's to read.

    `code` and `param` are the upstream's words; `message` is fit to be shown.
    """

    kind: FaultKind
    status: int
    message: str
    code: str = ""
    param: str | None = None
    retry_after_ms: int | None = None


class StreamReader(Protocol):
    """Upstream objects in, canonical events out."""

    def feed(self, obj: Any) -> list[Event]:
        """Read one decoded event (or DONE). Raises BadAnswer."""
        ...

    def close(self) -> list[Event]:
        """The stream ended: the events still owed. Raises BadAnswer if the answer is not complete."""
        ...


class StreamWriter(Protocol):
    """Canonical events in, objects for the client out. See `order.py` for what may follow what."""

    def send(self, event: Event) -> list[Any]:
        """The objects this event becomes. Raises IllegalEvent and changes nothing."""
        ...

    def close(self, bill: Bill | None = None) -> list[Any]:
        """The last objects of a finished answer, with its bill. Raises IllegalEvent unless it finished."""
        ...

    def fail(self, error: GatewayError, request_id: str) -> list[Any]:
        """The dialect's error inside the stream; nothing may follow."""
        ...


class Counting(NamedTuple):
    """How a dialect counts input tokens ahead of a call."""

    read_request: Callable[[dict[str, Any]], Request]
    write_request: Callable[[Request, Target], Written]
    read_count: Callable[[dict[str, Any]], int]
    write_count: Callable[[int], dict[str, Any]]


class Dialect(NamedTuple):
    """One text dialect. Nothing here reads a clock or rolls dice: tokens and times come in.

    `frame`: one object of a stream as bytes. `keep_alive`: bytes that keep a stream's client waiting
    and mean nothing. `counting`: None where the dialect has no such route.
    """

    name: DialectName
    read_request: Callable[[dict[str, Any]], Request]
    write_request: Callable[[Request, Target], Written]
    read_response: Callable[[dict[str, Any], Reading], Response]
    write_response: Callable[[Response, Reply, Bill | None], dict[str, Any]]
    reader: Callable[[Reading], StreamReader]
    writer: Callable[[Reply], StreamWriter]
    read_error: Callable[[int, object], Fault]
    write_error: Callable[[GatewayError, str], tuple[int, dict[str, Any]]]
    frame: Callable[[Any], bytes]
    keep_alive: bytes
    counting: Counting | None
