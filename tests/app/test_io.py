"""What the io process answers over the control channel."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

from edge_opcua.app.io import _audit_finding, _Writes
from edge_opcua.core.messages import Request
from edge_opcua.core.values import BAD_NODE_ID_UNKNOWN, BAD_NOT_SUPPORTED, BAD_TIMEOUT, GOOD
from edge_opcua.drivers.doubts import Finding
from edge_opcua.drivers.poller import Device
from tests.drivers.peers import Bench
from tests.drivers.scripted import scripted
from tests.drivers.test_watchdog import device_config
from tests.drivers.watchpeer import WagoPeer
from tests.drivers.watchprocess import TRIPPED

GROUPS = [{"name": "fast", "period_ms": 20}, {"name": "asked", "on_request": True}]


async def test_a_group_is_polled_for_who_asks_and_answered_when_its_values_are_there() -> None:
    extra = {"recipe": {"group": "asked"}}
    tags = {"a": "hr:1:INT", "recipe": "hr:20:INT"}
    async with scripted(tags, groups=GROUPS, extra=extra) as (wire, bench), bench.running() as device:
        await bench.until(lambda: bench.values("asked")["recipe"] == 20 and device.link_up)
        plant = SimpleNamespace(devices={"dev": device}, pausing=frozenset())
        io = _Writes(cast(Any, None), cast(Any, plant))
        wire.registers[1, 20] = 21

        reply = await io.handle(Request("io", "poll", {"device": "dev", "group": "asked"}))
        assert (reply.status, bench.values("asked")["recipe"]) == (GOOD, 21)
        for body in ({"device": "dev", "group": "ghost"}, {"device": "ghost", "group": "asked"}):
            assert (await io.handle(Request("io", "poll", body))).status == BAD_NODE_ID_UNKNOWN
        assert (await io.handle(Request("io", "sing", {}))).status == BAD_NOT_SUPPORTED


class Recorder:
    """A child that keeps what it is told to record."""

    def __init__(self) -> None:
        self.control = self
        self.bodies: list[dict[str, Any]] = []

    def notify(self, to: str, kind: str, body: dict[str, Any]) -> None:
        assert (to, kind) == ("records", "audit")
        self.bodies.append(body)


def plant_of(device: Device) -> SimpleNamespace:
    """Return a plant of one device without outputs."""
    config = SimpleNamespace(outputs=())
    return SimpleNamespace(devices={"dev": device}, pausing=frozenset(), config=config, outputs={})


async def test_a_write_is_recorded_with_who_and_why_and_what_stood_there_before() -> None:
    extra = {"a": {"access": "rw"}}
    async with scripted({"a": "1/hr:1:INT"}, extra=extra) as (_, bench), bench.running() as device:
        await bench.until(lambda: bench.values("fast")["a"] == 1 and device.link_up)
        child = Recorder()
        plant = plant_of(device)
        io = _Writes(cast(Any, child), cast(Any, plant))
        body = {"tag": "dev/a", "value": 5, "user": "anna", "writer": "operator", "why": "new tool"}
        assert (await io.handle(Request("io", "write", body))).status == GOOD
    assert child.bodies == [
        {
            "what": "write dev/a",
            "who": "anna",
            "writer": "operator",
            "why": "new tool",
            "old": 1,
            "new": 5,
            "outcome": "Good",
        }
    ]


async def test_what_became_of_a_write_without_an_answer_is_recorded_for_the_one_who_wrote() -> None:
    extra = {"a": {"access": "rw"}}
    found: list[Finding] = []
    making = scripted({"a": "1/hr:1:INT"}, extra=extra, tell=found.append)
    async with making as (wire, bench), bench.running() as device:
        await bench.until(lambda: bench.values("fast")["a"] == 1 and device.link_up)
        child = Recorder()
        plant = plant_of(device)
        io = _Writes(cast(Any, child), cast(Any, plant))
        wire.swallow = 1
        body = {"tag": "dev/a", "value": 5, "user": "anna", "why": "new tool"}
        assert (await io.handle(Request("io", "write", body))).status == BAD_TIMEOUT
        await bench.until(lambda: bool(found))
        _audit_finding(cast(Any, child), "dev", found[0])
    late = child.bodies[1]
    assert (late["what"], late["who"], late["why"]) == ("write dev/a", "anna", "new tool")
    assert (late["old"], late["new"], late["held"]) == (1, 5, 5)
    assert late["outcome"].startswith("landed late")


async def test_an_acknowledge_starts_the_tripped_watchdog_of_the_device_first() -> None:
    """Before that nothing can be written to the device, so the output could not even fall safe."""
    cfg = device_config(0)
    async with WagoPeer().serving() as peer:
        bench = Bench(cfg.model_copy(update={"url": f"modbus://127.0.0.1:{peer.port}/1"}))
        async with bench.running() as device:
            await bench.until(lambda: device.link_up)
            peer.watchdog.state = TRIPPED
            await bench.until(lambda: device.watchdog_tripped)
            child, plant = Recorder(), plant_of(device)
            plant.config.outputs = (SimpleNamespace(name="lamps", device="dev"),)
            io = _Writes(cast(Any, child), cast(Any, plant))

            def body(action: str) -> Request:
                return Request("io", "output", {"output": "lamps", "action": action, "user": "anna"})

            assert (await io.handle(body("grant"))).status == BAD_NODE_ID_UNKNOWN  # passed on to the output
            assert (await io.handle(body("acknowledge"))).status == GOOD
            assert not device.watchdog_tripped
            (record,) = child.bodies
            assert (record["what"], record["who"], record["old"], record["outcome"]) == (
                "watchdog dev",
                "anna",
                "tripped",
                "armed",
            )
            # The next one is for the output itself.
            assert (await io.handle(body("acknowledge"))).status == BAD_NODE_ID_UNKNOWN
