"""What all mouths do when they read: typed bodies, turns with their weight, the words of a bad value."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any, Final, TypeVar

import msgspec
from msgspec import Struct

from tollway.core.json import encode
from tollway.upstream.sandbox import tokens
from tollway.upstream.sandbox.ask import Attachment, Mark, Refused, Role, Turn

T = TypeVar("T")
_WHERE: Final = re.compile(r" - at `\$\.?([^`]*)`$")
_REQUIRED: Final = re.compile(r"missing required field `(\w+)`")


class Invalid(Struct, frozen=True):
    """Why a body does not fit: `where` is a path such as `messages[0].role`; `missing` names an absent field."""

    text: str
    where: str
    missing: str


def read_body(body: bytes, decode: Callable[[bytes], T], explain: Callable[[Invalid], Refused]) -> T:
    """A body as a typed value. Raises Refused, in the words of `explain` where it is JSON of another shape."""
    try:
        return decode(body)
    except msgspec.ValidationError as error:
        raise explain(_invalid(str(error))) from None
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise Refused(400, "We could not parse the JSON body of your request.") from None
    except RecursionError:
        raise Refused(400, "The body nests too deep.") from None


def converted(given: Any, kind: type[T], where: str, explain: Callable[[Invalid], Refused]) -> T:
    """A value already parsed, as a typed one. Raises Refused."""
    try:
        return msgspec.convert(given, kind)
    except msgspec.ValidationError as error:
        inner = _invalid(str(error))
        path = f"{where}.{inner.where}" if inner.where else where
        raise explain(Invalid(inner.text, path, inner.missing)) from None


def _invalid(text: str) -> Invalid:
    where = _WHERE.search(text)
    missing = _REQUIRED.search(text)
    what = text[: where.start()] if where else text
    return Invalid(what, where[1] if where else "", missing[1] if missing else "")


def turn(
    role: Role,
    texts: Iterable[str],
    attached: tuple[Attachment, ...] = (),
    *,
    extra: int = 0,
    source: str = "",
    mark: Mark = "",
) -> Turn:
    """A message with its weight. `extra`: tokens of its tool calls and the like."""
    text = "\n".join(texts)
    weight = tokens.TURN_TOKENS + tokens.count(text) + tokens.ATTACHMENT_TOKENS * len(attached) + extra
    return Turn(role, text, weight, attached, source, mark)


def weight_of(*values: Any) -> int:
    """Tokens of what is not conversation, as compact JSON; of nothing where it is absent or empty."""
    return sum(tokens.count(encode(value).decode()) for value in values if value)


def string(source: Any, name: str) -> str:
    """A text field of an object, or nothing."""
    value = source.get(name) if type(source) is dict else None
    return value if type(value) is str else ""


def words(text: str) -> frozenset[str]:
    """The names in a text, as a set."""
    return frozenset(text.split())
