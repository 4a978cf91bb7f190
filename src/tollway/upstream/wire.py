"""What an HTTP/1.1 request looks like on the wire, and which response heads are refused.

Everything here is a pure function of its arguments. Nothing is written to a connection before
`request_head` has accepted it, so a value that smuggles a line break never reaches an upstream.
"""

from __future__ import annotations

import string
from typing import Final, Literal

from tollway.upstream.transport import Deadlines, Origin, UpstreamRequest

HEAD_MAX: Final = 64 * 1024
"""Bytes a response may spend on its head, or on anything between two pieces of its body."""
HEADERS_MAX: Final = 200
INFORMATIONAL_MAX: Final = 16
"""How many 1xx responses may precede the real one."""

Framing = Literal["length", "chunked", "close"]
"""What ends a body: its length, its last chunk or the end of the connection."""

_TOKEN: Final = (string.ascii_letters + string.digits + "!#$%&'*+-.^_`|~").encode()
_HOST: Final = frozenset(string.ascii_letters + string.digits + "-._:%")
_DEFAULT_PORT: Final = {"http": 80, "https": 443}
_OURS: Final = frozenset(
    (
        b"host",
        b"content-length",
        b"transfer-encoding",
        b"accept-encoding",
        b"connection",
        b"keep-alive",
        b"proxy-connection",
        b"upgrade",
        b"te",
        b"trailer",
        b"expect",
    )
)
_USUALLY_EMPTY: Final = frozenset(("GET", "HEAD", "DELETE", "OPTIONS"))
_BODYLESS: Final = frozenset((204, 304))
_FRAMING: Final = frozenset((b"content-length", b"transfer-encoding", b"content-encoding"))

_known_names: set[bytes] = set()
_KNOWN_NAMES_MAX: Final = 1024


class Refused(Exception):
    """A response head we do not relay. `too_large` tells an oversized head from a malformed one."""

    def __init__(self, message: str, *, too_large: bool = False) -> None:
        super().__init__(message)
        self.message = message
        self.too_large = too_large


class Form:
    """The POST requests of one endpoint: what is the same in each is checked and written once.

    `varying` names the header whose value comes with each request, `together` is that of each request.
    Raises ValueError for anything unsafe to write.
    """

    __slots__ = ("_deadlines", "_headers", "_origin", "_start", "_target", "_together")

    def __init__(
        self,
        origin: Origin,
        target: str,
        headers: tuple[tuple[bytes, bytes], ...],
        varying: bytes,
        deadlines: Deadlines,
        *,
        together: bool = False,
    ) -> None:
        self._together = together
        self._origin = origin
        self._target = target
        self._headers = headers
        self._deadlines = deadlines
        empty = UpstreamRequest(
            origin=origin, method="POST", target=target, headers=(*headers, (varying, b"")), body=b""
        )
        # The writer of all heads writes this one too; the value and the length are cut off its end.
        self._start = request_head(empty, host_lines(origin)).removesuffix(b"\r\ncontent-length: 0\r\n\r\n")

    def request(self, value: str, body: bytes) -> UpstreamRequest:
        """A request with `value` in the varying header. Raises ValueError unless it is printable ASCII."""
        if not (value.isascii() and value.isprintable()):
            raise ValueError("a header value holds more than printable ASCII")
        return UpstreamRequest(
            origin=self._origin,
            method="POST",
            target=self._target,
            headers=self._headers,
            body=body,
            deadlines=self._deadlines,
            head=b"%b%b\r\ncontent-length: %d\r\n\r\n" % (self._start, value.encode(), len(body)),
            together=self._together,
        )


def host_lines(origin: Origin) -> bytes:
    """The end of the request line and the headers every request to `origin` shares. Raises ValueError."""
    return f" HTTP/1.1\r\nhost: {host_header(origin)}\r\naccept-encoding: identity\r\n".encode("ascii")


def host_header(origin: Origin) -> str:
    """The value of the Host header of every request to `origin`. Raises ValueError."""
    host = origin.host
    if not host or not _HOST.issuperset(host):
        raise ValueError(f"{host!r} is not a host name in ASCII or an IP literal without brackets")
    if not 0 < origin.port < 65536:
        raise ValueError(f"{origin.port} is not a port")
    if ":" in host:
        host = f"[{host.partition('%')[0]}]"
    if origin.port != _DEFAULT_PORT[origin.scheme]:
        host = f"{host}:{origin.port}"
    return host


def request_head(request: UpstreamRequest, shared: bytes) -> bytes:
    """The head of `request`, with `shared` from `host_lines`. Raises ValueError for anything unsafe to write."""
    method = request.method
    if not method.isascii() or method.encode().translate(None, _TOKEN) or not method:
        raise ValueError(f"{method!r} is not an HTTP method")
    if method == "CONNECT":
        raise ValueError("CONNECT opens tunnels, and a transport only relays")
    target = request.target
    if (
        target[:1] != "/"
        or not target.isascii()
        or not target.isprintable()
        or " " in target
        or "#" in target
    ):
        raise ValueError(
            "the target must be an absolute path and query in printable ASCII, without blanks or fragment"
        )
    parts = [method.encode(), b" ", target.encode(), shared]
    for name, value in request.headers:
        if name not in _known_names:
            _check_name(name)
        parts += (name, b": ", value, b"\r\n")
    lines = len(request.headers) + 4
    size = len(request.body)
    if size or method not in _USUALLY_EMPTY:
        parts.append(b"content-length: %d\r\n" % size)
        lines += 1
    parts.append(b"\r\n")
    head = b"".join(parts)
    # Every line break in the head must be one we wrote: counting finds any that a value smuggled in.
    if head.count(b"\n") != lines or head.count(b"\r") != lines or b"\0" in head:
        raise ValueError("a header value holds a line break or a NUL")
    return head


def _check_name(name: bytes) -> None:
    if not name or name.translate(None, _TOKEN):
        raise ValueError(f"{name!r} is not a header name")
    if name.lower() in _OURS:
        raise ValueError(f"the header {name.decode()} belongs to the transport")
    if len(_known_names) < _KNOWN_NAMES_MAX:
        _known_names.add(name)


def refuse_large_head(headers: list[tuple[bytes, bytes]]) -> None:
    """Raises Refused for too many headers, or too many bytes of them."""
    if len(headers) > HEADERS_MAX:
        raise Refused(f"the upstream sent more than {HEADERS_MAX} headers", too_large=True)
    if sum(len(name) + len(value) + 4 for name, value in headers) > HEAD_MAX:
        raise Refused(f"the upstream's headers exceed {HEAD_MAX} bytes", too_large=True)


def framing(method: str, status: int, version: str, headers: list[tuple[bytes, bytes]]) -> Framing:
    """How the end of the body of this final response is told.

    Raises Refused. The parser has already refused what contradicts itself (both lengths, a repeated
    or malformed length); this refuses what it would let pass. A success in a content coding is
    refused because identity was asked for and nobody downstream decodes; a failure keeps its status,
    which matters more than its body.
    """
    if version not in ("1.1", "1.0"):
        raise Refused(f"the upstream answered in HTTP/{version}")
    if status < 200:
        raise Refused(f"the upstream answered with status {status}, which nobody asked for")
    length = coding = None
    chunked = False
    for written, value in headers:
        name = written.lower()
        if name in _FRAMING:
            if name == b"content-length":
                length = value
            elif name == b"content-encoding":
                coding = value.strip().lower()
            elif chunked or value.strip().lower() != b"chunked" or version == "1.0":
                raise Refused("the upstream used a transfer coding other than chunked")
            else:
                chunked = True
    if chunked and length is not None:
        raise Refused("the upstream gave both Content-Length and Transfer-Encoding")
    bodyless = method == "HEAD" or status in _BODYLESS
    if coding and coding != b"identity" and status < 300 and not (bodyless or (length and int(length) == 0)):
        raise Refused(
            f"the upstream encoded its answer as {coding[:32].decode('latin-1')!r}, though identity was asked for"
        )
    told: Framing = "length" if length is not None or bodyless else "close"
    return "chunked" if chunked else told
