"""The models that misbehave on the wire: each is the good answer's steps, spoilt in one way.

Nothing here knows a dialect; what is wrong with the words themselves is in the mouths' quirks.
Broken streams deliver three tokens first, broken whole answers half of the body.
"""

from __future__ import annotations

import time
import zlib
from collections.abc import Callable
from itertools import chain
from typing import Final

from tollway.core.json import encode
from tollway.upstream.sandbox.ask import Refused
from tollway.upstream.sandbox.mouths.base import Frame
from tollway.upstream.sandbox.refusals import OVERLOADED, QUOTA, REFUSALS, RETRY_SECONDS
from tollway.upstream.sandbox.scene import OPENING_TOKENS, Scene, behave, in_one_piece, streamed
from tollway.upstream.sandbox.steps import (
    JSON,
    Data,
    Drip,
    Hangup,
    Head,
    Headers,
    Pause,
    Raw,
    Silence,
    Step,
    Steps,
    whole,
)

Fault = Callable[[Scene], Steps]

_BIG: Final = 2 * 1024 * 1024
_SLOW_FIRST: Final = 2.0
_SLOW_NEXT: Final = 0.05
_RESET_GRACE: Final = 0.02
_IN_BAND: Final = Refused(
    500, "The server had an error while processing your request.", type="server_error", code="server_error"
)
_PAGE: Final = b"<!DOCTYPE html><html><head><title>%s</title></head><body><h1>%s</h1></body></html>\n"
_COOKIES: Final[Headers] = (
    ("set-cookie", "__cf_bm=sandbox-tracking; path=/; HttpOnly; Secure"),
    ("set-cookie", "session=sandbox-session; Domain=example.com"),
    ("openai-organization", "org-sandbox-secret"),
    ("openai-project", "proj_sandbox_secret"),
    ("openai-processing-ms", "42"),
    ("x-ratelimit-remaining-requests", "59"),
    ("server", "sandbox-edge"),
)


def perform(scene: Scene) -> Steps:
    """The steps of an answer: the good one unless the model is known to misbehave."""
    error = REFUSALS.get(scene.behaviour)
    if error is not None:
        return scene.refuse(error)
    return FAULTS.get(scene.behaviour, behave)(scene)


def _broken(*ending: Step, chunked: bool = False) -> Fault:
    """Three tokens, or half of the body, and then `ending`. `chunked`: a whole answer comes in chunks too."""

    def fault(scene: Scene) -> Steps:
        if scene.streamed:
            yield scene.stream_head()
            for frame in scene.opening():
                yield scene.data(frame)
        else:
            body = scene.body()
            yield Head(200, scene.headers(JSON), None if chunked else len(body))
            yield Data(body[: len(body) // 2], scene.saying.tokens)
        yield from ending

    return fault


def _date(scene: Scene) -> Steps:
    """429 with the time to come back spelt out, in English whatever the locale.

    One second is added because a date has whole seconds only: the delay is never less than promised.
    """
    at = time.gmtime(scene.clock() + RETRY_SECONDS + 1)
    day = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")[at.tm_wday]
    months = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
    when = f"{day}, {at.tm_mday:02} {months[at.tm_mon - 1]} {at.tm_year} {time.strftime('%H:%M:%S', at)} GMT"
    error = REFUSALS["sandbox-429"]
    return scene.refuse(
        Refused(429, error.message, type=error.type, code=error.code, headers=(("retry-after", when),))
    )


def _flaky(scene: Scene) -> Steps:
    return scene.refuse(REFUSALS["sandbox-500"]) if scene.memory.next_flaky_fails() else behave(scene)


def _leaking(scene: Scene) -> Refused:
    return Refused(
        400, f"Cannot serve this request with credential {scene.credential!r}.", code="bad_request"
    )


def _leak(scene: Scene) -> Steps:
    return scene.refuse(_leaking(scene))


def _leak_stream(scene: Scene) -> Steps:
    return _midstream(scene, _leaking(scene))


def _midstream(scene: Scene, error: Refused, *, tokens: bool = True) -> Steps:
    """An in-band error, after the opening or as the first event; a whole answer is 200 with an error."""
    if not scene.streamed:
        frame = scene.mouth.failed_whole(scene.saying, error)
        return whole(200, scene.headers(JSON), encode(frame.payload))
    opening = scene.opening() if tokens else iter(())
    return streamed(scene, chain(opening, scene.mouth.failed_stream(scene.saying, error)))


def _slow(scene: Scene) -> Steps:
    """Each token is waited for. A whole answer is generated token by token too, and sent when complete."""
    first = scene.numbers[0] / 1000 if scene.numbers else _SLOW_FIRST
    following = scene.numbers[0] / 1000 if scene.numbers else _SLOW_NEXT
    wait = first
    if not scene.streamed:
        for _ in range(scene.saying.tokens):
            yield Pause(wait)
            yield Data(b"", 1)
            wait = following
        yield from whole(200, scene.headers(JSON), scene.body())
        return
    yield scene.stream_head()
    for frame in scene.frames():
        if frame.tokens:
            yield Pause(wait)
            wait = following
        yield scene.data(frame)


def _drip(scene: Scene) -> Steps:
    yield Drip(scene.numbers[0] / 1000 if scene.numbers else 0)
    yield from behave(scene)


def _cut(scene: Scene) -> Steps:
    """Broken off after the opening, or after as many bytes of the body as the name says."""
    if not scene.numbers:
        yield from _broken(Hangup())(scene)
        return
    left = scene.numbers[0]
    for step in behave(scene):
        if isinstance(step, Data):
            if len(step.payload) > left:
                yield Data(step.payload[:left], step.tokens)
                yield Hangup()
                return
            left -= len(step.payload)
        yield step


def _page(status: int, title: bytes) -> Fault:
    def fault(_scene: Scene) -> Steps:
        return whole(status, (("content-type", "text/html; charset=utf-8"),), _PAGE % (title, title))

    return fault


def _empty(scene: Scene) -> Steps:
    if scene.streamed:
        return streamed(scene, iter(()))
    return whole(200, scene.headers(JSON), b"")


def _silent(*steps: Step) -> Fault:
    def fault(_scene: Scene) -> Steps:
        return iter(steps)

    return fault


def _no_done(scene: Scene) -> Steps:
    if not scene.streamed:
        return behave(scene)
    return streamed(scene, (frame for frame in scene.frames() if frame.part != "done"))


def _close(scene: Scene) -> Steps:
    for step in behave(scene):
        yield Head(step.status, step.headers, until_close=True) if isinstance(step, Head) else step


def _bad_json(scene: Scene) -> Steps:
    """The third token's event, or the body, stops in the middle of its JSON."""
    if not scene.streamed:
        body = scene.body()
        yield from whole(200, scene.headers(JSON), body[: len(body) // 2], scene.saying.tokens)
        return
    yield scene.stream_head()
    tokens = 0
    for frame in scene.frames():
        before, tokens = tokens, tokens + frame.tokens
        data = scene.data(frame)
        if before < OPENING_TOKENS <= tokens:
            data = Data(data.payload[: len(data.payload) // 2] + b"\n\n", data.tokens)
        yield data


def _gzip(scene: Scene) -> Steps:
    squeeze = zlib.compressobj(wbits=31)
    encoded = ("content-encoding", "gzip")
    if not scene.streamed:
        body = squeeze.compress(scene.body()) + squeeze.flush()
        yield from whole(200, (*scene.headers(JSON), encoded), body, scene.saying.tokens)
        return
    yield Head(200, (*scene.stream_headers(), encoded))
    for frame in scene.frames():
        data = scene.data(frame)
        yield Data(squeeze.compress(data.payload) + squeeze.flush(zlib.Z_SYNC_FLUSH), data.tokens)
    yield Data(squeeze.flush())


def _crlf(scene: Scene) -> Steps:
    """Legal server-sent events that few upstreams send: the whole answer is an ordinary one."""
    if not scene.streamed or not scene.mouth.events:
        yield from behave(scene)
        return
    yield scene.stream_head()
    yield Data(b": SANDBOX PROCESSING\r\n\r\n")
    for frame in scene.frames():
        data = scene.data(frame)
        lines = data.payload.replace(b"data: ", b"data:", 1).splitlines()
        yield Data(b"\r\n".join(line for line in lines if line) + b"\r\n\r\n", data.tokens)
        if frame.tokens:
            yield Data(b"event: ping\r\n\r\n")


def _big_line(scene: Scene) -> Steps:
    """Padding of 2 MiB in an unknown field of the first token's event, or of the body."""
    if not scene.streamed:
        frame = scene.mouth.whole(scene.saying, scene.behaviour)
        yield from whole(200, scene.headers(JSON), encode(_padded(frame).payload), frame.tokens)
        return
    yield scene.stream_head()
    padded = False
    for frame in scene.frames():
        yield scene.data(_padded(frame) if frame.tokens and not padded else frame)
        padded = padded or frame.tokens > 0


def _padded(frame: Frame) -> Frame:
    return Frame(frame.part, {**(frame.payload or {}), "padding": "x" * _BIG}, frame.tokens)


def _cookie(scene: Scene) -> Steps:
    for step in behave(scene):
        if isinstance(step, Head):
            yield Head(step.status, (*step.headers, *_COOKIES), step.length)
        else:
            yield step


FAULTS: Final[dict[str, Fault]] = {
    "sandbox-429-date": _date,
    "sandbox-flaky": _flaky,
    "sandbox-leak": _leak,
    "sandbox-leak-stream": _leak_stream,
    "sandbox-slow": _slow,
    "sandbox-drip": _drip,
    "sandbox-hang": _silent(Silence()),
    "sandbox-stall": _broken(Silence()),
    "sandbox-rst": _silent(Hangup(reset=True)),
    "sandbox-rst-mid": _broken(Pause(_RESET_GRACE), Hangup(reset=True)),
    "sandbox-cut": _cut,
    "sandbox-cut-clean": _broken(chunked=True),
    "sandbox-no-done": _no_done,
    "sandbox-close": _close,
    "sandbox-html": _page(200, b"Welcome"),
    "sandbox-html-502": _page(502, b"502 Bad Gateway"),
    "sandbox-empty": _empty,
    "sandbox-json-for-sse": in_one_piece,
    "sandbox-bad-chunk": _broken(Raw(b"ZZ\r\nnot a chunk\r\n"), Silence(), chunked=True),
    "sandbox-bad-json": _bad_json,
    "sandbox-gzip": _gzip,
    "sandbox-crlf": _crlf,
    "sandbox-big-line": _big_line,
    "sandbox-cookie": _cookie,
    "sandbox-first-error": lambda scene: _midstream(scene, _IN_BAND, tokens=False),
    "sandbox-first-overloaded": lambda scene: _midstream(scene, OVERLOADED, tokens=False),
    "sandbox-first-quota": lambda scene: _midstream(scene, QUOTA, tokens=False),
    "sandbox-midstream-error": lambda scene: _midstream(scene, _IN_BAND),
}
"""Models whose bytes are wrong, whatever the dialect. Error statuses are in `refusals.py`."""
