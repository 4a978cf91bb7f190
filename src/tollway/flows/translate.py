"""A call on its way to a channel: as it is where the dialects agree, else by way of the canonical exchange.

What a channel's dialect cannot say is a loss. A lost capability (a kind of media, tools, a schema)
makes the channel unfit for the call, and that is found out before any credits are held.
"""

from __future__ import annotations

from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from tollway.core import seals
from tollway.core.dialects.base import Reading, Reply, Target, Undo, Written
from tollway.core.dialects.checked import Checked, media_of
from tollway.core.dialects.openai_chat import completions
from tollway.core.dialects.registry import DIALECTS
from tollway.core.dialects.translated import TranslatedStream, TranslatedWhole
from tollway.core.errors import GatewayError
from tollway.core.exchange import Loss, Request
from tollway.core.json import encode
from tollway.core.media.embeddings import Embedding, Vectors
from tollway.core.relay import Relay
from tollway.core.routing.choose import NO_CHANNELS, Candidate, serving
from tollway.flows import targets
from tollway.flows.call import Call
from tollway.flows.gate import Gate
from tollway.upstream.channels import Endpoint
from tollway.upstream.transport import UpstreamRequest

COMPLETIONS: Final = completions.dialect(DIALECTS["openai_chat"])
DROPPED_MAX: Final = 32
"""How many losses of one attempt are told and remembered."""
TOLD_MAX: Final = 200
"""Characters of one loss that are: its path holds names a client has chosen."""


class Prepared(Struct, frozen=True):
    """What goes to one channel and how its answer comes back. `dropped`: what could not be said, as paths and reasons."""

    body: bytes
    relay: Relay
    passed: tuple[tuple[bytes, bytes], ...] = ()
    dropped: tuple[str, ...] = ()
    batch: bool = False

    def request(self, call: Call, endpoint: Endpoint, upstream_model: str) -> UpstreamRequest:
        """The request to send. Raises GatewayError where the channel has no such call."""
        asked = call.request
        if asked.verb != "embed":
            return endpoint.text(
                self.body, call.id, model=upstream_model, stream=asked.stream, passed=self.passed
            )
        found = endpoint.embeddings(self.body, call.id, model=upstream_model, batch=self.batch)
        if found is None:
            raise GatewayError(
                "unsupported_parameter", "This channel makes no embeddings.", param="model", scope="model"
            )
        return found


def unfit(gate: Gate, call: Call) -> frozenset[str]:
    """The ids of channels that cannot say what the call asks for.

    Nothing is looked into while a channel of the client's own dialect serves the model: it can
    say all, and comes first; `prepare` finds out about the others should they be needed. Raises
    GatewayError (unsupported_parameter, naming the field) when no channel is fit.
    """
    native = call.request.native
    found = serving(call.model, gate.catalogue, call.key.group)
    for one in found:
        if one.channel.dialect == native:
            return NO_CHANNELS
    if isinstance(call.request, Embedding):
        return NO_CHANNELS
    lost: dict[str, Loss] = {}
    for one in found:
        endpoint = gate.endpoints.get(one.channel.id)
        if endpoint is None:
            continue
        target = targets.target(one.channel, one.route, call.model, endpoint.scope)
        request = _assumed(call, endpoint, target)
        loss = _lost_capability(_write(request, one, endpoint, target, None))
        if loss is not None:
            lost[one.channel.id] = loss
    if lost and len(lost) == len(found):
        raise _unsupported(call, next(iter(lost.values())))
    return frozenset(lost)


def affinity(gate: Gate, call: Call) -> frozenset[str]:
    """The ids of the channels that made the opaque state this conversation carries."""
    asked = call.request
    if asked.native is None:
        scopes = seals.affinity(call.exchange())
    elif len(call.model.routes) > 1 and isinstance(asked, Checked):
        scopes = gate.makers.scopes(seals.unclaimed(call.exchange()))
    else:
        return NO_CHANNELS
    if not scopes:
        return NO_CHANNELS
    return frozenset(name for name, endpoint in gate.endpoints.items() if endpoint.scope in scopes)


def at_home(call: Call, candidate: Candidate, cap: int | None) -> Prepared | None:
    """What `prepare` makes of most calls, at once: a text goes to a channel of its own dialect. None: ask `prepare`."""
    asked, channel = call.request, candidate.channel
    if (
        channel.dialect != asked.native
        or asked.verb == "embed"
        or targets.needs_data(channel, candidate.route)
    ):
        return None
    return _as_it_is(call, candidate, cap)


def _as_it_is(call: Call, candidate: Candidate, cap: int | None) -> Prepared:
    asked = call.request
    body = asked.body(candidate.route.upstream_model, cap)
    return Prepared(body, asked.relay(call.model.id, call.token), call.passed, call.shed)


async def prepare(
    gate: Gate, call: Call, candidate: Candidate, endpoint: Endpoint, cap: int | None
) -> Prepared:
    """The body for one channel, and the relay of its answer. Raises GatewayError.

    `cap`: output tokens the wallet affords, where the client set no limit.
    """
    asked = call.request
    if isinstance(asked, Embedding):
        body = asked.write(endpoint.dialect, candidate.route.upstream_model)
        relay = Vectors(asked, endpoint.dialect, call.model.id)
        return Prepared(body, relay, batch=asked.batched(endpoint.dialect))
    if candidate.channel.dialect == asked.native and not (
        targets.needs_data(candidate.channel, candidate.route) and _has_urls(call.exchange())
    ):
        return _as_it_is(call, candidate, cap)
    target = targets.target(candidate.channel, candidate.route, call.model, endpoint.scope)
    request = await _loaded(gate, call, endpoint, target)
    written = _write(request, candidate, endpoint, target, cap)
    loss = _lost_capability(written)
    if loss is not None:
        raise _unsupported(call, loss)
    return _sent(call, endpoint, written)


def _sent(call: Call, endpoint: Endpoint, written: Written) -> Prepared:
    """What was written anew, with the native relay where the client's words went home unchanged."""
    asked, dropped = call.request, (*call.shed, *_told(written.losses))
    if endpoint.dialect == asked.native and written.undo == Undo():
        return Prepared(encode(written.body), asked.relay(call.model.id, call.token), call.passed, dropped)
    return Prepared(encode(written.body), _relay(call, endpoint, written), dropped=dropped)


def sealed(call: Call) -> bool:
    """Whether a call carries signatures or encrypted thoughts, so that an upstream may refuse it for them."""
    if isinstance(call.request, Embedding):
        return False
    try:
        return seals.sealed(call.exchange())
    except GatewayError:
        # A native relay may have taken what nobody here understands.
        return False


async def prepare_unsealed(
    gate: Gate, call: Call, candidate: Candidate, endpoint: Endpoint, cap: int | None
) -> Prepared:
    """The same without the signatures and encrypted thoughts, which the upstream did not take. Raises GatewayError."""
    target = targets.target(candidate.channel, candidate.route, call.model, endpoint.scope)
    request = seals.disowned(await _loaded(gate, call, endpoint, target))
    return _sent(call, endpoint, _write(request, candidate, endpoint, target, cap))


async def _loaded(gate: Gate, call: Call, endpoint: Endpoint, target: Target) -> Request:
    """The request with what the upstream cannot load from a URL made data. Raises GatewayError."""
    request = call.exchange()
    if not _has_urls(request):
        return request
    from tollway.flows.inline import Wants, inline  # noqa: PLC0415 - httpcore costs a start 0.1 s

    wants = Wants(
        dialect=endpoint.dialect,
        target=target,
        body=call.request.members,
        # Base64 makes four bytes of three.
        total_max=gate.settings.body_max * 3 // 4,
    )
    return await inline(request, wants, gate.guard)


def _assumed(call: Call, endpoint: Endpoint, target: Target) -> Request:
    request = call.exchange()
    if not _has_urls(request):
        return request
    from tollway.flows.inline import assumed  # noqa: PLC0415 - see above

    return assumed(request, endpoint.dialect, target)


def _has_urls(request: Request) -> bool:
    return any(media.source == "url" for media in media_of(request))


def _relay(call: Call, endpoint: Endpoint, written: Written) -> Relay:
    asked = call.request
    upstream, client = DIALECTS[endpoint.dialect], DIALECTS[asked.dialect]
    if asked.verb == "complete":
        client = COMPLETIONS
    reading = Reading(scope=endpoint.scope, token=call.token, undo=written.undo)
    reply = Reply(
        token=call.token,
        model=call.model.id,
        created=call.created_at // 1000,
        include_usage=asked.include_usage,
        request=call.exchange(),
        echo=asked.echo,
        version=asked.version or Reply().version,
    )
    if asked.stream:
        return TranslatedStream(upstream, client, reading, reply, array=asked.array)
    return TranslatedWhole(upstream, client, reading, reply)


def _write(
    request: Request, candidate: Candidate, endpoint: Endpoint, target: Target, cap: int | None
) -> Written:
    request = replace(request, model=candidate.route.upstream_model)
    if cap is not None:
        request = replace(request, sampling=replace(request.sampling, max_output_tokens=cap))
    return DIALECTS[endpoint.dialect].write_request(request, target)


def _lost_capability(written: Written) -> Loss | None:
    return next((loss for loss in written.losses if loss.severity == "capability"), None)


def _unsupported(call: Call, loss: Loss) -> GatewayError:
    return GatewayError(
        "unsupported_parameter",
        f"No channel of the model {call.model.id!r} can do what {loss.path!r} asks for: {loss.why}. "
        "Remove it, or choose another model.",
        param=loss.path,
        scope="model",
    )


def _told(losses: tuple[Loss, ...]) -> tuple[str, ...]:
    return tuple(f"{_short(loss.path)}: {loss.why}" for loss in losses[:DROPPED_MAX])


def _short(path: str) -> str:
    return path if len(path) <= TOLD_MAX else f"{path[:TOLD_MAX]}..."
