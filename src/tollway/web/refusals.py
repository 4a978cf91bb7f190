"""How the server words a refusal that no route gets to word: headers, envelope, request id."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

from tollway.core import json
from tollway.core.errors import GatewayError, gateway_envelope, headers, openai_envelope
from tollway.web import envelopes
from tollway.web.head import ALLOW

Envelope = Callable[[GatewayError, str], dict[str, Any]]
"""From an error and its request id to the body of the answer."""


def envelope_for(path: str) -> Envelope:
    """The envelope that callers of a path read."""
    return openai_envelope if envelopes.envelope_for(path) == "openai" else gateway_envelope


def new_request_id() -> str:
    """A request id for a call that never reached a route."""
    return "req_" + secrets.token_hex(12)


def render(error: GatewayError, request_id: str, envelope: Envelope) -> tuple[bytes, bytes]:
    """Header block (without length and connection) and JSON body of a refusal."""
    block = b"content-type: application/json\r\nx-request-id: %b\r\n" % request_id.encode("ascii")
    for name, value in headers(error):
        block += b"%b: %b\r\n" % (name, value)
    if error.code == "method_not_allowed":
        block += b"allow: %b\r\n" % ALLOW
    return block, json.encode(envelope(error, request_id))


def whole_refusal(error: GatewayError, request_id: str, envelope: Envelope, date_block: bytes) -> bytes:
    """A refusal as it goes over the wire, announcing that the connection ends."""
    block, body = render(error, request_id, envelope)
    line = b"HTTP/1.1 %d %b\r\n" % (error.status, HTTPStatus(error.status).phrase.encode("ascii"))
    end = b"content-length: %d\r\nconnection: close\r\n\r\n" % len(body)
    return b"".join((line, date_block, block, end, body))
