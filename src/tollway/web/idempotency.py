"""The Idempotency-Key header: what may be in it, and which request it stands for."""

from __future__ import annotations

import hashlib
import re
from typing import Final

import msgspec

from tollway.core.dialects.asked import Asked
from tollway.core.errors import GatewayError
from tollway.core.json import decode
from tollway.flows.call import Call
from tollway.flows.idempotency import KEEP_MS
from tollway.store.base import Claim
from tollway.web.request import Request

HEADER: Final = b"idempotency-key"
_KEY: Final = re.compile(rb"[\x21-\x7e]{1,255}")
_canonical: Final = msgspec.json.Encoder(order="sorted").encode


def check_idempotency_key(value: bytes | None) -> None:
    """Refuse a key that could not be stored as it is. Raises GatewayError (invalid_header)."""
    if value is not None and not _KEY.fullmatch(value):
        raise GatewayError(
            "invalid_header",
            "The Idempotency-Key must be 1 to 255 printable ASCII characters without spaces.",
            param="Idempotency-Key",
        )


def claim_of(request: Request, call: Call, asked: Asked) -> Claim | None:
    """The claim a request makes by its header, None without one.

    The scope is the API key, the method and the route; what the path names (a Gemini model) counts
    as part of the body.
    """
    name = request.header(HEADER)
    if name is None:
        return None
    return Claim(
        key_id=call.key.id,
        route=f"{request.scope['method']} {_template(request)}",
        name=name.decode("ascii"),
        fingerprint=_fingerprint(asked, request),
        expires_at=call.created_at + KEEP_MS,
    )


def _template(request: Request) -> str:
    path = request.path
    for name, value in request.params.items():
        path = path.replace(value, f"{{{name}}}", 1)
    return path


def _fingerprint(asked: Asked, request: Request) -> str:
    """A digest of all that decides the answer, however its JSON was written."""
    said = {
        "body": decode(asked.body(asked.model, None)),
        "echo": asked.echo,
        "path": request.params,
        "stream": asked.stream,
        "array": asked.array,
        "usage": asked.include_usage,
        "version": asked.version,
    }
    return hashlib.sha256(_canonical(said)).hexdigest()
