"""How requests and results of operations travel: JSON in which credits are exact decimal numbers."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec

_encoder = msgspec.json.Encoder(decimal_format="number")
_decoder = msgspec.json.Decoder(float_hook=Decimal)


def encode(value: object) -> bytes:
    """A request or result as JSON; decimals are numbers with all their digits."""
    return _encoder.encode(value)


def decode(text: bytes) -> Any:
    """JSON as dicts, lists, strings, ints and Decimals. Raises ValueError."""
    try:
        return _decoder.decode(text)
    except msgspec.DecodeError as error:
        raise ValueError(str(error)) from None
