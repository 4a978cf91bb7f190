"""A Chat Completions request, checked: what it asks for, how much it may cost, and what to send upstream.

Every field the API defines is checked for its type and range, so that nonsense is refused before
credits are held. Fields nobody here knows are passed on: the upstream may know them.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, ClassVar, Final, NoReturn

from msgspec import Struct

from tollway.core.dialects.hosted import CHAT_MEMBERS, chat_terms
from tollway.core.dialects.openai_chat import parts, tools
from tollway.core.dialects.openai_chat.native import NativeStream, NativeWhole
from tollway.core.dialects.openai_chat.read import read_request
from tollway.core.errors import GatewayError
from tollway.core.exchange import DialectName, Request
from tollway.core.json import BadJSON, decode, encode, read_object, refuse_duplicates
from tollway.core.relay import Relay
from tollway.core.terms import PLAIN, Terms

MODEL_NAME: Final = re.compile(r"[\w.:/@+-]{1,128}", re.ASCII)
OUTPUT_MAX: Final = 10**9
CHOICES_MAX: Final = 128
STOPS_MAX: Final = 64
CREDITS_MAX: Final = 10**9

Check = Callable[[str, Any], None]


class ChatRequest(Struct, frozen=True, kw_only=True):
    """What a chat request asks for.

    `input_bound` is an upper bound of its input in tokens; `output_wanted` the tokens it allows
    each of its `choices`, None where it leaves that open. `kept` is the canonical JSON of all it
    said but `model`, `stream_options` and `max_credits`.
    """

    model: str
    stream: bool
    include_usage: bool
    choices: int
    output_wanted: int | None
    input_bound: int
    audio: bool
    session: str
    stream_options: dict[str, Any]
    kept: bytes
    max_credits: int | float | None = None
    terms: Terms = PLAIN

    verb: ClassVar[str] = "text"
    dialect: ClassVar[DialectName] = "openai_chat"
    native: ClassVar[DialectName] = "openai_chat"
    array: ClassVar[bool] = False
    version: ClassVar[str] = ""
    echo: ClassVar[dict[str, Any]] = {}

    def body(self, upstream_model: str, output_cap: int | None) -> bytes:
        """The body for one upstream; `output_cap` is sent as `max_tokens` where the caller set none."""
        head: dict[str, Any] = {"model": upstream_model}
        if self.stream:
            head["stream_options"] = {**self.stream_options, "include_usage": True}
        if output_cap is not None and self.output_wanted is None:
            head["max_tokens"] = output_cap
        return encode(head)[:-1] + b"," + self.kept[1:]

    @property
    def members(self) -> dict[str, Any]:
        body: dict[str, Any] = decode(self.kept)
        body["model"] = self.model
        if self.stream_options:
            body["stream_options"] = self.stream_options
        return body

    def exchange(self) -> Request:
        return read_request(self.members)

    def relay(self, name: str, token: str) -> Relay:  # noqa: ARG002 - a native answer keeps its upstream's ids
        if self.stream:
            return NativeStream(name, include_usage=self.include_usage)
        return NativeWhole(name)


def read(raw: bytes) -> ChatRequest:
    """Parse and check a body. Raises GatewayError naming the field."""
    try:
        body = read_object(raw)
        request, removed = _read(body)
        refuse_duplicates(raw, request.kept, removed)
    except BadJSON as error:
        raise GatewayError("invalid_json", _sentence(error)) from None
    return request


def _sentence(error: BadJSON) -> str:
    text = str(error)
    return f"{text[0].upper()}{text[1:]}."


def wants_usage(body: dict[str, Any]) -> bool:
    """Whether a stream's usage is asked for, in OpenAI's words or in OpenRouter's."""
    told, theirs = body.get("stream_options"), body.get("usage")
    return (type(told) is dict and told.get("include_usage") is True) or (
        type(theirs) is dict and theirs.get("include") is True
    )


def _read(body: dict[str, Any]) -> tuple[ChatRequest, bytes]:
    checks = FIELDS
    for name, value in body.items():
        if name in checks and value is not None:
            checks[name](name, value)
    model = check_model(body.get("model"))
    media = parts.check_messages(body.get("messages"))
    weigh = _weigh_usual if body.keys().isdisjoint(_UNUSUAL) else _weigh
    return weigh(model, media, body)


def _weigh(model: str, media: parts.Media, body: dict[str, Any]) -> tuple[ChatRequest, bytes]:
    """What a checked body asks for, and the JSON of what is not kept of it."""
    told = wants_usage(body)
    # `usage` is OpenRouter's way to ask for what is told here anyway; OpenAI would refuse it.
    ours = ("model", "stream_options", "max_credits", "usage")
    removed = {name: body.pop(name) for name in ours if name in body}
    kept = encode(body)
    tools.check_tools(body.get("tools"), kept)
    wanted = body.get("max_completion_tokens")
    stream = body.get("stream") is True
    options = removed.get("stream_options") or {}
    bound = len(kept) - media.encoded + media.tokens
    request = ChatRequest(
        model=model,
        stream=stream,
        include_usage=stream and told,
        choices=body.get("n") or 1,
        output_wanted=body.get("max_tokens") if wanted is None else wanted,
        input_bound=bound,
        audio=kept.find(b'"input_audio"') >= 0 or "audio" in (body.get("modalities") or ()),
        session=body.get("prompt_cache_key") or body.get("user") or "",
        stream_options=options,
        kept=kept,
        max_credits=removed.get("max_credits"),
        # A file weighs at least as much as an image.
        terms=chat_terms(body, kept if bound >= parts.IMAGE_TOKENS_MAX else b""),
    )
    return request, encode(removed)


_UNUSUAL: Final = frozenset(
    ("usage", "max_credits", "tools", "max_completion_tokens", "n", "modalities", "prompt_cache_key", "user")
) | frozenset(CHAT_MEMBERS)
"""The members that `_weigh` looks at and `_weigh_usual` does not."""


def _weigh_usual(model: str, media: parts.Media, body: dict[str, Any]) -> tuple[ChatRequest, bytes]:
    """The same of a body without unusual members, as most are."""
    removed = {"model": body.pop("model")}
    options: dict[str, Any] | None = None
    if "stream_options" in body:
        options = removed["stream_options"] = body.pop("stream_options")
    kept = encode(body)
    stream = body.get("stream") is True
    bound = len(kept) - media.encoded + media.tokens
    request = ChatRequest(
        model=model,
        stream=stream,
        include_usage=stream and options is not None and options.get("include_usage") is True,
        choices=1,
        output_wanted=body.get("max_tokens"),
        input_bound=bound,
        audio=kept.find(b'"input_audio"') >= 0,
        session="",
        stream_options=options or {},
        kept=kept,
        terms=PLAIN if bound < parts.IMAGE_TOKENS_MAX else chat_terms(body, kept),
    )
    return request, encode(removed)


def _missing(name: str, what: str) -> NoReturn:
    raise GatewayError("missing_field", f"The field {name!r} is missing: {what}.", param=name)


def refuse(name: str, wanted: str, value: object) -> NoReturn:
    """Say what a field must be and what it was, without echoing more than a glimpse."""
    shown = repr(value)
    shown = shown if len(shown) <= 60 else shown[:57] + "..."
    raise GatewayError("invalid_value", f"{name!r} must be {wanted}, not {shown}.", param=name)


def check_model(value: Any) -> str:
    """The model's name, unless it is missing or cannot be one. Raises GatewayError."""
    if value is None:
        _missing("model", "the id of the model to use; GET /v1/models lists those this key may call")
    if type(value) is not str or not MODEL_NAME.fullmatch(value):
        refuse("model", "a model id of 1 to 128 letters, digits and . : / @ + - _", value)
    return value


def _boolean(name: str, value: Any) -> None:
    if type(value) is not bool:
        refuse(name, "true or false", value)


def _integer(low: int, high: int) -> Check:
    def check(name: str, value: Any) -> None:
        if type(value) is not int or not low <= value <= high:
            refuse(name, f"an integer from {low} to {high}", value)

    return check


def _number(low: float, high: float) -> Check:
    def check(name: str, value: Any) -> None:
        if type(value) not in (int, float) or not low <= value <= high:
            refuse(name, f"a number from {low:g} to {high:g}", value)

    return check


def take_max_credits(body: dict[str, Any]) -> int | float | None:
    """Take what a call may cost, in credits, out of a body of any dialect. Raises GatewayError."""
    value: int | float | None = body.pop("max_credits", None)
    if value is not None:
        FIELDS["max_credits"]("max_credits", value)
    return value


def _string(name: str, value: Any) -> None:
    if type(value) is not str:
        refuse(name, "a string", value)


def _object(name: str, value: Any) -> None:
    if type(value) is not dict:
        refuse(name, "an object", value)


def _strings(name: str, value: Any) -> None:
    if type(value) is not list or not all(type(one) is str for one in value):
        refuse(name, "an array of strings", value)


def _stop(name: str, value: Any) -> None:
    if type(value) is str:
        return
    if type(value) is not list or len(value) > STOPS_MAX or not all(type(one) is str for one in value):
        refuse(name, f"a string or an array of at most {STOPS_MAX} strings", value)


def _stream_options(name: str, value: Any) -> None:
    _object(name, value)
    if type(value.get("include_usage", False)) is not bool:
        refuse(f"{name}.include_usage", "true or false", value["include_usage"])


def _typed(name: str, value: Any) -> None:
    if type(value) is not dict or type(value.get("type")) is not str:
        refuse(name, "an object with a 'type'", value)


def _metadata(name: str, value: Any) -> None:
    _object(name, value)
    if "user_api_key" in value:
        forbidden(f"{name}.user_api_key", value)


def forbidden(name: str, _: Any) -> None:
    raise GatewayError(
        "forbidden_field",
        f"{name!r} is not accepted: upstreams and their credentials are configured by the operator. Remove the field.",
        param=name,
    )


FIELDS: Final[dict[str, Check]] = {
    "stream": _boolean,
    "stream_options": _stream_options,
    "max_tokens": _integer(1, OUTPUT_MAX),
    "max_completion_tokens": _integer(1, OUTPUT_MAX),
    "n": _integer(1, CHOICES_MAX),
    "temperature": _number(0, 2),
    "top_p": _number(0, 1),
    "presence_penalty": _number(-2, 2),
    "frequency_penalty": _number(-2, 2),
    "seed": _integer(-(2**63), 2**63 - 1),
    "logprobs": _boolean,
    "top_logprobs": _integer(0, 20),
    "logit_bias": _object,
    "stop": _stop,
    "response_format": _typed,
    "tool_choice": tools.check_choice,
    "parallel_tool_calls": _boolean,
    "functions": tools.check_functions,
    "user": _string,
    "metadata": _metadata,
    "modalities": _strings,
    "audio": _object,
    "prediction": _object,
    "reasoning_effort": _string,
    "service_tier": _string,
    "store": _boolean,
    "verbosity": _string,
    "web_search_options": _object,
    "max_credits": _number(0, CREDITS_MAX),
    "safety_identifier": _string,
    "prompt_cache_key": _string,
    "api_base": forbidden,
    "api_key": forbidden,
    "base_url": forbidden,
}
