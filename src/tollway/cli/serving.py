"""What runs the gateway, handed in by the program's entry, because the command line lies below it."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tollway.config import Settings

_serve: ContextVar[Callable[[Settings], int]] = ContextVar("serve")


def hand_in(serve: Callable[[Settings], int]) -> None:
    """Say what `tollway serve` runs: it serves until stopped and returns the exit code."""
    _serve.set(serve)


def serve(settings: Settings) -> int:
    """Run the gateway until it is stopped; returns the exit code."""
    return _serve.get()(settings)
