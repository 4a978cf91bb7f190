"""The Idempotency-Key header: what may be in it."""

from __future__ import annotations

import re
from typing import Final

from tollway.core.errors import GatewayError

_KEY: Final = re.compile(rb"[\x21-\x7e]{1,255}")


def check_idempotency_key(value: bytes | None) -> None:
    """Refuse a key that could not be stored as it is. Raises GatewayError (invalid_header)."""
    if value is not None and not _KEY.fullmatch(value):
        raise GatewayError(
            "invalid_header",
            "The Idempotency-Key must be 1 to 255 printable ASCII characters without spaces.",
            param="Idempotency-Key",
        )
