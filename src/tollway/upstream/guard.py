"""Fetches what users' URLs lead to, and nothing inside: images to inline, results to keep, callbacks to deliver.

    guard_urls.py   a URL read, once and strictly        guard_rules.py  whom it may lead to
    guard_names.py  names resolved apart from others     guard_dial.py   addresses vetted when they are dialled

Each request has a connection of its own. Nothing is decoded, no cookie is kept, no credential and no
proxy of the environment is used. Only `get` and `open` follow redirects, each as if a user had given it.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Final, cast

import httpcore
from msgspec import Struct

from tollway import __version__
from tollway.config import Settings
from tollway.upstream.dial import default_tls
from tollway.upstream.guard_dial import Backend, Dial, Resolve, dial
from tollway.upstream.guard_faults import FetchFault
from tollway.upstream.guard_names import Names
from tollway.upstream.guard_rules import Rules, refuse_place, rules_of
from tollway.upstream.guard_urls import Place, joined, read_url

REDIRECTS_MAX: Final = 3
AT_ONCE: Final = 64
"""Fetches under way in a process; more wait within their own time."""
_OURS: Final = frozenset(
    (b"host", b"content-length", b"transfer-encoding", b"accept-encoding", b"connection")
)
_REDIRECTS: Final = frozenset((301, 302, 303, 307, 308))
_UNTOLD: Final = frozenset(("", "application/octet-stream", "binary/octet-stream"))
"""Content types that say nothing, so that they cannot be wrong."""
_BROKEN: Final = (httpcore.NetworkError, httpcore.ProtocolError, OSError)
_FRAMING_SLACK: Final = 64 * 1024

Headers = tuple[tuple[bytes, bytes], ...]


class Limits(Struct, frozen=True, kw_only=True):
    """What a fetch may cost. `bytes`: of the body. `timeout`: seconds for everything. `secure`: https only.

    `accept`: content types wanted, like `application/pdf` or `image/*`; none means any.
    """

    bytes: int
    timeout: float
    secure: bool = False
    accept: tuple[str, ...] = ()


class Fetched(Struct, frozen=True, kw_only=True):
    """An answer. `headers` have lower-case names. `cut`: `body` is not all of it."""

    status: int
    headers: Headers
    body: bytes
    cut: bool = False

    def header(self, name: bytes) -> bytes | None:
        """The first value of a header, by its lower-case name."""
        return next((value for known, value in self.headers if known == name), None)

    @property
    def content_type(self) -> str:
        """The media type in lower case without parameters, or ""."""
        return _content_type(self.header(b"content-type"))


class Opened:
    """An answer whose head has arrived; its body is pulled."""

    def __init__(
        self, connection: httpcore.AsyncHTTPConnection, response: httpcore.Response, host: str, until: float
    ) -> None:
        self.status = response.status
        self.headers: Headers = tuple((name.lower(), value) for name, value in response.headers)
        self.host = host
        self._connection = connection
        self._until = until
        self._body = cast("AsyncGenerator[bytes, None]", aiter(response.stream))  # type: ignore[arg-type]

    def header(self, name: bytes) -> bytes | None:
        """The first value of a header, by its lower-case name."""
        return next((value for known, value in self.headers if known == name), None)

    @property
    def content_type(self) -> str:
        """The media type in lower case without parameters, or ""."""
        return _content_type(self.header(b"content-type"))

    @property
    def length(self) -> int | None:
        """The size the body is said to have."""
        value = self.header(b"content-length")
        return int(value) if value is not None and value.isdigit() else None

    async def read_some(self) -> bytes:
        """The next piece of the body; b"" at its proper end. Raises FetchFault, kind timeout or protocol."""
        try:
            async with asyncio.timeout_at(self._until):
                return await anext(self._body, b"")
        except TimeoutError:
            raise FetchFault("timeout", f"{self.host} took too long to send its answer") from None
        except _BROKEN as error:
            raise FetchFault("protocol", f"{self.host} broke off its answer") from error

    async def close(self) -> None:
        """Cut the connection."""
        try:
            await self._body.aclose()
        finally:
            await self._connection.aclose()


class Guard:
    """The guarded client. Used from one event loop.

    `resolve`, `dial` and `tls` replace the system's resolver, network and trust; what they return is
    vetted all the same.
    """

    def __init__(
        self,
        rules: Rules,
        *,
        resolve: Resolve | None = None,
        dial: Dial = dial,
        tls: ssl.SSLContext | None = None,
        at_once: int = AT_ONCE,
    ) -> None:
        self._rules = rules
        self._resolve = resolve or Names().addresses
        self._dial = dial
        self._tls = tls
        self._places = asyncio.Semaphore(at_once)
        self.usual = Limits(bytes=rules.bytes_max, timeout=rules.timeout)

    @classmethod
    def of(cls, settings: Settings) -> Guard:
        """The guard the settings ask for. Raises BadSettings."""
        return cls(rules_of(settings))

    def check(self, url: str, *, secure: bool = False) -> None:
        """Refuse a URL that could never be fetched, without asking the network. Raises FetchFault."""
        self._admitted(url, secure=secure)

    async def get(self, url: str, limits: Limits | None = None) -> Fetched:
        """What a URL leads to, whole. Raises FetchFault unless it is a 200 within the limits."""
        limits = limits or self.usual
        async with self.open(url, limits) as opened:
            body = bytearray()
            while data := await opened.read_some():
                body += data
                if len(body) > limits.bytes:
                    raise _too_large(opened.host, limits.bytes)
            return Fetched(status=opened.status, headers=opened.headers, body=bytes(body))

    @asynccontextmanager
    async def open(self, url: str, limits: Limits | None = None) -> AsyncIterator[Opened]:
        """What a URL leads to, to be read piece by piece. Raises FetchFault unless it is a 200 of a wanted type.

        A body that says it is larger than the limit is refused; to count one that does not is the reader's part.
        """
        limits = limits or self.usual
        place = self._admitted(url, secure=limits.secure)
        headers = ((b"accept", (", ".join(limits.accept) or "*/*").encode()),)
        async with self._turn(limits) as until:
            for _ in range(REDIRECTS_MAX + 1):
                opened = await self._send(place, (b"GET", headers, b""), limits, until)
                try:
                    if opened.status not in _REDIRECTS:
                        _check(opened, limits)
                        yield opened
                        return
                finally:
                    await opened.close()
                place = self._next(place, opened, limits)
        raise FetchFault("redirect", f"the URL redirects more than {REDIRECTS_MAX} times")

    async def post(self, url: str, headers: Headers, body: bytes, limits: Limits | None = None) -> Fetched:
        """Deliver a body once and return the answer, whatever its status; no redirect is followed.

        The answer's body is cut at the limit, and where it breaks off: the status has said what matters.
        Raises FetchFault, and ValueError for a header that is not the caller's to set.
        """
        limits = limits or self.usual
        if any(name.lower() in _OURS for name, _ in headers):
            raise ValueError("a header of the connection is not the caller's to set")
        place = self._admitted(url, secure=limits.secure)
        async with self._turn(limits) as until:
            opened = await self._send(place, (b"POST", headers, body), limits, until)
            try:
                body, cut = await _beginning(opened, limits.bytes)
            finally:
                await opened.close()
        return Fetched(status=opened.status, headers=opened.headers, body=body, cut=cut)

    def _admitted(self, url: str, *, secure: bool) -> Place:
        place = read_url(url)
        refuse_place(self._rules, place, secure=secure)
        return place

    def _next(self, place: Place, opened: Opened, limits: Limits) -> Place:
        location = opened.header(b"location")
        if location is None:
            raise FetchFault("redirect", f"{place.host} redirects without saying where")
        found = self._admitted(joined(place, location), secure=limits.secure)
        if place.scheme == "https" and found.scheme == "http":
            raise FetchFault("redirect", f"{place.host} redirects from https to http")
        return found

    @asynccontextmanager
    async def _turn(self, limits: Limits) -> AsyncIterator[float]:
        """A place among the fetches under way; yields the loop time by which this one must be done."""
        until = asyncio.get_running_loop().time() + limits.timeout
        try:
            async with asyncio.timeout_at(until):
                await self._places.acquire()
        except TimeoutError:
            raise FetchFault("busy", "the gateway is fetching too much at the moment") from None
        try:
            yield until
        finally:
            self._places.release()

    async def _send(
        self, place: Place, asked: tuple[bytes, Headers, bytes], limits: Limits, until: float
    ) -> Opened:
        backend = Backend(self._rules, self._resolve, self._dial)
        origin = httpcore.Origin(place.scheme.encode(), place.host.encode(), place.port)
        context = self._context() if place.scheme == "https" else None
        connection = httpcore.AsyncHTTPConnection(origin, context, network_backend=backend)
        try:
            async with asyncio.timeout_at(until):
                response = await connection.handle_async_request(_request(place, *asked))
        except BaseException as error:
            # The library closes what it knows, and it knows no connection before TLS stands.
            if backend.line is not None:
                await backend.line.aclose()
            fault = _fault(place.host, error)
            if fault is None:
                raise
            # Of a host inside, nobody learns more than that it did not answer.
            if not backend.public:
                fault = FetchFault("unreachable", f"{place.host} could not be reached")
            raise fault from error
        if backend.line is not None:
            backend.line.left = 2 * limits.bytes + _FRAMING_SLACK
        return Opened(connection, response, place.host, until)

    def _context(self) -> ssl.SSLContext:
        if self._tls is None:
            self._tls = default_tls()
        return self._tls


def _request(place: Place, method: bytes, headers: Headers, body: bytes) -> httpcore.Request:
    url = httpcore.URL(
        scheme=place.scheme.encode(), host=place.host.encode(), port=place.port, target=place.target.encode()
    )
    own = [
        (b"host", place.authority.encode()),
        (b"user-agent", f"tollway/{__version__}".encode()),
        (b"accept-encoding", b"identity"),
        (b"connection", b"close"),
        *([(b"content-length", b"%d" % len(body))] if method == b"POST" else []),
    ]
    # The caller's own user agent comes last and is not sent twice.
    named = {name.lower() for name, _ in headers}
    return httpcore.Request(
        method, url, headers=[*(one for one in own if one[0] not in named), *headers], content=body
    )


async def _beginning(opened: Opened, limit: int) -> tuple[bytes, bool]:
    """Up to `limit` bytes of a body, and whether that is not all of it."""
    found = bytearray()
    try:
        while len(found) <= limit and (data := await opened.read_some()):
            found += data
    except FetchFault:
        return bytes(found[:limit]), True
    return bytes(found[:limit]), len(found) > limit


def _check(opened: Opened, limits: Limits) -> None:
    """Refuse an answer by its head. Raises FetchFault."""
    if opened.status != 200:
        raise FetchFault(
            "status", f"{opened.host} answered with status {opened.status}", status=opened.status
        )
    coding = (opened.header(b"content-encoding") or b"").strip().lower()
    if coding not in (b"", b"identity"):
        raise FetchFault("encoded", f"{opened.host} sent a compressed body although none was asked for")
    if opened.length is not None and opened.length > limits.bytes:
        raise _too_large(opened.host, limits.bytes)
    kind = opened.content_type
    if limits.accept and kind not in _UNTOLD and not any(_matches(kind, wanted) for wanted in limits.accept):
        raise FetchFault(
            "wrong_type", f"{opened.host} answered with {kind}, where {' or '.join(limits.accept)} is wanted"
        )


def _fault(host: str, error: BaseException) -> FetchFault | None:
    """What a failure before the answer is to the caller; None if it is none of the fetch's own."""
    if isinstance(error, FetchFault):
        return error
    if isinstance(error, TimeoutError | httpcore.TimeoutException):
        return FetchFault("timeout", f"{host} took too long to answer")
    if isinstance(error, _BROKEN):
        return FetchFault("protocol", f"{host} did not answer in HTTP")
    return None


def _too_large(host: str, limit: int) -> FetchFault:
    return FetchFault("too_large", f"what {host} sends is larger than {limit} bytes")


def _content_type(value: bytes | None) -> str:
    kind = (value or b"").partition(b";")[0].strip().lower().decode("ascii", "replace")
    return kind if kind.isprintable() and len(kind) <= 100 else "something unnamed"


def _matches(kind: str, wanted: str) -> bool:
    return kind == wanted or (wanted.endswith("/*") and kind.startswith(wanted[:-1]))
