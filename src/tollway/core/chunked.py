"""How HTTP/1.1 frames a chunk, for whoever has a small one whole: size line, payload, line break."""

from __future__ import annotations

from typing import Final

END: Final = b"\r\n"
_SMALL: Final = 2048

SIZE_LINES: Final = {
    len(line) + size + len(END): line for size in range(1, _SMALL + 1) for line in (b"%x\r\n" % size,)
}
"""The size line of a chunk as servers write it, by the length of the chunk with its framing; of small chunks only."""
