"""Which media must become data, for each dialect: as much as the upstream cannot load, and no more."""

from __future__ import annotations

import pytest

from tollway.core.dialects.base import Target
from tollway.core.dialects.registry import DIALECTS
from tollway.core.exchange import Media, Request, Text, ToolResult, Turn
from tollway.flows.inline import assumed, needed

NAMES = ("openai_chat", "openai_responses", "anthropic", "gemini")
USUAL, LOADS, NEVER = Target(), Target(fetches_urls=True), Target(fetches_urls=False)
HTTPS, HTTP = "https://h.example/x", "http://h.example/x"


def image(url=HTTPS, kind="image/*", **more):
    return Media(kind, "url", url, **more)


def asking(*parts, role="user", origin="elsewhere"):
    return Request(model="m", turns=(Turn(role=role, parts=parts),), origin=origin)


NEEDED = [
    # (dialect, target, part, whether it must be data)
    ("openai_chat", USUAL, image(), False),
    ("openai_chat", USUAL, image(HTTP), False),
    ("openai_chat", LOADS, image(), False),
    ("openai_chat", NEVER, image(), True),
    ("openai_chat", USUAL, image("gs://bucket/x.png"), True),
    ("openai_chat", USUAL, image("data:image/png,x"), True),
    ("openai_chat", USUAL, image(kind="application/pdf"), True),
    ("openai_chat", LOADS, image(kind="application/pdf"), True),
    ("openai_chat", USUAL, image(kind="audio/wav"), True),
    ("openai_chat", NEVER, image(kind="video/mp4"), False),
    ("openai_responses", USUAL, image(), False),
    ("openai_responses", USUAL, image(kind="application/pdf"), False),
    ("openai_responses", USUAL, image(kind="text/csv"), False),
    ("openai_responses", NEVER, image(), True),
    ("openai_responses", NEVER, image(kind="application/pdf"), True),
    ("openai_responses", USUAL, image(kind="audio/mpeg"), True),
    ("openai_responses", NEVER, image(kind="video/mp4"), False),
    ("anthropic", USUAL, image(), False),
    ("anthropic", USUAL, image(kind="application/pdf"), False),
    ("anthropic", USUAL, image(HTTP), True),
    ("anthropic", USUAL, image(kind="text/plain"), True),
    ("anthropic", USUAL, image(kind="application/*"), True),
    ("anthropic", NEVER, image(), True),
    ("anthropic", NEVER, image(kind="audio/wav"), False),
    ("anthropic", NEVER, image(kind="video/mp4"), False),
    ("gemini", USUAL, image(), True),
    ("gemini", USUAL, image(kind="application/pdf"), True),
    ("gemini", USUAL, image(kind="audio/wav"), True),
    ("gemini", USUAL, image(kind="video/mp4"), True),
    ("gemini", USUAL, image("gs://bucket/x.png"), False),
    ("gemini", USUAL, image("https://generativelanguage.googleapis.com/v1beta/files/a"), False),
    ("gemini", USUAL, image("https://www.youtube.com/watch?v=a", "application/*"), False),
    ("gemini", USUAL, image("https://youtu.be/a", "video/*"), False),
    ("gemini", USUAL, image("https://youtu.be.h.example/a", "video/*"), True),
    ("gemini", LOADS, image(), False),
    ("gemini", LOADS, image(HTTP), True),
    ("gemini", NEVER, image(), True),
    *[
        (name, target, Media("image/png", "base64", "AAAA"), False)
        for name in NAMES
        for target in (USUAL, NEVER)
    ],
    *[(name, NEVER, Media("image/*", "file", "file-1"), False) for name in NAMES],
    *[(name, NEVER, Media("text/plain", "text", "words"), False) for name in NAMES],
]


@pytest.mark.parametrize(("dialect", "target", "part", "wanted"), NEEDED)
def test_only_what_the_upstream_cannot_load_is_needed(dialect, target, part, wanted):
    assert needed(asking(Text("look"), part), dialect, target) == ([part] if wanted else [])
    inside = ToolResult("call_1", (Text("found"), part))
    assert needed(asking(inside), dialect, target) == ([part] if wanted else [])


@pytest.mark.parametrize("dialect", NAMES)
def test_at_home_the_client_writes_for_the_upstream_unless_it_loads_nothing(dialect):
    request = asking(image(), image(kind="application/pdf"), image("data:image/png,x"), origin=dialect)
    assert needed(request, dialect, USUAL) == []
    assert needed(request, dialect, LOADS) == []
    assert needed(request, dialect, NEVER) == list(request.turns[0].parts)


@pytest.mark.parametrize(
    ("dialect", "roles"),
    [
        ("openai_chat", {"user"}),
        ("openai_responses", {"user", "system"}),
        ("anthropic", {"user", "system", "assistant"}),
        ("gemini", {"user", "system", "assistant"}),
    ],
)
def test_nothing_is_fetched_for_a_turn_that_cannot_show_it(dialect, roles):
    for role in ("system", "user", "assistant"):
        assert bool(needed(asking(image(), role=role), dialect, NEVER)) is (role in roles)


PROBES = [image(), image(HTTP), image(kind="image/webp"), image(kind="application/pdf"), image(kind="application/*"),
          image(kind="text/csv", name="a.csv"), image(kind="audio/wav"), image(kind="video/mp4"),
          image("https://youtu.be/a", "video/*"), image("data:image/gif;base64,R0lGODlh", "image/gif")]  # fmt: skip


@pytest.mark.parametrize("dialect", NAMES)
@pytest.mark.parametrize("target", [USUAL, LOADS, NEVER], ids=["usual", "loads", "never"])
@pytest.mark.parametrize("part", PROBES, ids=lambda part: f"{part.media_type} {part.value[:12]}")
async def test_no_writer_loses_what_can_be_fetched_and_none_is_fetched_for_nothing(dialect, target, part):
    """The writers and this module agree: what is carried at all is carried once the needed parts are data."""
    request = asking(part)
    written = DIALECTS[dialect].write_request(assumed(request, dialect, target), target)
    lost = any(loss.severity == "capability" for loss in written.losses)
    carried = part.family in {
        "anthropic": ("image", "document"),
        "gemini": ("image", "document", "audio", "video"),
    }.get(dialect, ("image", "document", "audio"))
    assert lost is not carried
    if not carried:
        assert needed(request, dialect, target) == []


def test_the_assumed_request_is_the_request_where_nothing_is_needed():
    request = asking(Text("look"), image())
    assert assumed(request, "openai_chat", USUAL) is request
    found = list(assumed(request, "gemini", USUAL).turns[0].parts)
    assert found == [Text("look"), Media("image/png", "base64", "")]
