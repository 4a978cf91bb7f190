"""Telling those who keep keys or the catalogue in memory that they have changed."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from sqlalchemy import Connection, select

from tollway.store.schema import revision

Revisions = tuple[tuple[str, int], ...]


def revisions(conn: Connection) -> Revisions:
    """The topics and how often each has changed."""
    return tuple((row.topic, row.number) for row in conn.execute(select(revision)))


class Watchers:
    """Callbacks and the revisions they know of."""

    def __init__(self) -> None:
        self._callbacks: list[Callable[[frozenset[str]], Any]] = []
        self._seen: dict[str, int] = {}

    def add(self, changed: Callable[[frozenset[str]], Any]) -> None:
        self._callbacks.append(changed)

    def begin(self, now: Iterable[tuple[str, int]]) -> None:
        """What is known at the start; only later changes are told."""
        self._seen = dict(now)

    def notice(self, now: Iterable[tuple[str, int]]) -> None:
        """Call back if any number has grown. Numbers read earlier may arrive later and are ignored."""
        grown = {topic: number for topic, number in now if number > self._seen.get(topic, 0)}
        if not grown:
            return
        self._seen.update(grown)
        for changed in self._callbacks:
            changed(frozenset(grown))
