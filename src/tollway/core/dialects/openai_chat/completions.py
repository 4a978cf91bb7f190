"""Legacy completions: a prompt in, its continuation out, by way of a conversation of one turn.

Whoever still calls this API talks to models that converse, so the prompt is asked as a user's
words, and the answer is Chat's, cut down to its text.
"""

from __future__ import annotations

from typing import Any, Final

from tollway.core.dialects.base import DONE, Bill, Dialect, Reply
from tollway.core.dialects.members import Members, missing, refuse
from tollway.core.dialects.openai_chat.answer import write_response as write_chat
from tollway.core.dialects.openai_chat.stream import Writer as ChatWriter
from tollway.core.errors import GatewayError
from tollway.core.exchange import Event, Request, Response, Sampling, Text, Turn

NAME: Final = "openai_completions"
OUTPUT_DEFAULT: Final = 16
"""Tokens this API generates where nothing is said."""

_SILENT: Final = ("best_of", "echo", "logit_bias", "logprobs", "suffix")


def read_request(body: dict[str, Any]) -> Request:
    """A body as a conversation of one turn. Raises GatewayError naming the field."""
    take = Members(body)
    model = take.need_text("model")
    prompt = _prompt(take.take("prompt"))
    for name in _SILENT:
        value = take.rest.get(name)
        if value and not (name == "best_of" and value == 1):
            raise GatewayError(
                "unsupported_parameter",
                f"{name!r} is not supported on legacy completions; leave it out, or use chat completions.",
                param=name,
            )
    stop = take.take("stop")
    stops = [stop] if type(stop) is str else stop or []
    if type(stops) is not list or any(type(one) is not str for one in stops):
        raise refuse("stop", "must be a string or an array of strings")
    return Request(
        model=model,
        turns=(Turn(role="user", parts=(Text(text=prompt),)),),
        origin=NAME,
        sampling=Sampling(
            temperature=take.number("temperature", 0, 2),
            top_p=take.number("top_p", 0, 1),
            seed=take.integer("seed"),
            presence_penalty=take.number("presence_penalty", -2, 2),
            frequency_penalty=take.number("frequency_penalty", -2, 2),
            stop=tuple(stops),
            max_output_tokens=take.integer("max_tokens", 1) or OUTPUT_DEFAULT,
        ),
        stream=take.flag("stream") or False,
        candidates=take.integer("n", 1, 1) or 1,
        user=take.text("user"),
    )


def _prompt(value: Any) -> str:
    if value is None:
        raise missing("prompt")
    if type(value) is list and len(value) == 1:
        value = value[0]
    if type(value) is not str or not value:
        raise refuse("prompt", "must be one text; several prompts, or token numbers, are several calls")
    return value


class Writer:
    """Writes the chunks of a completion: Chat's, with text where Chat has a delta."""

    def __init__(self, reply: Reply) -> None:
        self._chat = ChatWriter(reply)

    def send(self, event: Event) -> list[Any]:
        return _chunks(self._chat.send(event))

    def close(self, bill: Bill | None = None) -> list[Any]:
        return _chunks(self._chat.close(bill))

    def fail(self, error: GatewayError, request_id: str) -> list[Any]:
        return self._chat.fail(error, request_id)


def _chunks(objects: list[Any]) -> list[Any]:
    found: list[Any] = []
    for one in objects:
        if one == DONE:
            found.append(one)
            continue
        choices = [_choice(choice, choice.get("delta") or {}) for choice in one.get("choices", ())]
        # Chat's opening chunk has nothing that this API could say.
        if not one.get("choices") or any(choice["text"] or choice["finish_reason"] for choice in choices):
            found.append(_renamed({**one, "choices": choices}))
    return found


def write_response(response: Response, reply: Reply, bill: Bill | None) -> dict[str, Any]:
    """A whole answer as a completion."""
    chat = write_chat(response, reply, bill)
    return _renamed({**chat, "choices": [_choice(one, one.get("message") or {}) for one in chat["choices"]]})


def _renamed(found: dict[str, Any]) -> dict[str, Any]:
    if "id" in found:
        found["id"] = str(found["id"]).replace("chatcmpl-", "cmpl-", 1)
        found["object"] = "text_completion"
    return found


def _choice(choice: dict[str, Any], said: dict[str, Any]) -> dict[str, Any]:
    reason = choice.get("finish_reason")
    return {
        "text": said.get("content") or "",
        "index": choice.get("index", 0),
        "logprobs": None,
        "finish_reason": reason if reason in (None, "stop", "length", "content_filter") else "stop",
    }


def dialect(chat: Dialect) -> Dialect:
    """Chat's dialect with this API's bodies."""
    return chat._replace(
        read_request=read_request, write_response=write_response, writer=Writer, counting=None
    )
