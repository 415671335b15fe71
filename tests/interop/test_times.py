"""Tags that are times in the eyes of node-opcua: DateTimes, read and notified, single and as an array."""

from __future__ import annotations

import datetime as dt
from collections.abc import AsyncIterator

import pytest

from edge_opcua.core.ticks import from_utc
from edge_opcua.core.values import Scalar
from edge_opcua.security.users import UserStore
from tests.interop.node_remote import Remote, subscribed
from tests.opcua.plant import Ground, Plant, configuration, running, tag

pytestmark = [pytest.mark.interop, pytest.mark.timeout(120)]

STARTED, SERVICES = "ns=7;s=Press01.Process.started", "ns=7;s=Press01.Process.services"
NOON = dt.datetime(2026, 3, 1, 12, 0, 0, 250_000, tzinfo=dt.UTC)
DATE_TIME = 13  # its number as a built-in type


@pytest.fixture(scope="module")
async def served(grounds: Ground, users: UserStore) -> AsyncIterator[Plant]:
    rows = [
        tag("started", Scalar.DATETIME, "DB10.DBB0:DTL"),
        tag("services", Scalar.DATETIME, "DB10.DBB12:DT[2]", length=2),
    ]
    device = {
        "name": "press",
        "driver": "s7",
        "url": "s7://192.168.0.10",
        "tags": rows,
        "groups": [{"name": "fast", "period_ms": 100}],
    }
    config = configuration(devices=[device], pipelines=[], outputs=[])
    async with running(grounds, config, users=users) as plant:
        yield plant


@pytest.fixture
async def session(served: Plant, peer: Remote, identity: dict[str, str]) -> AsyncIterator[str]:
    name = await peer.connect(served.server.url, identity)
    yield name
    await peer.leave()


def as_json(moment: dt.datetime) -> str:
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def show(plant: Plant, moment: dt.datetime) -> None:
    ticks = from_utc(moment)
    plant.press(started=ticks, services=[ticks, from_utc(NOON)])


async def test_node_opcua_sees_date_times(served: Plant, peer: Remote, session: str) -> None:
    show(served, NOON)
    async with subscribed(peer, session):
        await peer.monitor(STARTED, "started")
        moments = [NOON + dt.timedelta(seconds=each) for each in (1, 2, 3)]
        for moment in moments:
            show(served, moment)
            seen = None
            while seen != (DATE_TIME, as_json(moment)):  # the first one is what was there before
                last = (await peer.gather("started.seen", 1))[-1]["value"]
                seen = (last["dataType"], last["value"])
    single, several = [await peer.read(session, node) for node in (STARTED, SERVICES)]
    assert single["value"]["value"] == as_json(moments[-1])
    assert several["value"]["value"] == [as_json(moments[-1]), as_json(NOON)]
