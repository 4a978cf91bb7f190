"""Google Vertex AI: Gemini, Anthropic's models and the Chat endpoint, by a service account's access tokens.

A credential is the JSON of a service account or of `gcloud auth application-default login`; anything
else is an API key.
"""

from __future__ import annotations

import asyncio
import re
from hashlib import sha256
from typing import Any, Final, cast
from urllib.parse import urlencode, urlsplit

import msgspec
from msgspec.structs import replace

from tollway.core.exchange import DialectName
from tollway.core.json import decode, encode
from tollway.core.routing.models import Channel
from tollway.upstream.platforms.access import PATIENCE, AccessTokens
from tollway.upstream.platforms.base import (
    Authorise,
    Headers,
    Platform,
    Sort,
    Target,
    extra,
    members,
    segment,
    text_option,
)
from tollway.upstream.transport import Origin, UpstreamRequest

VERSION: Final = "vertex-2023-10-16"
SCOPE: Final = "https://www.googleapis.com/auth/cloud-platform"
TOKEN_URI: Final = "https://oauth2.googleapis.com/token"  # noqa: S105 - an address
DIALECTS: Final[tuple[DialectName, ...]] = ("gemini", "anthropic", "openai_chat")
ASSERTION_SECONDS: Final = 3600

_PLACE: Final = re.compile(r"[a-z0-9][a-z0-9.:-]{0,62}")
_VERBS: Final = {"text": "generateContent", "count": "countTokens"}
_GRANT: Final = "urn:ietf:params:oauth:grant-type:jwt-bearer"
_GOOGLE: Final = ".googleapis.com"


def platform(
    channel: Channel, dialect: DialectName, secret: str | None, tokens: AccessTokens | None
) -> Platform:
    """A channel of Vertex AI. Options: project, location ("global" is one); both may be left out with an API key."""
    if dialect not in DIALECTS:
        raise ValueError(f"channel {channel.name!r}: Vertex AI does not speak {dialect}")
    if not secret:
        raise ValueError(f"channel {channel.name!r}: Vertex AI wants a credential")
    account = _account(secret)
    headers: Headers = () if account else ((b"x-goog-api-key", secret.encode()),)
    place = _place(channel, account)
    return Platform(
        target=_targets(dialect, place),
        headers=headers,
        model_in_path=dialect != "openai_chat",
        rewrite=_rewritten if dialect == "anthropic" else None,
        authorise=_authoriser(channel, account, tokens) if account else None,
        passes=frozenset((b"anthropic-beta",)),
        secrets=(secret, *_secrets(account)) if account else (secret,),
    )


def _account(secret: str) -> dict[str, Any] | None:
    if not secret.lstrip().startswith("{"):
        return None
    try:
        account: Any = decode(secret)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise ValueError("the credential is not JSON") from None
    wanted = {
        "service_account": ("client_email", "private_key"),
        "authorized_user": ("client_id", "client_secret", "refresh_token"),
    }.get(account.get("type"))
    if wanted is None:
        raise ValueError("the credential is neither of a service_account nor of an authorized_user")
    for name in wanted:
        if not (type(account.get(name)) is str and account[name]):
            raise ValueError(f"the credential has no {name}")
    return cast("dict[str, Any]", account)


def _secrets(account: dict[str, Any]) -> tuple[str, ...]:
    names = ("private_key", "client_secret", "refresh_token", "private_key_id")
    return tuple(account[name] for name in names if type(account.get(name)) is str)


def _place(channel: Channel, account: dict[str, Any] | None) -> str:
    """The part of a path that says whose models and where; "" for an API key that says it itself."""
    project = text_option(channel, "project") or str((account or {}).get("project_id") or "")
    location = text_option(channel, "location")
    if not project and not account:
        return ""
    for name, value in (("project", project), ("location", location)):
        if not _PLACE.fullmatch(value):
            raise ValueError(f"channel {channel.name!r} needs the option {name}")
    return f"/projects/{project}/locations/{location}"


def _targets(dialect: DialectName, place: str) -> Target:
    def gemini(sort: Sort) -> str | None:
        verb = _VERBS.get(sort.verb)
        if verb is None:
            return None
        if sort.verb == "text" and sort.stream:
            verb = "streamGenerateContent?alt=sse"
        return f"{place}/publishers/google/models/{segment(_bare(sort.model))}:{verb}"

    def anthropic(sort: Sort) -> str | None:
        models = f"{place}/publishers/anthropic/models"
        if sort.verb == "count":
            return f"{models}/count-tokens:rawPredict"
        if sort.verb != "text":
            return None
        return f"{models}/{segment(_bare(sort.model))}:{'streamRawPredict' if sort.stream else 'rawPredict'}"

    def chat(sort: Sort) -> str | None:
        return f"{place}/endpoints/openapi/chat/completions" if sort.verb == "text" else None

    return {"gemini": gemini, "anthropic": anthropic}.get(dialect, chat)


def _bare(model: str) -> str:
    """A model's name without the collection it is listed in."""
    return model.rpartition("/")[2] if model.startswith(("publishers/", "models/")) else model


def _rewritten(sort: Sort, body: bytes) -> bytes:
    """The version is in the body, the model only in a count."""
    found = members(body)
    found["anthropic_version"] = VERSION
    if sort.verb == "text":
        found.pop("model", None)
    else:
        found["model"] = _bare(sort.model)
    return encode(found)


def _authoriser(channel: Channel, account: dict[str, Any], tokens: AccessTokens | None) -> Authorise:
    if tokens is None:
        raise ValueError(f"channel {channel.name!r} cannot fetch access tokens here")
    origin, target = _token_endpoint(channel, str(account.get("token_uri") or TOKEN_URI))
    form = _service_form(account) if account["type"] == "service_account" else _user_form(account)
    kept = sha256(encode(account)).hexdigest()

    async def ask(now: int) -> UpstreamRequest:
        # Signing takes a millisecond or two of arithmetic, which no other call should wait for.
        fields = await asyncio.to_thread(form, now)
        return UpstreamRequest(
            origin=origin,
            method="POST",
            target=target,
            headers=(
                (b"content-type", b"application/x-www-form-urlencoded"),
                (b"accept", b"application/json"),
            ),
            body=urlencode(fields).encode(),
            deadlines=PATIENCE,
        )

    async def authorise(request: UpstreamRequest) -> UpstreamRequest:
        token = await tokens.get(kept, ask)
        return replace(request, headers=(*request.headers, (b"authorization", b"Bearer " + token.encode())))

    return authorise


def _token_endpoint(channel: Channel, uri: str) -> tuple[Origin, str]:
    """Where tokens come from. The credential names it, and is believed only where it names Google or the channel's own host."""
    parts = urlsplit(uri)
    own = urlsplit(channel.base_url)
    host = parts.hostname or ""
    google = parts.scheme == "https" and host.endswith(_GOOGLE) and parts.port in (None, 443)
    same = parts.scheme == own.scheme and host == own.hostname and parts.scheme in ("http", "https")
    if not (google or same) or "@" in parts.netloc:
        raise ValueError(
            f"channel {channel.name!r}: the credential names a token endpoint that is not Google's"
        )
    scheme: Any = parts.scheme
    port = parts.port or (443 if scheme == "https" else 80)
    return Origin(scheme, host, port), parts.path or "/"


def _service_form(account: dict[str, Any]) -> Any:
    crypt, jwt = extra("google.auth.crypt", "vertex"), extra("google.auth.jwt", "vertex")
    try:
        signer = crypt.RSASigner.from_service_account_info(account)
    except (ValueError, TypeError):
        raise ValueError("the credential's private_key is not a private key in PEM") from None

    def form(now: int) -> dict[str, str]:
        issued = now // 1000
        claims = {
            "iss": account["client_email"],
            "scope": SCOPE,
            "aud": str(account.get("token_uri") or TOKEN_URI),
            "iat": issued,
            "exp": issued + ASSERTION_SECONDS,
        }
        return {"grant_type": _GRANT, "assertion": jwt.encode(signer, claims).decode()}

    return form


def _user_form(account: dict[str, Any]) -> Any:
    names = ("client_id", "client_secret", "refresh_token")
    fields = {"grant_type": "refresh_token", **{name: account[name] for name in names}}
    return lambda _: fields
