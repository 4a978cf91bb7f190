"""What a model is asked and what it says, in no dialect: the values between a mouth and the brain.

Ask       one request            Refused   a request that is answered with an error instead
Spoken    one choice of the answer, as pieces of one token each
"""

from __future__ import annotations

from typing import Any, Literal

from msgspec import Struct

Role = Literal["system", "user", "assistant", "tool"]
Finish = Literal["stop", "length", "tool_calls", "content_filter"]
AttachmentKind = Literal["image", "audio", "file"]
PieceKind = Literal["reasoning", "text", "refusal", "call", "input"]
Mark = Literal["", "5m", "1h"]


class Attachment(Struct, frozen=True):
    """Something in a message that is not text. `about`: what the sandbox saw of it, such as `PNG, 64x64`."""

    kind: AttachmentKind
    about: str


class Turn(Struct, frozen=True):
    """One message. `weight` is its prompt tokens; `source` names the tool whose result it is.

    `mark`: how long the caller wants everything up to here to be cached, where it says so.
    """

    role: Role
    text: str
    weight: int
    attachments: tuple[Attachment, ...] = ()
    source: str = ""
    mark: Mark = ""


class Tool(Struct, frozen=True):
    """A tool on offer. A custom tool takes any text and has no schema. `space`: the namespace it is in."""

    name: str
    schema: Any
    custom: bool = False
    space: str = ""


class Choice(Struct, frozen=True):
    """Which tools the model may or must use. `name`: the one it must use, if any."""

    mode: Literal["none", "auto", "required"] = "auto"
    name: str = ""


class JsonFormat(Struct, frozen=True):
    """The text must be a JSON object, valid for `schema` unless that is None. `bare`: a text goes without its quotes."""

    schema: Any = None
    bare: bool = False


class Ask(Struct, frozen=True, kw_only=True):
    """A request. `output_max` is tokens, None where the caller set no limit."""

    model: str
    turns: tuple[Turn, ...]
    streamed: bool
    tools: tuple[Tool, ...] = ()
    tools_weight: int = 0
    choice: Choice = Choice()
    parallel: bool = True
    format: JsonFormat | None = None
    output_max: int | None = None
    stops: tuple[str, ...] = ()
    n: int = 1
    seed: int = 0
    effort: str = "medium"
    marked: bool = False
    """Whether the dialect caches only what is marked, not whatever it has seen before."""

    @property
    def prompt_tokens(self) -> int:
        """Everything the caller sent, in tokens."""
        return sum(turn.weight for turn in self.turns) + self.tools_weight

    @property
    def last_user_text(self) -> str:
        """What the user said last, or nothing."""
        return next((turn.text for turn in reversed(self.turns) if turn.role == "user"), "")


class Call(Struct, frozen=True):
    """A tool call. `input` is JSON for a function and free text for a custom tool."""

    id: str
    name: str
    input: str
    custom: bool
    space: str = ""


class Citation(Struct, frozen=True):
    """What a stretch of the text rests on. `start` and `end` count characters."""

    start: int
    end: int
    title: str
    url: str
    quote: str


class Piece(Struct, frozen=True, gc=False):
    """One token. `call` indexes the tool call that a "call" piece opens or an "input" piece continues."""

    kind: PieceKind
    text: str
    call: int = 0


class Spoken(Struct, frozen=True):
    """One choice of an answer. Every piece is one token; opening a tool call is one token too.

    `stop`: the stop sequence that ended it. `redacted`: the reasoning happened and may not be shown.
    """

    pieces: tuple[Piece, ...]
    calls: tuple[Call, ...]
    finish: Finish
    stop: str = ""
    redacted: bool = False
    citations: tuple[Citation, ...] = ()

    def said(self, kind: PieceKind, call: int = 0) -> str:
        """All text of one kind, of one tool call where it matters."""
        return "".join(piece.text for piece in self.pieces if piece.kind == kind and piece.call == call)

    def opened(self) -> list[int]:
        """Which of `calls` were begun before the answer ended."""
        return [piece.call for piece in self.pieces if piece.kind == "call"]

    def segments(self) -> list[list[Piece]]:
        """Neighbouring pieces of one kind, a tool call and its input together."""
        found: list[list[Piece]] = []
        for piece in self.pieces:
            before = found[-1][-1] if found else None
            if before and piece.kind != "call" and piece.kind in (before.kind, "input"):
                found[-1].append(piece)
            else:
                found.append([piece])
        return found

    def tokens(self, kind: PieceKind | None = None) -> int:
        """How many tokens, of one kind or of all."""
        if kind is None:
            return len(self.pieces)
        return sum(piece.kind == kind for piece in self.pieces)


class Refused(Exception):
    """A request answered with an error. `type` and `code` are in OpenAI's words; other mouths translate."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        type: str = "invalid_request_error",  # noqa: A002 - the wire's own word
        code: str | None = None,
        param: str | None = None,
        headers: tuple[tuple[str, str], ...] = (),
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.type = type
        self.code = code
        self.param = param
        self.headers = headers
