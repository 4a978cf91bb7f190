"""Names that users gave, resolved apart from all others.

The loop's own resolver has few threads, and a name may be made to take its time: look-ups for users
have threads of their own, so that no upstream's name waits for them and no shutdown does.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable
from threading import Thread
from typing import Final

THREADS_MAX: Final = 16
"""Look-ups under way; an abandoned one counts until the system gives it up."""


class Names:
    """Resolves names. Used from one event loop. `look_up` is run on the threads."""

    def __init__(
        self, threads_max: int = THREADS_MAX, look_up: Callable[[str], list[str]] | None = None
    ) -> None:
        self._free = asyncio.Semaphore(threads_max)
        self._look_up = look_up or _look_up

    async def addresses(self, name: str) -> list[str]:
        """All addresses of a name, the system's first choice first. Raises OSError if there is none."""
        await self._free.acquire()
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[list[str]] = loop.create_future()

        def look_up() -> None:
            found: list[str] | OSError
            try:
                found = self._look_up(name)
            except (OSError, UnicodeError) as error:
                found = error if isinstance(error, OSError) else OSError(str(error))
            # The loop may be gone by now, and nobody is left to be told.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(told, found)

        def told(found: list[str] | OSError) -> None:
            self._free.release()
            if answer.done():
                return
            if isinstance(found, OSError):
                answer.set_exception(found)
            else:
                answer.set_result(found)

        try:
            Thread(target=look_up, name="tollway-names", daemon=True).start()
        except RuntimeError as error:
            self._free.release()
            raise OSError("no thread to resolve a name on") from error
        return await answer


def _look_up(name: str) -> list[str]:
    found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    return [str(address[0]) for _, _, _, _, address in found]
