"""An output on a device with a watchdog: both have to be acknowledged before anything is switched on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from edge_opcua.app.outputs import DeviceTarget
from edge_opcua.config.schema import EdgeConfig
from edge_opcua.core.bus import Bus
from edge_opcua.core.clock import SystemClock
from edge_opcua.core.values import GOOD, BlockSpec, Scalar, TagSpec, Verdict
from edge_opcua.drivers.lines import Lines
from edge_opcua.drivers.modbus import ModbusDriver
from edge_opcua.drivers.plan import plan_device
from edge_opcua.drivers.poller import Device
from edge_opcua.writeback.build import build_output
from edge_opcua.writeback.output import Output, authority_block
from tests.drivers.peers import OPTIONS, Known
from tests.drivers.test_watchdog import ALL  # read before the event loop runs
from tests.drivers.watchpeer import WagoPeer
from tests.drivers.watchprocess import TRIPPED
from tests.writeback.line import RESULT

LAMP = 1


def configuration(port: int) -> EdgeConfig:
    return EdgeConfig.model_validate(
        {
            "version": 1,
            "site": {"name": "plant", "machine": "Press01"},
            "devices": [
                {
                    "name": "io",
                    "driver": "modbus",
                    "url": f"modbus://127.0.0.1:{port}/1",
                    "timeout_ms": 300,
                    "options": OPTIONS,
                    "groups": [{"name": "fast", "period_ms": 20}],
                    "watchdog": {"profile": "wago-750", "timeout_ms": 400},
                    "tags": [
                        {
                            "name": "lamp",
                            "address": f"co:{LAMP}",
                            "type": Scalar.BOOLEAN,
                            "group": "fast",
                            "access": "rw",
                        }
                    ],
                    "captures": [
                        {
                            "name": "stroke",
                            "sequence": "hr:1:UINT",
                            "samples": "hr:9:INT[9]",
                            "sample_rate_hz": 9,
                        }
                    ],
                }
            ],
            "pipelines": [{"name": "wear", "model": "wear", "capture": "io/stroke"}],
            "outputs": [
                {
                    "name": "lamps",
                    "device": "io",
                    "pipeline": "wear",
                    "recover_hold_s": 0.1,
                    "values": [{"tag": "io/lamp", "source": "verdict", "kind": "bit", "preset": 0}],
                }
            ],
        }
    )


@dataclass
class Rig:
    peer: WagoPeer
    device: Device
    output: Output
    bus: Bus
    number: int = 0

    @property
    def reason(self) -> str:
        batch = self.bus.reader("lamps.authority").latest()
        return "" if batch is None else batch.text(batch.row("reason"))

    @property
    def state(self) -> str:
        return self.output.state.name

    async def until(self, state: str) -> None:
        async with asyncio.timeout(8.0):
            while self.state != state:
                await asyncio.sleep(0.01)

    async def lane(self) -> None:
        """Judge every part good, as a lane that lives would."""
        writer, capture = self.bus.writer("wear.result"), self.bus.writer("io.stroke")
        while True:
            capture.batch.status[:] = GOOD
            capture.publish()
            self.number += 1
            batch = writer.batch
            values: dict[str, Any] = {"stroke": self.number, "result_id": self.number, "score": 0.5}
            for name, value in (values | {"verdict": int(Verdict.OK), "confidence": 0.9}).items():
                batch.set(batch.row(name), value)
            batch.status[:] = GOOD
            writer.publish()
            await asyncio.sleep(0.05)


@asynccontextmanager
async def plant() -> AsyncIterator[Rig]:
    assert ALL
    async with WagoPeer().serving() as peer:
        config = configuration(peer.port)
        # The capture is played by hand, below; the device reads its tags only.
        device_config = config.device("io").model_copy(update={"captures": ()})
        stroke = BlockSpec("io.stroke", (TagSpec("sequence", Scalar.UINT32),), 8)
        blocks = plan_device(device_config, plugins=Known()).blocks
        bus = Bus.create([*blocks, stroke, RESULT, authority_block(config.outputs[0])])
        clock = SystemClock()
        device = Device(device_config, ModbusDriver, bus, clock, Lines(), draw=lambda: 0.0)
        output = build_output(config, config.outputs[0], (DeviceTarget(device), device), bus, clock)
        rig = Rig(peer, device, output, bus)
        async with asyncio.TaskGroup() as tasks:
            running = [tasks.create_task(each) for each in (device.run(), output.run(), rig.lane())]
            try:
                yield rig
            finally:
                for task in running:
                    task.cancel()
        bus.close()


async def test_nothing_is_switched_on_before_watchdog_and_output_were_acknowledged() -> None:
    async with plant() as rig:
        await rig.until("ACTIVE")
        async with asyncio.timeout(5.0):
            while not rig.peer.coils[LAMP]:
                await asyncio.sleep(0.01)

        # As if nobody had triggered it; a trigger that is on its way in this moment would clear it unseen.
        async with asyncio.timeout(5.0):
            while not rig.device.watchdog_tripped:
                rig.peer.watchdog.state = TRIPPED
                await asyncio.sleep(0.05)
        await rig.until("FAILSAFE")
        await asyncio.sleep(0.3)
        assert rig.device.watchdog_tripped
        assert rig.state == "FAILSAFE"
        assert rig.reason.startswith("D393 the watchdog of io has tripped")
        assert not rig.peer.coils[LAMP]

        assert (await rig.device.restart_watchdog()).status == GOOD
        await rig.until("ACK_REQUIRED")
        await asyncio.sleep(0.2)
        assert not rig.peer.coils[LAMP]
        assert rig.state == "ACK_REQUIRED"

        assert (await rig.output.acts.acknowledge("anna", "")).status == GOOD
        await rig.until("ACTIVE")
        async with asyncio.timeout(5.0):
            while not rig.peer.coils[LAMP]:
                await asyncio.sleep(0.01)
