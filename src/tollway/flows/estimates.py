"""What a call would cost, before it is made: for anybody by the public price, for a key with a verdict.

By a request: an upper bound, which is what would be put on hold. By counts: what exactly they cost.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any, Final

from msgspec import Struct
from sqlalchemy import Connection

from tollway.core.access.keys import Key
from tollway.core.billing.fees import USES, fee_lines
from tollway.core.billing.meters import COUNT_MAX, METERS, TIER, known_tier
from tollway.core.billing.money import AMOUNT_MAX, MICRO
from tollway.core.billing.periods import period_of
from tollway.core.billing.pricing import Estimate, dearest, estimate, estimate_tokens
from tollway.core.billing.rates import Rates, parse_key
from tollway.core.billing.statement import Line, exact, state
from tollway.core.dialects.asked import Asked
from tollway.core.dialects.checked import ask, read_chat, read_completion_body
from tollway.core.errors import GatewayError
from tollway.core.exchange import DialectName
from tollway.core.json import encode
from tollway.core.routing.models import Model, Price
from tollway.core.terms import Terms
from tollway.flows import caps, fees
from tollway.flows.admit import find_model
from tollway.flows.call import Call
from tollway.flows.catalogue import servable
from tollway.flows.gate import Gate
from tollway.flows.holds import CLAMP_MIN
from tollway.flows.receipts import credits_of
from tollway.store import wallets
from tollway.store.base import Balance

PUBLIC_GROUP: Final = "default"
"""The group of channels that callers without a key are told about."""

_COUNTS: Final = {
    "input_tokens": "input",
    "cached_tokens": "cache_read",
    "cache_write_tokens": "cache_write",
    "output_tokens": "output",
    "reasoning_tokens": "reasoning",
    "images": "image",
    "characters": "character",
    "seconds": "video_second",
    "songs": "song",
}
"""Plain names of counts, and the meters they are."""
_DIALECTS: Final[dict[str, DialectName]] = {
    "chat": "openai_chat",
    "openai_chat": "openai_chat",
    "responses": "openai_responses",
    "openai_responses": "openai_responses",
    "messages": "anthropic",
    "anthropic": "anthropic",
    "gemini": "gemini",
}


class Verdict(Struct, frozen=True, kw_only=True):
    """Whether a key's call would be let through. `code`: the refusal's, or None; credits where known.

    `max_output_tokens`: what the answer would be clamped to, None if it needs no clamp.
    """

    allowed: bool
    code: str | None
    reason: str
    available: Decimal
    held: Decimal
    budget_remaining: Decimal | None
    project_budget_remaining: Decimal | None
    cap: Decimal | None
    max_output_tokens: int | None


class EstimateView(Struct, frozen=True, kw_only=True):
    """An estimate in exact credits.

    `credits`: the bound, or the exact cost of counts. `bounded`: whether a call can cost no more.
    `rule`: how it came about, in words. `verdict` is None for callers without a key.
    """

    object: str = "credits.estimate"
    model: str
    currency: str = "credits"
    price_version: int
    credits: Decimal
    usd: Decimal
    bounded: bool
    input_tokens: int
    likely_input_tokens: int
    output_tokens: int
    lines: tuple[Line, ...]
    discount_percent: Decimal
    rule: str
    verdict: Verdict | None = None


async def by_body(gate: Gate, key: Key | None, body: dict[str, Any], call: Call) -> EstimateView:
    """An estimate for a body of any text dialect, or for counts. Raises GatewayError."""
    counts = _counts(body)
    if counts is not None:
        name = _name(body)
        model = await _model(gate, key, name)
        found, bound = _counted(model, counts)
    else:
        asked = _asked(body)
        model = await _model(gate, key, asked.model)
        group = PUBLIC_GROUP if key is None else key.group
        asked, _ = fees.shed(gate, asked, model, group)
        call.request = asked
        terms = fees.terms(gate, asked, model, group)
        bound = estimate(
            asked.input_bound,
            asked.output_wanted,
            asked.choices,
            model,
            None,
            audio=asked.audio,
            terms=terms,
        )
        found = _bounded(model, asked, bound, terms)
    if key is None:
        return found
    call.key, call.model = key, model
    return _with(found, await _verdict(gate, call, bound, counted=counts is not None))


async def _model(gate: Gate, key: Key | None, name: str) -> Model:
    if key is not None:
        return await find_model(gate, key, name)
    model = gate.catalogue.resolve(name)
    if model is None or not servable(gate.catalogue, model, PUBLIC_GROUP):
        raise GatewayError(
            "model_not_found",
            f"There is no public model {name!r}. With an API key, models of your own group are priced too.",
            param="model",
            scope="model",
        )
    return model


def _name(body: dict[str, Any]) -> str:
    name = body.get("model")
    if type(name) is not str or not 0 < len(name) <= 128:
        raise GatewayError(
            "missing_field", "The field 'model' is missing: which model to price.", param="model"
        )
    return name


def _asked(body: dict[str, Any]) -> Asked:
    """The body as a request, in the dialect it says or looks like."""
    told = body.pop("dialect", None)
    if told is not None and (type(told) is not str or told not in _DIALECTS):
        raise GatewayError("invalid_value", f"'dialect' is one of {', '.join(_DIALECTS)}.", param="dialect")
    if told is not None:
        return _read(_DIALECTS[told], body)
    if "contents" in body:
        return ask("gemini", body)
    if "prompt" in body and "messages" not in body:
        return read_completion_body(body)
    if "messages" not in body and "input" in body:
        # Embeddings look alike; their models have no output, so the bound is theirs too.
        return ask("openai_responses", body)
    if "messages" not in body:
        raise GatewayError(
            "invalid_body",
            "Send the body of a call (with messages, input, contents or prompt), or counts such as "
            "input_tokens and output_tokens, or meters.",
        )
    if "system" in body and "max_tokens" in body:
        return ask("anthropic", body)
    return _read("openai_chat", body)


def _read(dialect: DialectName, body: dict[str, Any]) -> Asked:
    # By the reader of its own route, so that the bound is the same as that of the call.
    return read_chat(encode(body)) if dialect == "openai_chat" else ask(dialect, body)


def _counts(body: dict[str, Any]) -> dict[str, int] | None:
    """Counts by meter, None if the body has none. Raises GatewayError."""
    meters = body.get("meters")
    found: dict[str, int] = {}
    if meters is not None:
        if type(meters) is not dict or not meters or len(meters) > 64:
            raise GatewayError(
                "invalid_value", "'meters' must be an object of counts by meter.", param="meters"
            )
        for name, count in meters.items():
            found[_meter(name)] = _count(count, f"meters.{name[:60]}")
    for name, meter in _COUNTS.items():
        if body.get(name) is not None:
            found[meter] = found.get(meter, 0) + _count(body[name], name)
    return found or None


def _meter(name: str) -> str:
    if name.startswith(f"{TIER}:"):
        return name
    try:
        key = parse_key(name)
    except ValueError as error:
        raise GatewayError("invalid_value", f"{error}.", param="meters") from None
    if key.above:
        raise GatewayError("invalid_value", f"{name!r} is a rate and not a meter.", param="meters")
    return name


def _count(value: Any, param: str) -> int:
    if type(value) is not int or not 0 <= value <= COUNT_MAX:
        raise GatewayError(
            "invalid_value", f"{param!r} must be an integer from 0 to {COUNT_MAX}.", param=param
        )
    return value


def _price(model: Model) -> Price:
    if model.price is None:
        raise GatewayError("model_not_available", f"{model.id!r} has no price yet", param="model")
    return model.price


def _counted(model: Model, counts: dict[str, int]) -> tuple[EstimateView, Estimate]:
    price = _price(model)
    known = {name: count for name, count in counts.items() if count}
    if "call" in price.rates:
        known.setdefault("call", 1)
    unpriced = [name for name in known if _rate_of(price.rates, name) is None]
    if unpriced:
        raise GatewayError(
            "invalid_value",
            f"The model {model.id!r} has no price for {', '.join(map(repr, unpriced))}; it is priced by {', '.join(price.rates)}.",
            param="meters",
        )
    bill = state(known, price.rates, price.discount)
    tokens_in = sum(count for name, count in known.items() if _is(name, "in"))
    tokens_out = sum(count for name, count in known.items() if _is(name, "out"))
    amount = min(bill.due_micro, AMOUNT_MAX)
    view = EstimateView(
        model=model.id,
        price_version=price.version,
        credits=credits_of(amount),
        usd=exact(amount, MICRO * 1000),
        bounded=True,
        input_tokens=tokens_in,
        likely_input_tokens=tokens_in,
        output_tokens=tokens_out,
        lines=bill.lines,
        discount_percent=bill.discount_percent,
        rule="the counts at their rates, less the discount, rounded up once to a millionth of a credit",
    )
    return view, Estimate(tokens_in, tokens_out, amount, None, True)


def _rate_of(rates: dict[str, int], counted: str) -> int | None:
    meter = counted.partition(":")[0]
    if meter == TIER:
        return 0 if known_tier(counted.partition(":")[2], rates) else None
    # Tokens of a kind without a rate of its own are billed as their parents, and so may be estimated.
    parents = {
        "cache_read": "input",
        "cache_write": "input",
        "cache_write_1h": "input",
        "reasoning": "output",
    }
    for name in (counted, meter, parents.get(meter, meter)):
        if name in rates:
            return rates[name]
    return next((rate for key, rate in rates.items() if key.partition(":")[0] == meter), None)


def _is(counted: str, direction: str) -> bool:
    meter = METERS.get(counted.partition(":")[0])
    return meter is not None and meter.by_size and meter.direction == direction


def _bounded(model: Model, asked: Asked, bound: Estimate, terms: Terms) -> EstimateView:
    price = _price(model)
    rates = price.rates if isinstance(price.rates, Rates) else Rates(price.rates)
    plain = dearest(rates.less(0), bound.input_tokens, terms.tier)
    rate_in, rate_out = (plain.audio_in, plain.audio_out) if asked.audio else (plain.text_in, plain.text_out)
    lines = [
        _line("input", bound.input_tokens, rate_in),
        _line("output", bound.output_tokens * asked.choices, rate_out),
    ]
    if "call" in rates:
        lines.append(_line("call", 1, rates["call"]))
    lines += [_line(meter, uses, rate) for meter, uses, rate in fee_lines(terms, rates.less(0))]
    return EstimateView(
        model=model.id,
        price_version=price.version,
        credits=credits_of(bound.amount),
        usd=exact(bound.amount, MICRO * 1000),
        bounded=bound.bounded,
        input_tokens=bound.input_tokens,
        likely_input_tokens=min(bound.input_tokens, estimate_tokens(0, asked.input_bound)),
        output_tokens=bound.output_tokens * asked.choices,
        lines=tuple(line for line in lines if line.quantity),
        discount_percent=exact(price.discount, 100),
        rule="the most the call can cost: at most one input token a byte and the longest answer allowed, both at their "
        "dearest rates, less the discount, rounded up once; what it really uses is charged"
        + _unbounded(bound, terms),
    )


def _unbounded(bound: Estimate, terms: Terms) -> str:
    if bound.bounded:
        return ""
    if terms.tools:
        return f"; tools are held for {USES} uses where the request sets no limit, and what they really do is charged"
    if terms.loads:
        return "; what is behind a URL is charged for what it is"
    return "; nobody has bounded the answer, so set max_tokens for a firm bound"


def _line(name: str, quantity: int, rate: int) -> Line:
    meter = METERS[name.partition(":")[0]]
    return Line(
        meter=name,
        unit=meter.units,
        quantity=quantity,
        price=exact(rate * meter.per, 10**12),
        per=meter.per,
        credits=exact(quantity * rate, 10**12),
    )


def _with(view: EstimateView, verdict: Verdict) -> EstimateView:
    return EstimateView(
        **{name: getattr(view, name) for name in view.__struct_fields__} | {"verdict": verdict}
    )


async def _verdict(gate: Gate, call: Call, bound: Estimate, *, counted: bool) -> Verdict:
    """What would become of the call now; the hold itself decides when it is made."""
    key = call.key
    cap = caps.of_key(key, call.model.id) if counted else caps.cap_of(call)
    balance, budget, together = await gate.store.read(lambda conn: _funds(conn, key, call.created_at))
    # In the order in which a call meets them.
    limits = [("call_cap_exceeded", cap.amount)] if cap is not None else []
    limits.append(("insufficient_credits", balance.available))
    if budget is not None:
        limits.append(("key_budget_exceeded", budget))
    if together is not None:
        limits.append(("project_budget_exceeded", together))
    code = next((code for code, most in limits if most < bound.amount), None)
    most = min(limit for _, limit in limits)
    clamp = None
    allowed = code is None
    if not allowed and not counted and call.request.output_wanted is None:
        asked = call.request
        less = estimate(
            asked.input_bound,
            None,
            asked.choices,
            call.model,
            max(0, most),
            audio=asked.audio,
            terms=fees.terms(gate, asked, call.model, key.group),
        )
        clamp = less.clamped_output
        allowed = clamp is not None and clamp >= CLAMP_MIN and less.amount <= most
    return Verdict(
        allowed=allowed,
        code=None if allowed else code,
        reason=_reason(None if allowed else code, clamp),
        available=credits_of(balance.available),
        held=credits_of(balance.held),
        budget_remaining=None if budget is None else credits_of(budget),
        project_budget_remaining=None if together is None else credits_of(together),
        cap=None if cap is None else credits_of(cap.amount),
        max_output_tokens=clamp if allowed else None,
    )


def _reason(code: str | None, clamp: int | None) -> str:
    if code is None and clamp is not None:
        return f"It would be let through with its answer limited to {clamp} tokens, which is what can be afforded."
    if code is None:
        return "It would be let through."
    return {
        "insufficient_credits": "The account does not have what the call may cost.",
        "key_budget_exceeded": "The key's budget does not have it; the account may.",
        "project_budget_exceeded": "The budget of the key's project does not have it; the account may.",
        "call_cap_exceeded": "The call may cost more than the cap set for it.",
    }[code]


def _funds(conn: Connection, key: Key, now: int) -> tuple[Balance, int | None, int | None]:
    """The wallet, and what is left of the key's budget and of its project's."""
    balance = wallets.balance(conn, key.wallet) or Balance(0, 0, 0)
    own = _left(conn, key.id, key.budget, period_of(key.budget_period, now))
    return balance, own, _left(conn, key.project_id, key.project_budget, period_of(key.project_period, now))


def _left(conn: Connection, owner: str, limit: int | None, period: str) -> int | None:
    if limit is None:
        return None
    found = dict(wallets.budget_spent(conn, owner)).get(period, Balance(0, 0, 0))
    return max(0, limit + found.credited - found.debited - found.held)
