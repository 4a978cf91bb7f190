"""Logs: one JSON object a line on stderr, with nothing in it that looks like a credential."""

from __future__ import annotations

import logging
import re
import sys
from typing import Any, Final

from tollway.core.json import encode

_SECRET: Final = re.compile(
    r"\b(sk|pk|rk|xai|gsk)-[A-Za-z0-9_-]{8,}|\bAIza[\w-]{10,}|(?i:bearer)\s+[^\s\"']{8,}"
)


def redacted(text: str) -> str:
    """The text without anything shaped like an API key or a bearer token."""
    return _SECRET.sub("[redacted]", text)


class JsonLines(logging.Formatter):
    """`{"at": ..., "level": ..., "logger": ..., "message": ...}` and, after a mistake of ours, `"trace"`."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "at": self.formatTime(record, "%Y-%m-%dT%H:%M:%S") + f".{int(record.msecs):03d}",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": redacted(record.getMessage()),
        }
        if record.exc_info:
            line["trace"] = redacted(self.formatException(record.exc_info))
        return encode(line).decode()


def configure(level: str) -> None:
    """Send the logs of this process to stderr. Other libraries' are heard from warnings on."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("tollway").setLevel(level.upper())
