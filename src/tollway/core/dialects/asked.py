"""What a call asks for, as flows see it: a client's request, checked, ready for either relay.

Each dialect's `check.py` makes one of its own kind. Flows know no dialect: they ask this.
"""

from __future__ import annotations

from typing import Any, Protocol

from tollway.core.exchange import DialectName, Request
from tollway.core.relay import Relay
from tollway.core.terms import Terms


class Asked(Protocol):
    """A text request whose fields have been checked. Immutable."""

    @property
    def verb(self) -> str:
        """What is asked for: "text", "complete" (legacy completions) or "embed"."""
        ...

    @property
    def dialect(self) -> DialectName:
        """How the client speaks, and is answered."""
        ...

    @property
    def native(self) -> DialectName | None:
        """The dialect of the upstreams that may be sent `body` as it is; None where it must be translated for all."""
        ...

    @property
    def model(self) -> str:
        """The public name the client asks for."""
        ...

    @property
    def session(self) -> str:
        """What the client says belongs together, so that a prompt cache is met again; "" if it says nothing."""
        ...

    @property
    def stream(self) -> bool: ...

    @property
    def array(self) -> bool:
        """Whether a stream goes out as one JSON array instead of server-sent events (Gemini without alt=sse)."""
        ...

    @property
    def include_usage(self) -> bool:
        """Whether the client wants the usage in a stream (Chat's stream_options); True where it always comes."""
        ...

    @property
    def echo(self) -> dict[str, Any]:
        """Members an answer must repeat as the client sent them, because something else is sent upstream."""
        ...

    @property
    def version(self) -> str:
        """The API version the client speaks, for dialects that have several (Anthropic); else ""."""
        ...

    @property
    def choices(self) -> int:
        """How many answers are asked for."""
        ...

    @property
    def output_wanted(self) -> int | None:
        """Output tokens the client allows each answer, None where it leaves that open."""
        ...

    @property
    def input_bound(self) -> int:
        """Input tokens at most; see `core.billing.pricing.estimate`."""
        ...

    @property
    def audio(self) -> bool:
        """Whether sound goes in or may come out, which is priced apart."""
        ...

    @property
    def max_credits(self) -> int | float | None:
        """What the client says the call may cost at most, in credits; it is never sent upstream."""
        ...

    @property
    def terms(self) -> Terms:
        """What is asked for besides tokens."""
        ...

    @property
    def members(self) -> dict[str, Any]:
        """The body as parsed, by which refusals name a field."""
        ...

    def body(self, upstream_model: str, output_cap: int | None) -> bytes:
        """The body for an upstream of the dialect `native`; `output_cap` is sent where the client set no limit."""
        ...

    def exchange(self) -> Request:
        """The request in canonical values. Raises GatewayError naming what nobody understands."""
        ...

    def relay(self, name: str, token: str) -> Relay:
        """The native relay of the answer; `name`: the model as the client calls it, `token`: see `base.Reply`."""
        ...
