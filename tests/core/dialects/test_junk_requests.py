"""Junk in place of any member of a request is understood or refused by name: nothing a client sends is our mistake."""

from __future__ import annotations

import contextlib
import copy
import json
from collections.abc import Callable, Iterator
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st
from tests.support.dialects import GOLDEN, NAMES

from tollway.core.dialects.base import Target
from tollway.core.dialects.checked import ask, parse, read_chat, read_completion_body
from tollway.core.dialects.registry import DIALECTS
from tollway.core.errors import GatewayError
from tollway.core.media.embeddings import Embedding, read_gemini, read_openai
from tollway.flows.count import estimated

Body = dict[str, Any]

CONTENT = {"parts": [{"text": "x"}], "role": "user"}
ONE = {"model": "m", "content": CONTENT, "outputDimensionality": 5, "taskType": "X", "title": "t"}
OTHERS: dict[str, Body] = {
    "completion": {"model": "m", "prompt": "hi", "stream": True, "n": 2, "stop": ["a"], "logprobs": 1, "max_tokens": 5},
    "embeddings": {"model": "m", "input": ["a", "b"], "encoding_format": "float", "dimensions": 5},
    "embed": ONE,
    "embed_batch": {"model": "m", "requests": [ONE, ONE]},
}  # fmt: skip
JUNK = st.sampled_from(
    [None, True, 0, -1, 1.5, 1e308, 2**63, "", "x", "\0", "data:", "data:,", "data:;base64", "https://x/y", "=", "1" * 5000, "tool_use"]
    + [[], [None], [[]], [{}], ["a", 1], {}, {"type": "text"}, {"type": None}, {"type": ["a"]}, {"a": {"b": [1, {}]}}]
) | st.recursive(st.none() | st.integers(-5, 5) | st.text(max_size=3), lambda one: st.lists(one, max_size=2) | st.dictionaries(st.text(max_size=4), one, max_size=2), max_leaves=5)  # fmt: skip


def golden_bodies() -> Iterator[tuple[str, Body]]:
    for path in sorted(GOLDEN.glob("*/*.json")):
        found = json.loads(path.read_text())
        if "request" in found:
            more = {"model": "m", "stream": False} if path.parent.name == "gemini" else {}
            yield path.parent.name, {**found["request"], **more}


SOURCES = [*golden_bodies(), *OTHERS.items()]


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if path:
        yield path
    pairs = value.items() if type(value) is dict else enumerate(value) if type(value) is list else ()
    for name, one in pairs:
        yield from places(one, (*path, name))


def served(kind: str, body: Body) -> None:
    """What routes and flows do with a body, up to what is sent."""
    readers: dict[str, Callable[[Body], Any]] = {
        "openai_chat": lambda one: read_chat(json.dumps(one).encode()),
        "completion": read_completion_body,
        "embeddings": read_openai,
        "embed": lambda one: read_gemini(one, batch=False),
        "embed_batch": lambda one: read_gemini(one, batch=True),
    }
    asked = readers.get(kind, lambda one: ask(kind, one))(body)  # type: ignore[arg-type]
    assert asked.input_bound >= 0
    asked.body("upstream", 5)
    if isinstance(asked, Embedding):
        asked.write("gemini", "upstream")
        return
    request = asked.exchange()
    for upstream in NAMES:
        DIALECTS[upstream].write_request(request, Target())


def counted(kind: str, body: Body) -> None:
    counting = DIALECTS[kind].counting if kind in NAMES else None  # type: ignore[index]
    if counting is not None:
        assert estimated(counting.read_request(body), body) > 0


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_junk_anywhere_is_understood_or_refused(data) -> None:
    kind, body = data.draw(st.sampled_from(SOURCES))
    body = copy.deepcopy(body)
    for _ in range(data.draw(st.integers(1, 2))):
        *path, last = data.draw(st.sampled_from(list(places(body)) or [("model",)]))
        inside = body
        for step in path:
            inside = inside[step]
        if type(inside) is dict and data.draw(st.booleans()):
            last = data.draw(st.sampled_from(["type", "role", "content", "id", "name", "text", "input", "output", last]))  # fmt: skip
        inside[last] = copy.deepcopy(data.draw(JUNK))
    check(kind, body)


@given(st.sampled_from(SOURCES), st.sampled_from(["model", "max_credits", "service_tier"]), JUNK)
@example(SOURCES[0], "model", "x" * 129)
def test_junk_in_what_all_have_is_understood_or_refused(source, name, junk) -> None:
    check(source[0], {**source[1], name: junk})


def check(kind: str, body: Body) -> None:
    for use in (served, counted):
        with contextlib.suppress(GatewayError):
            use(kind, parse(json.dumps(body).encode()))
