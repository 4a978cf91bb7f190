"""Media given by URL, made data where the upstream does not load URLs itself.

    needed    which parts of a request those are, for one dialect and one upstream
    assumed   the request as it will be, before anything is fetched: what a writer is asked about losses
    inline    the request as it is, every such part fetched and checked

A file's type is what its first bytes say; it must be of the family the client declared. Nothing is
fetched for a part that the upstream's dialect cannot carry anyway.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import Callable
from functools import partial
from typing import Any, Final, TypeVar
from urllib.parse import unquote_to_bytes

from msgspec import Struct
from msgspec.structs import replace

from tollway.core.dialects.base import Target
from tollway.core.dialects.gemini import parts as gemini
from tollway.core.dialects.media import guessed
from tollway.core.errors import GatewayError
from tollway.core.exchange import DialectName, Media, Part, Request, ToolResult, Turn
from tollway.core.filetypes import IMAGES, PDF, file_type, plain_text
from tollway.upstream.guard import Guard, Limits, Opened
from tollway.upstream.guard_faults import FetchFault

AT_ONCE: Final = 4
"""Files of one request that are fetched at the same time."""
COUNT_MAX: Final = 50
"""Files of one request that are fetched at all."""
TOTAL_MAX: Final = 24 * 1024 * 1024
"""Bytes of all files of one request: 32 MiB as base64."""

PATIENCE: Final = 3
"""The time all files of one request may take, in times of what one may take."""

_Found = TypeVar("_Found")
_OFF_LOOP: Final = 256 * 1024
"""Bytes from which encoding is left to a thread."""
_CARRIED: Final[dict[DialectName, frozenset[str]]] = {
    "openai_chat": frozenset(("image", "document", "audio")),
    "openai_responses": frozenset(("image", "document", "audio")),
    "anthropic": frozenset(("image", "document")),
    "gemini": frozenset(("image", "document", "audio", "video")),
}
"""The families a dialect takes as data."""
_ACCEPTED: Final = {
    "image": ("image/*",),
    "audio": ("audio/*", "video/mp4", "video/webm", "application/ogg"),
    "video": ("video/*", "application/mp4", "application/ogg"),
    "document": (
        PDF,
        "text/plain",
        "text/markdown",
        "text/csv",
        "text/xml",
        "application/json",
        "application/xml",
    ),
}
"""The content types a server may claim for a family; one that claims none may be right."""
_TEXTS: Final = frozenset(_ACCEPTED["document"]) - {PDF}
_ANY: Final = "application/*"
"""The media type of a part whose client did not say what it is."""
_STAND_INS: Final = {"image/*": "image/png", "audio/*": "audio/wav", "video/*": "video/mp4", _ANY: PDF}


class Wants(Struct, frozen=True, kw_only=True):
    """What the upstream needs as data, and how much of it there may be. Sizes in bytes, before base64.

    `body`: the client's request, by which refusals name the field. The largest single file is the guard's
    own limit.
    """

    dialect: DialectName
    target: Target
    body: dict[str, Any] | None = None
    total_max: int = TOTAL_MAX
    count_max: int = COUNT_MAX


def needed(request: Request, dialect: DialectName, target: Target) -> list[Media]:
    """The parts that must be made data for an upstream of this dialect, in their order; [] where nothing is to be done."""
    own = request.origin == dialect
    if own and target.fetches_urls is not False:
        return []  # What the client wrote is what the upstream reads.
    return [
        part
        for turn in request.turns
        if own or _may_hold_media(turn, dialect)
        for part in _media(turn.parts)
        if _is_needed(part, dialect, target)
    ]


def assumed(request: Request, dialect: DialectName, target: Target) -> Request:
    """The request with an empty stand-in for each part that `inline` would fetch. Nothing is checked."""
    parts = {id(part): _stand_in(part) for part in needed(request, dialect, target)}
    return _with(request, parts) if parts else request


async def inline(request: Request, wants: Wants, guard: Guard) -> Request:
    """The request with everything in it that the upstream needs as data; itself if that is nothing.

    Raises GatewayError: unusable_media for what cannot be fetched, is too large or is not what it should
    be; overloaded where the gateway has no place for one more fetch.
    """
    parts = needed(request, wants.dialect, wants.target)
    if not parts:
        return request
    sources: dict[tuple[str, str], Media] = {}
    for part in parts:
        sources.setdefault(_source(part), part)
    if len(sources) > wants.count_max:
        raise GatewayError(
            "unusable_media",
            f"the request names {len(sources)} files by URL; at most {wants.count_max} are fetched for one request",
        )
    loaded = await _Loading(parts, wants, guard).all(sources)
    found: dict[int, Media] = {}
    for part in parts:
        one = loaded[_source(part)]
        found[id(part)] = replace(part, media_type=one.media_type, source=one.source, value=one.value)
    return _with(request, found)


class _Loading:
    """The files of one request, on their way; `_left` is what they may still bring together."""

    def __init__(self, parts: list[Media], wants: Wants, guard: Guard) -> None:
        self._parts = parts
        self._wants = wants
        self._guard = guard
        self._left = wants.total_max
        self._free = asyncio.Semaphore(AT_ONCE)
        self._now = asyncio.get_running_loop().time
        self._until = self._now() + PATIENCE * guard.usual.timeout

    async def all(self, sources: dict[tuple[str, str], Media]) -> dict[tuple[str, str], Media]:
        """Each source once; the first failure ends the others. Raises GatewayError."""
        try:
            async with asyncio.TaskGroup() as group:
                tasks = {key: group.create_task(self._one(part)) for key, part in sources.items()}
        except ExceptionGroup as failed:
            raise _first(failed) from None
        return {key: task.result() for key, task in tasks.items()}

    async def _one(self, part: Media) -> Media:
        async with self._free:
            try:
                if _is_data_url(part.value):
                    read = partial(_written, part.value, self._guard.usual.bytes)
                    told, data = await _aside(len(part.value), read)
                    self._take(len(data))
                else:
                    told, data = await self._fetched(part)
                return await _aside(len(data), partial(_as_data, part, told, data, self._wants.dialect))
            except FetchFault as fault:
                if fault.kind == "busy":
                    raise GatewayError("overloaded", fault.message, retry_after_ms=1000) from fault
                raise self._refusal(part, fault.message) from fault
            except _Unusable as why:
                raise self._refusal(part, str(why)) from None

    async def _fetched(self, part: Media) -> tuple[str, bytes]:
        """What a URL leads to: the media type its server claims, and its bytes."""
        usual = self._guard.usual
        accept = () if part.media_type == _ANY else _ACCEPTED[part.family]
        timeout = min(usual.timeout, self._until - self._now())
        limits = Limits(bytes=usual.bytes, timeout=timeout, accept=accept)
        async with self._guard.open(part.value, limits) as opened:
            return opened.content_type, await self._body(opened, limits.bytes)

    async def _body(self, opened: Opened, limit: int) -> bytes:
        body = bytearray()
        while data := await opened.read_some():
            body += data
            if len(body) > limit:
                raise _Unusable(f"what {opened.host} sends is larger than {limit} bytes")
            self._take(len(data))
        return bytes(body)

    def _take(self, size: int) -> None:
        self._left -= size
        if self._left < 0:
            raise _Unusable(f"the files of the request come to more than {self._wants.total_max} bytes")

    def _refusal(self, part: Media, why: str) -> GatewayError:
        path = _path_of(self._wants.body, part.value)
        named = repr(path) if path else f"{part.family} {self._number(part)} of those by URL"
        return GatewayError("unusable_media", f"{named} cannot be used: {why}", param=path)

    def _number(self, part: Media) -> int:
        same = [one for one in self._parts if one.family == part.family]
        return next(at for at, one in enumerate(same, 1) if one is part)


class _Unusable(Exception):
    """Why a file is of no use, for the client's eyes."""


async def _aside(size: int, work: Callable[[], _Found]) -> _Found:
    """Work on many bytes is done on a thread, so that the loop goes on."""
    return await asyncio.to_thread(work) if size > _OFF_LOOP else work()


def _written(url: str, limit: int) -> tuple[str, bytes]:
    """What a data URL holds: its media type and its bytes. Raises _Unusable."""
    head, comma, data = url[len("data:") :].partition(",")
    kind, *options = head.lower().split(";")
    if not comma:
        raise _Unusable("the data URL has no comma before its data")
    raw = unquote_to_bytes(data)
    if "base64" in options:
        try:
            raw = base64.b64decode(raw, validate=True)
        except binascii.Error:
            raise _Unusable("the data URL holds no valid base64") from None
    if len(raw) > limit:
        raise _Unusable(f"the data URL holds more than {limit} bytes")
    return kind, raw


def _as_data(part: Media, told: str, data: bytes, dialect: DialectName) -> Media:
    """The part with its data. `told`: what its server or data URL calls it. Raises _Unusable."""
    family = "" if part.media_type == _ANY else part.family
    kind = file_type(data, family)
    if not kind and family in ("", "document"):
        text = _text_of(part, told, data)
        if text is not None:
            return Media("text/plain", "text", text)
    if not _is_of(kind, family, dialect):
        wanted = {"image": "PNG, JPEG, GIF or WebP", "document": "PDF or plain text"}.get(
            family, family or "of a known type"
        )
        raise _Unusable(f"it is {kind or 'of no known type'}{_called(kind, told)}; {wanted} is wanted")
    return Media(kind, "base64", base64.b64encode(data).decode("ascii"))


def _text_of(part: Media, told: str, data: bytes) -> str | None:
    """A document as text, where its server, its data URL or its name says that it is one."""
    named = part.media_type if part.media_type != _ANY else guessed(part.name or part.value)
    return plain_text(data) if told in _TEXTS or (not told and named in _TEXTS) else None


def _is_of(kind: str, family: str, dialect: DialectName) -> bool:
    if kind.startswith("image/"):
        known = kind in IMAGES or (dialect == "gemini" and kind in ("image/heic", "image/heif"))
        return known and family in ("", "image")
    if kind == PDF:
        return family in ("", "document")
    return bool(kind) and family in ("", kind.partition("/")[0])


def _called(kind: str, told: str) -> str:
    return f", though called {told}" if told and told != kind else ""


def _is_needed(part: Media, dialect: DialectName, target: Target) -> bool:
    if part.source != "url" or (part.family not in _CARRIED[dialect] and part.media_type != _ANY):
        return False
    return _is_data_url(part.value) or not _LOADS[dialect](part, target)


def _chat_loads(part: Media, target: Target) -> bool:
    return target.fetches_urls is not False and part.family == "image" and _is_web(part.value)


def _responses_loads(part: Media, target: Target) -> bool:
    return target.fetches_urls is not False and part.family in ("image", "document") and _is_web(part.value)


def _anthropic_loads(part: Media, target: Target) -> bool:
    loadable = part.family == "image" or part.media_type == PDF
    return target.fetches_urls is not False and loadable and part.value[:8].lower() == "https://"


def _gemini_loads(part: Media, target: Target) -> bool:
    return gemini.loads(part.value, target.fetches_urls)


_LOADS: Final[dict[DialectName, Callable[[Media, Target], bool]]] = {
    "openai_chat": _chat_loads,
    "openai_responses": _responses_loads,
    "anthropic": _anthropic_loads,
    "gemini": _gemini_loads,
}
"""Whether an upstream of a dialect loads a part by its URL."""


def _may_hold_media(turn: Turn, dialect: DialectName) -> bool:
    """Whether the dialect's messages of this role take media at all."""
    if dialect == "openai_chat":
        return turn.role == "user"
    return dialect != "openai_responses" or turn.role != "assistant"


def _media(parts: tuple[Part, ...]) -> list[Media]:
    found: list[Media] = []
    for part in parts:
        if isinstance(part, Media):
            found.append(part)
        elif isinstance(part, ToolResult):
            found.extend(one for one in part.content if isinstance(one, Media))
    return found


def _with(request: Request, found: dict[int, Media]) -> Request:
    """The request with parts replaced, by the identity of the old ones."""

    def new(part: Part) -> Part:
        if isinstance(part, ToolResult) and any(id(one) in found for one in part.content):
            return replace(part, content=tuple(found.get(id(one), one) for one in part.content))
        return found.get(id(part), part)

    return replace(
        request,
        turns=tuple(replace(turn, parts=tuple(new(part) for part in turn.parts)) for turn in request.turns),
    )


def _stand_in(part: Media) -> Media:
    kind = _STAND_INS.get(part.media_type, part.media_type)
    if kind in _TEXTS:
        return replace(part, media_type="text/plain", source="text", value="")
    return replace(part, media_type=kind, source="base64", value="")


def _source(part: Media) -> tuple[str, str]:
    """What makes two parts the same file: the URL, and what it is to be."""
    return part.value, part.media_type


def _is_data_url(url: str) -> bool:
    return url[:5].lower() == "data:"


def _is_web(url: str) -> bool:
    return url[:8].lower().startswith(("https://", "http://"))


def _path_of(value: object, wanted: str, path: str = "") -> str | None:
    """Where in a body a string stands, like messages[0].content[1].image_url.url; None if nowhere."""
    if type(value) is str:
        return path if value == wanted else None
    steps: list[tuple[str, object]] = []
    if type(value) is dict:
        steps = [(f"{path}.{name}" if path else str(name), inner) for name, inner in value.items()]
    elif type(value) is list:
        steps = [(f"{path}[{at}]", inner) for at, inner in enumerate(value)]
    return next(
        (found for step, inner in steps if (found := _path_of(inner, wanted, step)) is not None), None
    )


def _first(failed: ExceptionGroup[Exception]) -> Exception:
    """One of the failures: a mistake of ours, if there is one, before what the client did wrong."""
    return next((one for one in failed.exceptions if not isinstance(one, GatewayError)), failed.exceptions[0])
