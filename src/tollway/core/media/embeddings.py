"""Embeddings: texts in, vectors out, asked for and answered in OpenAI's dialect or in Gemini's.

OpenAI   POST /embeddings                    {"input": text | [text] | [token] | [[token]], ...}
Gemini   POST /models/{m}:embedContent       {"content": {"parts": [{"text": ...}]}, ...}
         POST /models/{m}:batchEmbedContents {"requests": [the same, ...]}
"""

from __future__ import annotations

import base64
import struct
from collections.abc import Callable
from typing import Any, ClassVar, Final

from msgspec import Struct

from tollway.core.dialects.faults import failure
from tollway.core.dialects.members import Members, items, missing, refuse
from tollway.core.dialects.openai_chat.check import check_model, take_max_credits
from tollway.core.dialects.openai_chat.errors import read_error
from tollway.core.dialects.registry import DIALECTS
from tollway.core.errors import GatewayError
from tollway.core.exchange import Counted, DialectName, Event, Finished, Request, Usage
from tollway.core.json import decode, encode
from tollway.core.relay import BadAnswer, Fed, Receipt
from tollway.core.terms import PLAIN, Terms

INPUTS_MAX: Final = 2048
DIMENSIONS_MAX: Final = 65_536

_UNCOUNTED: Final = frozenset(("model", "user", "role", "taskType", "task_type"))
"""Members that say nothing a model reads."""

Input = str | list[int]


class Embedding(Struct, frozen=True, kw_only=True):
    """A request for vectors. See core.dialects.asked.Asked for the members flows ask for.

    `inputs`: texts, or lists of token numbers. `packed`: the client wants base64 of 32-bit floats.
    `batch`: a Gemini client asked for several, and wants a list even for one. `members`: the body as
    parsed, without the model.
    """

    dialect: DialectName
    model: str
    inputs: tuple[Input, ...]
    members: dict[str, Any]
    input_bound: int
    packed: bool = False
    batch: bool = False
    dimensions: int | None = None
    max_credits: int | float | None = None
    terms: Terms = PLAIN

    verb: ClassVar[str] = "embed"
    session: ClassVar[str] = ""
    stream: ClassVar[bool] = False
    array: ClassVar[bool] = False
    include_usage: ClassVar[bool] = True
    version: ClassVar[str] = ""
    echo: ClassVar[dict[str, Any]] = {}
    choices: ClassVar[int] = 1
    output_wanted: ClassVar[int] = 0
    audio: ClassVar[bool] = False

    @property
    def native(self) -> DialectName:
        return self.dialect

    def body(self, upstream_model: str, output_cap: int | None) -> bytes:  # noqa: ARG002 - nothing is generated
        return self.write(self.dialect, upstream_model)

    def write(self, dialect: DialectName, upstream_model: str) -> bytes:
        """The body for an upstream of a dialect. Raises GatewayError for what it cannot say."""
        if dialect == "gemini":
            return encode(self._gemini(upstream_model))
        if dialect == "anthropic":
            raise GatewayError(
                "unsupported_parameter", "Anthropic's API makes no embeddings.", param="model", scope="model"
            )
        if self.dialect != "gemini":
            return encode({**self.members, "model": upstream_model})
        body: dict[str, Any] = {
            "model": upstream_model,
            "input": list(self.inputs),
            "encoding_format": "float",
        }
        if self.dimensions is not None:
            body["dimensions"] = self.dimensions
        return encode(body)

    def _gemini(self, model: str) -> dict[str, Any]:
        name = f"models/{model}"
        if self.dialect == "gemini":
            # What each request says of itself goes on; the models they name are ours to replace.
            if not self.batch:
                return {**self.members, "model": name}
            return {"requests": [{**one, "model": name} for one in self.members["requests"]]}
        if any(type(one) is not str for one in self.inputs):
            raise GatewayError(
                "unsupported_parameter",
                "This model's channel takes texts, not token numbers; send 'input' as text.",
                param="input",
                scope="model",
            )
        more = {} if self.dimensions is None else {"outputDimensionality": self.dimensions}
        return {
            "requests": [
                {"model": name, "content": {"parts": [{"text": one}]}, **more} for one in self.inputs
            ]
        }

    def batched(self, dialect: DialectName) -> bool:
        """Whether a Gemini upstream is asked for several vectors at once."""
        return dialect == "gemini" and (self.batch or self.dialect != "gemini")

    def exchange(self) -> Request:
        raise GatewayError("invalid_value", "Embeddings are not text.", param="model")

    def relay(self, name: str, token: str) -> Vectors:  # noqa: ARG002 - vectors have no ids
        return Vectors(self, self.dialect, name)


class Vectors:
    """The relay of an answer with vectors: whole, and in the client's dialect whatever the upstream's."""

    streamed = False
    carrier = None
    content_type = b"application/json"
    answer = None

    def __init__(self, asked: Embedding, upstream: DialectName, name: str) -> None:
        self._asked = asked
        self._upstream = upstream
        self._name = name
        self._chunks: list[bytes] = []
        self._body: dict[str, Any] = {}
        self._vectors: list[Any] = []

    def feed(self, chunk: bytes) -> Fed:
        self._chunks.append(chunk)
        return Fed(b"", [])

    def end(self) -> Fed:
        try:
            body = decode(b"".join(self._chunks))
        except (ValueError, RecursionError):
            raise BadAnswer("the answer is not JSON") from None
        if type(body) is not dict:
            raise BadAnswer("the answer is not a JSON object")
        if body.get("error") is not None:
            return Fed(b"", [failure(read_error(0, body))])
        self._body = body
        found = _gemini_vectors(body) if self._upstream == "gemini" else _openai_vectors(body)
        try:
            # Now, because after `end` the answer is paid.
            self._vectors = list(map(self._form(), found))
        except (struct.error, ValueError, OverflowError):
            raise BadAnswer("an embedding is not made of numbers") from None
        if len(self._vectors) != len(self._asked.inputs) and type(self._asked.inputs[0]) is str:
            raise BadAnswer(
                f"the answer has {len(self._vectors)} vectors for {len(self._asked.inputs)} texts"
            )
        # Nothing grew: vectors are no text, and no output is billed for them.
        events: list[Event] = [Finished("stop", "stop")]
        usage = self._usage(body)
        if usage is not None:
            events.append(Counted(usage))
        return Fed(b"", events)

    def _form(self) -> Callable[[Any], Any]:
        """How a vector of the upstream's becomes the client's."""
        if self._asked.dialect == "gemini":
            return list if self._upstream == "gemini" else _floats
        return _packed if self._upstream == "gemini" and self._asked.packed else _same

    def _usage(self, body: dict[str, Any]) -> Usage | None:
        told = body.get("usageMetadata" if self._upstream == "gemini" else "usage")
        name = "promptTokenCount" if self._upstream == "gemini" else "prompt_tokens"
        count = told.get(name) if type(told) is dict else None
        return Usage(input=count) if type(count) is int and 0 <= count <= 10**9 else None

    def close(self, receipt: Receipt) -> bytes:
        if self._asked.dialect == "gemini":
            return encode(self._as_gemini(receipt))
        if self._upstream == "gemini":
            data = [
                {"object": "embedding", "index": at, "embedding": one} for at, one in enumerate(self._vectors)
            ]
            self._body = {"object": "list", "data": data}
        usage = self._body.get("usage")
        if type(usage) is not dict:
            usage = {"prompt_tokens": receipt.input, "total_tokens": receipt.input}
        self._body["model"] = self._name
        self._body["usage"] = _told({**usage, "cost": receipt.cost}, receipt)
        return encode(self._body)

    def _as_gemini(self, receipt: Receipt) -> dict[str, Any]:
        usage = {"promptTokenCount": receipt.input, "totalTokenCount": receipt.input, "cost": receipt.cost}
        if self._upstream == "gemini":
            found = self._body
        elif self._asked.batch:
            found = {"embeddings": [{"values": one} for one in self._vectors]}
        else:
            found = {"embedding": {"values": self._vectors[0]}}
        told = found.get("usageMetadata")
        found["usageMetadata"] = _told({**usage, **(told if type(told) is dict else {})}, receipt)
        return found

    def fail(self, error: GatewayError, request_id: str) -> bytes:
        return encode(DIALECTS[self._asked.dialect].write_error(error, request_id)[1])

    def keep_alive(self) -> bytes:
        return b""


def _told(usage: dict[str, Any], receipt: Receipt) -> dict[str, Any]:
    return {**usage, "estimated": True} if receipt.estimated else usage


def read_openai(body: dict[str, Any]) -> Embedding:
    """A body of POST /embeddings. Raises GatewayError naming the field."""
    model = check_model(body.get("model"))
    most = take_max_credits(body)
    take = Members(body)
    inputs = _inputs(take.take("input"))
    form = take.choice("encoding_format", ("float", "base64"))
    dimensions = take.integer("dimensions", 1, DIMENSIONS_MAX)
    more = _weight(take.rest)
    return Embedding(
        dialect="openai_chat",
        model=model,
        inputs=inputs,
        members={name: value for name, value in body.items() if name != "model"},
        input_bound=_bound(inputs) + more,
        packed=form == "base64",
        dimensions=dimensions,
        max_credits=most,
    )


def read_gemini(body: dict[str, Any], *, batch: bool) -> Embedding:
    """A body of :embedContent or :batchEmbedContents, into which the route has put the model. Raises GatewayError."""
    model = check_model(body.get("model")).removeprefix("models/")
    most = take_max_credits(body)
    members = {name: value for name, value in body.items() if name not in ("model", "stream")}
    found = items(members.get("requests"), "requests") if batch else [members]
    if not found:
        raise missing("requests")
    wishes = [Members(one, f"requests[{at}]" if batch else "") for at, one in enumerate(found)]
    sizes = [wish.integer("outputDimensionality", 1, DIMENSIONS_MAX) for wish in wishes]
    sizes = [
        size or wish.integer("output_dimensionality", 1, DIMENSIONS_MAX)
        for size, wish in zip(sizes, wishes, strict=True)
    ]
    read = [_content_text(wish) for wish in wishes]
    inputs = tuple(text for text, _ in read)
    more = sum(beside for _, beside in read)
    _refuse_many(len(inputs), "requests")
    return Embedding(
        dialect="gemini",
        model=model,
        inputs=inputs,
        members=members,
        input_bound=_bound(inputs) + more,
        batch=batch,
        dimensions=sizes[0],
        max_credits=most,
    )


def _inputs(value: Any) -> tuple[Input, ...]:
    if value is None:
        raise missing("input")
    if type(value) is str:
        value = [value]
    if type(value) is not list or not value:
        raise refuse("input", "must be a text, an array of texts or token numbers, and not empty")
    if all(type(one) is int for one in value):
        value = [value]
    _refuse_many(len(value), "input")
    for at, one in enumerate(value):
        if type(one) is str and one:
            continue
        if type(one) is not list or not one or not all(type(token) is int and token >= 0 for token in one):
            raise refuse(f"input[{at}]", "must be a text or an array of token numbers, and not empty")
    return tuple(value)


def _refuse_many(count: int, path: str) -> None:
    if count > INPUTS_MAX:
        raise refuse(path, f"may hold at most {INPUTS_MAX} inputs, not {count}")


def _content_text(wish: Members) -> tuple[str, int]:
    """A request's text, and the bytes of what else it says that may count as input (a title, other parts)."""
    content = wish.inside("content")
    if content is None:
        raise missing(wish.where("content"))
    parts = [
        Members(part, f"{content.path}.parts[{at}]") for at, part in enumerate(content.need_array("parts"))
    ]
    found = "".join(text for part in parts if (text := part.text("text")))
    if not found:
        raise refuse(content.where("parts"), "must hold text")
    others = (wish.rest, content.rest, *[part.rest for part in parts])
    return found, sum(_weight(one) for one in others)


def _weight(members: dict[str, Any]) -> int:
    """The bytes of members nobody here knows: an upstream that does may count them as input."""
    counted = {name: value for name, value in members.items() if name not in _UNCOUNTED}
    return len(encode(counted)) if counted else 0


def _bound(inputs: tuple[Input, ...]) -> int:
    """Input tokens at most: a token is at least one byte, and each text may be framed by two more."""
    return sum(
        len(one.encode("utf-8", "surrogatepass")) if type(one) is str else len(one) for one in inputs
    ) + 2 * len(inputs)


def _openai_vectors(body: dict[str, Any]) -> list[Any]:
    data = body.get("data")
    if type(data) is not list or not data:
        raise BadAnswer("the answer has no data")
    found = [one.get("embedding") if type(one) is dict else None for one in data]
    if not all(type(one) in (list, str) for one in found):
        raise BadAnswer("an element of data has no embedding")
    return found


def _gemini_vectors(body: dict[str, Any]) -> list[Any]:
    single = body.get("embedding")
    told = [single] if single is not None else body.get("embeddings")
    if type(told) is not list or not told:
        raise BadAnswer("the answer has no embeddings")
    found = [one.get("values") if type(one) is dict else None for one in told]
    if not all(type(one) is list for one in found):
        raise BadAnswer("an embedding has no values")
    return found


def _same(vector: Any) -> Any:
    return vector


def _packed(values: list[float]) -> str:
    return base64.b64encode(struct.pack(f"<{len(values)}f", *values)).decode()


def _floats(vector: list[float] | str) -> list[float]:
    if not isinstance(vector, str):
        return list(vector)
    data = base64.b64decode(vector, validate=True)
    return list(struct.unpack(f"<{len(data) // 4}f", data))
