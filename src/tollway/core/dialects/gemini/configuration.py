"""Gemini's generationConfig: sampling, format, thought and what kinds of answer are wanted."""

from __future__ import annotations

from typing import Any, Final

from tollway.core.dialects.base import Target
from tollway.core.dialects.gemini.proto import NAME
from tollway.core.dialects.gemini.schema import to_gemini
from tollway.core.exchange import Loss, OutputFormat, Request

_STOPS_MAX: Final = 5
_LEVELS: Final = {
    "none": "MINIMAL",
    "minimal": "MINIMAL",
    "low": "LOW",
    "medium": "MEDIUM",
    "high": "HIGH",
    "xhigh": "XHIGH",
    "max": "XHIGH",
}
_NAMES: Final = {
    "temperature": "temperature",
    "top_p": "topP",
    "top_k": "topK",
    "seed": "seed",
    "presence_penalty": "presencePenalty",
    "frequency_penalty": "frequencyPenalty",
    "max_output_tokens": "maxOutputTokens",
}


def generation_config(request: Request, target: Target, losses: list[Loss]) -> dict[str, Any]:
    """The generationConfig that says what the request wishes; what it cannot say is added to `losses`."""
    home = request.origin == NAME
    wanted = request.sampling
    found: dict[str, Any] = {
        word: value for name, word in _NAMES.items() if (value := getattr(wanted, name)) is not None
    }
    if wanted.stop:
        found["stopSequences"] = list(wanted.stop) if home else list(wanted.stop[:_STOPS_MAX])
        if len(wanted.stop) > _STOPS_MAX and not home:
            losses.append(Loss("stop", f"at most {_STOPS_MAX} stop sequences are sent"))
    if request.candidates > 1:
        found["candidateCount"] = request.candidates
    if request.logprobs is not None:
        found["responseLogprobs"] = True
        if request.logprobs:
            found["logprobs"] = request.logprobs
    if request.output is not None:
        found.update(_output(request.output, target))
    wish = _thinking(request, target, losses)
    if wish:
        found["thinkingConfig"] = wish
    if request.modalities and (home or set(request.modalities) != {"text"}):
        found["responseModalities"] = [one.upper() for one in request.modalities]
    return found


def _output(output: OutputFormat, target: Target) -> dict[str, Any]:
    own = output.extras.get(NAME, {})
    if output.kind == "text":
        return dict(own)
    found: dict[str, Any] = {"responseMimeType": own.get("responseMimeType", "application/json")}
    if output.kind != "json_schema":
        return found
    schema = output.schema if output.schema is not None else {"type": "object"}
    if "declared" in own:
        found["responseSchema"] = own["declared"]
    elif target.json_schema:
        found["responseJsonSchema"] = schema
    else:
        found["responseSchema"] = to_gemini(schema)
    return found


def _thinking(request: Request, target: Target, losses: list[Loss]) -> dict[str, Any]:
    wish = request.reasoning
    if wish is None:
        return {}
    if request.origin == NAME:
        return _own_thinking(request)
    if target.thinking == "none":
        if wish.effort != "none":
            losses.append(Loss("reasoning", "the model does not think"))
        return {}
    found: dict[str, Any] = {}
    if wish.show is not None:
        found["includeThoughts"] = wish.show != "none"
    if target.thinking == "budget":
        budget = wish.budget_tokens
        if budget is None and wish.effort is not None:
            budget = 0 if wish.effort == "none" else target.budgets.get(wish.effort, -1)
        if budget is not None:
            found["thinkingBudget"] = budget
        return found
    effort = wish.effort or _effort_of(wish.budget_tokens, target)
    if effort is not None:
        found["thinkingLevel"] = _LEVELS.get(effort, "HIGH")
    return found


def _own_thinking(request: Request) -> dict[str, Any]:
    wish = request.reasoning
    assert wish is not None
    found: dict[str, Any] = dict(wish.extras.get(NAME, {}))
    if wish.show is not None:
        found["includeThoughts"] = wish.show != "none"
    if wish.budget_tokens is not None:
        found["thinkingBudget"] = wish.budget_tokens
    if wish.effort is not None and wish.budget_tokens != 0:
        found["thinkingLevel"] = wish.effort.upper()
    return found


def _effort_of(budget: int | None, target: Target) -> str | None:
    if budget is None or budget < 0:
        return None
    if budget == 0:
        return "none"
    return next((name for name in ("low", "medium", "high") if budget <= target.budgets.get(name, 0)), "high")
