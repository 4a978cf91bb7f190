"""The Responses API's stored state against a running gateway, by OpenAI's own client, over upstreams of every dialect."""

from __future__ import annotations

import contextlib
import json
import sqlite3
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import openai
import pytest
from openai.types.responses import Response
from tests.support.gateway import Gateway, Upstream, fetch, running

UPSTREAMS = {"openai_chat": "/v1", "openai_responses": "/v1", "anthropic": "", "gemini": "/v1beta"}
MODELS = ("chat", "reasoning", "echo", "cut", "midstream-error")
WEATHER = {
    "type": "function",
    "name": "get_weather",
    "description": "The weather of a city",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}
LIMIT = 2000


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, upstream: Upstream) -> Iterator[Gateway]:
    """A gateway with a channel of each dialect, whose models are named after it."""
    with running(tmp_path_factory.mktemp("responses") / "data") as found:
        for dialect, root in UPSTREAMS.items():
            add(found, upstream, dialect, root)
        yield found


def add(gateway: Gateway, upstream: Upstream, dialect: str, root: str) -> None:
    words = [word for name in MODELS for word in ("--model", f"{dialect}-{name}=sandbox-{name}")]
    gateway.cli(
        *("channel", "add", "--name", dialect, "--dialect", dialect, "--base-url", upstream.url + root),
        *("--secret-env", "UP_KEY", *words),
        UP_KEY="sk-upstream-0123456789",
    )


def client_of(gateway: Gateway, key: str | None = None, root: str = "/v1") -> openai.OpenAI:
    return openai.OpenAI(base_url=gateway.url + root, api_key=key or gateway.key, max_retries=0)


@pytest.fixture
def sdk(served: Gateway) -> Iterator[openai.OpenAI]:
    with client_of(served) as client:
        yield client


def ask(client: openai.OpenAI, how: str, **body: Any) -> Response:
    """One turn by one of the SDK's three ways."""
    body = {"max_output_tokens": LIMIT, **body}
    if how == "whole":
        return client.responses.create(**body)
    if how == "helper":
        with client.responses.stream(**body) as stream:
            for _ in stream:
                pass
            return stream.get_final_response()
    last = list(client.responses.create(**body, stream=True))[-1]
    assert last.type == "response.completed", last
    return last.response


def last_body(upstream: Upstream) -> Any:
    """What the upstream was sent last."""
    return fetch(urllib.request.Request(f"{upstream.url}/sandbox/last"))[2]["body"]


def rows(gateway: Gateway) -> int:
    with contextlib.closing(sqlite3.connect(f"file:{gateway.data}/tollway.db?mode=ro", uri=True)) as conn:
        return conn.execute("SELECT count(*) FROM response").fetchone()[0]


def plain(value: Any) -> Any:
    """A response without what a helper adds for its own use."""
    if isinstance(value, Response):
        return plain(value.model_dump(mode="json", warnings=False))
    if isinstance(value, dict):
        return {name: plain(one) for name, one in value.items() if not name.startswith("parsed")}
    return [plain(one) for one in value] if isinstance(value, list) else value


def collect(client: openai.OpenAI, seen: list[Any], **body: Any) -> None:
    """Read a stream as far as it goes."""
    seen.extend(client.responses.create(**body, stream=True, max_output_tokens=LIMIT))


@pytest.mark.parametrize("how", ["whole", "events", "helper"])
@pytest.mark.parametrize("dialect", UPSTREAMS)
def test_h25_three_turns_with_a_tool_on_an_upstream_of_any_dialect(served, sdk, upstream, dialect, how):
    model = f"{dialect}-reasoning"
    first = ask(sdk, how, model=model, input="What is the weather in Paris?", tools=[WEATHER])
    call = next(item for item in first.output if item.type == "function_call")
    result = {"type": "function_call_output", "call_id": call.call_id, "output": "sunny"}
    second = ask(sdk, how, model=model, input=[result], tools=[WEATHER], previous_response_id=first.id)
    assert second.output_text == "get_weather returned: sunny"
    third = ask(sdk, how, model=model, input="Thank you!", previous_response_id=second.id)
    assert (third.previous_response_id, third.store) == (second.id, True)
    told = json.dumps(last_body(upstream))
    for word in ("Paris", call.call_id if dialect != "gemini" else "get_weather", "sunny", "Thank you!"):
        assert word in told
    assert "previous_response_id" not in told
    if dialect == "openai_responses":
        assert last_body(upstream)["store"] is False
    for one in (first, second, third):
        assert plain(sdk.responses.retrieve(one.id, include=["reasoning.encrypted_content"])) == plain(one)


async def test_the_async_client_goes_on_where_the_other_was(served, sdk):
    first = ask(sdk, "whole", model="sandbox-chat", input="Hello!")
    async with openai.AsyncOpenAI(base_url=served.url + "/v1", api_key=served.key) as client:
        async with client.responses.stream(
            model="anthropic-chat", input="Go on", previous_response_id=first.id, max_output_tokens=LIMIT
        ) as stream:
            async for _ in stream:
                pass
            second = await stream.get_final_response()
        assert plain(await client.responses.retrieve(second.id)) == plain(second)
        items = [item async for item in client.responses.input_items.list(second.id, order="asc", limit=1)]
        assert [item.content[0].text for item in items] == ["Hello!", first.output_text, "Go on"]


def test_a_conversation_moves_from_dialect_to_dialect(sdk, upstream):
    """Thoughts are sealed for those who made them; no other upstream is sent them, and none refuses."""
    previous = None
    for number, dialect in enumerate((*UPSTREAMS, *reversed(UPSTREAMS))):
        found = ask(
            sdk, "whole", model=f"{dialect}-reasoning", input=f"Turn {number}", previous_response_id=previous
        )
        previous = found.id
        told = json.dumps(last_body(upstream))
        assert [f"Turn {one}" in told for one in range(number + 1)] == [True] * (number + 1)


def texts(items: list[Any]) -> list[str]:
    """What the user says in the items an upstream was sent."""
    return [item["content"][0]["text"] for item in items if item.get("role") == "user"]


@pytest.mark.parametrize("how", ["whole", "events"])
def test_h24_encrypted_thoughts_go_back_to_the_account_that_made_them_or_nowhere(served, sdk, how):
    with contextlib.ExitStack() as stack:
        accounts = [Upstream(account=f"{name}-{how}") for name in ("one", "two")]
        for number, account in enumerate(accounts):
            stack.callback(account.close)
            served.cli(
                *("channel", "add", "--name", f"{how}-{number}", "--dialect", "openai_responses"),
                *("--base-url", f"{account.url}/v1", "--secret-env", "UP_KEY"),
                *("--model", f"two-{how}=sandbox-reasoning"),
                UP_KEY=f"sk-upstream-{number}-0123456789",
            )
        body = {"model": f"two-{how}", "include": ["reasoning.encrypted_content"]}
        first = ask(sdk, how, **body, input="Turn 1")
        seal = first.output[0].encrypted_content
        assert seal
        maker, other = sorted(accounts, key=lambda one: -one.stats()["requests"])
        previous = first
        for number in range(2, 8):
            previous = ask(sdk, how, **body, input=f"Turn {number}", previous_response_id=previous.id)
            sent = last_body(maker)["input"]
            assert texts(sent)[-1] == f"Turn {number}"
            assert sent[1]["encrypted_content"] == seal
        served.cli("channel", "disable", f"{how}-{accounts.index(maker)}")
        last = ask(sdk, how, **body, input="Turn 8", previous_response_id=previous.id)
        sent = last_body(other)["input"]
        assert texts(sent) == [f"Turn {number}" for number in range(1, 9)]
        assert not [item for item in sent if item["type"] == "reasoning"]
        # It is kept as it came, whatever is sent.
        shown = sdk.responses.retrieve(first.id, include=["reasoning.encrypted_content"])
        assert shown.output[0].encrypted_content == seal
        assert last.status == "completed"


@pytest.mark.parametrize("stream", [False, True])
def test_a_retry_with_an_idempotency_key_gets_the_response_that_was_kept(served, stream):
    before = rows(served)

    def send(**more: Any) -> tuple[int, Any]:
        body = {"model": "sandbox-chat", "input": "Hello!", "stream": stream, **more}
        headers = {
            "Authorization": f"Bearer {served.key}",
            "Content-Type": "application/json",
            "Idempotency-Key": f"again-{stream}",
        }
        data = json.dumps(body).encode()
        status, _, found = fetch(
            urllib.request.Request(f"{served.url}/v1/responses", data=data, headers=headers)
        )
        return status, found

    first, again = send(), send()
    assert first == again
    assert first[0] == 200
    assert rows(served) == before + 1
    assert send(store=False)[0] == 422


def test_an_answer_can_be_used_as_soon_as_its_end_is_seen(served, sdk):
    """Before the stream is read to its end: by its last event everything is durable."""
    # Slow, because a quick answer may be kept by the time its first event is read.
    for event in sdk.responses.create(model="sandbox-slow", input="Hello!", stream=True):
        if event.type == "response.created":
            assert served.get(f"/v1/responses/{event.response.id}")[0] == 404
        if event.type == "response.completed":
            with client_of(served) as other:
                assert other.responses.retrieve(event.response.id).output_text
                body = {"model": "sandbox-chat", "input": "Go on", "previous_response_id": event.response.id}
                assert other.responses.create(**body).status == "completed"


def test_a_refusal_counts_the_items_the_client_sent(sdk):
    first = ask(
        sdk, "whole", model="sandbox-chat", input=[{"role": "user", "content": str(n)} for n in range(3)]
    )
    bad = [{"role": "user", "content": "Go on"}, {"role": "user"}]
    for previous in (None, first.id):
        with pytest.raises(openai.BadRequestError) as caught:
            ask(sdk, "whole", model="sandbox-chat", input=bad, previous_response_id=previous)
        assert caught.value.param == "input[1].content"
        assert "input[1].content" in caught.value.message


def test_instructions_are_not_inherited(sdk, upstream):
    first = ask(sdk, "whole", model="openai_chat-chat", input="Hello!", instructions="Speak like a pirate.")
    assert first.instructions == "Speak like a pirate."
    second = ask(sdk, "whole", model="openai_chat-chat", input="Go on", previous_response_id=first.id)
    assert "pirate" not in json.dumps(last_body(upstream))
    assert second.instructions is None


@pytest.mark.parametrize("how", ["whole", "events"])
def test_h25_store_false_stores_nothing(served, sdk, how):
    kept = ask(sdk, how, model="sandbox-chat", input="Hello!")
    before = rows(served)
    found = ask(sdk, how, model="sandbox-chat", input="Go on", previous_response_id=kept.id, store=False)
    assert (found.store, found.previous_response_id) == (False, kept.id)
    assert rows(served) == before
    with pytest.raises(openai.NotFoundError):
        sdk.responses.retrieve(found.id)
    with pytest.raises(openai.BadRequestError) as caught:
        ask(sdk, how, model="sandbox-chat", input="Go on", previous_response_id=found.id)
    assert (caught.value.code, caught.value.param) == ("previous_response_not_found", "previous_response_id")


def test_what_was_cut_off_by_its_own_limit_is_kept_as_incomplete_and_continued(sdk):
    first = sdk.responses.create(model="sandbox-long", input="Write!", max_output_tokens=20)
    assert (first.status, first.incomplete_details.reason) == ("incomplete", "max_output_tokens")
    assert sdk.responses.retrieve(first.id).status == "incomplete"
    second = sdk.responses.create(model="sandbox-echo", input="Go on", previous_response_id=first.id)
    assert second.usage.input_tokens > first.usage.input_tokens + 20


@pytest.mark.parametrize("fault", ["cut", "midstream-error"])
@pytest.mark.parametrize("dialect", UPSTREAMS)
def test_an_answer_that_failed_is_not_kept(served, sdk, dialect, fault):
    before = rows(served)
    seen: list[Any] = []
    with pytest.raises(openai.APIError):
        collect(sdk, seen, model=f"{dialect}-{fault}", input="Hello!")
    for event in seen[:1]:
        assert served.get(f"/v1/responses/{event.response.id}")[0] == 404
    assert rows(served) == before


def test_what_is_deleted_is_gone_and_so_is_what_was_built_on_it(served, sdk):
    first = ask(sdk, "whole", model="sandbox-chat", input="1")
    second = ask(sdk, "whole", model="sandbox-chat", input="2", previous_response_id=first.id)
    request = urllib.request.Request(
        f"{served.url}/v1/responses/{first.id}",
        method="DELETE",
        headers={"Authorization": f"Bearer {served.key}"},
    )
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(fetch, [request] * 8))
    assert sorted(status for status, _, _ in answers) == [200] + [404] * 7
    assert [body for status, _, body in answers if status == 200] == [
        {"id": first.id, "object": "response", "deleted": True}
    ]
    with pytest.raises(openai.NotFoundError):
        sdk.responses.delete(first.id)
    with pytest.raises(openai.BadRequestError) as caught:
        ask(sdk, "whole", model="sandbox-chat", input="3", previous_response_id=second.id)
    assert caught.value.code == "previous_response_not_found"
    sdk.responses.delete(second.id)


def test_items_can_be_referred_to_instead_of_being_sent_again(sdk, upstream):
    for dialect in UPSTREAMS:
        first = ask(sdk, "whole", model=f"{dialect}-chat", input="Remember the heron.")
        refer = [
            *({"type": "item_reference", "id": item.id} for item in sdk.responses.input_items.list(first.id)),
            *({"type": "item_reference", "id": item.id} for item in first.output),
            {"role": "user", "content": "Go on"},
        ]
        ask(sdk, "whole", model="openai_chat-chat", input=refer)
        said = [message["content"] for message in last_body(upstream)["messages"]]
        assert said == ["Remember the heron.", first.output_text, "Go on"]
    with pytest.raises(openai.NotFoundError) as caught:
        ask(sdk, "whole", model="sandbox-chat", input=[{"type": "item_reference", "id": "msg_none"}])
    assert caught.value.param == "input"


def test_input_items_are_listed_in_pages(sdk):
    given = [{"role": "user", "content": str(number)} for number in range(5)]
    found = ask(sdk, "whole", model="sandbox-chat", input=given)
    newest = [item.content[0].text for item in sdk.responses.input_items.list(found.id, limit=2)]
    assert newest == ["4", "3", "2", "1", "0"]
    page = sdk.responses.input_items.list(found.id, limit=2, order="asc")
    assert [item.content[0].text for item in page.data] == ["0", "1"]
    assert page.has_more
    assert (page.first_id, page.last_id) == (page.data[0].id, page.data[1].id)


def test_tokens_of_a_conversation_are_counted_whole(sdk):
    first = ask(sdk, "whole", model="sandbox-chat", input="A long story. " * 50)
    alone = sdk.responses.input_tokens.count(model="openai_responses-chat", input="Go on")
    found = sdk.responses.input_tokens.count(
        model="openai_responses-chat", input="Go on", previous_response_id=first.id
    )
    assert found.input_tokens > alone.input_tokens + 100
    with pytest.raises(openai.BadRequestError):
        sdk.responses.input_tokens.count(model="sandbox-chat", input="x", previous_response_id="resp_none")


def test_a_conversation_is_paid_for_whole(sdk):
    """What the gateway adds is priced as if the client had sent it."""
    story = "A long story. " * 50
    first = ask(sdk, "whole", model="sandbox-echo", input=story)
    kept = ask(sdk, "whole", model="sandbox-echo", input="Go on", previous_response_id=first.id)
    history = [{"role": "user", "content": story}, {"role": "assistant", "content": first.output_text}]
    sent = ask(sdk, "whole", model="sandbox-echo", input=[*history, {"role": "user", "content": "Go on"}])
    assert kept.usage == sent.usage
    assert kept.usage.input_tokens > 2 * first.usage.input_tokens


def test_only_what_runs_in_the_background_can_be_cancelled_or_streamed_again(served, sdk):
    found = ask(sdk, "whole", model="sandbox-chat", input="Hello!")
    with pytest.raises(openai.BadRequestError, match="synchronous"):
        sdk.responses.cancel(found.id)
    with pytest.raises(openai.NotFoundError):
        sdk.responses.cancel("resp_none")
    with pytest.raises(openai.BadRequestError) as caught:
        list(sdk.responses.retrieve(found.id, stream=True))
    assert caught.value.param == "stream"
    for name, value in (("background", True), ("conversation", "conv_1"), ("prompt", {"id": "pmpt_1"})):
        with pytest.raises(openai.BadRequestError) as caught:
            ask(sdk, "whole", model="sandbox-chat", input="Hello!", **{name: value})
        assert (caught.value.code, caught.value.param) == ("unsupported_parameter", name)
    for query in ("limit=0", "limit=101", "limit=x", "limit=-1", "limit=1.5", "order=up", "after=msg_none"):
        status, _, body = served.get(f"/v1/responses/{found.id}/input_items?{query}")
        assert (status, body["error"]["param"]) == (400, query.partition("=")[0])


@pytest.fixture(scope="module")
def strangers(served: Gateway) -> dict[str, str]:
    """Keys of another account and of another project of the same one."""
    served.cli("account", "create", "stranger")
    served.cli("credits", "grant", "1000", "--account", "stranger")
    served.cli("project", "create", "elsewhere")
    return {
        "account": served.new_key("stranger", "--account", "stranger"),
        "project": served.new_key("elsewhere", "--project", "elsewhere"),
    }


@pytest.mark.parametrize("whose", ["account", "project"])
def test_h25_whose_a_response_is_not_finds_nothing(served, sdk, strangers, whose):
    first = ask(sdk, "whole", model="openai_responses-reasoning", input="The secret is heron.")
    with client_of(served, strangers[whose]) as stranger:
        for work in (
            lambda: stranger.responses.retrieve(first.id),
            lambda: stranger.responses.delete(first.id),
            lambda: stranger.responses.cancel(first.id),
            lambda: stranger.responses.input_items.list(first.id),
            *(
                lambda item=item: ask(
                    stranger,
                    "whole",
                    model="sandbox-echo",
                    input=[{"type": "item_reference", "id": item}, {"role": "user", "content": "?"}],
                )
                for item in (
                    *(one.id for one in first.output),
                    sdk.responses.input_items.list(first.id).data[0].id,
                )
            ),
        ):
            with pytest.raises(openai.NotFoundError) as caught:
                work()
            assert "heron" not in str(caught.value.body)
        with pytest.raises(openai.BadRequestError) as caught:
            ask(stranger, "whole", model="sandbox-echo", input="?", previous_response_id=first.id)
        assert caught.value.code == "previous_response_not_found"
    assert sdk.responses.retrieve(first.id).id == first.id


ODD = ["resp_%00", "resp_%C0%AF", "..%2Fx", "resp_'%20OR%20''='", "resp_" + "x" * 500, "%F0%9F%98%80", "null"]


@pytest.mark.parametrize("name", ODD)
def test_odd_ids_are_not_found_and_nothing_breaks(served, name):
    for path in (f"/v1/responses/{name}", f"/v1/responses/{name}/input_items"):
        status, _, body = served.get(path)
        assert (status, body["error"]["type"]) == (404, "invalid_request_error"), body


@pytest.mark.parametrize("root", ["/v1", "/api/v1", "/openai/v1"])
def test_every_root_has_the_routes_and_refuses_websockets_as_codex_expects(served, root):
    with client_of(served, root=root) as client:
        found = ask(client, "whole", model="sandbox-chat", input="Hello!")
        assert client.responses.retrieve(found.id).id == found.id
        assert client.responses.input_tokens.count(model="sandbox-chat", input="Hello!").input_tokens > 0
        client.responses.delete(found.id)
    headers = {
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    }
    status, _, body = fetch(urllib.request.Request(f"{served.url}{root}/responses", headers=headers))
    assert (status, body["error"]["code"]) == (426, "websocket_unsupported")
    status, answer, body = served.get(f"{root}/responses")
    assert (status, answer["allow"]) == (405, "POST")


def test_without_a_key_nothing_is_shown(served):
    for method, path in (
        ("GET", "/v1/responses/resp_1"),
        ("DELETE", "/v1/responses/resp_1"),
        ("POST", "/v1/responses/resp_1/cancel"),
        ("GET", "/v1/responses/resp_1/input_items"),
        ("POST", "/v1/responses/input_tokens"),
    ):
        assert fetch(urllib.request.Request(served.url + path, method=method))[0] == 401


@pytest.mark.postgres
def test_h25_what_one_process_answered_another_continues_at_once(tmp_path, postgres_database):
    env = {"TOLLWAY_DATABASE_URL": postgres_database()}
    with (
        running(tmp_path / "data", **env) as one,
        running(tmp_path / "data", **env) as two,
        client_of(one) as here,
        client_of(two, one.key) as there,
    ):
        previous = None
        for number in range(10):
            client, other = (here, there) if number % 2 else (there, here)
            body = {"model": "sandbox-chat", "input": f"Turn {number}", "previous_response_id": previous}
            for event in client.responses.create(**body, stream=True):
                if event.type == "response.completed":
                    previous = event.response.id
                    # Asked of the other one while this stream is still open.
                    assert other.responses.retrieve(previous).status == "completed"
        listed = [item.content[0].text for item in there.responses.input_items.list(previous, order="asc")]
        assert listed[::2] == [f"Turn {number}" for number in range(10)]
        there.responses.delete(previous)
        with pytest.raises(openai.NotFoundError):
            here.responses.retrieve(previous)
