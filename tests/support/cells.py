"""The cells of the matrix as calls over sockets: a client's dialect, an upstream's, and what is asked."""

from __future__ import annotations

import json
import urllib.request
from typing import Any

from tests.support.gateway import Gateway, fetch

CLIENTS = ("openai_chat", "openai_responses", "anthropic", "gemini")
UPSTREAMS = CLIENTS
SECRET = "sk-upstream-canary-0123456789"
MODELS = (
    "chat",
    "echo",
    "reasoning",
    "refusal",
    "cut",
    "429",
    "500",
    "midstream-error",
    "first-error",
    "no-usage",
    "cache",
    "tokens-50",
)
SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
    "required": ["city", "days"],
    "additionalProperties": False,
}
PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="


def model_for(upstream: str, name: str) -> str:
    """The public name of a sandbox model behind a channel of a dialect."""
    return f"{upstream}/{name}"


def connect(gateway: Gateway, upstream: str, base_url: str, *more: str) -> None:
    """Add a channel of one dialect at a sandbox, with every model the cells ask for."""
    root = "/v1beta" if upstream == "gemini" else "/v1"
    models = []
    for name in (*MODELS, *more):
        public = model_for(upstream, name)
        price = ("--input-price", "100", "--output-price", "400")
        gateway.cli("model", "add", public, *price, "--output-max", "4096")
        models += ["--model", f"{public}=sandbox-{name}"]
    where = ["--dialect", upstream, "--base-url", base_url + root, "--secret-env", "UP_KEY"]
    gateway.cli("channel", "add", "--name", f"to-{upstream}", *where, *models, UP_KEY=SECRET)


def path_of(client: str, model: str, *, stream: bool) -> str:
    """Where a client of a dialect sends its call."""
    if client == "gemini":
        return f"/v1beta/models/{model}:" + ("streamGenerateContent?alt=sse" if stream else "generateContent")
    return {
        "openai_chat": "/v1/chat/completions",
        "openai_responses": "/v1/responses",
        "anthropic": "/v1/messages",
    }[client]


def body_of(
    client: str, model: str, content: str = "Hello!", *, stream: bool = False, **more: Any
) -> dict[str, Any]:
    """A question in a client's dialect."""
    match client:
        case "openai_chat":
            usage = {"stream_options": {"include_usage": True}} if stream else {}
            return {
                "model": model,
                "messages": [{"role": "user", "content": content}],
                "stream": stream,
                **usage,
                **more,
            }
        case "openai_responses":
            return {"model": model, "input": content, "stream": stream, **more}
        case "anthropic":
            return {
                "model": model,
                "max_tokens": 1000,
                "messages": [{"role": "user", "content": content}],
                "stream": stream,
                **more,
            }
    return {"contents": [{"role": "user", "parts": [{"text": content}]}], **more}


def ask(
    gateway: Gateway, client: str, upstream: str, name: str, *, stream: bool = False, **more: Any
) -> tuple[int, Any, Any]:
    """One call through a cell: status, headers, and the body or the events."""
    model = model_for(upstream, name)
    body = body_of(client, model, stream=stream, **more)
    request = urllib.request.Request(
        gateway.url + path_of(client, model, stream=stream),
        data=json.dumps(body).encode(),
        headers={"Authorization": f"Bearer {gateway.key}", "Content-Type": "application/json"},
    )
    status, headers, answer = fetch(request)
    return status, headers, events_of(answer) if isinstance(answer, bytes) else answer


def events_of(stream: bytes) -> list[Any]:
    """The payloads of a stream of server-sent events; "[DONE]" stays a string."""
    found = []
    for block in stream.replace(b"\r\n", b"\n").split(b"\n\n"):
        for line in block.split(b"\n"):
            if line.startswith(b"data: "):
                text = line[6:].decode()
                found.append(text if text == "[DONE]" else json.loads(text))
    return found


def text_of(client: str, answer: Any) -> str:
    """The text of a whole answer."""
    match client:
        case "openai_chat":
            return answer["choices"][0]["message"]["content"] or ""
        case "openai_responses":
            return "".join(
                part.get("text", "")
                for item in answer["output"]
                if item["type"] == "message"
                for part in item["content"]
            )
        case "anthropic":
            return "".join(part.get("text", "") for part in answer["content"] if part["type"] == "text")
    parts = answer["candidates"][0].get("content", {}).get("parts", [])
    return "".join(part.get("text", "") for part in parts if not part.get("thought"))


def streamed_text(client: str, events: list[Any]) -> str:
    """The text of a stream."""
    match client:
        case "openai_chat":
            return "".join(
                choice["delta"].get("content") or ""
                for event in events
                if event != "[DONE]"
                for choice in event.get("choices", [])
            )
        case "openai_responses":
            return "".join(e["delta"] for e in events if e["type"] == "response.output_text.delta")
        case "anthropic":
            return "".join(
                e["delta"].get("text", "")
                for e in events
                if e["type"] == "content_block_delta" and e["delta"]["type"] == "text_delta"
            )
    return "".join(
        part.get("text", "")
        for event in events
        for candidate in event.get("candidates", [])
        for part in candidate.get("content", {}).get("parts", [])
        if not part.get("thought")
    )


def usage_of(client: str, answer: Any) -> dict[str, Any]:
    """The usage of a whole answer, or of the last thing of a stream that has one."""
    if client == "gemini":
        found = answer if isinstance(answer, dict) else [e for e in answer if "usageMetadata" in e][-1]
        return found["usageMetadata"]
    if isinstance(answer, dict):
        return answer["usage"]
    match client:
        case "openai_chat":
            return [e["usage"] for e in answer if e != "[DONE]" and e.get("usage")][-1]
        case "openai_responses":
            return answer[-1]["response"]["usage"]
    return [e["usage"] for e in answer if e["type"] == "message_delta"][-1]


def failed_in_band(client: str, events: list[Any]) -> bool:
    """Whether a stream ends with its dialect's error, and without any success."""
    last = events[-1]
    match client:
        case "openai_chat":
            return "error" in last and "[DONE]" not in events
        case "openai_responses":
            return last["type"] in ("response.failed", "error") and not any(
                e["type"] in ("response.completed", "response.incomplete") for e in events
            )
        case "anthropic":
            return last["type"] == "error" and not any(e["type"] == "message_stop" for e in events)
    return "error" in last and not any(
        candidate.get("finishReason") for e in events for candidate in e.get("candidates", [])
    )


def error_code(client: str, body: Any) -> str:
    """The gateway's own code in an error body of a dialect."""
    match client:
        case "openai_chat" | "openai_responses":
            return body["error"].get("reason") or body["error"]["code"]
        case "anthropic":
            return body["error"]["details"]["error_code"]
    return body["error"]["details"][0]["reason"].lower()
