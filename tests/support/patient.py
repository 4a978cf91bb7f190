"""Where a test counts money on a machine that is busy with other tests, a hold waits as long as it takes."""

from __future__ import annotations

import pytest

SECONDS = 30.0


def patient() -> None:
    """From now on this process refuses no hold because PostgreSQL is slow."""
    from tollway.store.postgres import ledger

    ledger.HOLD_SECONDS = SECONDS  # type: ignore[misc]


def patient_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same for the length of a test."""
    monkeypatch.setattr("tollway.store.postgres.ledger.HOLD_SECONDS", SECONDS)
