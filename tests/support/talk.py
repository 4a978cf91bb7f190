"""Conversations of the Responses API without HTTP: turns resolved, answered by a script and kept, as the route does it."""

from __future__ import annotations

import itertools
from typing import Any

import msgspec
import pytest

from tollway.core.access.keys import Key
from tollway.core.errors import GatewayError
from tollway.core.routing.models import Catalogue, Channel, Model, Route
from tollway.flows.call import Call
from tollway.flows.clock import new_id, now_ms
from tollway.flows.gate import Gate
from tollway.flows.responses import keeper, resolve

ENCRYPTED = "reasoning.encrypted_content"
numbers = itertools.count(1)


def channel(dialect: str) -> Channel:
    return Channel(
        id=dialect,
        name=dialect,
        dialect=dialect,
        base_url="http://127.0.0.1/v1",
        secret=None,
        secret_hint="",
        groups=("default",),
        priority=0,
        weight=1,
        status="enabled",
        created_at=0,
        options={},
    )


def model(name: str, **upstreams: str) -> Model:
    return Model(
        id=name,
        kind="chat",
        provider="",
        description="",
        context_window=0,
        output_max=0,
        capabilities=(),
        status="enabled",
        created_at=0,
        price=None,
        aliases=(),
        routes=tuple(Route(channel_id=where, upstream_model=known) for where, known in upstreams.items()),
    )


CATALOGUE = Catalogue(
    version=0,
    models={
        one.id: one
        for one in (
            model("m", anthropic="claude-sonnet-4-5"),
            model("thinker", openai_responses="gpt-5", anthropic="claude-sonnet-4-5"),
            model("plain", openai_responses="gpt-4o"),
            model("mixed", openai_responses="gpt-5", second="gpt-4o"),
        )
    },
    aliases={"alias": "thinker"},
    channels={
        "openai_responses": channel("openai_responses"),
        "second": channel("openai_responses"),
        "anthropic": channel("anthropic"),
    },
)


def key_of(account: str, project: str) -> Key:
    return Key(
        id=f"key_{next(numbers)}",
        account_id=account,
        account_status="active",
        project_id=project,
        project_name="",
        name="",
        display="",
        status="active",
        wallet=1,
        group="default",
        models=(),
        networks=(),
        rpm=None,
        tpm=None,
        concurrency=None,
        budget=None,
        budget_period="total",
        expires_at=None,
        created_at=0,
    )


def bounded(gate: Gate, **settings: Any) -> None:
    gate.settings = msgspec.structs.replace(gate.settings, **settings)


def message(text: str, token: str = "", place: int = 0) -> dict[str, Any]:
    return {
        "id": f"msg_{token}{place}",
        "type": "message",
        "status": "completed",
        "role": "assistant",
        "content": [{"type": "output_text", "text": text, "annotations": []}],
    }


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


class Talk:
    """Turns as the route makes them: resolved, answered by a script, kept."""

    def __init__(self, gate: Gate, key: Key) -> None:
        self.gate = gate
        self.key = key
        self.sent: list[Any] = []
        self.answer: dict[str, Any] = {}

    async def turn(self, output: Any, previous: str | None = None, **body: Any) -> str:
        """One turn; `output` is a text or items. Returns the response's id."""
        call = Call(call_id=new_id("req", now_ms()), route="", ip="", user_agent="", created_at=now_ms())
        call.key, call.model = self.key, self.gate.catalogue.models["m"]
        asked = {"model": "m", **body, **({"previous_response_id": previous} if previous else {})}
        resolved = await resolve(self.gate, self.key, asked, now_ms())
        self.sent = resolved.body["input"]
        items = [message(output, call.token)] if isinstance(output, str) else output
        self.answer = {
            "id": f"resp_{call.token}",
            "object": "response",
            "status": "completed",
            "output": items,
            "usage": {"total_tokens": 3},
            **resolved.echo,
        }
        keep = keeper(self.gate, call, resolved)
        if keep is not None:
            await keep(self.answer)
        return self.answer["id"]


async def refusal(work: Any) -> GatewayError:
    with pytest.raises(GatewayError) as caught:
        await work
    return caught.value


def texts(items: Any) -> list[str]:
    """What is said in items, in their order."""
    found = []
    for item in items:
        content = item.get("content", item.get("output", item.get("arguments", "")))
        found.append(content if isinstance(content, str) else content[0]["text"])
    return found


def thought(name: str, **more: Any) -> dict[str, Any]:
    return {"id": name, "type": "reasoning", "summary": [], **more}
