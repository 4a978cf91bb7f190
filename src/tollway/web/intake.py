"""The reading half of a connection: from bytes to requests that are worth a handler.

uvicorn's protocol on httptools leaves sizes, hosts, methods and room to whoever is in front of it.
This half leaves nothing: what it accepts is one well-framed request for one spelling of one path of
a size we take. Refusals found inside the parser leave their reason in `_reason` and stop it.
"""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections import deque
from typing import Any, ClassVar, Final, cast

import httptools
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from tollway.core.errors import GatewayError
from tollway.web.asgi import AsgiHandling
from tollway.web.body import READ_AHEAD, Body, body_too_large
from tollway.web.cycle import Cycle, Handling
from tollway.web.head import ALLOW, Head, read_head
from tollway.web.recall import MEMO, Recall, Scope, learn
from tollway.web.rejoin import rejoin
from tollway.web.shared import Shared

_ASGI: Final = {"version": "3.0", "spec_version": "2.4"}
_OVERHEAD: Final = 8
_OVERHEAD_FREE: Final = 64 * 1024
_RECALL_HEAD_MIN: Final = 4096
"""Below this limit on heads, recalled ones would have to be measured."""
_LEARN_MAX: Final = 8
"""Heads learnt in a row that never came back, after which a connection's heads are not learnt."""


class Intake(HttpToolsProtocol):
    """Parses, checks and counts. What to do with requests and refusals is said by the half above."""

    # Not in the dictionary where uvicorn keeps its own: beyond thirty attributes there, CPython has no
    # short way to them any more, and searches it before each call of a method.
    __slots__ = (
        "_begun",
        "_chunk_size",
        "_framing_received",
        "_fresh",
        "_head_received",
        "_headers_max",
        "_headers_room",
        "_learn_left",
        "_owed",
        "_reason",
        "_recall",
        "_shares_scopes",
        "_trailers",
        "_upgraded",
        "deaf",
        "handling",
        "head_open",
        "incoming",
        "limits",
        "over_cap",
        "shared",
        "url",
        "waiting",
    )

    of_server: ClassVar[Shared]
    write_paused: bool

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        # What follows a request that announced the end of the connection is not looked at.
        self.parser.set_dangerous_leniencies(lenient_data_after_close=False)
        self.shared = self.of_server
        self.limits = self.shared.limits
        app = cast("Any", self.app)
        self.handling: Handling = app if hasattr(app, "begin") else AsgiHandling(app)
        self._shares_scopes = self.handling.shares_scopes
        self.url = b""
        self.headers = []
        self._headers_max = self.limits.headers_max
        self._headers_room = 0
        """How many headers the open head may have; none once it has ended."""
        self.head_open = False
        """Whether a head has begun and not ended."""
        self.incoming: Cycle | None = None
        """The request whose body is not complete."""
        self.waiting: deque[Cycle] = deque()
        """Requests behind the one being answered."""
        self.deaf = False
        """Whether what arrives is thrown away: after a refusal, or after the last request."""
        self.over_cap = False
        """Whether this connection is one too many."""
        self._begun = 0
        self._chunk_size = 0
        self._head_received = 0
        self._framing_received = 0
        self._trailers = 0
        self._upgraded: Head | None = None
        self._reason: GatewayError | None = None
        self._recall: Recall | None = None
        """The last head, if it can be recognised; None from the moment another one begins."""
        self._fresh: tuple[Head, Scope] | None = None
        """The last head parsed, if another of its kind may be recognised."""
        self._learn_left = _LEARN_MAX if self.limits.head_max >= _RECALL_HEAD_MIN else 0
        self._owed = 0
        """Bytes to come of the body of a request whose head was recognised."""

    # What the half above does.

    @abstractmethod
    def accept(self, cycle: Cycle) -> None:
        """A request's head is complete and good."""

    @abstractmethod
    def refuse(self, error: GatewayError) -> None:
        """Answer in turn what no handler will see, and take nothing more."""

    def body_failed(self, error: GatewayError) -> None:
        """The body being received will not be complete: its handler is told, and nothing more is taken."""
        self.deaf = True
        if self.incoming is not None:
            self.incoming.body.fail(error)

    # What arrives.

    def take(self, data: bytes) -> None:
        """Take in what has arrived."""
        if self.incoming is None:
            if self._recall is not None and self._take_known(self._recall, data):
                return
        elif self._owed:
            self._take_owed(self.incoming, data)
            return
        self._take_parsed(data)

    def _take_known(self, recall: Recall, data: bytes) -> bool:
        """Take a request whose head came before, if that is all that `data` holds."""
        came = recall.whole(data)
        if came is None or len(came) > READ_AHEAD:
            return self._take_begun(recall, data)
        size = len(came)
        try:
            self._check_room(recall.path, size)
        except GatewayError as error:
            self.refuse(error)
            return True
        self._learn_left = _LEARN_MAX
        keep_alive = not self.shared.draining
        self.deaf = not keep_alive
        scope = recall.shared if self._shares_scopes else recall.scope(b"%d" % size)
        self.accept(Cycle(self, scope, None, keep_alive, came))
        return True

    def _take_begun(self, recall: Recall, data: bytes) -> bool:
        """The same for a request whose body is large or not all here, or whose length is written oddly."""
        found = recall.match(data)
        if found is None:
            return False
        start, digits = found
        length = int(digits)
        size = len(data) - start
        if size > length:
            return False  # The parser knows where a request ends that others follow.
        try:
            self._check_room(recall.path, length)
        except GatewayError as error:
            self.refuse(error)
            return True
        self._learn_left = _LEARN_MAX
        scope = recall.shared if self._shares_scopes else recall.scope(digits)
        body = Body(self, length, self.limits.body_max, False)
        self.incoming = cycle = Cycle(self, scope, body, not self.shared.draining)
        self.accept(cycle)
        if size:
            body.feed(data[start:])
        if size == length:
            self._whole()
        else:
            self._owed = length - size
        return True

    def _take_owed(self, incoming: Cycle, data: bytes) -> None:
        owed = self._owed
        if len(data) <= owed:
            self._owed = owed - len(data)
            incoming.body.feed(data)
            if not self._owed:
                self._whole()
            return
        self._owed = 0
        incoming.body.feed(data[:owed])
        self._whole()
        if not self.deaf:
            self._take_parsed(data[owed:])

    def _take_parsed(self, data: bytes) -> None:
        self._begun = 0
        self._chunk_size = len(data)
        incoming = self.incoming
        received = incoming.body.received if incoming is not None else 0
        at_start = incoming is None and not self.head_open
        self._parse(data)
        fresh, self._fresh = self._fresh, None  # Not kept: the scope leads back to this connection.
        if self.head_open:
            self._check_open_head()
        elif incoming is not None and incoming is self.incoming:
            self._check_framing(incoming.body, received)
        elif at_start and self._begun == 1 and fresh is not None:
            self._learn_left -= 1
            self._recall = learn(data, *fresh)

    # The parser.

    def _parse(self, data: bytes) -> None:
        while data:
            try:
                self.parser.feed_data(data)
                return
            except httptools.HttpParserUpgrade as upgrade:
                data = data[upgrade.args[0] :]
                self._ignore_upgrade()
            except httptools.HttpParserError as error:
                self._unparsable(error)
                return

    def on_message_begin(self) -> None:
        self._begun += 1
        self.head_open = True
        self._head_received = 0
        self._framing_received = 0
        self._trailers = 0
        self.url = b""
        self.headers = []
        self._headers_room = self._headers_max
        self._recall = None

    def on_url(self, url: bytes) -> None:
        self.url = url = self.url + url if self.url else url
        if len(url) > self.limits.target_max:
            self._halt("uri_too_long", f"the request target is longer than {self.limits.target_max} bytes")

    def on_header(self, name: bytes, value: bytes) -> None:
        headers = self.headers
        if len(headers) < self._headers_room:
            headers.append((name.lower(), value))
        else:
            self._on_surplus_header()

    def _on_surplus_header(self) -> None:
        if self.head_open:
            self._halt("header_too_large", f"the request has more than {self._headers_max} headers")
        # Trailers are counted and dropped: nothing that matters here may be said so late.
        self._trailers += 1
        if self._trailers > self._headers_max:
            self._halt("header_too_large", f"the request has more than {self._headers_max} trailers")

    def on_headers_complete(self) -> None:
        parser = self.parser
        self.head_open = False
        self._headers_room = 0
        if self._head_received + self._chunk_size > self.limits.head_max:
            self._check_whole_head()
        method = parser.get_method()
        version = parser.get_http_version()
        try:
            head = read_head(method, version, self.url, self.headers)
            self._check_room(head.path, head.length)
        except GatewayError as error:
            self._reason = error
            raise
        scope = self._scope(method.decode("ascii"), version, head)
        body = Body(self, head.length, self.limits.body_max, head.expects_continue)
        keep_alive = version == "1.1" and parser.should_keep_alive() and not self.shared.draining
        if parser.should_upgrade():
            self._upgraded = head
        elif keep_alive and self._learn_left:
            self._fresh = head, scope
        self.incoming = cycle = Cycle(self, scope, body, keep_alive)
        self.accept(cycle)

    def on_body(self, body: bytes) -> None:
        if self.incoming is not None:
            self.incoming.body.feed(body)

    def on_message_complete(self) -> None:
        # A request to upgrade has, to the parser, no body; we ignore the upgrade and read the body.
        if self._upgraded is None:
            self._whole()

    def _whole(self) -> None:
        """The request being received is complete."""
        incoming, self.incoming = self.incoming, None
        if incoming is None:
            return
        incoming.body.end()
        if not incoming.keep_alive:
            self.deaf = True

    def _scope(self, method: str, version: str, head: Head) -> Scope:
        return {
            "type": "http",
            "asgi": _ASGI,
            "http_version": version,
            "server": self.server,
            "client": self.client,
            "scheme": self.scheme,
            "method": method,
            "root_path": "",
            "path": head.path,
            "raw_path": head.raw_path,
            "query_string": head.query,
            "headers": self.headers,
            "state": self.app_state.copy(),
            MEMO: {},
        }

    def _ignore_upgrade(self) -> None:
        head, self._upgraded = self._upgraded, None
        if head is None or self.incoming is None:
            self.refuse(GatewayError("bad_request", "the connection cannot be upgraded"))
        else:
            self.parser = rejoin(self, head, keep_alive=self.incoming.keep_alive)

    def _unparsable(self, error: httptools.HttpParserError) -> None:
        if self.deaf:
            return  # Bytes after a request that announced the end of the connection.
        reason, self._reason = self._reason, None
        if reason is None:
            reason = self._why(error)
        self.head_open = False
        if self.incoming is not None:
            self.body_failed(reason)
        else:
            self.refuse(reason)

    def _why(self, error: httptools.HttpParserError) -> GatewayError:
        if isinstance(error, httptools.HttpParserCallbackError):
            self.shared.log.error("a request could not be taken in", exc_info=error)
            return GatewayError(
                "internal_error", "something went wrong inside the gateway; the call was not taken in"
            )
        if isinstance(error, httptools.HttpParserInvalidMethodError):
            return GatewayError(
                "method_not_allowed", f"the request does not begin with one of {ALLOW.decode()}"
            )
        return GatewayError("bad_request", "the request is not well-formed HTTP/1.1")

    # Counting.

    def _halt(self, code: str, message: str) -> None:
        self._reason = GatewayError(code, message)
        raise self._reason

    def _head_size(self) -> int:
        return len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)

    def _check_whole_head(self) -> None:
        if self._head_size() > self.limits.head_max:
            self._halt("header_too_large", self._head_message())

    def _head_message(self) -> str:
        return f"the request line and headers exceed {self.limits.head_max} bytes"

    def _check_open_head(self) -> None:
        """Count a head that has not ended: the parser keeps what it has of it, however long."""
        if not self._begun:
            self._head_received += self._chunk_size
        elif self._begun == 1 and not self.waiting and self.incoming is None:
            self._head_received = self._chunk_size
        else:
            self._head_received = self._head_size()
        if self._head_received > self.limits.head_max and not self.deaf:
            self.refuse(GatewayError("header_too_large", self._head_message()))

    def _check_framing(self, body: Body, received_before: int) -> None:
        """Bound what is sent beside the body itself: chunk extensions and trailers serve nobody."""
        self._framing_received += self._chunk_size - (body.received - received_before)
        if self._framing_received > _OVERHEAD_FREE + _OVERHEAD * body.received:
            self.body_failed(GatewayError("bad_request", "the chunks of the body are mostly framing"))

    def _check_room(self, path: str, length: int | None) -> None:
        shared, limits = self.shared, self.limits
        if (
            self.over_cap or shared.short_of_memory or shared.calls >= limits.calls_max
        ) and path not in shared.exempt:
            raise overloaded(
                "connections" if self.over_cap else "bytes" if shared.short_of_memory else "calls"
            )
        if length is not None and length > limits.body_max:
            raise body_too_large(length, limits.body_max)
        if len(self.waiting) >= limits.pipeline_max:
            raise GatewayError(
                "bad_request", f"more than {limits.pipeline_max} requests wait on one connection"
            )

    def make_room(self, size: int) -> bool:
        """See body.Source."""
        shared = self.shared
        if size > 0 and shared.body_bytes + size > self.limits.bodies_max:
            return False
        shared.body_bytes += size
        return True

    # What a body asks of its source is the half above's too.

    @abstractmethod
    def hold_input(self) -> None: ...

    @abstractmethod
    def want_input(self) -> None: ...

    @abstractmethod
    def send_continue(self) -> None: ...

    @abstractmethod
    def finished(self, cycle: Cycle) -> None: ...

    @abstractmethod
    def cut(self) -> None: ...

    @abstractmethod
    async def writable(self) -> None: ...


def overloaded(what: str) -> GatewayError:
    """The refusal of a call for which there is no room; `what` there is too much of."""
    message = f"the gateway has as many {what} as it has room for; try again in a second"
    return GatewayError("overloaded", message, scope="gateway", retry_after_ms=1000)
