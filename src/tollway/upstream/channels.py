"""From a channel row to the requests it is sent: origin, path, headers, deadlines, authorisation.

The only code that opens a channel's credential. Endpoints are built once per catalogue and hold the
credential in the headers they send; their repr shows none of it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, Literal, cast, get_args
from urllib.parse import urlsplit

from msgspec.structs import replace

from tollway import __version__
from tollway.config import Settings
from tollway.core.exchange import DialectName
from tollway.core.routing.models import Channel
from tollway.core.routing.targets import mending
from tollway.upstream.platforms import azure, bedrock, plain, vertex
from tollway.upstream.platforms.access import AccessTokens, Nowhere
from tollway.upstream.platforms.base import Authorise, Headers, Platform, Sort, Unwrap
from tollway.upstream.platforms.mends import Mend, mend_for
from tollway.upstream.presets import quirks_of
from tollway.upstream.transport import Deadlines, Origin, UpstreamRequest
from tollway.upstream.wire import Form

SANDBOX_URL: Final = "sandbox:"
"""The base URL of a channel that is served by this process's own sandbox provider."""

SCOPE: Final = "scope"
"""The channel option that keeps an account's scope when its credential has been replaced."""

DIALECTS: Final[tuple[DialectName, ...]] = get_args(DialectName)

PASSED: Final[dict[DialectName, frozenset[bytes]]] = {
    "openai_chat": frozenset((b"openai-beta",)),
    "openai_responses": frozenset((b"openai-beta",)),
    "anthropic": frozenset((b"anthropic-version", b"anthropic-beta")),
    "gemini": frozenset(),
}
"""The headers of a client that an upstream of its own dialect may be sent."""

PASSED_MAX: Final = 4096
"""Bytes of one passed header at most; a longer one stays behind."""

FORMS_MAX: Final = 256
"""How many kinds of request an endpoint keeps prepared; the oldest makes room."""

SECRET_MIN: Final = 4
"""Shorter credentials are not looked for in an upstream's words: they would be found everywhere."""

_SANDBOX_ROOTS: Final[dict[DialectName, str]] = {
    "openai_chat": "/v1",
    "openai_responses": "/v1",
    "anthropic": "/v1",
    "gemini": "/v1beta",
}
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}
_REQUEST_ID: Final = b"x-request-id"
_AGENT: Final = f"tollway/{__version__}".encode()
_JSON: Final = (b"accept", b"application/json")


class Endpoint:
    """A channel made ready to send to. Immutable by habit; one per channel and catalogue.

    `scope` names the account behind the channel, see `scope_text`. Where `authorise` is not None,
    every request goes through it before it is sent. Raises ValueError for an address or a credential
    that cannot be written into a request.
    """

    __slots__ = (
        "_common",
        "_fixed",
        "_forms",
        "_mends",
        "_path",
        "_platform",
        "authorise",
        "channel",
        "deadlines",
        "dialect",
        "origin",
        "scope",
        "stream_deadlines",
    )

    def __init__(
        self,
        channel: Channel,
        secret: str | None,
        settings: Settings,
        sandbox: Origin | None,
        scope: str = "",
        *,
        tokens: AccessTokens | None = None,
    ) -> None:
        self.channel = channel
        self.dialect: Final = _dialect(channel)
        self.scope = scope
        self.origin, self._path = _locate(channel, self.dialect, sandbox)
        self.deadlines = _deadlines(channel, settings, settings.total_timeout)
        self.stream_deadlines = _deadlines(channel, settings, settings.stream_timeout)
        self._platform = _platform(channel, self.dialect, secret, tokens)
        self.authorise: Authorise | None = self._platform.authorise
        self._common = (
            (b"content-type", b"application/json"),
            (b"user-agent", _AGENT),
            *_with_own(channel, self._platform.headers),
        )
        self._forms: dict[Sort, Form] = {}
        self._mends: dict[str, Mend | None] = {}
        # What no request may hold is refused here and not at the first call.
        Form(self.origin, self._path or "/", self._common, _REQUEST_ID, self.deadlines)
        self._fixed = self._prepared()

    def _prepared(self) -> tuple[Form, Form] | None:
        """The forms of the busiest call, whole and streamed, where nothing but the body differs."""
        if self._platform.model_in_path or self._platform.rewrite or self.authorise:
            return None
        whole, streamed = self._form(Sort("text")), self._form(Sort("text", stream=True))
        return None if whole is None or streamed is None else (whole, streamed)

    def text(
        self, body: bytes, request_id: str, *, model: str, stream: bool, passed: Headers = ()
    ) -> UpstreamRequest:
        """The text call of the channel's dialect.

        `passed`: headers of a client that speaks the channel's dialect; what PASSED does not name
        stays behind. Raises ValueError for a `request_id` that is not printable ASCII, and for a
        `model` that no path can hold.
        """
        mend = self._mends[model] if model in self._mends else self._mend(model)
        if mend is not None:
            body = mend(body)
        fixed = self._fixed
        if fixed is not None and not passed:
            return fixed[stream].request(request_id, body)
        request = self._request(Sort("text", model, stream, self._vetted(passed)), body, request_id)
        assert request is not None, "every platform has a text call"
        return request

    def count(
        self, body: bytes, request_id: str, *, model: str, passed: Headers = ()
    ) -> UpstreamRequest | None:
        """The dialect's count of input tokens; None where there is no such call."""
        return self._request(Sort("count", model, passed=self._vetted(passed)), body, request_id)

    def embeddings(
        self, body: bytes, request_id: str, *, model: str, batch: bool = False
    ) -> UpstreamRequest | None:
        """The dialect's embeddings; `batch`: in the form for several texts, where that is another one."""
        return self._request(Sort("embed_batch" if batch else "embed", model), body, request_id)

    def completions(
        self, body: bytes, request_id: str, *, stream: bool, model: str = ""
    ) -> UpstreamRequest | None:
        """OpenAI's legacy completions; None elsewhere. `model` is needed where paths name it (Azure)."""
        if self._platform.model_in_path and not model:
            return None
        return self._request(Sort("complete", model, stream), body, request_id)

    def models(self, request_id: str) -> UpstreamRequest | None:
        """The list of the upstream's models; None where it has none."""
        target = self._platform.target(Sort("list"))
        if target is None:
            return None
        return UpstreamRequest(
            origin=self.origin,
            method="GET",
            target=self._path + target,
            headers=(*self._common, _JSON, (_REQUEST_ID, request_id.encode())),
            body=b"",
            deadlines=self.deadlines,
        )

    def unwrapper(self, response_content_type: bytes, *, stream: bool) -> Unwrap | None:
        """A decoder of a stream in the platform's own framing; None where the bytes are the dialect's.

        Feed it every chunk in order; it raises BadAnswer for what was damaged on the way.
        """
        unwrap = self._platform.unwrap
        if unwrap is None or not stream or b"eventstream" not in response_content_type:
            return None
        return unwrap()

    def scrub(self, text: str) -> str:
        """An upstream's words without this channel's credentials."""
        for secret in self._platform.secrets:
            if len(secret) >= SECRET_MIN:
                text = text.replace(secret, "[redacted]")
        return text

    def _mend(self, model: str) -> Mend | None:
        if len(self._mends) >= FORMS_MAX:
            self._mends.clear()
        quirks = mending(self.channel, model, quirks_of(self.channel))
        mend = self._mends[model] = mend_for(self.dialect, quirks)
        return mend

    def _request(self, sort: Sort, body: bytes, request_id: str) -> UpstreamRequest | None:
        form = self._form(sort)
        if form is None:
            return None
        if self._platform.rewrite is not None:
            body = self._platform.rewrite(sort, body)
        request = form.request(request_id, body)
        if self.authorise is not None:
            # Its head can only be written when it has been authorised.
            headers = (*request.headers, (_REQUEST_ID, request_id.encode()))
            request = replace(request, headers=headers, head=b"")
        return request

    def _form(self, sort: Sort) -> Form | None:
        if not self._platform.model_in_path:
            sort = sort._replace(model="")
        form = self._forms.get(sort)
        if form is None:
            target = self._platform.target(sort)
            if target is None:
                return None
            headers = (
                *self._headers(sort),
                (b"accept", self._platform.accept_stream) if sort.stream else _JSON,
            )
            deadlines = self.stream_deadlines if sort.stream else self.deadlines
            # Whoever asks for a stream looks at the time to its first word.
            together = not sort.stream
            form = Form(self.origin, self._path + target, headers, _REQUEST_ID, deadlines, together=together)
            if len(self._forms) >= FORMS_MAX:
                del self._forms[next(iter(self._forms))]
            self._forms[sort] = form
        return form

    def _headers(self, sort: Sort) -> Headers:
        allowed = self._platform.passes
        passed = tuple(pair for pair in sort.passed if allowed is None or pair[0] in allowed)
        if not passed:
            return self._common
        names = {name for name, _ in passed}
        return (*(pair for pair in self._common if pair[0] not in names), *passed)

    def _vetted(self, passed: Headers) -> Headers:
        known = PASSED[self.dialect]
        return tuple((name, value) for name, value in passed if name in known and _sendable(value))

    def __repr__(self) -> str:
        return f"Endpoint({self.channel.name!r}, {self.origin.scheme}://{self.origin.host}:{self.origin.port}{self._path})"


def scope_text(channel: Channel, secret: str | None) -> str:
    """What names the account behind a channel, to be hashed with a key: where it is, and whose credential.

    Channels of one account have one, whatever they are called.
    """
    if channel.base_url.startswith(SANDBOX_URL):
        return SANDBOX_URL
    parts = urlsplit(channel.base_url)
    return f"{parts.scheme}://{parts.netloc}".lower() + f"\n{secret or ''}"


def check(channel: Channel, secret: str | None, models: Iterable[str] = ()) -> None:
    """Raises ValueError where requests for these upstream models cannot be written, whatever the reason."""
    here = Origin("http", "127.0.0.1", 1)
    tokens = AccessTokens(Nowhere(), lambda: 0)
    endpoint = Endpoint(channel, secret, Settings(), here, tokens=tokens)
    for model in models:
        for stream in (False, True):
            endpoint.text(b"{}", "check", model=model, stream=stream)


def _sendable(value: bytes) -> bool:
    return 0 < len(value) <= PASSED_MAX and value.isascii() and value.decode().isprintable()


def _dialect(channel: Channel) -> DialectName:
    for known in DIALECTS:
        if channel.dialect == known:
            return known
    raise ValueError(
        f"channel {channel.name!r} has the dialect {channel.dialect!r}, which nobody here speaks"
    )


def _platform(
    channel: Channel, dialect: DialectName, secret: str | None, tokens: AccessTokens | None
) -> Platform:
    match channel.options.get("platform") or "":
        case "":
            return plain.platform(dialect, secret)
        case "azure":
            return azure.platform(channel, dialect, secret)
        case "vertex":
            return vertex.platform(channel, dialect, secret, tokens)
        case "bedrock":
            return bedrock.platform(channel, dialect, secret)
        case other:
            raise ValueError(
                f"channel {channel.name!r} is on the platform {other!r}, which nobody here knows"
            )


def _locate(channel: Channel, dialect: DialectName, sandbox: Origin | None) -> tuple[Origin, str]:
    if channel.base_url.startswith(SANDBOX_URL):
        if sandbox is None:
            raise ValueError(f"channel {channel.name!r} needs the sandbox provider, which is not running")
        return sandbox, _SANDBOX_ROOTS[dialect]
    parts = urlsplit(channel.base_url)
    if parts.scheme not in _DEFAULT_PORTS or not parts.hostname:
        raise ValueError(
            f"channel {channel.name!r} has the base URL {channel.base_url!r}, which is no http(s) URL"
        )
    scheme = cast("Literal['http', 'https']", parts.scheme)
    return Origin(scheme, parts.hostname, parts.port or _DEFAULT_PORTS[scheme]), parts.path.rstrip("/")


def _with_own(channel: Channel, usual: Headers) -> Headers:
    """The usual headers and those an operator set, which may replace a usual one."""
    given = channel.options.get("headers")
    if not isinstance(given, dict):
        return usual
    own = tuple((name.lower().encode(), str(value).encode()) for name, value in given.items())
    names = {name for name, _ in own}
    return (*(pair for pair in usual if pair[0] not in names), *own)


def _deadlines(channel: Channel, settings: Settings, total: float) -> Deadlines:
    def seconds(name: str, default: float) -> float:
        value = channel.options.get(name)
        return float(value) if isinstance(value, int | float) else default

    return Deadlines(
        connect=seconds("connect_timeout", settings.connect_timeout),
        first_byte=seconds("first_byte_timeout", settings.first_byte_timeout),
        idle=seconds("idle_timeout", settings.idle_timeout),
        total=seconds("total_timeout", total),
    )
