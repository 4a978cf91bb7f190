"""Clients' requests read, checked and weighed: the one way from a body to an `Asked`, whatever the dialect.

Chat Completions, the busiest dialect, has a checker of its own; the others are checked by being
read into the canonical exchange, which the translated relay needs anyway. What is sent to an
upstream of the client's own dialect is the parsed body encoded anew, so that every member nobody
here knows survives, and what was priced is what is sent.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final

from msgspec import Struct
from msgspec.structs import replace

from tollway.core.dialects import hosted
from tollway.core.dialects.asked import Asked
from tollway.core.dialects.natives import NATIVES
from tollway.core.dialects.openai_chat import check as chat
from tollway.core.dialects.openai_chat import completions
from tollway.core.dialects.openai_chat.parts import IMAGE_TOKENS_MAX
from tollway.core.dialects.registry import read_request
from tollway.core.errors import GatewayError, sentence
from tollway.core.exchange import DialectName, Media, Part, Request, ToolResult
from tollway.core.json import BadJSON, encode, read_object, refuse_duplicates
from tollway.core.relay import Relay
from tollway.core.seals import carried
from tollway.core.terms import PLAIN, Terms

FORBIDDEN: Final = ("api_base", "api_key", "base_url")
"""Members by which other gateways let callers redirect a call; here they are refused, never passed on."""

MEDIA_TOKENS: Final = 64_000
"""What a document, sound or film behind a URL may count as, in tokens."""


class Checked(Struct, frozen=True, kw_only=True):
    """A request of any dialect. See Asked for what its members mean.

    `verb` is "complete" for legacy completions, which are answered in a shape of their own.

    `members`: the body as parsed; `request`: what it means; `echo`: members a native answer must
    repeat as the client sent them, because something else was sent upstream. `terms`: what is asked for
    besides tokens.
    """

    dialect: DialectName
    native: DialectName | None
    members: dict[str, Any]
    request: Request
    input_bound: int
    audio: bool
    include_usage: bool = True
    version: str = ""
    array: bool = False
    echo: dict[str, Any] = {}
    verb: str = "text"
    max_credits: int | float | None = None
    terms: Terms = PLAIN

    @property
    def model(self) -> str:
        return self.request.model

    @property
    def session(self) -> str:
        return self.request.cache_key or self.request.user or ""

    @property
    def stream(self) -> bool:
        return self.request.stream

    @property
    def choices(self) -> int:
        return self.request.candidates

    @property
    def output_wanted(self) -> int | None:
        return self.request.sampling.max_output_tokens

    def body(self, upstream_model: str, output_cap: int | None) -> bytes:
        members = dict(self.members)
        if self.dialect == "gemini":
            # The path says both.
            members.pop("model", None)
            members.pop("stream", None)
        else:
            members["model"] = upstream_model
        if output_cap is not None:
            _CAPS[self.dialect](members, output_cap)
        return encode(members)

    def exchange(self) -> Request:
        return self.request

    def relay(self, name: str, token: str) -> Relay:
        makers = NATIVES[self.dialect]
        if self.stream:
            return makers.stream(name, token, echo=self.echo, array=self.array)
        return makers.whole(name, token, echo=self.echo)


def parse(raw: bytes) -> dict[str, Any]:
    """A request body as a JSON object, strictly. Raises GatewayError (invalid_json)."""
    try:
        body = read_object(raw)
        refuse_duplicates(raw, encode(body))
    except BadJSON as error:
        raise GatewayError("invalid_json", sentence(str(error))) from None
    return body


def read_chat(raw: bytes) -> Asked:
    """A body sent to the Chat Completions route. Raises GatewayError naming the field."""
    if b'"messages"' not in raw and b'"input"' in raw:
        # Cursor sends Responses bodies here and expects Chat's answers.
        return ask("openai_chat", parse(raw))
    found = chat.read(raw)
    return ask("openai_chat", parse(raw)) if carried(raw) else found


def without_tools(asked: Asked, names: frozenset[str]) -> Asked | None:
    """The request without tools of the upstream's; None where it is for them. See `hosted.without`."""
    lighter = hosted.without(asked.dialect, asked.members, names)
    if lighter is None:
        return None
    if isinstance(asked, Checked):
        again = ask(asked.dialect, lighter, version=asked.version, array=asked.array, echo=asked.echo)
        return replace(again, max_credits=asked.max_credits, include_usage=asked.include_usage)
    assert isinstance(asked, chat.ChatRequest), "nothing else has terms"
    found = chat.read(encode(lighter))
    return replace(found, max_credits=asked.max_credits, include_usage=asked.include_usage)


def read_completion(raw: bytes) -> Asked:
    """A body of legacy completions. Raises GatewayError naming the field."""
    return read_completion_body(parse(raw))


def read_completion_body(body: dict[str, Any]) -> Asked:
    """The same, parsed."""
    _refuse_forbidden(body)
    chat.check_model(body.get("model"))
    most = chat.take_max_credits(body)
    return Checked(
        dialect="openai_chat",
        native=None,
        members=body,
        request=completions.read_request(body),
        input_bound=len(encode(body)),
        audio=False,
        include_usage=chat.wants_usage(body),
        verb="complete",
        max_credits=most,
    )


def ask(
    dialect: DialectName,
    body: dict[str, Any],
    *,
    version: str = "",
    array: bool = False,
    echo: dict[str, Any] | None = None,
) -> Checked:
    """A parsed body as an Asked. For Gemini the route has put `model` and `stream` into it.

    Raises GatewayError naming the field that makes no sense.
    """
    _refuse_forbidden(body)
    chat.check_model(body.get("model"))
    most = chat.take_max_credits(body)
    request = read_request(dialect, body)
    if dialect == "anthropic":
        # A thread would be kept by one upstream, which would bill what nobody here has seen.
        body.pop("thread", None)
    kept = encode(body)
    encoded = tokens = 0
    audio = "audio" in request.modalities
    listed = list(media_of(request))
    for media in listed:
        size, weight = _weight(media)
        encoded += size
        tokens += weight
        audio = audio or media.family == "audio"
    return Checked(
        dialect=dialect,
        # A conversation that carries another dialect's seals is unwrapped on the way through the exchange.
        native=dialect if dialect in NATIVES and request.origin == dialect and not carried(kept) else None,
        members=body,
        request=request,
        input_bound=len(kept) - encoded + tokens,
        audio=audio,
        include_usage=dialect != "openai_chat" or chat.wants_usage(body),
        version=version,
        array=array and request.stream,
        echo=echo or {},
        max_credits=most,
        terms=hosted.terms(request.origin, body, listed),
    )


def _refuse_forbidden(body: dict[str, Any]) -> None:
    for name in FORBIDDEN:
        if body.get(name) is not None:
            chat.forbidden(name, None)


def media_of(request: Request) -> Iterable[Media]:
    for turn in request.turns:
        yield from _inside(turn.parts)


def _inside(parts: Iterable[Part]) -> Iterable[Media]:
    for part in parts:
        if isinstance(part, Media):
            yield part
        elif isinstance(part, ToolResult):
            yield from _inside(part.content)


def _weight(media: Media) -> tuple[int, int]:
    """Bytes of base64 that are no text, and the tokens they count as at most."""
    size = len(media.value) if media.source == "base64" else 0
    match media.family:
        case "image":
            return size, IMAGE_TOKENS_MAX
        case "audio":
            # Speech codecs spend more than 250 base64 characters on a token's tenth of a second.
            return size, size // 256 + (100 if size else MEDIA_TOKENS)
        case "video":
            return size, size // 32 + MEDIA_TOKENS
        case _:
            # A page of PDF is read as text and as an image; pages below 16 bytes a token are rare.
            if media.source == "text":
                return size, 0
            return size, size // 16 + (IMAGE_TOKENS_MAX if size else MEDIA_TOKENS)


def _cap_responses(members: dict[str, Any], tokens: int) -> None:
    members["max_output_tokens"] = tokens


def _cap_gemini(members: dict[str, Any], tokens: int) -> None:
    for name in ("generationConfig", "generation_config"):
        if type(members.get(name)) is dict:
            members[name] = {**members[name], "maxOutputTokens": tokens}
            return
    members["generationConfig"] = {"maxOutputTokens": tokens}


def _cap_tokens(members: dict[str, Any], tokens: int) -> None:
    members["max_tokens"] = tokens


_CAPS: Final[dict[DialectName, Callable[[dict[str, Any], int], None]]] = {
    "openai_chat": _cap_tokens,
    "openai_responses": _cap_responses,
    "anthropic": _cap_tokens,
    "gemini": _cap_gemini,
}
