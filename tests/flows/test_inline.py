"""Media by URL becomes data exactly where an upstream needs it, from real servers through the real guard."""

from __future__ import annotations

import asyncio
import base64
import binascii

import pytest
from tests.support.servers import PATIENCE, eventually, serve, whole
from tests.upstream.guard.world import PUBLIC, World

from tollway.core.dialects.base import Target
from tollway.core.dialects.registry import read_request
from tollway.core.errors import GatewayError
from tollway.core.exchange import Media, Request, Text, ToolCall, ToolResult, Turn
from tollway.flows import inline as flow
from tollway.flows.inline import Wants, inline
from tollway.upstream.guard import Limits
from tollway.upstream.guard_rules import Rules

PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(64))
JPEG = b"\xff\xd8\xff\xe0\0\x10JFIF"
PDF = b"%PDF-1.7\n1 0 obj"
WAV = b"RIFF\x24\0\0\0WAVEfmt "
MP4 = b"\0\0\0\x1cftypisom\0\0"
HEIC = b"\0\0\0\x1cftypheic\0\0"
NAMES = ("openai_chat", "openai_responses", "anthropic", "gemini")
USUAL, LOADS, NEVER = Target(), Target(fetches_urls=True), Target(fetches_urls=False)
HTTPS, HTTP = "https://h.example/x", "http://h.example/x"


def image(url=HTTPS, kind="image/*", **more):
    return Media(kind, "url", url, **more)


def asking(*parts, role="user", origin="elsewhere"):
    return Request(model="m", turns=(Turn(role=role, parts=parts),), origin=origin)


def parts_of(request):
    return [part for turn in request.turns for part in turn.parts]


def data_of(media):
    assert media.source == "base64"
    return base64.b64decode(media.value)


@pytest.fixture
def world():
    return World()


def serving(files, seen=None):
    """A server of files by path: bytes, or a content type and bytes."""

    async def script(peer):
        asked = await peer.request()
        path = asked.line.split(b" ")[1].decode()
        if seen is not None:
            seen.append(path)
        kind, body = (
            files[path] if isinstance(files[path], tuple) else ("application/octet-stream", files[path])
        )
        await peer.send(whole(200, body, headers=f"content-type: {kind}\r\n".encode()))

    return script


async def inlined(world, request, files, dialect="gemini", target=USUAL, seen=None, rules=None, **wants):
    async with serve(serving(files, seen)) as server:
        world.put("h.example", server)
        return await inline(request, Wants(dialect=dialect, target=target, **wants), world.guard(rules))


async def refusal(world, *args, **options):
    with pytest.raises(GatewayError) as caught:
        await inlined(world, *args, **options)
    assert caught.value.code == "unusable_media"
    assert caught.value.status == 400
    return caught.value


@pytest.mark.parametrize(
    ("part", "told", "body", "kind"),
    [
        (image(HTTP), "image/png", PNG, "image/png"),
        (image(HTTP, "image/png"), "image/png", JPEG, "image/jpeg"),
        (image(HTTP), "", JPEG, "image/jpeg"),
        (image(HTTP, "application/pdf"), "application/pdf", PDF, "application/pdf"),
        (image(HTTP, "application/*"), "text/html", PNG, "image/png"),
        (image(HTTP, "audio/wav"), "audio/x-wav", WAV, "audio/wav"),
        (image(HTTP, "audio/*"), "video/mp4", MP4, "audio/mp4"),
        (image(HTTP, "video/mp4"), "video/mp4", MP4, "video/mp4"),
        (image(HTTP), "image/heic", HEIC, "image/heic"),
    ],
)
async def test_a_file_becomes_data_of_the_type_it_is(world, part, told, body, kind):
    found = parts_of(await inlined(world, asking(Text("look"), part), {"/x": (told, body)}))
    assert found[0] == Text("look")
    assert (found[1].media_type, data_of(found[1])) == (kind, body)


@pytest.mark.parametrize(
    ("part", "told"),
    [
        (image(HTTP, "application/pdf"), "text/plain; charset=utf-8"),
        (image(HTTP, "text/csv"), ""),
        (image("http://h.example/x.csv", "application/*"), ""),
        (image(HTTP, "application/*", name="a.md"), ""),
        (image(HTTP, "application/*"), "application/json"),
    ],
)
async def test_a_text_becomes_text(world, part, told):
    body = "größe,1\n".encode()
    path = "/x.csv" if part.value.endswith("csv") else "/x"
    (found,) = parts_of(await inlined(world, asking(part), {path: (told, body)}))
    assert (found.media_type, found.source, found.value) == ("text/plain", "text", "größe,1\n")


async def test_the_rest_of_a_part_and_of_the_request_stays_as_it_was(world):
    part = image(HTTP, detail="high", name="cat.png", cache_ttl="5m", extras={"elsewhere": {"a": 1}})
    turns = (
        Turn(role="system", parts=(Text("be brief"),)),
        Turn(role="assistant", parts=(ToolCall("c1", "look", "{}"),)),
        Turn(
            role="user",
            parts=(ToolResult("c1", (Text("here"), part)), Text("so?")),
            extras={"elsewhere": {"b": 2}},
        ),
    )
    request = Request(model="m", turns=turns, origin="elsewhere", stream=True)
    found = await inlined(world, request, {"/x": PNG})
    assert found.turns[:2] == turns[:2]
    result, text = found.turns[2].parts
    new = Media("image/png", "base64", base64.b64encode(PNG).decode(), name="cat.png", detail="high", cache_ttl="5m",
                extras={"elsewhere": {"a": 1}})  # fmt: skip
    assert result == ToolResult("c1", (Text("here"), new))
    assert (text, found.turns[2].extras, found.stream) == (Text("so?"), {"elsewhere": {"b": 2}}, True)
    assert turns[2].parts[0].content[1] is part


async def test_nothing_needed_is_nothing_done(world):
    request = asking(image(), Text("look"))
    assert await inline(request, Wants(dialect="openai_chat", target=USUAL), world.guard()) is request
    assert world.asked == []


async def test_one_file_is_fetched_once_however_often_it_is_shown(world):
    seen = []
    request = asking(image(HTTP), ToolResult("c", (image(HTTP),)), image("http://h.example/y"))
    found = parts_of(await inlined(world, request, {"/x": PNG, "/y": JPEG}, seen=seen))
    assert sorted(seen) == ["/x", "/y"]
    assert data_of(found[0]) == data_of(found[1].content[0]) == PNG
    assert data_of(found[2]) == JPEG


async def test_at_most_four_files_are_fetched_at_once(world):
    release, most = asyncio.Event(), []
    waiting = 0

    async def script(peer):
        nonlocal waiting
        await peer.request()
        waiting += 1
        most.append(waiting)
        await release.wait()
        waiting -= 1
        await peer.send(whole(200, PNG))

    async with serve(script) as server:
        world.put("h.example", server)
        request = asking(*(image(f"http://h.example/{at}") for at in range(9)))
        task = asyncio.create_task(inline(request, Wants(dialect="gemini", target=USUAL), world.guard()))
        await eventually(lambda: waiting == 4)
        release.set()
        assert [data_of(one) for one in parts_of(await task)] == [PNG] * 9
        assert max(most) == 4


# data URLs


@pytest.mark.parametrize(
    ("url", "kind", "found"),
    [
        ("data:image/png;base64," + base64.b64encode(PNG).decode(), "image/*", PNG),
        ("DATA:;base64," + base64.b64encode(PNG).decode(), "image/*", PNG),
        ("data:image/gif,GIF89a%01%00", "image/*", b"GIF89a\1\0"),
        ("data:application/pdf,%25PDF-1.7", "application/pdf", b"%PDF-1.7"),
    ],
)
async def test_a_data_url_is_read_where_it_stands(world, url, kind, found):
    for dialect in NAMES:
        (media,) = parts_of(await inlined(world, asking(image(url, kind)), {}, dialect=dialect))
        assert data_of(media) == found
    assert world.asked == []


async def test_a_data_url_of_text_is_text(world):
    (media,) = parts_of(
        await inlined(world, asking(image("data:text/plain;charset=utf-8,gr%C3%BCn", "application/*")), {})
    )
    assert (media.source, media.value) == ("text", "grün")


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("data:image/png;base64", "comma"),
        ("data:image/png;base64,!!!!", "base64"),
        ("data:image/png;base64,AAA", "base64"),
        ("data:image/png,hello", "no known type, though called image/png"),
        ("data:image/svg+xml,<svg/>", "no known type"),
        ("data:image/gif,GIF89a" + "a" * 100, "more than 50 bytes"),
    ],
)
async def test_a_data_url_of_no_use_is_refused(world, url, why):
    error = await refusal(world, asking(image(url)), {}, rules=Rules(bytes_max=50))
    assert why in error.message


# refusals


@pytest.mark.parametrize(
    ("part", "told", "body", "why"),
    [
        (image(HTTP), "text/html", b"<html>", "h.example answered with text/html, where image/* is wanted"),
        (image(HTTP), "image/png", b"<html>", "it is of no known type, though called image/png; PNG, JPEG, GIF or WebP is wanted"),
        (image(HTTP), "image/svg+xml", b"<svg/>", "no known type"),
        (image(HTTP), "image/png", PDF, "it is application/pdf, though called image/png; PNG, JPEG"),
        (image(HTTP), "image/png", MP4, "it is video/mp4"),
        (image(HTTP), "image/png", b"", "no known type"),
        (image(HTTP, "application/pdf"), "application/pdf", PNG, "it is image/png, though called application/pdf; PDF or plain text is wanted"),
        (image(HTTP, "application/pdf"), "text/html", PDF, "answered with text/html"),
        (image(HTTP, "application/pdf"), "text/plain", b"\xff\0", "no known type"),
        (image(HTTP, "application/*"), "text/html", b"<html>", "a known type is wanted"),
        (image(HTTP, "audio/wav"), "audio/wav", PNG, "audio is wanted"),
        (image(HTTP, "video/mp4"), "video/mp4", WAV, "video is wanted"),
    ],
)  # fmt: skip
async def test_a_file_of_another_kind_is_refused(world, part, told, body, why):
    error = await refusal(world, asking(part), {"/x": (told, body)})
    assert why in error.message


async def test_what_one_upstream_takes_another_may_not(world):
    error = await refusal(world, asking(image(HTTP)), {"/x": HEIC}, dialect="anthropic")
    assert "it is image/heic" in error.message


BODY = {
    "model": "m",
    "messages": [
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": [
            {"type": "text", "text": "look"},
            {"type": "image_url", "image_url": {"url": "https://h.example/cat.png?token=hush"}},
        ]},
    ],
}  # fmt: skip


async def test_a_refusal_names_the_field_and_says_what_is_wrong(world):
    world.names = {"h.example": ["10.0.0.1"]}
    request = read_request("openai_chat", BODY)
    with pytest.raises(GatewayError) as caught:
        await inline(request, Wants(dialect="gemini", target=USUAL, body=BODY), world.guard())
    assert caught.value.code == "unusable_media"
    assert caught.value.param == "messages[1].content[1].image_url.url"
    assert caught.value.message == (
        "'messages[1].content[1].image_url.url' cannot be used: "
        "h.example is unknown or leads to an address that is not public"
    )
    assert world.dialled == []
    with pytest.raises(GatewayError) as caught:
        await inline(request, Wants(dialect="gemini", target=USUAL), world.guard())
    assert caught.value.param is None
    assert caught.value.message.startswith("image 1 of those by URL cannot be used: ")
    assert "hush" not in caught.value.message


@pytest.mark.parametrize("name", NAMES)
async def test_a_client_of_each_dialect_is_told_its_own_field(world, name):
    url = "http://127.0.0.1/x.png"
    bodies = {
        "openai_chat": {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}]}]},
        "openai_responses": {"input": [{"role": "user", "content": [{"type": "input_image", "image_url": url}]}]},
        "anthropic": {"max_tokens": 9, "messages": [
            {"role": "user", "content": [{"type": "image", "source": {"type": "url", "url": url}}]}]},
        "gemini": {"contents": [{"role": "user", "parts": [{"fileData": {"fileUri": url, "mimeType": "image/png"}}]}]},
    }  # fmt: skip
    paths = {
        "openai_chat": "messages[0].content[0].image_url.url",
        "openai_responses": "input[0].content[0].image_url",
        "anthropic": "messages[0].content[0].source.url",
        "gemini": "contents[0].parts[0].fileData.fileUri",
    }
    body = {"model": "m", **bodies[name]}
    target = next(one for one in NAMES if one != name)
    with pytest.raises(GatewayError) as caught:
        await inline(read_request(name, body), Wants(dialect=target, target=NEVER, body=body), world.guard())
    assert caught.value.param == paths[name]
    assert "127.0.0.1 is not a public address" in caught.value.message
    assert world.dialled == []


@pytest.mark.parametrize(
    "url", ["gs://bucket/x.png", "ftp://h.example/x", "https://u:hush@h.example/x", "x.png", ""]
)
async def test_a_url_that_cannot_be_fetched_is_refused_in_words(world, url):
    error = await refusal(world, asking(image(url)), {}, dialect="openai_chat", target=NEVER)
    assert "the URL must" in error.message
    assert "hush" not in error.message


async def test_a_file_over_the_limit_is_refused(world):
    error = await refusal(world, asking(image(HTTP)), {"/x": PNG}, rules=Rules(bytes_max=len(PNG) - 1))
    assert f"larger than {len(PNG) - 1} bytes" in error.message


async def test_a_file_that_does_not_say_its_size_is_cut_at_the_limit(world):
    async def script(peer):
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\n\r\n" + PNG)

    async with serve(script) as server:
        world.put("h.example", server)
        guard = world.guard(Rules(bytes_max=len(PNG) - 1))
        with pytest.raises(GatewayError) as caught:
            await inline(asking(image(HTTP)), Wants(dialect="gemini", target=USUAL), guard)
    assert f"larger than {len(PNG) - 1} bytes" in caught.value.message


async def test_files_over_the_limit_together_are_refused(world):
    files = {f"/{at}": PNG for at in range(3)}
    request = asking(*(image(f"http://h.example{path}") for path in files))
    assert len(parts_of(await inlined(world, request, files, total_max=3 * len(PNG)))) == 3
    error = await refusal(world, request, files, total_max=3 * len(PNG) - 1)
    assert f"come to more than {3 * len(PNG) - 1} bytes" in error.message


async def test_data_urls_count_towards_the_total(world):
    url = "data:image/png;base64," + base64.b64encode(PNG).decode()
    error = await refusal(world, asking(image(url), image(HTTP)), {"/x": PNG}, total_max=2 * len(PNG) - 1)
    assert "come to more than" in error.message


async def test_too_many_files_are_refused_before_one_is_fetched(world):
    request = asking(*(image(f"http://h.example/{at}") for at in range(51)))
    error = await refusal(world, request, {})
    assert "51 files" in error.message
    assert world.asked == []


async def test_the_first_failure_ends_the_others(world):
    async def script(peer):
        asked = await peer.request()
        if b"/bad" in asked.line:
            await eventually(lambda: len(server.peers) == 4)
            await peer.send(whole(404, b""))
        await peer.until_gone()

    async with serve(script) as server:
        world.put("h.example", server)
        request = asking(*(image(f"http://h.example/{name}") for name in ("a", "b", "bad", "c", "d")))
        with pytest.raises(GatewayError) as caught:
            await inline(request, Wants(dialect="gemini", target=USUAL), world.guard())
        assert (
            "image 3 of those by URL cannot be used: h.example answered with status 404"
            in caught.value.message
        )
        await eventually(lambda: all(peer.gone.is_set() for peer in server.peers))
        assert len(server.peers) == 4


async def test_a_gateway_without_a_place_for_it_says_so(world):
    async def slow(peer):
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n")
        await peer.until_gone()

    async with serve(slow) as server:
        world.put("h.example", server)
        guard = world.guard(Rules(timeout=0.1), at_once=1)
        async with guard.open(HTTP, Limits(bytes=9, timeout=PATIENCE)):
            with pytest.raises(GatewayError) as caught:
                await inline(asking(image(HTTP)), Wants(dialect="gemini", target=USUAL), guard)
        assert len(server.peers) == 1
    assert (caught.value.code, caught.value.status, caught.value.retryable) == ("overloaded", 503, True)


async def test_a_leaving_client_leaves_no_fetch_behind(world):
    async def silent(peer):
        await peer.until_gone()

    async with serve(silent) as server:
        world.put("h.example", server)
        request = asking(image(HTTP), image("http://h.example/y"))
        task = asyncio.create_task(inline(request, Wants(dialect="gemini", target=USUAL), world.guard()))
        await eventually(lambda: len(server.peers) == 2)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await eventually(lambda: all(peer.gone.is_set() for peer in server.peers))


async def test_large_files_are_encoded_beside_the_loop(world):
    body = PNG + bytes(2 * flow._OFF_LOOP)
    (found,) = parts_of(await inlined(world, asking(image(HTTP)), {"/x": body}))
    assert found.value == binascii.b2a_base64(body, newline=False).decode()


async def test_the_addresses_of_files_are_vetted_like_any(world):
    seen = []
    async with serve(serving({"/x": PNG}, seen)) as server:
        world.put("h.example", server)
        world.put("files.lan", server, "10.0.0.5")
        request = asking(image("http://files.lan/x"))
        wants = Wants(dialect="gemini", target=USUAL)
        with pytest.raises(GatewayError):
            await inline(request, wants, world.guard())
        assert (seen, world.dialled) == ([], [])
        allowed = world.guard(Rules(hosts=frozenset(("files.lan",))))
        assert data_of(parts_of(await inline(request, wants, allowed))[0]) == PNG
        await inline(asking(image(HTTP)), wants, world.guard())
    assert world.dialled == [("10.0.0.5", 80), (PUBLIC, 80)]
