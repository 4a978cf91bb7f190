"""What is known of models and providers by name: which parameters they take, how they think, what they refuse.

Facts are quirks: named values that say how one upstream's reading of its dialect differs from what
is usual. They come from four places, and the more particular one wins: the dialect, the model's
name, the provider's preset, and what the operator set on the channel, the model or the route.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import Any, Final

from msgspec import Struct

from tollway.core.routing.models import Channel, Model, Route

Quirks = dict[str, Any]

EFFORTS: Final = ("minimal", "low", "medium", "high", "xhigh", "max")
THINKING: Final = ("effort", "budget", "none")
LIMIT_FIELDS: Final = ("max_completion_tokens", "max_tokens")

DIALECTS: Final[dict[str, Quirks]] = {
    # Everybody who imitates Chat knows the old name of the limit; few know the new one.
    "openai_chat": {"completion_tokens_field": "max_tokens"},
    "openai_responses": {"custom_tools": True},
    "anthropic": {},
    "gemini": {},
}
"""What is usual in a dialect where nothing more is known."""


class Row(Struct, frozen=True):
    """Quirks of the models whose name, in lower case and without its maker's prefix, fits a pattern."""

    dialects: tuple[str, ...]
    patterns: tuple[str, ...]
    quirks: Quirks


_OPENAI: Final = ("openai_chat", "openai_responses")
_CLAUDE_25: Final = {
    "minimal": 1_024,
    "low": 2_048,
    "medium": 8_192,
    "high": 24_576,
    "xhigh": 32_000,
    "max": 32_000,
}

ROWS: Final = (
    Row(
        _OPENAI,
        ("gpt-3.5*", "gpt-4*", "chatgpt-*", "gpt-5-chat*", "gpt-5.?-chat*"),
        {"thinking": "none", "completion_tokens_field": "max_completion_tokens"},
    ),
    Row(
        _OPENAI,
        ("gpt-5", "gpt-5-[!c]*", "gpt-5.?", "gpt-5.?-[!c]*", "gpt-5-codex*", "gpt-5.?-codex*", "gpt-[6-9]*"),
        {"sampling": False, "custom_tools": True, "completion_tokens_field": "max_completion_tokens"},
    ),
    Row(
        _OPENAI,
        ("o1", "o1-*", "o3", "o3-*", "o4", "o4-*", "codex-mini*"),
        {"sampling": False, "completion_tokens_field": "max_completion_tokens"},
    ),
    Row(_OPENAI, ("o1-mini*", "o1-preview*"), {"thinking": "none", "json_schema": False}),
    Row(("anthropic",), ("*claude-2*", "*claude-instant*"), {"thinking": "none", "json_schema": False, "max_output_tokens": 4_096}),
    Row(
        ("anthropic",),
        ("*claude-3-haiku*", "*claude-3-opus*", "*claude-3-sonnet*"),
        {"thinking": "none", "json_schema": False, "max_output_tokens": 4_096},
    ),
    Row(
        ("anthropic",),
        ("*claude-3-5-*",),
        {"thinking": "none", "json_schema": False, "max_output_tokens": 8_192},
    ),
    Row(
        ("anthropic",),
        ("*claude-3-7-*",),
        {"thinking": "budget", "json_schema": False, "max_output_tokens": 64_000, "budgets": _CLAUDE_25},
    ),
    Row(
        ("anthropic",),
        ("*claude-sonnet-4", "*claude-sonnet-4-0*", "*claude-sonnet-4-2*", "*claude-sonnet-4@*"),
        {"thinking": "budget", "json_schema": False, "max_output_tokens": 64_000, "budgets": _CLAUDE_25},
    ),
    Row(
        ("anthropic",),
        ("*claude-opus-4", "*claude-opus-4-0*", "*claude-opus-4-2*", "*claude-opus-4@*"),
        {"thinking": "budget", "json_schema": False, "max_output_tokens": 32_000, "budgets": _CLAUDE_25},
    ),
    Row(
        ("anthropic",),
        ("*claude-opus-4-1*",),
        {"thinking": "budget", "max_output_tokens": 32_000, "budgets": _CLAUDE_25},
    ),
    Row(
        ("anthropic",),
        ("*claude-sonnet-4-5*", "*claude-haiku-4-5*", "*claude-opus-4-5*"),
        {"thinking": "budget", "max_output_tokens": 64_000, "budgets": _CLAUDE_25},
    ),
    # From here on the model itself decides how much to think, and its sampling cannot be set.
    Row(("anthropic",), ("*claude-opus-4-[7-9]*",), {"sampling": False}),
    Row(
        ("anthropic",),
        ("*claude-opus-[5-9]*", "*claude-sonnet-[5-9]*", "*claude-haiku-[5-9]*"),
        {"sampling": False, "mid_system": True},
    ),
    Row(
        ("gemini",),
        ("gemini-1*", "gemini-2.0-*", "gemini-pro", "gemini-pro-vision", "gemma*", "learnlm*"),
        {"thinking": "none", "json_schema": False},
    ),
    Row(
        ("gemini",),
        ("gemini-2.5-*",),
        {
            "thinking": "budget",
            "json_schema": True,
            "max_output_tokens": 65_536,
            "budgets": {"minimal": 512, "low": 1_024, "medium": 8_192, "high": 24_576, "xhigh": 24_576, "max": 24_576},
        },
    ),
    Row(("gemini",), ("gemini-2.5-*image*", "gemini-2.5-*tts*"), {"thinking": "none"}),
    Row(("openai_chat",), ("deepseek-*", "kimi-k2-thinking*", "glm-4.[67]*", "glm-5*"), {"keeps_reasoning": True}),
)  # fmt: skip
"""Rows in order; of several that fit, a later one overrides an earlier one."""

CAPABILITIES: Final[dict[str, Quirks]] = {
    "no_reasoning": {"thinking": "none"},
    "reasoning_effort": {"thinking": "effort"},
    "reasoning_budget": {"thinking": "budget"},
    "no_sampling": {"sampling": False},
    "no_json_schema": {"json_schema": False},
    "mid_system": {"mid_system": True},
}
"""Capability words of a model that say the same as a quirk."""


KEPT: Final = frozenset(
    (
        "model",
        "messages",
        "input",
        "contents",
        "stream",
        "n",
        "max_tokens",
        "max_completion_tokens",
        "max_output_tokens",
        "generationConfig",
        "generation_config",
    )
)
"""Members that are never dropped: without them a call is none, or costs more than was held for it."""


def _flag(value: object) -> bool:
    return type(value) is bool


def _flag_or_none(value: object) -> bool:
    return value is None or type(value) is bool


def _count(value: object) -> bool:
    return type(value) is int and 0 < value <= 10_000_000


def _budgets(value: object) -> bool:
    return type(value) is dict and set(value) <= set(EFFORTS) and all(_count(one) for one in value.values())


def _names(value: object) -> bool:
    if not isinstance(value, list | tuple) or len(value) > 64:
        return False
    return all(type(one) is str and 0 < len(one) <= 64 and one not in KEPT for one in value)


KNOWN: Final[dict[str, tuple[Callable[[object], bool], str]]] = {
    "sampling": (_flag, "true or false: whether temperature and its kin are accepted"),
    "thinking": (lambda value: value in THINKING, "effort, budget or none: how thought is asked for"),
    "budgets": (_budgets, 'tokens of thought for each effort, such as {"low": 2048}'),
    "json_schema": (_flag, "true or false: whether JSON schemas are accepted as they are"),
    "completion_tokens_field": (lambda value: value in LIMIT_FIELDS, "max_completion_tokens or max_tokens"),
    "fetches_urls": (_flag_or_none, "true, false or null: whether the upstream loads media from URLs"),
    "keeps_reasoning": (_flag, "true or false: whether thoughts of earlier turns are wanted back"),
    "custom_tools": (_flag, "true or false: whether tools with free text as input are known"),
    "cache_marks": (_flag, "true or false: whether prompt_cache_breakpoint is known"),
    "cache_marks_max": (lambda value: type(value) is int and 0 <= value <= 64, "how many cache marks are accepted"),
    "mid_system": (_flag, "true or false: whether system messages may stand inside a conversation"),
    "max_output_tokens": (_count, "the model's limit of output tokens"),
    "default_output_tokens": (_count, "output tokens asked for where a limit must be given and the client gave none"),
    "developer_role": (_flag, "true or false: whether the role developer is known"),
    "drop": (_names, "a list of names of members the upstream refuses, but not of those that bound what a call costs"),
}  # fmt: skip
"""Every quirk by name: which values it may have, and what they mean."""

NOT_TARGET: Final = frozenset(("developer_role", "drop"))
"""Quirks that change a finished body, native ones too; the others tell a writer what to write."""


def quirks(channel: Channel, route: Route, model: Model, preset: Mapping[str, Any]) -> Quirks:
    """All that is known of a model on a channel; `preset`: the quirks of the provider's preset."""
    found = {**by_name(channel.dialect, route.upstream_model), **preset, **set_on(channel.options)}
    for word in model.capabilities:
        found.update(CAPABILITIES.get(word, {}))
    if model.output_max:
        found["max_output_tokens"] = model.output_max
    return {**found, **_valid(route.options)}


def mending(channel: Channel, upstream_model: str, preset: Mapping[str, Any]) -> Quirks:
    """What bodies for a model must be changed by, even a native client's.

    A limit is renamed only where its name is known to be refused: by models that take no sampling
    either, or where a preset or the operator says so.
    """
    name = by_name(channel.dialect, upstream_model)
    chosen = {**preset, **set_on(channel.options)}
    found = {quirk: chosen[quirk] for quirk in NOT_TARGET if quirk in chosen}
    field = chosen.get("completion_tokens_field")
    if field == "max_tokens" or name.get("sampling") is False:
        found["completion_tokens_field"] = field or name.get("completion_tokens_field")
    return found


def set_on(options: Mapping[str, object]) -> Quirks:
    """The quirks an operator set among a channel's options."""
    given = options.get("quirks")
    return _valid(given) if type(given) is dict else {}


@lru_cache(maxsize=4096)
def _by_name(dialect: str, name: str) -> Quirks:
    found = dict(DIALECTS.get(dialect, {}))
    for row in ROWS:
        if dialect in row.dialects and any(fnmatchcase(name, pattern) for pattern in row.patterns):
            found.update(row.quirks)
    return found


def by_name(dialect: str, upstream_model: str) -> Mapping[str, Any]:
    """What a dialect and a model's name alone tell. Not to be changed by the caller."""
    return _by_name(dialect, upstream_model.lower().rpartition("/")[2])


def fault_of(name: str, value: object) -> str | None:
    """What is wrong with a quirk, in words that follow its name; None if it may be set."""
    known = KNOWN.get(name)
    if known is None:
        return "is not known"
    fits, meaning = known
    return None if fits(value) else f"must be {meaning}"


def _valid(given: Mapping[str, object]) -> Quirks:
    # What an older or newer version wrote is left alone, and nobody's call fails for it.
    return {name: value for name, value in given.items() if fault_of(name, value) is None}
