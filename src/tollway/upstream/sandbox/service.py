"""The sandbox's routes: the dialects it speaks, its models, and the truth about what it received."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from typing import Final
from urllib.parse import unquote

from tollway.upstream.sandbox import listing, models, routes
from tollway.upstream.sandbox.ask import Ask, Refused
from tollway.upstream.sandbox.faults import perform
from tollway.upstream.sandbox.listing import EPOCH
from tollway.upstream.sandbox.memory import Cached, Memory
from tollway.upstream.sandbox.minds import think
from tollway.upstream.sandbox.mouths.base import Mouth, Saying, Stamp, Work
from tollway.upstream.sandbox.records import Record, Records
from tollway.upstream.sandbox.request import Request
from tollway.upstream.sandbox.scene import Scene
from tollway.upstream.sandbox.signing import Signer
from tollway.upstream.sandbox.steps import Steps, json_response, whole

BAD_KEY: Final = "sandbox-bad-key"
"""The only key that is not accepted."""
_KEYS: Final = ("authorization", "x-api-key", "x-goog-api-key")
_YEAR: Final = 31_536_000

_INSPECTED: Final = {"/sandbox/stats": "GET", "/sandbox/last": "GET", "/sandbox/reset": "POST"}


class Service:
    """Answers requests. `clock` gives Unix seconds for `created`; without it times are invented from the request.

    `inspect`: whether /sandbox/* is served; it shows the last request to anybody who can connect.
    `account`: whose signatures are made and accepted here.
    """

    def __init__(self, clock: Callable[[], float] | None, *, inspect: bool, account: str = "") -> None:
        self.records = Records()
        self._memory = Memory()
        self._clock = clock
        self._inspect = inspect
        self._signer = Signer(account)

    def receive(self, request: Request) -> Record | None:
        """Take note of a request that has arrived; a record if it asks for an answer of a model."""
        if request.method != "POST" or routes.find(request, self._signer) is None:
            return None
        if self._inspect:
            self.records.remember(request)
        return self.records.open(request)

    def respond(self, request: Request, record: Record | None) -> Steps:
        """The steps of the answer. All heavy work is done when this returns, so it may run on a thread."""
        mouth = routes.find(request, self._signer)
        try:
            if request.fault is not None:
                raise request.fault
            if mouth is None:
                return self._plain(request)
            if record is None:
                raise _wrong_method("POST")
            return self._answer(mouth, request, record)
        except Refused as error:
            refusal = (mouth or routes.speaks(request, self._signer)).refuse(error)
            return whole(refusal.status, refusal.headers, refusal.body)

    def _answer(self, mouth: Mouth, request: Request, record: Record) -> Steps:
        _check_key(request)
        if request.headers.get("content-encoding", "identity") != "identity":
            raise Refused(415, "Compressed request bodies are not supported.")
        ask = mouth.read(request)
        record.model = ask.model[:128]
        record.streamed = ask.streamed
        found = _model(ask.model, mouth.work)
        record.prompt_tokens = ask.prompt_tokens
        _check_context(ask, found.model.context)
        behaviour = models.behaviour(found)
        caches = behaviour == "sandbox-cache" and mouth.work == "chat"
        return perform(
            Scene(
                mouth=mouth,
                saying=Saying(
                    ask=ask,
                    choices=think(ask, found) if mouth.work == "chat" else (),
                    stamp=self._stamp(request.body),
                    model=ask.model,
                    cached=self._memory.cached(ask) if caches else Cached(),
                ),
                behaviour=behaviour,
                numbers=found.numbers,
                credential=_credential(request),
                memory=self._memory,
                clock=self._clock or time.time,
            )
        )

    def _stamp(self, body: bytes) -> Stamp:
        name = hashlib.blake2b(body, digest_size=12).hexdigest()
        created = int(self._clock()) if self._clock else EPOCH + int(name[:8], 16) % _YEAR
        return Stamp(name, created)

    def _plain(self, request: Request) -> Steps:
        path = request.path
        if self._inspect and path in _INSPECTED:
            return self._inspected(request)
        before, listed, name = path.rpartition("/models")
        if listed and (
            not name or (name.startswith("/") and len(name) > 1 and not before.endswith("/models"))
        ):
            _check_key(request)
            _check_method(request, "GET")
            return json_response(listing.answer(request, unquote(name[1:])))
        raise Refused(404, f"Invalid URL ({request.method} {path[:256]})")

    def _inspected(self, request: Request) -> Steps:
        _check_method(request, _INSPECTED[request.path])
        if request.path == "/sandbox/stats":
            return json_response(self.records.stats())
        if request.path == "/sandbox/last":
            return json_response(self.records.last)
        # Calls in flight report to the new records, which do not know them: they go uncounted.
        self.records = Records()
        self._memory = Memory()
        return json_response({"reset": True})


def _model(name: str, work: Work) -> models.Found:
    """The model of that name, if it does that work. Those that misbehave do any."""
    found = models.find(name)
    if found is None:
        text = f"The model `{name[:128]}` does not exist or you do not have access to it."
        raise Refused(404, text, code="model_not_found", param="model")
    kind = "embedding" if work == "embedding" else "chat"
    if found.model.kind != kind and not found.model.misbehaves:
        raise Refused(
            400, f"The model `{name}` is not made for this.", code="model_not_supported", param="model"
        )
    return found


def _credential(request: Request) -> str:
    """What the caller sent to be let in, as it was sent."""
    headers = request.headers
    for name in _KEYS:
        if name in headers:
            return headers[name]
    return request.query("key")


def _check_key(request: Request) -> None:
    """Where several credentials are sent the dedicated header counts, as at Anthropic's."""
    headers = request.headers
    found = headers.get("x-api-key") or headers.get("x-goog-api-key") or _credential(request)
    if found.removeprefix("Bearer ") == BAD_KEY:
        raise Refused(401, "Incorrect API key provided.", code="invalid_api_key")


def _check_method(request: Request, method: str) -> None:
    if request.method != method:
        raise _wrong_method(method)


def _wrong_method(method: str) -> Refused:
    return Refused(405, f"This URL takes {method} only.", headers=(("allow", method),))


def _check_context(ask: Ask, context: int) -> None:
    if ask.prompt_tokens > context:
        raise Refused(
            400,
            f"This model's maximum context length is {context} tokens. However, your messages resulted in "
            f"{ask.prompt_tokens} tokens.",
            code="context_length_exceeded",
            param="messages",
        )
