"""Amazon Bedrock, for Anthropic's models: the model in the path, requests signed, streams in Amazon's framing.

A credential is an access key and its secret ("AKIA…:secret", with ":session token" where there is
one, or the same as JSON), by which every request is signed; anything else is a Bedrock API key.
"""

from __future__ import annotations

import re
from typing import Any, Final

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from tollway.core.exchange import DialectName
from tollway.core.json import decode, encode
from tollway.core.routing.models import Channel
from tollway.upstream.platforms.base import Authorise, Platform, Sort, extra, members, segment, text_option
from tollway.upstream.platforms.eventstream import EventStream
from tollway.upstream.transport import UpstreamRequest
from tollway.upstream.wire import host_header

VERSION: Final = "bedrock-2023-05-31"
SERVICE: Final = "bedrock"

_REGION: Final = re.compile(r"[a-z]{2}(-[a-z]+)+-\d")
_KEY_ID: Final = re.compile(r"A[A-Z0-9]{15,127}")
_PAIR: Final = re.compile(r"(A[A-Z0-9]{15,127}):([A-Za-z0-9/+=]{16,128})(?::(\S+))?")
_SIGNED: Final = frozenset((b"content-type", b"accept"))


class Keys(Struct, frozen=True):
    """What requests are signed with."""

    access_key: str
    secret_key: str
    session_token: str | None = None

    def __repr__(self) -> str:
        return f"Keys({self.access_key!r})"


def platform(channel: Channel, dialect: DialectName, secret: str | None) -> Platform:
    """A channel of Bedrock. Option: region, where the base URL does not tell it."""
    if dialect != "anthropic":
        raise ValueError(f"channel {channel.name!r}: on Bedrock only anthropic is spoken")
    if not secret:
        raise ValueError(f"channel {channel.name!r}: Bedrock wants a credential")
    keys = keys_of(secret)
    return Platform(
        target=_target,
        headers=() if keys else ((b"authorization", b"Bearer " + secret.encode()),),
        model_in_path=True,
        rewrite=_rewritten,
        authorise=_signer(keys, _region(channel)) if keys else None,
        passes=frozenset(),
        unwrap=EventStream,
        accept_stream=b"application/vnd.amazon.eventstream",
        secrets=tuple(
            one for one in (secret, *((keys.secret_key, keys.session_token) if keys else ())) if one
        ),
    )


def keys_of(secret: str) -> Keys | None:
    """The access key in a credential; None where it is an API key. Raises ValueError for half of one."""
    text = secret.strip()
    if not text.startswith("{"):
        pair = _PAIR.fullmatch(text)
        return Keys(*pair.groups()) if pair else None
    try:
        given: Any = decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise ValueError("the credential is not JSON") from None
    found = {name.lower().removeprefix("aws_").replace("_", ""): value for name, value in given.items()}
    access, key = found.get("accesskeyid"), found.get("secretaccesskey")
    token = found.get("sessiontoken") or None
    if not (type(access) is str and _KEY_ID.fullmatch(access) and type(key) is str and key):
        raise ValueError("the credential needs aws_access_key_id and aws_secret_access_key")
    if token is not None and type(token) is not str:
        raise ValueError("the credential's aws_session_token is no text")
    return Keys(access, key, token)


def _region(channel: Channel) -> str:
    given = text_option(channel, "region")
    found = given or next((one for one in channel.base_url.split(".") if _REGION.fullmatch(one)), "")
    if not _REGION.fullmatch(found):
        raise ValueError(f"channel {channel.name!r} needs the option region, such as us-east-1")
    return found


def _target(sort: Sort) -> str | None:
    if sort.verb != "text":
        return None
    verb = "invoke-with-response-stream" if sort.stream else "invoke"
    return f"/model/{segment(sort.model)}/{verb}"


def _rewritten(sort: Sort, body: bytes) -> bytes:
    """Model and stream are in the path, the version and the betas in the body."""
    found = members(body)
    found.pop("model", None)
    found.pop("stream", None)
    found["anthropic_version"] = VERSION
    betas = [
        one.strip()
        for name, value in sort.passed
        if name == b"anthropic-beta"
        for one in value.decode().split(",")
    ]
    if betas:
        found["anthropic_beta"] = list(dict.fromkeys(one for one in betas if one))
    return encode(found)


def _signer(keys: Keys, region: str) -> Authorise:
    auth, awsrequest = extra("botocore.auth", "bedrock"), extra("botocore.awsrequest", "bedrock")
    credentials = extra("botocore.credentials", "bedrock").ReadOnlyCredentials(
        keys.access_key, keys.secret_key, keys.session_token
    )
    signer = auth.SigV4Auth(credentials, SERVICE, region)

    async def sign(request: UpstreamRequest) -> UpstreamRequest:
        host = host_header(request.origin)
        url = f"{request.origin.scheme}://{host}{request.target}"
        signed = {name.decode(): value.decode() for name, value in request.headers if name in _SIGNED}
        asked = awsrequest.AWSRequest(
            method=request.method, url=url, data=request.body, headers={**signed, "host": host}
        )
        signer.add_auth(asked)
        added = tuple(
            (name.lower().encode(), value.encode())
            for name, value in asked.headers.items()
            if name.lower() not in signed and name.lower() != "host"
        )
        return replace(request, headers=(*request.headers, *added))

    return sign
