"""The ballast: made where there is plenty of room, given up for a full disk and nothing else, made again with room."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from tollway.store.base import LedgerUnavailable, StoreError
from tollway.store.sqlite import ballast
from tollway.store.sqlite.ballast import NAME, Ballast

SIZE = 256 * 1024


@pytest.fixture
def room(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """What the file system says is free; plenty unless a test says otherwise."""
    found = {"free": 16 * SIZE}
    monkeypatch.setattr(ballast, "free", lambda folder: found["free"])
    return found


def failure(code: int) -> sqlite3.OperationalError:
    found = sqlite3.OperationalError("no")
    found.sqlite_errorcode = code
    return found


def size(folder: Path) -> int | None:
    path = folder / NAME
    return path.stat().st_size if path.exists() else None


@pytest.mark.parametrize(
    ("wanted", "free", "made"),
    [(SIZE, 16 * SIZE, SIZE), (SIZE, 16 * SIZE - 1, None), (0, 16 * SIZE, None)],
)
def test_it_is_made_where_sixteen_times_as_much_is_free(
    wanted: int, free: int, made: int | None, room: dict[str, int], tmp_path: Path
) -> None:
    room["free"] = free
    Ballast(tmp_path, wanted).tend()
    assert size(tmp_path) == made


def test_it_takes_up_the_room_it_says(room: dict[str, int], tmp_path: Path) -> None:
    Ballast(tmp_path, SIZE).tend()
    assert (tmp_path / NAME).stat().st_blocks * 512 >= SIZE
    assert (tmp_path / NAME).stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("after", [0, 2 * SIZE])
def test_one_of_another_size_is_replaced(after: int, room: dict[str, int], tmp_path: Path) -> None:
    Ballast(tmp_path, SIZE).tend()
    room["free"] = 16 * 2 * SIZE
    Ballast(tmp_path, after).tend()
    assert size(tmp_path) == (after or None)


def test_one_that_takes_up_nothing_is_made_anew(room: dict[str, int], tmp_path: Path) -> None:
    with (tmp_path / NAME).open("wb") as file:
        file.truncate(SIZE)
    Ballast(tmp_path, SIZE).tend()
    assert (tmp_path / NAME).stat().st_blocks * 512 >= SIZE


def wrapped(error: Exception, kind: type[StoreError]) -> Exception:
    try:
        raise kind("in other words") from error
    except StoreError as found:
        return found


@pytest.mark.parametrize(
    ("error", "given_up"),
    [
        (failure(sqlite3.SQLITE_FULL), True),
        (failure(sqlite3.SQLITE_IOERR_WRITE), True),
        (failure(sqlite3.SQLITE_IOERR_SHMSIZE), True),
        (wrapped(failure(sqlite3.SQLITE_FULL), LedgerUnavailable), True),
        (failure(sqlite3.SQLITE_IOERR_FSYNC), False),
        (failure(sqlite3.SQLITE_BUSY), False),
        (ValueError("no"), False),
    ],
)
def test_it_is_given_up_for_want_of_room_alone(
    error: Exception, given_up: bool, room: dict[str, int], tmp_path: Path
) -> None:
    one = Ballast(tmp_path, SIZE)
    one.tend()
    assert one.give_up(error) is given_up
    assert one.spent is given_up
    assert size(tmp_path) == (None if given_up else SIZE)
    assert one.give_up(error) is False, "there is none any more"


def test_once_spent_it_is_made_again_where_four_times_as_much_is_free(
    room: dict[str, int], tmp_path: Path
) -> None:
    one = Ballast(tmp_path, SIZE)
    one.tend()
    one.give_up(failure(sqlite3.SQLITE_FULL))
    room["free"] = 4 * SIZE - 1
    one.tend()
    assert (size(tmp_path), one.spent) == (None, True)
    room["free"] = 4 * SIZE
    one.tend()
    assert (size(tmp_path), one.spent) == (SIZE, False)


def test_one_that_cannot_be_made_leaves_nothing_behind(room: dict[str, int], tmp_path: Path) -> None:
    Ballast(tmp_path / "gone", SIZE).tend()
    huge = 1 << 62
    room["free"] = 16 * huge
    Ballast(tmp_path, huge).tend()
    assert size(tmp_path) is None
