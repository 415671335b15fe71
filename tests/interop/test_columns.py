"""What node-opcua is told of tags equals what was on the bus: every type, status, stamp and filter.

The expected notifications come from the slow, obvious functions (`deadband.changed` on one value after the
other); the server makes them by columns.
"""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from asyncua import ua

from edge_opcua.core.values import (
    BAD_DEVICE_FAILURE,
    GOOD,
    LIMIT_HIGH,
    UNCERTAIN_EU_EXCEEDED,
    Scalar,
)
from edge_opcua.opcua.namespaces import plant_id
from edge_opcua.opcua.services.subscription.deadband import Trigger, changed
from edge_opcua.opcua.values import data_value
from edge_opcua.security.users import UserStore
from tests.interop.node_remote import Remote, subscribed
from tests.opcua.plant import Ground, Plant, configuration, running, tag, until

pytestmark = [pytest.mark.interop, pytest.mark.timeout(120)]

SCALARS: list[Scalar] = [scalar for scalar in Scalar if scalar.is_number or scalar is Scalar.BOOLEAN]
NUMBERS: list[Scalar] = [scalar for scalar in SCALARS if scalar is not Scalar.BOOLEAN]
WIDE = (Scalar.INT64, Scalar.UINT64)
STATUSES = (*[GOOD] * 5, UNCERTAIN_EU_EXCEEDED | LIMIT_HIGH, BAD_DEVICE_FAILURE)
BATCHES = 60
BURST = 3  # several batches between two looks of the server: none is lost
QUEUE = 500
BAND = 2.5
ADDRESSES = {
    "BOOLEAN": "DBX0.0:BOOL",
    "SBYTE": "DBB2:SINT",
    "BYTE": "DBB3:USINT",
    "INT16": "DBW4:INT",
    "UINT16": "DBW6:UINT",
    "INT32": "DBD8:DINT",
    "UINT32": "DBD12:UDINT",
    "INT64": "DBD16:LINT",
    "UINT64": "DBD24:ULINT",
    "FLOAT": "DBD32:REAL",
    "DOUBLE": "DBD36:LREAL",
}


def name_of(scalar: Scalar) -> str:
    return f"a_{scalar.name.lower()}"


def node_of(scalar: Scalar) -> str:
    return f"ns=7;s=Press01.Process.{name_of(scalar)}"


@pytest.fixture(scope="module")
async def served(grounds: Ground, users: UserStore) -> AsyncIterator[Plant]:
    rows = [tag(name_of(scalar), scalar, f"DB10.{ADDRESSES[scalar.name]}") for scalar in SCALARS]
    device = {
        "name": "press",
        "driver": "s7",
        "url": "s7://192.168.0.10?rack=0&slot=1",
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


def extremes(scalar: Scalar) -> list[Any]:
    width = 8 * scalar.dtype.itemsize
    match scalar.dtype.kind:
        case "b":
            return [True, False]
        case "f":
            return [0.0, -0.0, math.nan, math.inf, -math.inf, 1e-30, 3.0]
        case "u":
            return [0, 1, 2**width - 1, 2**width - 2, 2 ** (width - 1)]
    return [0, -1, 2 ** (width - 1) - 1, -(2 ** (width - 1)), 1 - 2 ** (width - 1)]


def moved(dice: random.Random, scalar: Scalar, before: Any) -> Any:
    """The next value: mostly a small step, sometimes an extreme."""
    if scalar is Scalar.BOOLEAN or dice.random() < 0.3:
        return dice.choice(extremes(scalar))
    step = dice.choice([-3, -2, -1, 1, 2, 3])
    if scalar.dtype.kind == "f":
        return before + step if math.isfinite(before) else float(step)
    width = 8 * scalar.dtype.itemsize
    least, most = (
        (0, 2**width - 1) if scalar.dtype.kind == "u" else (-(2 ** (width - 1)), 2 ** (width - 1) - 1)
    )
    return min(max(before + step, least), most)


class Bus:
    """Publishes, and remembers what each row was, batch by batch."""

    def __init__(self, plant: Plant, seed: int) -> None:
        self._plant = plant
        self._dice = random.Random(seed)
        self._values: dict[Scalar, Any] = {scalar: scalar.dtype.type(0).item() for scalar in SCALARS}
        self.log: dict[Scalar, list[ua.DataValue]] = {scalar: [] for scalar in SCALARS}

    async def publish(self, batches: int) -> None:
        """Publish so many batches at once; returns once the server shows the last one."""
        writer = self._plant.writer("press.fast")
        for _ in range(batches):
            source_ns, server_ns = self._plant.stamp("press.fast")
            batch = writer.batch
            for scalar in SCALARS:
                row = batch.row(name_of(scalar))
                if self._dice.random() < 0.6:
                    self._values[scalar] = moved(self._dice, scalar, self._values[scalar])
                status = self._dice.choice(STATUSES)
                batch.set(row, self._values[scalar])
                batch.status[row] = status
                kind = ua.VariantType(int(scalar))
                value = data_value(batch.value(row), kind, status, source_ns, server_ns)
                self.log[scalar].append(value)
            writer.publish()
        await self._seen()

    async def _seen(self) -> None:
        nodes = self._plant.server._running().iserver.aspace
        last = self.log[Scalar.DOUBLE][-1]

        async def shown() -> bool:
            found = nodes.shown(plant_id(f"Press01.Process.{name_of(Scalar.DOUBLE)}"), ua.AttributeIds.Value)
            return bool(found is not None and found.SourceTimestamp == last.SourceTimestamp)

        await until(shown)


def expected(log: list[ua.DataValue], trigger: Trigger, band: float) -> Iterator[ua.DataValue]:
    """The notifications of an item that was made when the first value was there (Part 4 §7.22.2)."""
    last = None
    for value in log:
        if changed(trigger, band, last, value):
            last = value
            yield value


def told(value: ua.DataValue, scalar: Scalar) -> tuple[Any, int, str]:
    """A value as node-opcua would say it: JSON, milliseconds."""
    status = value.StatusCode.value
    plain = None if status & 0x80000000 else value.Value.Value
    if plain is not None and scalar in WIDE:
        plain = [plain >> 32 & 0xFFFF_FFFF, plain & 0xFFFF_FFFF]
    elif isinstance(plain, float) and not math.isfinite(plain):
        plain = "NaN" if math.isnan(plain) else "Infinity" if plain > 0 else "-Infinity"
    stamp = value.SourceTimestamp.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return plain, status, stamp


def heard(each: Any) -> tuple[Any, int, str]:
    value = each["value"]
    return None if value is None else value["value"], each["statusCode"], each["sourceTimestamp"]


def data_change(trigger: str, band: float = 0.0) -> dict[str, Any]:
    return {
        "$": "DataChangeFilter",
        "trigger": {"$enum": f"DataChangeTrigger.{trigger}"},
        "deadbandType": {"$enum": f"DeadbandType.{'Absolute' if band else 'None'}"},
        "deadbandValue": band,
    }


FILTERS: list[tuple[str, dict[str, Any], Trigger, float, list[Scalar]]] = [
    ("plain", {}, Trigger.StatusValue, 0.0, SCALARS),
    ("status", {"filter": data_change("Status")}, Trigger.Status, 0.0, SCALARS),
    ("stamp", {"filter": data_change("StatusValueTimestamp")}, Trigger.StatusValueTimestamp, 0.0, SCALARS),
    ("band", {"filter": data_change("StatusValue", BAND)}, Trigger.StatusValue, BAND, NUMBERS),
]


@pytest.mark.parametrize("seed", [1, 2])
async def test_every_batch_reaches_another_client_as_it_was(
    served: Plant, peer: Remote, session: str, seed: int
) -> None:
    bus = Bus(served, seed)
    await bus.publish(1)
    async with subscribed(peer, session):
        items = []
        for prefix, more, trigger, band, scalars in FILTERS:
            for scalar in scalars:
                name = f"{prefix}-{scalar.name}"
                await peer.monitor(node_of(scalar), name, queueSize=QUEUE, **more)
                items.append((name, scalar, trigger, band))
        for _ in range(BATCHES // BURST):
            await bus.publish(BURST)
        for name, scalar, trigger, band in items:
            wanted = [told(value, scalar) for value in expected(bus.log[scalar], trigger, band)]
            seen = [heard(each) for each in await peer.gather(f"{name}.seen", len(wanted))]
            assert seen == wanted, name
        await asyncio.sleep(0.1)
        for name, *_ in items:
            assert await peer.taken(f"{name}.seen") == [], name


@pytest.mark.parametrize("times", [1, 3])  # value by value, and by columns
async def test_what_is_read_is_what_is_on_the_bus(
    served: Plant, peer: Remote, session: str, times: int
) -> None:
    # Part 4 §5.11.2: one request over every type, again and again while the values change.
    bus = Bus(served, 3)
    nodes = [{"nodeId": node_of(scalar), "attributeId": 13} for scalar in SCALARS] * times
    nodes.append({"nodeId": "ns=7;s=Press01.Process.no such", "attributeId": 13})
    for _ in range(20):
        await bus.publish(1)
        *found, unknown = await peer.call(session, "read", nodes)
        assert [heard(each) for each in found] == [told(bus.log[s][-1], s) for s in SCALARS] * times
        assert unknown["statusCode"] == ua.StatusCodes.BadNodeIdUnknown
