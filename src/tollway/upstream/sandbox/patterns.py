"""A short text for a regular expression, without running it: what a schema's `pattern` asks for.

Literals, classes, groups, alternatives, anchors and quantifiers are understood. Look-arounds,
back-references and the like raise Unsupported. The caller's pattern is never given to `re`,
which a hostile one could keep busy for ever.
"""

from __future__ import annotations

from typing import Final

_DEPTH_MAX: Final = 20
_LENGTH_MAX: Final = 4096
_CLASSES: Final = {"d": "0", "w": "a", "s": " ", "D": "a", "W": "-", "S": "a"}
_MEMBERS: Final = {"d": "0123456789", "w": "a0_", "s": " \t\n", "D": "a-", "W": "- ", "S": "a0-"}
_CONTROLS: Final = {"n": "\n", "t": "\t", "r": "\r", "f": "\f", "v": "\v"}
_PLAIN: Final = "a0A-_ .,x"


class Unsupported(ValueError):
    """The pattern uses something this generator does not understand."""


def example(pattern: str, length_min: int = 0) -> str:
    """A text that matches `pattern` and, where its quantifiers allow, has `length_min` characters.

    Raises Unsupported.
    """
    text = ""
    for repeat in (1, 2, 4, 8, 16, 64, 256):
        text = _Reader(pattern, repeat).read()
        if len(text) >= length_min:
            break
    return text


class _Reader:
    """Reads a pattern left to right and writes a match. `repeat`: how often an open quantifier repeats."""

    def __init__(self, pattern: str, repeat: int) -> None:
        self._pattern = pattern
        self._repeat = repeat
        self._at = 0
        self._depth = 0

    def read(self) -> str:
        text = self._alternatives()
        if self._at < len(self._pattern):
            raise Unsupported("an unbalanced parenthesis")
        return text

    def _peek(self) -> str:
        return self._pattern[self._at : self._at + 1]

    def _take(self) -> str:
        taken = self._peek()
        if not taken:
            raise Unsupported("the pattern ends early")
        self._at += 1
        return taken

    def _alternatives(self) -> str:
        self._depth += 1
        if self._depth > _DEPTH_MAX:
            raise Unsupported("groups nest too deep")
        first = self._sequence()
        while self._peek() == "|":
            self._at += 1
            self._sequence()
        self._depth -= 1
        return first

    def _sequence(self) -> str:
        text = ""
        while self._peek() not in ("", "|", ")"):
            text += self._quantified(self._atom())
            if len(text) > _LENGTH_MAX:
                raise Unsupported("the text would be too long")
        return text

    def _atom(self) -> str:
        taken = self._take()
        if taken in "^$":
            return ""
        if taken == ".":
            return "x"
        if taken == "(":
            return self._group()
        if taken == "[":
            return self._class()
        if taken == "\\":
            return self._escape()
        if taken in "*+?{":
            raise Unsupported("a quantifier without anything to repeat")
        return taken

    def _group(self) -> str:
        if self._peek() == "?":
            self._at += 1
            look_behind = self._pattern.startswith(("<=", "<!"), self._at)
            if self._pattern.startswith(("P<", "<"), self._at) and not look_behind:
                self._at = self._pattern.find(">", self._at) + 1 or len(self._pattern)
            elif self._take() != ":":
                raise Unsupported("a look-around or flag")
        text = self._alternatives()
        if self._take() != ")":
            raise Unsupported("an unbalanced parenthesis")
        return text

    def _escape(self) -> str:
        name = self._take()
        if name in "bB":
            return ""
        if name in _CLASSES:
            return _CLASSES[name]
        if name in _CONTROLS:
            return _CONTROLS[name]
        if name in "xu":
            return self._code(2 if name == "x" else 4)
        if name.isalnum():
            raise Unsupported("a back-reference or property class")
        return name

    def _code(self, digits: int) -> str:
        raw = self._pattern[self._at : self._at + digits]
        self._at += digits
        try:
            return chr(int(raw, 16))
        except ValueError:
            raise Unsupported("a bad escape") from None

    def _class(self) -> str:
        negated = self._peek() == "^"
        self._at += negated
        members: list[tuple[str, str]] = []
        while not members or self._peek() != "]":
            members.append(self._member())
        self._at += 1
        if not negated:
            return members[0][0]
        free = (c for c in _PLAIN if not any(low <= c <= high for low, high in members))
        found = next(free, None)
        if found is None:
            raise Unsupported("a class that excludes everything usual")
        return found

    def _member(self) -> tuple[str, str]:
        low = self._take()
        if low == "\\":
            return self._escaped_member()
        if self._peek() == "-" and self._pattern[self._at + 1 : self._at + 2] not in ("]", ""):
            self._at += 1
            return low, self._take()
        return low, low

    def _escaped_member(self) -> tuple[str, str]:
        name = self._peek()
        if name in _MEMBERS:
            self._at += 1
            low = _MEMBERS[name][0]
            # As a range this is exact for digits and near enough for the rest.
            return {"d": ("0", "9"), "w": ("a", "z"), "s": (" ", " ")}.get(name, (low, low))
        text = self._escape()
        return text, text

    def _quantified(self, atom: str) -> str:
        mark = self._peek()
        if mark not in ("*", "+", "?", "{"):
            return atom
        low, high = self._bounds()
        if self._peek() in ("?", "+"):
            self._at += 1
        times = max(low, min(high, self._repeat))
        if times * max(1, len(atom)) > _LENGTH_MAX:
            raise Unsupported("the text would be too long")
        return atom * times

    def _bounds(self) -> tuple[int, int]:
        mark = self._take()
        if mark != "{":
            return {"*": (0, _LENGTH_MAX), "+": (1, _LENGTH_MAX), "?": (0, 1)}[mark]
        end = self._pattern.find("}", self._at)
        inside = self._pattern[self._at : end] if end > 0 else ""
        low, comma, high = inside.partition(",")
        if (
            not (low.isascii() and low.isdigit() and len(low) < 6 and (high == "" or high.isdigit()))
            or len(high) > 9
        ):
            raise Unsupported("a bad repetition")
        self._at = end + 1
        return int(low), int(high) if high else (_LENGTH_MAX if comma else int(low))
