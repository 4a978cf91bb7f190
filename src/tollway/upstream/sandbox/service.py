"""The sandbox's routes: the dialects it speaks, its models, and the truth about what it received."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from typing import Final

from tollway.upstream.sandbox import models
from tollway.upstream.sandbox.ask import Ask, Refused
from tollway.upstream.sandbox.faults import perform
from tollway.upstream.sandbox.memory import Memory
from tollway.upstream.sandbox.minds import think
from tollway.upstream.sandbox.mouths.base import Mouth, Saying, Stamp
from tollway.upstream.sandbox.mouths.openai_chat.mouth import OpenAIChat
from tollway.upstream.sandbox.records import Record, Records
from tollway.upstream.sandbox.request import Request
from tollway.upstream.sandbox.scene import Scene
from tollway.upstream.sandbox.steps import JSON, Steps, json_response, whole

BAD_KEY: Final = "sandbox-bad-key"
"""The only key that is not accepted."""
EPOCH: Final = 1_735_689_600
"""Where invented times start: 1 January 2025, UTC."""
_YEAR: Final = 31_536_000

_INSPECTED: Final = {"/sandbox/stats": "GET", "/sandbox/last": "GET", "/sandbox/reset": "POST"}
_MOUTHS: Final[dict[str, Mouth]] = {"/chat/completions": OpenAIChat()}
"""Paths by their end, so that any prefix serves as a base URL."""


class Service:
    """Answers requests. `clock` gives Unix seconds for `created`; without it times are invented from the request.

    `inspect`: whether /sandbox/* is served; it shows the last request to anybody who can connect.
    """

    def __init__(self, clock: Callable[[], float] | None, *, inspect: bool) -> None:
        self.records = Records()
        self._memory = Memory()
        self._clock = clock
        self._inspect = inspect

    def receive(self, request: Request) -> Record | None:
        """Take note of a request that has arrived; a record if it asks for an answer of a model."""
        if request.method != "POST" or _mouth(request.path) is None:
            return None
        if self._inspect:
            self.records.remember(request)
        return self.records.open(request)

    def respond(self, request: Request, record: Record | None) -> Steps:
        """The steps of the answer. All heavy work is done when this returns, so it may run on a thread."""
        mouth = _mouth(request.path)
        try:
            if request.fault is not None:
                raise request.fault
            if mouth is None:
                return self._plain(request)
            if record is None:
                raise _wrong_method("POST")
            return self._answer(mouth, request, record)
        except Refused as error:
            body = (mouth or _MOUTHS["/chat/completions"]).refuse(error)
            return whole(error.status, (*JSON, *error.headers), body)

    def _answer(self, mouth: Mouth, request: Request, record: Record) -> Steps:
        _check_key(request)
        if request.headers.get("content-encoding", "identity") != "identity":
            raise Refused(415, "Compressed request bodies are not supported.")
        ask = mouth.read(request.body)
        record.model = ask.model[:128]
        record.streamed = ask.streamed
        found = models.find(ask.model)
        if found is None:
            text = f"The model `{ask.model[:128]}` does not exist or you do not have access to it."
            raise Refused(404, text, code="model_not_found", param="model")
        record.prompt_tokens = ask.prompt_tokens
        _check_context(ask, found.model.context)
        behaviour = models.behaviour(found)
        return perform(
            Scene(
                mouth=mouth,
                saying=Saying(
                    ask=ask,
                    choices=think(ask, found),
                    stamp=self._stamp(request.body),
                    model=ask.model,
                    cached=self._memory.cached_tokens(ask) if behaviour == "sandbox-cache" else None,
                ),
                behaviour=behaviour,
                numbers=found.numbers,
                authorization=request.headers.get("authorization", ""),
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
        if path.endswith("/models"):
            _check_key(request)
            _check_method(request, "GET")
            return json_response({"object": "list", "data": [_described(model) for model in models.MODELS]})
        before, found, name = path.rpartition("/models/")
        if found and name and not before.endswith("/models"):
            _check_key(request)
            _check_method(request, "GET")
            known = models.find(name)
            if known is None:
                raise Refused(
                    404, f"The model '{name[:128]}' does not exist.", code="model_not_found", param="model"
                )
            return json_response(_described(known.model))
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


def _mouth(path: str) -> Mouth | None:
    return next((mouth for end, mouth in _MOUTHS.items() if path.endswith(end)), None)


def _described(model: models.SandboxModel) -> dict[str, object]:
    return {"id": model.id, "object": "model", "created": EPOCH, "owned_by": "tollway-sandbox"}


def _check_key(request: Request) -> None:
    if request.headers.get("authorization", "").removeprefix("Bearer ") == BAD_KEY:
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
