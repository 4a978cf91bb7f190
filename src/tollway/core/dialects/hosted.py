"""What a body asks of an upstream besides tokens: tools that it runs itself, tiers, input that it keeps.

Tools that clients run are no concern of ours, and neither are types nobody here knows: new ones are
passed on as they are. Where an answer tells how often a tool ran, the tool is priced by its own meter;
where none tells, by the `call`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from tollway.core.dialects.counting import tier
from tollway.core.exchange import Media
from tollway.core.terms import PLAIN, Terms, Tool

USES_MAX: Final = 1000
"""More uses than any answer holds."""

_TIER_FIELDS: Final = ("speed", "service_tier", "serviceTier", "inference_geo")
_KEPT: Final[dict[str, tuple[str, ...]]] = {
    "openai_chat": (),
    "openai_responses": ("prompt", "conversation"),
    "anthropic": (),
    "gemini": ("cachedContent", "cached_content"),
}
_RESPONSES: Final = {
    "file_search": "file_search",
    "code_interpreter": "code_session",
    "x_search": "web_search",
    "collections_search": "file_search",
    "image_generation": "image",
    "mcp": None,
}
_GEMINI: Final = {
    "googlesearch": "web_search",
    "googlesearchretrieval": "web_search",
    "enterprisewebsearch": "web_search",
    "googlemaps": "map_search",
    "urlcontext": None,
    "filesearch": None,
    "retrieval": None,
    "codeexecution": None,
}
_ANTHROPIC: Final = {
    "web_search_": "web_search",
    "web_fetch_": None,
    "code_execution_": "code_session",
    "advisor_": "",
    "mcp_toolset": None,
}
CHAT_MEMBERS: Final = frozenset(
    ("tools", "service_tier", "web_search_options", "enable_search", "search_parameters", "plugins")
)
"""The members by which a Chat body asks for anything besides tokens."""
_CHAT: Final = {
    "openrouter:web_search": "web_search",
    "web_search": "call",
    "browser_search": "call",
    "code_interpreter": "call",
    "builtin_function": "call",
}


def terms(dialect: str, body: dict[str, Any], media: Sequence[Media]) -> Terms:
    """What a parsed body of a dialect asks for. `media`: all that its conversation holds."""
    tools = _READERS[dialect](body)
    asked, field = _tier(body)
    keeps = next((name for name in _KEPT[dialect] if body.get(name) is not None), "")
    if not keeps and any(one.source == "file" and one.family != "image" for one in media):
        keeps = "file_id" if dialect != "gemini" else "fileData"
    loads = any(one.source == "url" and one.family != "image" for one in media)
    if not (tools or asked or keeps or loads):
        return PLAIN
    return Terms(tuple(tools), asked, field, keeps, loads)


def _tier(body: dict[str, Any]) -> tuple[str, str]:
    """The tier asked for, and the member that asks for it."""
    asked = tier(*(body.get(name) for name in _TIER_FIELDS))
    field = next((name for name in _TIER_FIELDS if asked and tier(body.get(name))), "service_tier")
    return asked, field


def _declared(body: dict[str, Any]) -> list[dict[str, Any]]:
    listed = body.get("tools")
    return [one for one in listed if type(one) is dict] if type(listed) is list else []


def _uses(*limits: object) -> int | None:
    """The least of the limits a request sets on the uses of a tool, None if it sets none."""
    found = [limit for limit in limits if type(limit) is int and 0 <= limit <= USES_MAX]
    return min(found, default=None)


def _responses(body: dict[str, Any]) -> list[Tool]:
    found = []
    most = _uses(body.get("max_tool_calls"))
    for one in _declared(body):
        kind = str(one.get("type"))
        if kind.startswith("web_search"):
            found.append(Tool(kind, "web_search", most))
        elif kind == "image_generation":
            # A picture is no input, and one a call is usual.
            found.append(Tool(kind, "image", 1, reads=False))
        elif kind == "code_interpreter" or (kind == "shell" and _contained(one)):
            found.append(Tool(kind, "code_session", 1))
        elif kind in _RESPONSES:
            found.append(Tool(kind, _RESPONSES[kind], most))
    return found


def _contained(shell: dict[str, Any]) -> bool:
    """Whether a shell runs in a container of the upstream's."""
    environment = shell.get("environment")
    kind = environment.get("type") if type(environment) is dict else None
    return type(kind) is str and kind.startswith("container")


def _anthropic(body: dict[str, Any]) -> list[Tool]:
    found = []
    listed = _declared(body)
    # Where a tool of the web sorts what it finds by code, running code is free.
    sorted_by_code = any(
        str(one.get("type")).startswith(("web_search_2026", "web_fetch_2026")) for one in listed
    )
    for one in listed:
        kind = one.get("type")
        known = next((name for name in _ANTHROPIC if type(kind) is str and kind.startswith(name)), None)
        if known is not None:
            meter = _ANTHROPIC[known]
            uses = 1 if meter == "code_session" else _uses(one.get("max_uses"))
            found.append(Tool(str(kind), None if meter == "code_session" and sorted_by_code else meter, uses))
    if body.get("context_management") is not None:
        # A summary of the conversation takes a pass over all of it.
        found.append(Tool("context_management", None, 1, field="context_management"))
    return found


def _gemini(body: dict[str, Any]) -> list[Tool]:
    found = []
    for one in _declared(body):
        for name, value in one.items():
            plain = name.replace("_", "").lower()
            if plain in _GEMINI and value is not None:
                found.append(Tool(name, _GEMINI[plain]))
    return found


def _chat(body: dict[str, Any]) -> list[Tool]:
    found = []
    if body.get("web_search_options") is not None:
        found.append(Tool("web_search_options", "call", 1, field="web_search_options"))
    if body.get("enable_search") is True:
        found.append(Tool("enable_search", "call", 1, field="enable_search"))
    live = body.get("search_parameters")
    if type(live) is dict and live.get("mode") != "off":
        uses = _uses(live.get("max_search_results")) or 20
        found.append(Tool("search_parameters", "web_search", uses, reads=False, field="search_parameters"))
    plugins = body.get("plugins")
    found += [
        Tool("web", "web_search", 1, field="plugins")
        for one in (plugins if type(plugins) is list else ())
        if type(one) is dict and one.get("id") == "web" and one.get("enabled") is not False
    ]
    for one in _declared(body):
        meter = _CHAT.get(str(one.get("type")))
        if meter is not None:
            found.append(Tool(str(one.get("type")), meter, 1 if meter == "call" else None))
    return found


def without(dialect: str, body: dict[str, Any], names: frozenset[str]) -> dict[str, Any] | None:
    """The body without the tools of these names, as `Tool.name` has them; None where it is for such a tool.

    That is so where no other tool is offered beside them, where a member of its own asks for one, or
    where the answer must begin with one.
    """
    listed = body.get("tools")
    if type(listed) is not list:
        return None
    kept: list[Any] = []
    gone: set[str] = set()
    for one in listed:
        if type(one) is not dict:
            return None
        found = names & (set(one) if dialect == "gemini" else {str(one.get("type"))})
        gone |= found
        if not found:
            kept.append(one)
        elif dialect == "gemini" and len(one) > len(found):
            kept.append({name: value for name, value in one.items() if name not in names})
        elif dialect == "anthropic":
            gone.add(str(one.get("name")))
    if not kept or names - gone:
        return None
    choice = body.get("tool_choice")
    if type(choice) is dict and {str(choice.get("type")), str(choice.get("name"))} & gone:
        return None
    return {**body, "tools": kept}


_READERS: Final = {
    "openai_chat": _chat,
    "openai_responses": _responses,
    "anthropic": _anthropic,
    "gemini": _gemini,
}


def chat_terms(body: dict[str, Any], heavy: bytes) -> Terms:
    """The same of a Chat body, the busiest. `heavy`: its JSON, where it may refer to a file."""
    keeps = "file_id" if heavy.find(b'"file_id":"') >= 0 else ""
    if not keeps and body.keys().isdisjoint(CHAT_MEMBERS):
        return PLAIN
    tools = tuple(_chat(body))
    asked, field = _tier(body)
    return Terms(tools, asked, field, keeps) if tools or asked or keeps else PLAIN
