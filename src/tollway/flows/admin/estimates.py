"""What a call would cost, and whether a key may make it now: the answers that the routes give, for the operator."""

from __future__ import annotations

from decimal import Decimal
from typing import Any, Final, NoReturn

from msgspec import Struct

from tollway.core.access.keys import Key
from tollway.flows.admin.context import Admin
from tollway.flows.admin.keys import find as find_key
from tollway.flows.admin.refusals import Kind, Refused, invalid, unknown
from tollway.store import keys, models

BODY_MAX: Final = 32 * 1024 * 1024

_KINDS: Final[dict[int, Kind]] = {
    400: "invalid",
    402: "refused",
    403: "denied",
    404: "not_found",
    413: "invalid",
}


class AskEstimate(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What to price: `body` is the text of a call's body, or counts, as `POST /v1/credits/estimate` takes them.

    `model`: in place of the body's own. `key`: as this key pays, with a verdict; None: by the public price.
    """

    body: str
    model: str | None = None
    key: str | None = None
    account: str | None = None


class TryKey(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A key to be tried, for a model and from an address if these are named."""

    key: str
    account: str | None = None
    model: str | None = None
    ip: str | None = None


class KeyCheck(Struct, frozen=True, kw_only=True):
    """One thing a call meets. `verdict`: "ok", or "refused" with the error's `code`; `detail` in words."""

    check: str
    verdict: str
    code: str | None
    detail: str


class KeyVerdict(Struct, frozen=True, kw_only=True):
    """Whether a call would be let through now, and what each check said."""

    id: str
    name: str
    ok: bool
    checks: tuple[KeyCheck, ...]


async def estimate(admin: Admin, request: AskEstimate) -> Any:
    """The estimate of flows.estimates, as the route would give it now."""
    from tollway.core.dialects.checked import parse  # noqa: PLC0415 - few commands need the dialects
    from tollway.core.errors import GatewayError  # noqa: PLC0415 - as above
    from tollway.flows.estimates import by_body  # noqa: PLC0415 - as above

    if len(request.body) > BODY_MAX:
        invalid("The body is too large", f"It has at most {BODY_MAX // 1024**2} MiB.")
    key = None
    try:
        body = parse(request.body.encode())
        if request.model is not None:
            body["model"] = request.model
        key = None if request.key is None else await _key(admin, request.key, request.account)
        gate = await _pricing(admin)
        return await by_body(gate, key, body, _call(admin))
    except GatewayError as error:
        if error.code == "model_not_found" and key is None:
            known = await admin.read(models.catalogue)
            unknown("model", str(body["model"]), [*known.models, *known.aliases])
        _refuse(error)


async def try_key(admin: Admin, request: TryKey) -> KeyVerdict:
    """Ask of a key what the gateway asks of each call, without making one."""
    from tollway.core.access import scopes  # noqa: PLC0415 - few commands need the dialects
    from tollway.core.errors import GatewayError, sentence  # noqa: PLC0415 - as above
    from tollway.flows.admit import find_model  # noqa: PLC0415 - as above

    now = admin.clock()
    key = await _key(admin, request.key, request.account)
    checks = []

    def note(check: str, error: GatewayError | None, fine: str) -> None:
        verdict, code = ("ok", None) if error is None else ("refused", error.code)
        detail = fine if error is None else sentence(error.message)
        checks.append(KeyCheck(check=check, verdict=verdict, code=code, detail=detail))

    anywhere = request.ip or (key.networks[0].partition("/")[0] if key.networks else "")
    place = request.ip or ("an address of its networks" if key.networks else "anywhere")
    note("key", scopes.key_denied(key, anywhere, now), f"it works, from {place}")
    if request.model is not None:
        gate = await _pricing(admin)
        try:
            model = await find_model(gate, key, request.model)
        except GatewayError as error:
            note("model", error, "")
        else:
            serving = [gate.catalogue.channels[route.channel_id] for route in model.routes]
            able = [one.name for one in serving if one.status == "enabled" and key.group in one.groups]
            note("model", None, f"{model.id} on {', '.join(able)}")
    checks += await admin.read(lambda conn: _money(conn, key, now))
    return KeyVerdict(
        id=key.id, name=key.name, ok=all(one.verdict == "ok" for one in checks), checks=tuple(checks)
    )


def _money(conn: Any, key: Key, now: int) -> list[KeyCheck]:
    from tollway.flows import credits as money  # noqa: PLC0415 - few commands need it
    from tollway.flows.admin import amounts  # noqa: PLC0415 - as above
    from tollway.store import wallets  # noqa: PLC0415 - as above

    balance = wallets.balance(conn, key.wallet)
    left: list[tuple[str, str, Decimal]] = [
        ("credits", "insufficient_credits", amounts.shown(balance.available if balance else 0))
    ]
    for name, code, found in (
        ("budget", "key_budget_exceeded", money.budget_of(conn, key.id, key.budget, key.budget_period, now)),
        (
            "project budget",
            "project_budget_exceeded",
            money.budget_of(conn, key.project_id, key.project_budget, key.project_period, now),
        ),
    ):
        if found is not None:
            left.append((name, code, found.remaining))
    return [
        KeyCheck(
            check=name,
            verdict="ok" if some > 0 else "refused",
            code=None if some > 0 else code,
            detail=f"{some} credits left",
        )
        for name, code, some in left
    ]


async def _key(admin: Admin, reference: str, account: str | None) -> Key:
    return await admin.read(lambda conn: keys.capped(conn, find_key(conn, reference, account).key))


async def _pricing(admin: Admin) -> Any:
    """A gate that knows the catalogue as it stands, and sends nothing."""
    from tollway.flows.gate import Gate  # noqa: PLC0415 - few commands need it
    from tollway.store.limiter import MemoryLimiter  # noqa: PLC0415 - as above
    from tollway.upstream.client import Client  # noqa: PLC0415 - as above

    gate = Gate(
        settings=admin.settings,
        store=admin.store,
        transport=Client(),
        limiter=MemoryLimiter(),
        vault=admin.vault,
        sandbox=None,
    )
    gate.catalogue = await admin.read(models.catalogue)
    return gate


def _call(admin: Admin) -> Any:
    from tollway.flows.call import Call  # noqa: PLC0415 - few commands need it

    return Call(call_id="", route="", ip="", user_agent="", created_at=admin.clock())


def _refuse(error: Any) -> NoReturn:
    """A refusal of the gateway as one of an operation."""
    what, _, why = error.message.partition(". ")
    near = f"Did you mean {error.suggestions[0]!r}?" if error.suggestions else ""
    fix = "tollway model list" if error.param == "model" else ""
    raise Refused(_KINDS.get(error.status, "failed"), what.rstrip("."), near or why, fix) from None
