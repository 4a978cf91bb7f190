"""Refusals for lack of credits without amounts, for operators who do not want to show balances and limits."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

from tollway.core.errors import GatewayError
from tollway.flows.call import Call

_WORDS: Final = {
    "insufficient_credits": "The account of project {project!r} does not have the credits this call may cost. "
    "Add credits or lower max_tokens.",
    "key_budget_exceeded": "The budget of key {key!r} does not have the credits this call may cost. "
    "The account's balance is not the problem. Raise the key's budget{wait} or lower max_tokens.",
    "project_budget_exceeded": "The budget of project {project!r} does not have the credits this call may cost. "
    "The account's balance is not the problem. Raise the project's budget{wait} or lower max_tokens.",
    "call_cap_exceeded": "This call to {model!r} may cost more than the key {key!r} allows for one call. "
    "The balance is not the problem, and nothing was charged. Raise the cap, lower max_tokens, or send less.",
}
"""What is said instead: whose limit it was and what helps."""


def hushed(refused: GatewayError, call: Call) -> GatewayError:
    """The refusal with its code and scope, but without what there is, is held and is needed.

    What the request itself set, such as its own `max_credits`, is no secret and stays as it is.
    """
    words = _WORDS.get(refused.code)
    if words is None or refused.scope is None:
        return refused
    message = words.format(
        project=call.key.project_name,
        key=call.key.name,
        model=call.model.id,
        wait=reset_words(refused.limit.resets_at if refused.limit else None),
    )
    return GatewayError(refused.code, message, param=refused.param, scope=refused.scope)


def reset_words(resets_at: int | None) -> str:
    """What to add to the advice where a budget starts anew at a time (Unix ms)."""
    if resets_at is None:
        return ""
    return f", wait for its reset at {datetime.fromtimestamp(resets_at // 1000, UTC):%Y-%m-%d %H:%M} UTC,"
