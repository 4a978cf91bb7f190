"""How much to think, said in Messages' words and within its rules.

Thought by budget must fit inside the answer's limit and may not be combined with a forced tool; and
a turn that is in the middle of its tool calls must start with the signed thought it began with.
"""

from __future__ import annotations

from typing import Any, Final

from tollway.core.dialects.base import Target
from tollway.core.exchange import Loss, Reasoning, Request, ToolCall, ToolResult
from tollway.core.seals import usable

NAME: Final = "anthropic"
_BUDGET_MIN: Final = 1_024
_UNSIGNED: Final = "the tool calls of this turn came without their signed thought"
_EFFORTS: Final = {
    "minimal": "low",
    "low": "low",
    "medium": "medium",
    "high": "high",
    "xhigh": "xhigh",
    "max": "max",
}


def thinking(request: Request, target: Target, body: dict[str, Any], losses: list[Loss]) -> dict[str, Any]:
    """The members that say how much to think; `body` is what was written before and decides what may be said."""
    wish = request.reasoning
    if wish is None:
        return {}
    own = wish.extras.get(NAME)
    if own is not None or request.origin == NAME:
        return _signed(_own(own or {}, wish.effort, body), request, target, losses)
    if wish.effort == "none" or wish.budget_tokens == 0:
        return {"thinking": {"type": "disabled"}} if target.thinking != "none" else {}
    if target.thinking == "none" or forced(body):
        why = (
            "the model does not think"
            if target.thinking == "none"
            else "a forced tool leaves no room for thought"
        )
        losses.append(Loss("reasoning", why))
        return {}
    if target.thinking == "budget":
        return _by_budget(request, target, body, losses)
    return _by_effort(wish.effort or _effort_of(wish.budget_tokens, target), wish.show, body)


def forced(body: dict[str, Any]) -> bool:
    """Whether the model must call a tool."""
    choice = body.get("tool_choice")
    return choice is not None and choice["type"] in ("any", "tool")


def _own(own: dict[str, Any], effort: str | None, body: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if "thinking" in own:
        found["thinking"] = own["thinking"]
    said = own.get("effort", effort if "thinking" not in own else None)
    if said is not None:
        found["output_config"] = {**body.get("output_config", {}), "effort": said}
    return found


def _by_effort(effort: str | None, show: str | None, body: dict[str, Any]) -> dict[str, Any]:
    adaptive: dict[str, Any] = {"type": "adaptive"}
    if show is not None:
        adaptive["display"] = "omitted" if show == "none" else "summarized"
    found: dict[str, Any] = {"thinking": adaptive}
    if effort is not None:
        word = _EFFORTS.get(effort, "high")
        found["output_config"] = {**body.get("output_config", {}), "effort": word}
    return found


def _effort_of(budget: int | None, target: Target) -> str | None:
    if budget is None or budget < 0:
        return None
    return next((name for name in ("low", "medium", "high") if budget <= target.budgets.get(name, 0)), "high")


def _by_budget(request: Request, target: Target, body: dict[str, Any], losses: list[Loss]) -> dict[str, Any]:
    wish = request.reasoning
    assert wish is not None
    budget = wish.budget_tokens
    if budget is None or budget < 0:
        budget = target.budgets.get(wish.effort or "medium", 8_192)
    room = body["max_tokens"] - 1
    if request.sampling.max_output_tokens is None:
        # The limit is ours to choose: it leaves as much for the answer as it would without thought.
        limit = target.max_output_tokens
        body["max_tokens"] += budget if limit is None else min(budget, max(limit - body["max_tokens"], 0))
        room = body["max_tokens"] - 1
    budget = max(min(budget, room), 0)
    if budget < _BUDGET_MIN:
        if room < _BUDGET_MIN:
            losses.append(
                Loss("reasoning", f"the answer's limit leaves less than {_BUDGET_MIN} tokens for thought")
            )
            return {}
        budget = _BUDGET_MIN
    if _unsigned_turn(request, target):
        losses.append(Loss("reasoning", _UNSIGNED))
        return {}
    return {"thinking": {"type": "enabled", "budget_tokens": budget}}


def _signed(found: dict[str, Any], request: Request, target: Target, losses: list[Loss]) -> dict[str, Any]:
    """What a client of Messages wishes, unless the thought that its tool calls began with had to be left out."""
    own = found.get("thinking")
    by_budget = type(own) is dict and own.get("type") == "enabled"
    if by_budget and _bereft(request, target) and _unsigned_turn(request, target):
        losses.append(Loss("reasoning", _UNSIGNED))
        return {**found, "thinking": {"type": "disabled"}}
    return found


def _bereft(request: Request, target: Target) -> bool:
    """Whether thoughts of the conversation were left out because this upstream did not sign them."""
    parts = (part for turn in request.turns for part in turn.parts if isinstance(part, Reasoning))
    return any(part.seal is not None and not usable(part.seal, NAME, target.scope) for part in parts)


def _unsigned_turn(request: Request, target: Target) -> bool:
    """Whether the conversation stops amid tool calls that do not start with a thought this upstream signed."""
    turns = request.turns
    at = len(turns) - 1
    while at >= 0 and turns[at].role != "assistant":
        if any(not isinstance(part, ToolResult) for part in turns[at].parts) and turns[at].role == "user":
            return False
        at -= 1
    if at < 0 or at == len(turns) - 1:
        return False
    while at > 0 and turns[at - 1].role == "assistant":
        at -= 1
    parts = [part for turn in turns[at:] if turn.role == "assistant" for part in turn.parts]
    if not any(isinstance(part, ToolCall) for part in parts):
        return False
    return not (isinstance(parts[0], Reasoning) and usable(parts[0].seal, NAME, target.scope))
