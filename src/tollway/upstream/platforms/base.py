"""What a platform is: how a dialect's calls are addressed, authorised and framed where they are served."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from importlib import import_module
from typing import Any, Final, Literal, NamedTuple
from urllib.parse import quote

import msgspec

from tollway.core.json import decode
from tollway.core.routing.models import Channel
from tollway.upstream.transport import UpstreamRequest

Verb = Literal["text", "count", "embed", "embed_batch", "complete", "list"]
"""What is asked of an upstream. `complete` is the legacy completion; `list` are the models it serves."""

Headers = tuple[tuple[bytes, bytes], ...]
Authorise = Callable[[UpstreamRequest], Awaitable[UpstreamRequest]]
Unwrap = Callable[[bytes], bytes]


class Sort(NamedTuple):
    """What a request asks for, and of which model; `passed` are the client's own headers that go along."""

    verb: Verb
    model: str = ""
    stream: bool = False
    passed: Headers = ()


Target = Callable[[Sort], str | None]

MODEL_MAX: Final = 512


class Platform(NamedTuple):
    """How one channel is spoken to. Everything but `target` has a default that means "nothing special".

    `target`: the path and query of a call below the base URL's path, None where there is no such
    call; raises ValueError for a model's name that no path can hold. `headers`: what every request
    carries, the credential too where it is plain. `model_in_path`: whether targets differ by model.
    `rewrite`: the body as the platform wants it. `authorise`: signs a request, or fetches what it
    needs, raising UpstreamFault; None for plain credentials. `passes`: which of a client's headers go along as headers, None
    means all; `rewrite` may put others where they belong. `unwrap`: a fresh decoder of a stream in the platform's own
    framing, which yields the dialect's server-sent events. `secrets`: every string that must not be
    seen in an upstream's words.
    """

    target: Target
    headers: Headers = ()
    model_in_path: bool = False
    rewrite: Callable[[Sort, bytes], bytes] | None = None
    authorise: Authorise | None = None
    passes: frozenset[bytes] | None = None
    unwrap: Callable[[], Unwrap] | None = None
    accept_stream: bytes = b"text/event-stream"
    secrets: tuple[str, ...] = ()


def segment(model: str) -> str:
    """A model's name as one segment of a path. Raises ValueError where it could leave its segment."""
    if not 0 < len(model) <= MODEL_MAX or not model.isprintable():
        raise ValueError(f"{model[:80]!r} cannot be part of a path")
    if model.strip(".") == "":
        raise ValueError(f"{model!r} would climb out of its path")
    return quote(model, safe="@")


def members(body: bytes) -> dict[str, Any]:
    """A request body we wrote, to be changed. Raises ValueError for what is no JSON object."""
    try:
        value = decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        value = None
    if type(value) is not dict:
        raise ValueError("the request's body is not a JSON object")
    return value


def text_option(channel: Channel, name: str) -> str:
    """An option of a channel that is text; "" where it is not set."""
    value = channel.options.get(name)
    return value if isinstance(value, str) else ""


def extra(module: str, name: str) -> Any:
    """A module of the optional extra `name`, loaded when it is needed. Raises ValueError telling what to install."""
    try:
        return import_module(module)
    except ModuleNotFoundError:
        raise ValueError(f"this platform needs an extra: pip install 'tollway[{name}]'") from None
