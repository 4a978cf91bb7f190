"""Which of the offered tools the sandbox's models call, and with what.

The rule, for a last message from the user: a tool it must use is called; otherwise, unless told not
to, every tool the text mentions. A text mentions a tool if it contains the tool's name (with `_` and
`-` as spaces or not, in any case) or one of the name's words of four letters or more, usual verbs
aside: "What is the weather in Paris?" mentions `get_weather`. If a call is required and nothing is
mentioned, the first tool is called that no answer has named yet, else the first. Without parallel calls
only the first one is made.

After results nothing more is called, unless a call is required: then the first tool that has not
answered yet is, so that agents which end by calling a tool come to their end.
"""

from __future__ import annotations

import hashlib
import re
from typing import Final

from tollway.core.json import encode
from tollway.upstream.sandbox import schema
from tollway.upstream.sandbox.ask import Ask, Call, Tool

_CALLS_MAX: Final = 16
_USUAL: Final = frozenset(
    [
        "call",
        "create",
        "delete",
        "fetch",
        "find",
        "function",
        "list",
        "load",
        "look",
        "make",
        "read",
        "search",
        "send",
        "show",
        "tool",
        "update",
        "with",
        "write",
    ]
)
_WORD: Final = re.compile(r"[a-z]+|\d+")
_CAMEL: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


def wanted(ask: Ask, choice: int, *, all_of_them: bool = False) -> tuple[Call, ...]:
    """The calls to make, in the order the tools were offered."""
    last = ask.turns[-1].role
    if last not in ("user", "tool") or ask.choice.mode == "none" or not ask.tools:
        return ()
    if last == "tool":
        chosen = _remaining(ask)
    else:
        chosen = list(ask.tools) if all_of_them else _chosen(ask)
    most = _CALLS_MAX if ask.parallel else 1
    return tuple(
        _call(ask, tool, f"{len(ask.turns)}.{choice}.{number}") for number, tool in enumerate(chosen[:most])
    )


def _chosen(ask: Ask) -> list[Tool]:
    if ask.choice.name:
        return [tool for tool in ask.tools if tool.name == ask.choice.name][:1]
    text = ask.turns[-1].text.lower()
    spoken = frozenset(_WORD.findall(text))
    found = [tool for tool in ask.tools if _mentions(text, spoken, tool.name)]
    if found or ask.choice.mode != "required":
        return found
    # Some agents tell their calls and results in plain text: what the model has named, it has called.
    told = "\n".join(turn.text for turn in ask.turns if turn.role == "assistant")
    return [tool for tool in ask.tools if tool.name not in told][:1] or list(ask.tools[:1])


def _remaining(ask: Ask) -> list[Tool]:
    """The tool to call after results where one must be called, if any is left to the model's choice."""
    if ask.choice.mode != "required" or ask.choice.name:
        return []
    answered = set()
    for turn in reversed(ask.turns):
        if turn.role == "user":
            break
        answered.add(turn.source)
    return [tool for tool in ask.tools if tool.name not in answered][:1]


def _mentions(text: str, spoken: frozenset[str], name: str) -> bool:
    plain = name.lower()
    if len(plain) < 4:
        return plain in spoken
    if plain in text or plain.replace("_", " ").replace("-", " ") in text:
        return True
    words = _WORD.findall(_CAMEL.sub(" ", name).lower())
    return any(len(word) >= 4 and word not in _USUAL and word in spoken for word in words)


def _call(ask: Ask, tool: Tool, place: str) -> Call:
    given = ask.turns[-1].text if tool.custom else encode(_arguments(tool)).decode()
    return call(tool, given, place)


def call(tool: Tool, given: str, place: str) -> Call:
    """A call of `tool` with that input. Its id depends on nothing but these."""
    name = hashlib.blake2b(f"{tool.name}\0{given}\0{place}".encode("utf-8", "replace"), digest_size=12)
    return Call(f"call_{name.hexdigest()}", tool.name, given, tool.custom, tool.space)


def _arguments(tool: Tool) -> object:
    if tool.schema is None:
        return {}
    value = schema.generate(tool.schema)
    return value if type(value) is dict else {}
