"""Stored state of the Responses API: a request made whole by what came before it, and answers kept.

The gateway remembers; upstreams never do. Every request goes out with its whole conversation and
`store: false`, so that the next turn may go to any channel of any dialect, from any process.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Collection, Iterable
from typing import Any, Final, Literal, NamedTuple, ParamSpec, TypeVar

from msgspec import Struct
from sqlalchemy import Connection

from tollway.core.access.keys import Key
from tollway.core.dialects.base import Target
from tollway.core.dialects.members import Members, refuse
from tollway.core.dialects.openai_responses import stored
from tollway.core.dialects.openai_responses.stored import ENCRYPTED, Item
from tollway.core.errors import GatewayError
from tollway.core.json import encode
from tollway.core.routing.choose import serving
from tollway.flows import targets
from tollway.flows.call import Call, Keeper
from tollway.flows.clock import now_ms
from tollway.flows.gate import Gate
from tollway.store import responses
from tollway.store.responses import Answer, Head, NewResponse, Owner, Turn

P = ParamSpec("P")
T = TypeVar("T")

DAY_MS: Final = 86_400_000
TURNS_MAX: Final = 4096
"""Turns of the longest conversation that is continued."""
REFERENCES_MAX: Final = 1000
"""References to stored items in one request."""
LARGE: Final = 256 * 1024
"""Bytes from which packing and unpacking are not done on the event loop."""

_PLACE: Final = re.compile(r"\binput\[(\d+)\]")

UNSUPPORTED: Final = {
    "conversation": "conversations are kept by previous_response_id; there is no Conversations API here",
    "prompt": "there are no stored prompt templates here; send instructions and input",
}


class Resolved(Struct, frozen=True, kw_only=True):
    """A request made whole. `body`: what is asked upstream. `echo`: members that the answer shows as they were sent.

    `earlier`: how many items of `body` stand before the turn's own. `kept`: the JSON of the turn's own items, None where nothing is to be stored; `before`: the
    response it continues.
    """

    body: dict[str, Any]
    echo: dict[str, Any]
    kept: bytes | None
    before: Head | None
    earlier: int = 0


class _Found(NamedTuple):
    """What a request refers to, still packed. `places`: item id -> the id of the response that has it."""

    head: Head | None
    turns: list[Turn]
    others: list[Turn]
    places: dict[str, str]

    @property
    def weight(self) -> int:
        return _weight(self.turns) + _weight(self.others)


class _Before(NamedTuple):
    """What a request refers to: the conversation it continues, and stored items by their ids."""

    head: Head | None
    context: list[Item]
    items: dict[str, list[Item]]


async def resolve(gate: Gate, key: Key, body: dict[str, Any], now: int) -> Resolved:
    """Put a request's conversation and the items it refers to in their places.

    Instructions are not inherited. Raises GatewayError: previous_response_not_found for a response
    that is unknown, another project's, deleted or expired, or whose conversation has a gap;
    not_found for such an item; context_length_exceeded beyond `responses_max`;
    unsupported_parameter for what only OpenAI's own servers can do.
    """
    previous, wanted = _checked(body)
    given = stored.given(body)
    names = stored.references(given)
    store = wanted and gate.settings.responses_days > 0
    whole = {name: value for name, value in body.items() if name != "previous_response_id"}
    looks = previous is not None or bool(names)
    upstreams = _upstreams(gate, key, body.get("model")) if store or looks else []
    head: Head | None = None
    context: list[Item] = []
    if looks:
        found = await _look_up(gate, key, previous, names, now)
        head, context, items = await _off_loop(
            found.weight, _unpacked, found, {scope for _, scope in upstreams}
        )
        given = _followed(given, items, gate.settings.responses_max)
        whole["input"] = [*context, *given]
    whole["store"] = False
    if store and upstreams and all(target.thinking != "none" for target, _ in upstreams):
        # A model that does not think refuses to be asked for its thoughts.
        whole["include"] = _with_encrypted(body.get("include"))
    kept = encode(given) if store else None
    if kept is not None:
        _fits(gate, len(kept) + (head.total if head else 0), "input")
    echo = {"store": store, "previous_response_id": previous}
    return Resolved(body=whole, echo=echo, kept=kept, before=head, earlier=len(context))


def as_asked(error: GatewayError, resolved: Resolved) -> GatewayError:
    """A refusal of the whole request that counts the items of `input` as the client does."""

    def renumber(found: re.Match[str]) -> str:
        return f"input[{max(0, int(found[1]) - resolved.earlier)}]"

    if not error.param or not _PLACE.match(error.param):
        return error
    message, param = _PLACE.sub(renumber, error.message), _PLACE.sub(renumber, error.param)
    return GatewayError(error.code, message, param=param, scope=error.scope)


def keeper(gate: Gate, call: Call, resolved: Resolved) -> Keeper | None:
    """Who stores the call's answer; None where nothing is to be stored."""
    if resolved.kept is None:
        return None
    kept = resolved.kept

    async def keep(answer: dict[str, Any]) -> None:
        row = await _off_loop(len(kept), _row, gate, call, (kept, resolved.before), answer)
        await gate.shelf.add(row)

    return keep


async def retrieve(gate: Gate, key: Key, response_id: str, include: Collection[str], now: int) -> Item:
    """A stored response as its client had it. Raises GatewayError (not_found)."""
    _known(response_id)
    owner = owner_of(key)
    found = await gate.store.read(lambda conn: responses.by_id(conn, owner, response_id, now))
    if found is None:
        raise _not_found(response_id)
    size = 4 * (len(found.response) + len(found.output))
    return await _off_loop(size, _whole, found, include)


async def remove(gate: Gate, key: Key, response_id: str, now: int) -> None:
    """Delete a response; what was built on it cannot be continued any more. Raises GatewayError (not_found)."""
    _known(response_id)
    owner = owner_of(key)
    if not await gate.store.write(lambda conn: responses.remove(conn, owner, response_id, now)):
        raise _not_found(response_id)


async def cancel(gate: Gate, key: Key, response_id: str, now: int) -> None:
    """Always refuses: an answer is stored when it is complete, so there is none to stop. Raises GatewayError."""
    await retrieve(gate, key, response_id, (), now)
    raise GatewayError(
        "invalid_value",
        "Cannot cancel a synchronous response: it is complete. Only responses made with background: true "
        "can be cancelled, and this gateway makes none; end a running one by closing its connection.",
        param="response_id",
    )


class Wanted(Struct, frozen=True, kw_only=True):
    """Which page of a list. `after` and `before` are ids of items; `limit` is 1 to 100."""

    order: Literal["asc", "desc"] = "desc"
    limit: int = 20
    after: str | None = None
    before: str | None = None


async def input_items(
    gate: Gate, key: Key, response_id: str, wanted: Wanted, include: Collection[str], now: int
) -> Item:
    """The items a response was made from, those of the turns before it included, as a page of a list.

    Raises GatewayError (not_found, invalid_value).
    """
    _known(response_id)
    owner = owner_of(key)
    limit = gate.settings.responses_max

    def read(conn: Connection) -> list[Turn] | None:
        head = responses.head(conn, owner, response_id, now)
        if head is None:
            return None
        # More than this is never continued; its own turn can still be looked at.
        if head.total > 2 * limit:
            return responses.several(conn, owner, [response_id], now)
        return responses.chain(conn, owner, response_id)

    turns = await gate.store.read(read)
    if not turns:
        raise _not_found(response_id)
    listed = await _off_loop(_weight(turns), _listed, turns)
    page = stored.page(listed, wanted.order, wanted.limit, wanted.after, wanted.before)
    data = stored.without_secrets(page.data, include)
    return {
        "object": "list",
        "data": data,
        "first_id": data[0]["id"] if data else None,
        "last_id": data[-1]["id"] if data else None,
        "has_more": page.more,
    }


def _whole(found: Answer, include: Collection[str]) -> Item:
    whole: Item = responses.unpack(found.response)
    return {**whole, "output": stored.without_secrets(responses.unpack(found.output), include)}


def owner_of(key: Key) -> Owner:
    """Who may see what a key stores: the keys of its project."""
    return Owner(key.account_id, key.project_id)


def _checked(body: dict[str, Any]) -> tuple[str | None, bool]:
    """The response to continue, and whether the answer is to be stored. Raises GatewayError."""
    take = Members(body)
    store, background = take.flag("store"), take.flag("background")
    previous = take.text("previous_response_id")
    if previous is not None and body.get("conversation") is not None:
        raise GatewayError(
            "invalid_value",
            "previous_response_id and conversation cannot be used together; a response continues one of them.",
            param="previous_response_id",
        )
    if background:
        raise GatewayError(
            "unsupported_parameter",
            "background: true is not supported: an answer is made while its client waits. "
            "Leave it out, and stream if the answer takes long.",
            param="background",
        )
    for name, why in UNSUPPORTED.items():
        if body.get(name) is not None:
            raise GatewayError("unsupported_parameter", f"{name} is not supported: {why}.", param=name)
    return previous, store is not False


def _upstreams(gate: Gate, key: Key, name: Any) -> list[tuple[Target, str]]:
    """The Responses upstreams that may be asked, with the scopes of their accounts."""
    model = gate.catalogue.resolve(name) if type(name) is str else None
    if model is None:
        return []
    found = []
    for one in serving(model, gate.catalogue, key.group):
        if one.channel.dialect == stored.NAME:
            endpoint = gate.endpoints.get(one.channel.id)
            scope = endpoint.scope if endpoint is not None else ""
            found.append((targets.target(one.channel, one.route, model, scope), scope))
    return found


def _with_encrypted(include: Any) -> Any:
    if include is None:
        return [ENCRYPTED]
    if type(include) is not list:
        raise refuse("include", "must be an array")
    return include if ENCRYPTED in include else [*include, ENCRYPTED]


async def _look_up(gate: Gate, key: Key, previous: str | None, names: list[str], now: int) -> _Found:
    """Everything a request refers to, from one moment of the database."""
    if previous is not None and not stored.response_id(previous):
        raise _no_previous(previous)
    if len(names) > REFERENCES_MAX:
        raise refuse("input", f"must not hold more than {REFERENCES_MAX} references")
    owner = owner_of(key)
    limit = gate.settings.responses_max

    def read(conn: Connection) -> _Found:
        head = responses.head(conn, owner, previous, now) if previous is not None else None
        too_much = head is not None and (head.total > limit or head.depth > TURNS_MAX)
        turns = responses.chain(conn, owner, previous) if head and previous and not too_much else []
        places = _places(conn, owner, names, now)
        wanted = set(places.values()) - {turn.id for turn in turns}
        if responses.sizes(conn, owner, wanted, now) > limit:
            raise _too_much(limit, "input")
        return _Found(head, turns, responses.several(conn, owner, wanted, now), places)

    found = await gate.store.read(read)
    if previous is not None:
        _check_conversation(gate, previous, found)
    return found


def _check_conversation(gate: Gate, previous: str, found: _Found) -> None:
    if found.head is None:
        raise _no_previous(previous)
    _fits(gate, found.head.total, "previous_response_id")
    if found.head.depth > TURNS_MAX:
        raise _too_long(previous)
    if not found.turns or found.turns[0].depth != 1:
        raise _gap(previous, found.turns)


def _places(conn: Connection, owner: Owner, names: list[str], now: int) -> dict[str, str]:
    """Item id -> the id of the response that has it, where that can be told."""
    if not names:
        return {}
    known = {name: own.response_id for name in names if (own := stored.own(name)) is not None}
    # An upstream's id may look like one of ours.
    return known | responses.holders(conn, owner, names, now)


def _unpacked(found: _Found, scopes: set[str]) -> _Before:
    """What was found, ready to be sent to Responses upstreams of these scopes, or to others."""
    opened: dict[str, tuple[list[Any], list[Any]]] = {}
    for turn in (*found.turns, *found.others):
        opened[turn.id] = responses.unpack(turn.request), responses.unpack(turn.output)
    words = not scopes
    context: list[Item] = []
    for turn in found.turns:
        given, output = opened[turn.id]
        context += given
        answered = stored.answered(output, turn.id, words=words)
        # Where all go to the account that made them, seals need no name and the request no translation.
        context += answered if scopes <= {turn.scope} else stored.sealed(answered, turn.scope)
    items: dict[str, list[Item]] = {}
    makers = {turn.id: turn.scope for turn in (*found.turns, *found.others)}
    for name, response_id in found.places.items():
        inputs, output = opened.get(response_id, ([], []))
        named = stored.named(name, response_id, inputs, output, words=words)
        if named is not None:
            # It becomes part of a turn that another account may answer.
            items[name] = stored.sealed(named, makers[response_id])
    return _Before(found.head, context, items)


def _followed(given: list[Any], items: dict[str, list[Item]], limit: int) -> list[Any]:
    """The turn's items with every reference replaced by what it names."""
    found: list[Any] = []
    size = 0
    for item in given:
        if not stored.is_reference(item):
            found.append(item)
            continue
        named = items.get(item["id"])
        if named is None:
            raise stored.unknown_item(item["id"])
        size += len(encode(named))
        if size > limit:
            raise _too_much(limit, "input")
        found += named
    return found


def _listed(turns: list[Turn]) -> list[Item]:
    """What a response was made from, oldest first: all that was said before it, and its own input."""
    found: list[Item] = []
    for turn in turns:
        found += stored.shown(responses.unpack(turn.request), turn.id)
        if turn is not turns[-1]:
            found += stored.shown(responses.unpack(turn.output), turn.id)
    return found


def _row(gate: Gate, call: Call, asked: tuple[bytes, Head | None], answer: dict[str, Any]) -> NewResponse:
    kept, before = asked
    output = answer.get("output")
    items = output if type(output) is list else []
    encoded = encode(items)
    size = len(kept) + len(encoded)
    now = now_ms()
    return NewResponse(
        id=answer["id"],
        owner=owner_of(call.key),
        key_id=call.key.id,
        model=call.model.id,
        scope=call.scope,
        thread=before.thread if before else answer["id"],
        previous_id=before.id if before else None,
        depth=before.depth + 1 if before else 1,
        size=size,
        total=size + (before.total if before else 0),
        status="incomplete" if answer.get("status") == "incomplete" else "completed",
        created_at=now,
        expires_at=now + gate.settings.responses_days * DAY_MS,
        request=responses.packed(kept),
        output=responses.packed(encoded),
        # An empty list keeps the place of the output among the members.
        response=responses.pack({**answer, "output": []}),
        items=tuple(stored.foreign_ids(items, answer["id"])),
    )


async def _off_loop(size: int, work: Callable[P, T], *arguments: P.args, **more: P.kwargs) -> T:
    """Run pure work, on a thread if it is about much."""
    if size < LARGE:
        return work(*arguments, **more)
    return await asyncio.to_thread(work, *arguments, **more)


def _weight(turns: Iterable[Turn]) -> int:
    # Compressed bytes are several times as many in truth.
    return sum(4 * (len(turn.request) + len(turn.output)) for turn in turns)


def _fits(gate: Gate, size: int, param: str) -> None:
    if size > gate.settings.responses_max:
        raise _too_much(gate.settings.responses_max, param)


def _known(response_id: str) -> None:
    if not stored.response_id(response_id):
        raise _not_found(response_id)


def _not_found(response_id: str) -> GatewayError:
    return GatewayError("not_found", f"Response with id {response_id[:64]!r} not found.", param="response_id")


def _no_previous(response_id: str, why: str = "") -> GatewayError:
    return GatewayError(
        "previous_response_not_found",
        f"Previous response with id {response_id[:64]!r} not found{why}.",
        param="previous_response_id",
    )


def _gap(response_id: str, turns: list[Turn]) -> GatewayError:
    missing = turns[0].previous_id if turns else None
    why = f" whole: {missing!r}, on which it was built, has been deleted"
    return _no_previous(response_id, why if missing else "")


def _too_long(response_id: str) -> GatewayError:
    return GatewayError(
        "context_length_exceeded",
        f"The conversation that ends with {response_id!r} has {TURNS_MAX} turns, and no more are continued. "
        "Begin a new one with a summary of it.",
        param="previous_response_id",
    )


def _too_much(limit: int, param: str) -> GatewayError:
    return GatewayError(
        "context_length_exceeded",
        f"The conversation is larger than the {limit} bytes that are kept of one. "
        "Send store: false with your own copy of it, or begin a new one.",
        param=param,
    )
