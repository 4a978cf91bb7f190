"""The Messages mouths: answers and token counts, behind the Mouth protocol."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any, Final

from msgspec.structs import replace

from tollway.core.json import encode
from tollway.upstream.sandbox.ask import Ask, Refused
from tollway.upstream.sandbox.mouths.anthropic import quirks, read, write
from tollway.upstream.sandbox.mouths.base import Frame, Refusal, Saying, Work
from tollway.upstream.sandbox.mouths.frames import nothing
from tollway.upstream.sandbox.request import Request
from tollway.upstream.sandbox.signing import Signer
from tollway.upstream.sandbox.steps import JSON

_TYPES: Final = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    409: "conflict_error",
    413: "request_too_large",
    429: "rate_limit_error",
    504: "timeout_error",
    529: "overloaded_error",
}
# The statuses Anthropic has of its own for what others say with a code.
_STATUSES: Final = {"insufficient_quota": 402, "server_is_overloaded": 529}
_PADDING: Final = 16


class Anthropic:
    """Answers one request."""

    work: Work = "chat"
    id_header = "request-id"
    events = True

    def __init__(self, request: Request, signer: Signer) -> None:
        self._signer = signer
        self._name = hashlib.blake2b(request.body, digest_size=12).hexdigest()

    def read(self, request: Request) -> Ask:
        return read.read(request, self._signer)

    def stream(self, saying: Saying, quirk: str) -> Iterator[Frame]:
        frames = write.stream(saying, self._signer)
        odd = quirks.QUIRKS.get(quirk)
        return odd(saying, frames) if odd else frames

    def whole(self, saying: Saying, quirk: str) -> Frame:
        frame = write.whole(saying, self._signer)
        odd = quirks.QUIRKS.get(quirk)
        return list(odd(saying, iter((frame,))))[-1] if odd else frame

    def failed_stream(self, saying: Saying, error: Refused) -> Iterator[Frame]:  # noqa: ARG002 - the protocol's
        yield Frame("error", self._envelope(error))

    def failed_whole(self, saying: Saying, error: Refused) -> Frame:  # noqa: ARG002 - the protocol's
        return Frame("error", self._envelope(error))

    def encode(self, frame: Frame) -> bytes:
        """An event; Anthropic pads its lines with spaces, so that their length tells nothing."""
        payload = frame.payload or {}
        body = encode(payload)
        name = str(payload.get("type", "")).encode()
        return b"event: " + name + b"\ndata: " + body + b" " * (-len(body) % _PADDING) + b"\n\n"

    def refuse(self, error: Refused) -> Refusal:
        return Refusal(_status(error), (*JSON, *error.headers), encode(self._envelope(error)))

    def _envelope(self, error: Refused) -> dict[str, Any]:
        status = _status(error)
        kind = _TYPES.get(status, "api_error" if status >= 500 else "invalid_request_error")
        message = error.message
        if error.code == "model_not_found" and error.param == "model":
            message = f"model: {message}"
        if error.code == "context_length_exceeded":
            message = f"prompt is too long: {message}"
        inner = {"type": kind, "message": message}
        return {"type": "error", "error": inner, "request_id": f"req_{self._name}"}


class AnthropicCount(Anthropic):
    """Counts the tokens of one request."""

    work: Work = "count"

    def read(self, request: Request) -> Ask:
        return replace(read.read(request, self._signer, counting=True), streamed=False)

    def stream(self, saying: Saying, quirk: str) -> Iterator[Frame]:  # noqa: ARG002 - the protocol's
        return nothing()

    def whole(self, saying: Saying, quirk: str) -> Frame:  # noqa: ARG002 - the protocol's
        return Frame("whole", {"input_tokens": saying.ask.prompt_tokens})


def _status(error: Refused) -> int:
    return _STATUSES.get(error.code or "", error.status)
