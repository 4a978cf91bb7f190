"""Taking the members we know out of a wire object; what is left are its extras.

Every method refuses a member of the wrong type with a GatewayError that names its path. Null is the
same as absent, as it is for the providers.
"""

from __future__ import annotations

from typing import Any

from tollway.core.errors import GatewayError
from tollway.core.exchange import Extras


def refuse(path: str, why: str) -> GatewayError:
    """The error for a member whose value makes no sense."""
    return GatewayError("invalid_value", f"{path!r} {why}" if path else f"the body {why}", param=path or None)


def missing(path: str) -> GatewayError:
    """The error for a member that must be there."""
    return GatewayError("missing_field", f"The field {path!r} is missing", param=path)


def obj(value: object, path: str) -> dict[str, Any]:
    """The value as an object, or a refusal."""
    if type(value) is not dict:
        raise refuse(path, "must be an object")
    return value


def items(value: object, path: str) -> list[Any]:
    """The value as an array, or a refusal."""
    if type(value) is not list:
        raise refuse(path, "must be an array")
    return value


class Members:
    """The members of one wire object; `rest` shrinks as they are taken."""

    __slots__ = ("path", "rest")

    def __init__(self, source: object, path: str = "") -> None:
        self.rest: dict[str, Any] = dict(obj(source, path))
        self.path = path

    def where(self, name: str) -> str:
        """The path of a member, as error messages name it."""
        return f"{self.path}.{name}" if self.path else name

    def take(self, name: str) -> Any:
        """The member whatever it is; None if absent."""
        return self.rest.pop(name, None)

    def text(self, name: str) -> str | None:
        value = self.take(name)
        if value is None or type(value) is str:
            return value
        raise refuse(self.where(name), "must be a string")

    def need_text(self, name: str) -> str:
        value = self.text(name)
        if value is None:
            raise missing(self.where(name))
        return value

    def flag(self, name: str) -> bool | None:
        value = self.take(name)
        if value is None or type(value) is bool:
            return value
        raise refuse(self.where(name), "must be true or false")

    def integer(self, name: str, least: int | None = None, most: int | None = None) -> int | None:
        value = self.take(name)
        if type(value) is float and value.is_integer():
            value = int(value)
        if value is None:
            return None
        if type(value) is not int:
            raise refuse(self.where(name), "must be an integer")
        self._in_range(name, value, least, most)
        return value

    def number(self, name: str, least: float | None = None, most: float | None = None) -> float | None:
        value = self.take(name)
        if value is None:
            return None
        if type(value) not in (int, float):
            raise refuse(self.where(name), "must be a number")
        self._in_range(name, value, least, most)
        return value  # type: ignore[no-any-return]  # an int stays an int, so that it is written as it came

    def _in_range(self, name: str, value: float, least: float | None, most: float | None) -> None:
        if least is not None and value < least:
            raise refuse(self.where(name), f"must be at least {least}")
        if most is not None and value > most:
            raise refuse(self.where(name), f"must be at most {most}")

    def object(self, name: str) -> dict[str, Any] | None:
        value = self.take(name)
        return None if value is None else obj(value, self.where(name))

    def array(self, name: str) -> list[Any] | None:
        value = self.take(name)
        return None if value is None else items(value, self.where(name))

    def need_array(self, name: str) -> list[Any]:
        value = self.array(name)
        if value is None:
            raise missing(self.where(name))
        return value

    def strings(self, name: str) -> tuple[str, ...] | None:
        value = self.array(name)
        if value is None:
            return None
        if any(type(one) is not str for one in value):
            raise refuse(self.where(name), "must be an array of strings")
        return tuple(value)

    def choice(self, name: str, allowed: tuple[str, ...]) -> str | None:
        value = self.text(name)
        if value is not None and value not in allowed:
            raise refuse(self.where(name), f"must be one of {', '.join(allowed)}")
        return value

    def inside(self, name: str) -> Members | None:
        """The member as members of its own."""
        value = self.take(name)
        return None if value is None else Members(value, self.where(name))

    def extras_with(self, dialect: str, name: str, inner: Members) -> Extras:
        """What nobody took here and in the member `name`, each in its place."""
        rest = {**self.rest, name: inner.rest} if inner.rest else self.rest
        return {dialect: rest} if rest else {}

    def extras(self, dialect: str) -> Extras:
        """What nobody took, as the extras of a part or a request."""
        return {dialect: self.rest} if self.rest else {}
