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


class Attachment(Struct, frozen=True):
    """Something in a message that is not text. `about`: what the sandbox saw of it, such as `PNG, 64x64`."""

    kind: AttachmentKind
    about: str


class Turn(Struct, frozen=True):
    """One message. `weight` is its prompt tokens; `source` names the tool whose result it is."""

    role: Role
    text: str
    weight: int
    attachments: tuple[Attachment, ...] = ()
    source: str = ""


class Tool(Struct, frozen=True):
    """A tool on offer. A custom tool takes any text and has no schema."""

    name: str
    schema: Any
    custom: bool = False


class Choice(Struct, frozen=True):
    """Which tools the model may or must use. `name`: the one it must use, if any."""

    mode: Literal["none", "auto", "required"] = "auto"
    name: str = ""


class JsonFormat(Struct, frozen=True):
    """The text must be a JSON object, valid for `schema` unless that is None."""

    schema: Any = None


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


class Piece(Struct, frozen=True, gc=False):
    """One token. `call` indexes the tool call that a "call" piece opens or an "input" piece continues."""

    kind: PieceKind
    text: str
    call: int = 0


class Spoken(Struct, frozen=True):
    """One choice of an answer. Every piece is one token; opening a tool call is one token too."""

    pieces: tuple[Piece, ...]
    calls: tuple[Call, ...]
    finish: Finish

    def said(self, kind: PieceKind, call: int = 0) -> str:
        """All text of one kind, of one tool call where it matters."""
        return "".join(piece.text for piece in self.pieces if piece.kind == kind and piece.call == call)

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
