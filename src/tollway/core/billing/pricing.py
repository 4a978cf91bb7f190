"""What a call costs, and how much to reserve before it is made.

All arithmetic is in integers: rates are micro-credits per 10^6 units of a meter, and a call is
rounded up once, on its total, after its discount. Estimates are upper bounds of what it can cost.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Protocol

from msgspec import Struct

from tollway.core.billing.fees import admit, fees, unseen_tokens
from tollway.core.billing.meters import tier_of
from tollway.core.billing.money import AMOUNT_MAX
from tollway.core.billing.rates import Dearest, Rates, input_tokens
from tollway.core.errors import GatewayError
from tollway.core.terms import PLAIN, Terms

OUTPUT_UNKNOWN: Final = 16_384
"""Output tokens reserved when neither the request nor the catalogue bounds them.

Enough for nearly every answer, small enough not to freeze a wallet, and what an upstream is asked
for whose dialect demands a limit (`Target.default_output_tokens`). It is a reservation and not a cap:
a longer answer is charged beyond its hold if the wallet affords it.
"""


class Priced(Protocol):
    """What this module needs to know of a model's price."""

    @property
    def rates(self) -> dict[str, int]: ...


class Sold(Protocol):
    """What this module needs to know of a model. `context_window` and `output_max`: tokens, 0 if unknown."""

    @property
    def id(self) -> str: ...
    @property
    def context_window(self) -> int: ...
    @property
    def output_max(self) -> int: ...
    @property
    def price(self) -> Priced | None: ...


class Estimate(Struct, frozen=True):
    """An upper bound of a call. `amount` is micro-credits; `output_tokens` is per choice.

    `clamped_output`: the output limit that must be sent upstream, because the wallet affords no
    more; None when the request may go as it is. `bounded`: whether `amount` really is the most
    the call can cost; False when nobody knows how long the answer may get.
    """

    input_tokens: int
    output_tokens: int
    amount: int
    clamped_output: int | None
    bounded: bool


def cost(meters: Mapping[str, int], rates: Mapping[str, int]) -> int:
    """Micro-credits for disjoint counts: the exact sum less the discount, rounded up once.

    `rates`: best a `Rates`, which has worked out once what a plain map is worked out for each time.
    Meters without a rate are free; counts of a variant take the rate that fits it best, and a call
    marked with a tier takes the rates of that tier.
    """
    known = rates if type(rates) is Rates else Rates(rates)
    due = known.only
    if due is None:
        known = known.of_tier(tier_of(meters))
        due = known.at(input_tokens(meters))
    total = 0
    for meter, count in meters.items():
        rate = due.get(meter)
        if rate is None:
            rate = known.of_variant(meter)
        total += count * rate
    return -(-total // known.scale)


def estimate(  # noqa: PLR0913 - what decides a bound, two of them by keyword
    input_bound: int,
    output_wanted: int | None,
    n: int,
    model: Sold,
    available: int | None,
    *,
    audio: bool = False,
    terms: Terms = PLAIN,
) -> Estimate:
    """Bound what a call can cost.

    `input_bound`: input tokens at most; the bytes of the request's JSON will do, because a token is
    at least one byte and the template around a message is shorter than its JSON. `output_wanted`: the
    caller's own limit per choice. `available`: micro-credits the wallet has, None if unknown.
    `audio`: whether audio goes in or may come out. Input is bounded by the dearest input rate,
    because it is the upstream that decides what is read from or written to a cache; where rates
    rise with the size of the call, by those of the largest call it can be. `terms`: what it asks for
    besides tokens. A tier is bounded by its own rates and the plain ones, because the upstream decides;
    tools by `fees.fees`. As nobody knows how much tools find or what is behind a URL, such a call is not
    `bounded`.

    Without a limit of the caller's, output is reserved up to the model's maximum or what
    `available` affords, at least one token; when even that is too much the hold will be refused.
    A limit the caller gave is never lowered behind its back. Raises GatewayError
    (model_not_available) for a model without a price, and (unsupported_parameter) for what its price
    does not cover.
    """
    price = model.price
    if price is None:
        raise GatewayError("model_not_available", f"{model.id!r} has no price yet", param="model")
    rates = price.rates
    known = rates if type(rates) is Rates else Rates(rates)
    window = model.context_window
    if terms is PLAIN:
        tokens = window if window and window < input_bound else input_bound
        # Most prices are the same for calls of every size.
        most, extra, open_ended = known.usual or known.dearest(tokens), known.call, False
    else:
        admit(terms, known, model.id)
        tokens = _unseen(input_bound, terms, model)
        tokens = window if window and window < tokens else tokens
        most, extra = dearest(known, tokens, terms.tier), known.call + fees(terms, known)
        open_ended = bool(terms.tools or terms.loads)
    rate_in, rate_out, audio_in, audio_out = most
    if audio:
        rate_in, rate_out = audio_in, audio_out
    fixed, per_token = tokens * rate_in + extra, rate_out * n
    output_max, clamp = model.output_max, None
    if output_wanted is not None:
        output = output_max if 0 < output_max < output_wanted else output_wanted
    else:
        output = output_max or OUTPUT_UNKNOWN
        if available is not None and per_token:
            affordable = max(1, (available * known.scale - fixed) // per_token)
            if affordable < output:
                output = clamp = affordable
        if clamp is None and not output_max:
            open_ended = True
    amount = -(-(fixed + output * per_token) // known.scale)
    return Estimate(tokens, output, min(AMOUNT_MAX, amount), clamp, not open_ended)


def dearest(rates: Rates, tokens: int, tier: str) -> Dearest:
    """The dearest due rates of a call that asks for a tier and may be served on it or not."""
    plain, asked = rates.dearest(tokens), rates.of_tier(tier).dearest(tokens)
    return Dearest(*map(max, plain, asked))


def _unseen(input_bound: int, terms: Terms, model: Sold) -> int:
    """The input of a call that the upstream adds to. Raises GatewayError where nothing bounds it."""
    if not terms.keeps:
        return input_bound + unseen_tokens(terms)
    if not model.context_window:
        raise GatewayError(
            "unsupported_parameter",
            f"{terms.keeps!r} refers to input of unknown length, and the context window of the model {model.id!r}, "
            "which would bound it, is not known here. Send the input itself, or let the operator set the window.",
            param=terms.keeps,
            scope="model",
        )
    return model.context_window


def estimate_tokens(chunks: int, text_bytes: int) -> int:
    """Our own count of tokens where the upstream reported none: an estimate that never is 0 for text.

    A content event carries at least one token in practice, and a token averages about four bytes
    of text; the larger of the two is nearer the truth, because upstreams that batch tokens make
    few large events and those that do not make many small ones. Whole texts pass `chunks` 0.
    """
    return max(chunks, -(-text_bytes // 4))
