"""The four dialects as tests see them: how to ask in each, and what an answer says whatever its form."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from tests.upstream.sandbox.raw import Answer, Sandbox, post

CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}


class Said(NamedTuple):
    """What an answer amounts to. `calls` are names and arguments; `output` counts reasoning too."""

    text: str
    reasoning: str
    calls: list[tuple[str, Any]]
    finish: str
    input: int
    output: int


class OpenAIChat:
    name = "chat"

    def request(
        self, model: str, text: str, *, stream: bool, tools: tuple[str, ...] = (), most: int | None = None
    ):
        body = {"model": model, "messages": [{"role": "user", "content": text}], "stream": stream}
        if stream:
            body["stream_options"] = {"include_usage": True}
        if tools:
            body["tools"] = [{"type": "function", "function": {"name": t, "parameters": CITY}} for t in tools]
        if most:
            body["max_completion_tokens"] = most
        return post(body, "/v1/chat/completions")

    def whole(self, body: dict[str, Any]) -> Said:
        [choice] = body["choices"]
        message = choice["message"]
        calls = [
            (c["function"]["name"], json.loads(c["function"]["arguments"]))
            for c in message.get("tool_calls", ())
        ]
        usage = body["usage"]
        return Said(
            message["content"] or "",
            message.get("reasoning_content", ""),
            calls,
            choice["finish_reason"],
            usage["prompt_tokens"],
            usage["completion_tokens"],
        )

    def fold(self, events: list[Any]) -> dict[str, Any]:
        message: dict[str, Any] = {"content": "", "reasoning_content": "", "tool_calls": []}
        finish = usage = None
        for event in events:
            usage = event["usage"] or usage
            for choice in event["choices"]:
                finish = choice["finish_reason"] or finish
                for field in ("content", "reasoning_content"):
                    message[field] += choice["delta"].get(field) or ""
                for call in choice["delta"].get("tool_calls", ()):
                    if "id" in call:
                        message["tool_calls"].append(call)
                    else:
                        opened = message["tool_calls"][call["index"]]["function"]
                        opened["arguments"] += call["function"]["arguments"]
        return {"choices": [{"message": message, "finish_reason": finish}], "usage": usage}

    def events(self, answer: Answer) -> list[Any]:
        assert answer.payloads()[-1] == "[DONE]"
        return answer.chunks()


class OpenAIResponses:
    name = "responses"

    def request(
        self, model: str, text: str, *, stream: bool, tools: tuple[str, ...] = (), most: int | None = None
    ):
        body: dict[str, Any] = {
            "model": model,
            "input": text,
            "stream": stream,
            "reasoning": {"summary": "auto"},
        }
        if tools:
            body["tools"] = [
                {"type": "function", "name": t, "parameters": CITY, "strict": False} for t in tools
            ]
        if most:
            body["max_output_tokens"] = most
        return post(body, "/v1/responses")

    def whole(self, body: dict[str, Any]) -> Said:
        def of(kind: str) -> list[Any]:
            return [item for item in body["output"] if item["type"] == kind]

        details = body["incomplete_details"] or {}
        finish = {"max_output_tokens": "length", "content_filter": "content_filter"}.get(
            details.get("reason"), "stop"
        )
        calls = [(item["name"], json.loads(item["arguments"])) for item in of("function_call")]
        return Said(
            "".join(part.get("text", "") for item in of("message") for part in item["content"]),
            "".join(part["text"] for item in of("reasoning") for part in item["summary"]),
            calls,
            "tool_calls" if calls else finish,
            body["usage"]["input_tokens"],
            body["usage"]["output_tokens"],
        )

    def fold(self, events: list[Any]) -> dict[str, Any]:
        return events[-1]["response"]

    def events(self, answer: Answer) -> list[Any]:
        return answer.chunks()


class Anthropic:
    name = "anthropic"

    def request(
        self, model: str, text: str, *, stream: bool, tools: tuple[str, ...] = (), most: int | None = None
    ):
        body = {"model": model, "messages": [{"role": "user", "content": text}], "stream": stream}
        body |= {
            "max_tokens": most or 4000,
            "thinking": {"type": "adaptive"},
            "output_config": {"effort": "medium"},
        }
        if tools:
            body["tools"] = [{"name": t, "input_schema": CITY} for t in tools]
        return post(body, "/v1/messages", {"anthropic-version": "2026-10-21", "x-api-key": "any"})

    def whole(self, body: dict[str, Any]) -> Said:
        def of(kind: str) -> list[Any]:
            return [block for block in body["content"] if block["type"] == kind]

        finish = {
            "end_turn": "stop",
            "max_tokens": "length",
            "tool_use": "tool_calls",
            "refusal": "content_filter",
        }
        usage = body["usage"]
        cache = usage["cache_read_input_tokens"] + usage["cache_creation_input_tokens"]
        return Said(
            "".join(block["text"] for block in of("text")),
            "".join(block["thinking"] for block in of("thinking")),
            [(block["name"], block["input"]) for block in of("tool_use")],
            finish[body["stop_reason"]],
            usage["input_tokens"] + cache,
            usage["output_tokens"],
        )

    def fold(self, events: list[Any]) -> dict[str, Any]:
        """The message, by the grammar: one block at a time, counted from 0, nothing after the end."""
        assert [events[0]["type"], events[-1]["type"]] == ["message_start", "message_stop"]
        message = events[0]["message"]
        opened: dict[str, Any] | None = None
        given = ""
        for event in events[1:-1]:
            kind = event["type"]
            assert message["stop_reason"] is None
            if kind == "content_block_start":
                assert opened is None and event["index"] == len(message["content"])
                opened, given = dict(event["content_block"]), ""
                message["content"].append(opened)
            elif kind == "content_block_delta":
                assert opened is not None and event["index"] == len(message["content"]) - 1
                given += self._delta(opened, event["delta"])
            elif kind == "content_block_stop":
                assert opened is not None
                if given:
                    opened["input"] = json.loads(given)
                opened = None
            elif kind == "message_delta":
                assert opened is None
                message |= event["delta"]
                message["usage"] = {**message["usage"], **event["usage"]}
            else:
                assert kind == "ping"
        return message

    def _delta(self, block: dict[str, Any], delta: dict[str, Any]) -> str:
        fits = {
            "text_delta": ("text", "text"),
            "thinking_delta": ("thinking", "thinking"),
            "signature_delta": ("thinking", "signature"),
            "input_json_delta": (block["type"], ""),
            "citations_delta": ("text", ""),
        }
        kind, field = fits[delta["type"]]
        assert kind == block["type"]
        if field:
            block[field] += delta[field]
        if "citation" in delta:
            block["citations"].append(delta["citation"])
        return delta.get("partial_json", "")

    def events(self, answer: Answer) -> list[Any]:
        names = [line[7:] for line in answer.body.decode().split("\n") if line.startswith("event: ")]
        events = answer.chunks()
        assert names == [event["type"] for event in events]
        return events


class Gemini:
    name = "gemini"
    suffix = "?alt=sse"

    def request(
        self, model: str, text: str, *, stream: bool, tools: tuple[str, ...] = (), most: int | None = None
    ):
        config: dict[str, Any] = {"thinkingConfig": {"includeThoughts": True}}
        body: dict[str, Any] = {
            "contents": [{"role": "user", "parts": [{"text": text}]}],
            "generationConfig": config,
        }
        if tools:
            body["tools"] = [
                {"functionDeclarations": [{"name": t, "parametersJsonSchema": CITY} for t in tools]}
            ]
        if most:
            config["maxOutputTokens"] = most
        verb = f"streamGenerateContent{self.suffix}" if stream else "generateContent"
        return post(body, f"/v1beta/models/{model}:{verb}", {"x-goog-api-key": "any"})

    def whole(self, body: dict[str, Any]) -> Said:
        [candidate] = body["candidates"]
        parts = candidate["content"].get("parts", [])
        calls = [part["functionCall"] for part in parts if "functionCall" in part]
        finish = {"STOP": "stop", "MAX_TOKENS": "length", "SAFETY": "content_filter"}[
            candidate["finishReason"]
        ]
        usage = body["usageMetadata"]
        return Said(
            "".join(part.get("text", "") for part in parts if not part.get("thought")),
            "".join(part.get("text", "") for part in parts if part.get("thought")),
            [(call["name"], call.get("args", {})) for call in calls],
            "tool_calls" if calls else finish,
            usage["promptTokenCount"],
            usage.get("candidatesTokenCount", 0) + usage.get("thoughtsTokenCount", 0),
        )

    def fold(self, events: list[Any]) -> dict[str, Any]:
        assert all("usageMetadata" in event for event in events)
        assert ["finishReason" in c for event in events for c in event.get("candidates", ())][-1]
        parts = [
            part for event in events for c in event.get("candidates", ()) for part in c["content"]["parts"]
        ]
        last = events[-1]["candidates"][0]
        return {**events[-1], "candidates": [{**last, "content": {"role": "model", "parts": parts}}]}

    def events(self, answer: Answer) -> list[Any]:
        assert all(line.startswith("data: ") for line in answer.body.decode().split("\r\n\r\n") if line)
        return answer.chunks()


class GeminiArray(Gemini):
    name = "gemini array"
    suffix = ""

    def events(self, answer: Answer) -> list[Any]:
        assert (answer.header("content-type") or "").startswith("application/json")
        return answer.json()


DIALECTS = (OpenAIChat(), OpenAIResponses(), Anthropic(), Gemini(), GeminiArray())
FOREIGN = DIALECTS[1:]


def ask(
    sandbox: Sandbox, dialect: Any, model: str, text: str = "Hello", *, stream: bool = False, **fields: Any
) -> Answer:
    return sandbox.fetch(dialect.request(model, text, stream=stream, **fields))


def said(
    sandbox: Sandbox, dialect: Any, model: str, text: str = "Hello", *, stream: bool = False, **fields: Any
) -> Said:
    answer = ask(sandbox, dialect, model, text, stream=stream, **fields)
    assert (answer.status, answer.end) == (200, "complete"), answer.body
    return dialect.whole(dialect.fold(dialect.events(answer)) if stream else answer.json())
