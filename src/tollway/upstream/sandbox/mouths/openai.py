"""What OpenAI's dialects share: the error envelope and the words of a bad parameter."""

from __future__ import annotations

from typing import Any, Final
from zlib import crc32

from tollway.core.json import encode
from tollway.upstream.sandbox.ask import Refused
from tollway.upstream.sandbox.mouths.base import Refusal
from tollway.upstream.sandbox.mouths.reading import Invalid
from tollway.upstream.sandbox.steps import JSON

_PICKY: Final = "sandbox-picky"


def envelope(error: Refused) -> dict[str, Any]:
    """An error as OpenAI writes it."""
    inner = {"message": error.message, "type": error.type, "param": error.param, "code": error.code}
    return {"error": inner}


def refuse(error: Refused) -> Refusal:
    """An error response."""
    return Refusal(error.status, (*JSON, *error.headers), encode(envelope(error)))


def explain(invalid: Invalid) -> Refused:
    """Why a body does not fit."""
    if invalid.missing:
        where = f"{invalid.where}.{invalid.missing}" if invalid.where else invalid.missing
        return missing(where)
    return bad_value(f"Invalid request: {invalid.text}", invalid.where or None)


def missing(where: str) -> Refused:
    """A parameter that must be there and is not."""
    return Refused(
        400, f"Missing required parameter: '{where}'.", param=where, code="missing_required_parameter"
    )


def bad_value(message: str, where: str | None) -> Refused:
    """A parameter with a value that is not allowed."""
    return Refused(400, message, param=where, code="invalid_value")


def unsupported(name: str) -> Refused:
    """A parameter this model does not take."""
    text = f"Unsupported parameter: '{name}' is not supported with this model."
    return Refused(400, text, param=name, code="unsupported_parameter")


def check_picky(body: Any, *names: str) -> None:
    """Refuse what reasoning models of OpenAI do not take, for the model that stands for them."""
    if body.model == _PICKY:
        for name in names:
            if getattr(body, name) is not None:
                raise unsupported(name)


def check_strict(name: str, schema: Any, where: str) -> None:
    """A strict function's schema forbids other properties and requires all of its own, at every level."""
    if type(schema) is not dict:
        return
    properties = schema.get("properties")
    if type(properties) is dict or schema.get("type") == "object":
        named = list(properties or ())
        closed = schema.get("additionalProperties") is False
        if not closed or sorted(schema.get("required") or ()) != sorted(named):
            what = "'required' must list every property" if closed else "'additionalProperties' must be false"
            text = f"Invalid schema for function '{name}': {what}."
            raise Refused(400, text, param=where, code="invalid_function_parameters")
        for inner in (properties or {}).values():
            check_strict(name, inner, where)
    check_strict(name, schema.get("items"), where)


def logprob(token: str, top: int) -> dict[str, Any]:
    """Plausible probabilities of a token: invented, but always the same for it."""
    best = -(crc32(token.encode("utf-8", "replace")) % 400) / 1000
    others = [(f"{token[:1]}{rank}", best - 1.5 * rank) for rank in range(1, top)]
    ranked = [(token, best), *others][:top]
    return {**_scored(token, best), "top_logprobs": [_scored(*one) for one in ranked]}


def _scored(token: str, probability: float) -> dict[str, Any]:
    encoded = list(token.encode("utf-8", "replace"))
    return {"token": token, "logprob": round(probability, 6), "bytes": encoded}
