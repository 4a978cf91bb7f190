"""Which native relays serve which dialect, for the dialects that are asked by way of `Checked`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

from tollway.core.dialects.anthropic import native as anthropic
from tollway.core.dialects.gemini import native as gemini
from tollway.core.dialects.openai_responses import native as openai_responses
from tollway.core.exchange import DialectName
from tollway.core.relay import Relay


class Native(NamedTuple):
    """Makers of a dialect's relays: called with the model's public name and the call's token."""

    stream: Callable[..., Relay]
    whole: Callable[..., Relay]


NATIVES: Final[dict[DialectName, Native]] = {
    "anthropic": Native(anthropic.NativeStream, anthropic.NativeWhole),
    "gemini": Native(gemini.NativeStream, gemini.NativeWhole),
    "openai_responses": Native(openai_responses.NativeStream, openai_responses.NativeWhole),
}
