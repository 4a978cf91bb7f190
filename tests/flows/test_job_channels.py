"""The job that looks after channels: those not well are tried, a bounded number of times a day."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.support.jobs import NOW, Clock, runner_of

from tollway.config import Settings
from tollway.core.routing.health import Health
from tollway.flows.jobs import channels
from tollway.store import models, schema
from tollway.store.base import Store
from tollway.store.factory import open_store
from tollway.store.rollups.sums import DAY_MS


@pytest.fixture
async def lite(tmp_path: Path) -> AsyncIterator[Store]:
    found = open_store(Settings(data=str(tmp_path / "lite")))
    await found.open()
    yield found
    await found.close()


class Found:
    def __init__(self, ok: bool) -> None:
        self.ok = ok
        self.checks = ()


async def two_channels(store: Store) -> None:
    """Two channels with a model each, and one that is switched off."""

    def make(conn: Any) -> None:
        for n, status in enumerate(("enabled", "enabled", "disabled")):
            row = {"id": f"ch{n}", "name": f"channel-{n}", "dialect": "openai_chat", "base_url": "http://h/v1",
                   "status": status, "created_at": 1}  # fmt: skip
            conn.execute(schema.channel.insert().values(**row))
            conn.execute(schema.model.insert().values(id=f"model-{n}", created_at=1))
            route = {
                "channel_id": f"ch{n}",
                "model_id": f"model-{n}",
                "upstream_model": f"up-{n}",
                "created_at": 1,
            }
            conn.execute(schema.route.insert().values(**route))

    await store.write(make)
    assert len((await store.read(models.catalogue)).channels) == 3


async def test_channels_that_are_not_well_are_tried_and_return(lite: Store) -> None:
    await two_channels(lite)
    clock, health, sent = Clock(NOW), Health(), []

    async def probe(channel: Any, model: str) -> Found:
        sent.append((channel.id, model))
        return Found(True)

    runner = runner_of(lite, clock, probe=probe, health=health)
    await runner.run("check-api-channels", asked=False)
    assert sent == [], "channels that are well cost nothing"
    for _ in range(5):
        health.fault("ch1", "model-1", clock.now, dice=0.5)
    assert not health.available("ch1", "model-1", clock.now)
    clock.now += 100_000
    report = await runner.run("check-api-channels", asked=False)
    assert sent == [("ch1", "up-1")]
    assert (report.processed, report.succeeded) == (1, 1)
    assert health.state("ch1", "model-1", clock.now) == "closed"


async def test_a_channel_is_sent_a_bounded_number_of_tries_a_day(lite: Store) -> None:
    await two_channels(lite)
    clock, sent = Clock(NOW), []

    async def probe(channel: Any, model: str) -> Found:
        sent.append(channel.id)
        return Found(channel.id == "ch0")

    runner = runner_of(lite, clock, probe=probe, health=Health())
    first = await runner.run("check-api-channels")
    assert (first.status, first.processed, first.succeeded, first.failed) == ("ok", 2, 1, 1)
    for _ in range(channels.PAID_MAX + 5):
        last = await runner.run("check-api-channels")
    assert sent.count("ch1") == channels.PAID_MAX
    assert last.details["over_limit"] == 2
    clock.now += DAY_MS
    await runner.run("check-api-channels")
    assert sent.count("ch1") == channels.PAID_MAX + 1


async def test_where_nothing_can_be_sent_channels_are_not_said_to_be_well(lite: Store) -> None:
    report = await runner_of(lite, Clock(NOW)).run("check-api-channels")
    assert report.status == "skipped"
    assert "Nothing can be sent" in report.reason
