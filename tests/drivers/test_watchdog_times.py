"""A watchdog on a clock moved by hand: what counts as triggered, as tripped, and as given up."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, cast

import pytest

from edge_opcua.core.values import BAD_DEVICE_FAILURE, BAD_INVALID_STATE, BAD_TIMEOUT, GOOD
from edge_opcua.drivers.modbus.address import ModbusAddress
from edge_opcua.drivers.modbus.settings import ModbusShape
from edge_opcua.drivers.planner import Place, Request
from edge_opcua.drivers.watchdog import Watchdog
from edge_opcua.drivers.watchprofile import fitted, profile
from edge_opcua.drivers.wire import Fault, FaultKind, Reading, Traffic
from edge_opcua.errors import DeviceError, DeviceRefusedError, DeviceTimeoutError
from edge_opcua.testing import ManualClock
from tests.drivers.peers import DRIVERS, config

TIME, TRIGGER, STATUS, STOP = 0x1000, 0x1003, 0x1006, 0x1008
RUNNING, TRIPPED = 1, 2
TIMEOUT_MS = 1000
PROFILES = {name: profile(name) for name in ("wago-750", "turck-bl")}


class Registers:
    """A wire to registers that do what they are told, and to a watchdog that starts with its trigger.

    Attributes:
        held: Registers.
        faults: Refusals of reads, by register.
        errors: What writes to a register raise.
        written: Every write.
    """

    depth = 1
    shape = ModbusShape()

    def __init__(self) -> None:
        self.traffic = Traffic()
        self.held: dict[int, int] = {}
        self.faults: dict[int, Fault] = {}
        self.errors: dict[int, DeviceError] = {}
        self.written: list[tuple[int, int]] = []
        self.frozen: set[int] = set()

    async def open(self) -> None:
        """Need nothing."""

    async def close(self) -> None:
        """Have nothing to close."""

    async def read(self, requests: Sequence[Request]) -> Sequence[Sequence[Reading]]:
        (fragment,) = requests[0].fragments
        value = self.held.get(fragment.start, 0).to_bytes(2, "big")
        return [[self.faults.get(fragment.start, value)]]

    async def write(self, place: Place, encoded: bytes) -> None:
        at, value = cast(ModbusAddress, place).start, int.from_bytes(encoded, "big")
        if at in self.errors:
            raise self.errors[at]
        self.written.append((at, value))
        if at not in self.frozen:
            self.held[at] = value
        if at == TRIGGER:
            self.held[STATUS] = RUNNING
        elif at == STOP:
            self.held[STATUS] = 0

    async def write_bytes(self, area: str, offset: int, payload: bytes) -> None:
        raise NotImplementedError


class Rig:
    def __init__(self, name: str = "wago-750", *, by_hand: bool = True) -> None:
        settings = {"profile": name, "timeout_ms": TIMEOUT_MS}
        cfg = config("modbus", "modbus://io/1", {"lamp": "co:1"}, watchdog=settings)
        found = fitted(cfg, DRIVERS["modbus"])
        assert found is not None
        self.clock = ManualClock()
        self.wire = Registers()
        self.dog = Watchdog("io", self.wire, found, self.clock, by_hand=by_hand)

    async def pass_ms(self, duration_ms: int) -> None:
        """Let time pass, looking in every 10 ms as the task of the device would."""
        for _ in range(duration_ms // 10):
            self.clock.step(0.01)
            await self.dog.serve()

    @property
    def state(self) -> str:
        return self.dog.state.name

    def triggers(self) -> int:
        return sum(at in (TRIGGER, 0x1120) for at, _ in self.wire.written)


async def test_it_is_triggered_four_times_within_its_time() -> None:
    rig = Rig()
    await rig.dog.arm()
    assert (rig.state, rig.dog.refusal()) == ("ARMED", None)
    before = rig.triggers()
    await rig.pass_ms(2 * TIMEOUT_MS)
    assert rig.triggers() - before == 8
    values = [value for at, value in rig.wire.written if at == TRIGGER]
    assert all(first != second for first, second in pairwise(values))


async def test_the_first_trigger_differs_from_what_stands_there() -> None:
    rig = Rig()
    rig.wire.held[TRIGGER] = 1
    await rig.dog.arm()
    assert [value for at, value in rig.wire.written if at == TRIGGER] == [2]


async def test_whoever_comes_too_late_does_not_trigger_any_more() -> None:
    for name in PROFILES:
        rig = Rig(name)
        await rig.dog.arm()
        before = rig.triggers()
        rig.clock.step((TIMEOUT_MS + 1) / 1000)
        await rig.dog.serve()
        assert rig.state == "TRIPPED"
        assert rig.triggers() == before
        refused = rig.dog.refusal()
        assert refused is not None
        assert f"it was not triggered for {TIMEOUT_MS + 1} ms of {TIMEOUT_MS}" in refused.reason


async def test_time_that_the_machine_was_suspended_counts() -> None:
    rig = Rig("turck-bl")
    await rig.dog.arm()
    rig.clock.suspend(3600.0)
    rig.clock.step(0.3)
    await rig.dog.serve()
    assert rig.state == "TRIPPED"


@pytest.mark.parametrize("kind", [FaultKind.ABSENT, FaultKind.BUSY])
async def test_a_unit_that_is_silent_for_a_moment_is_not_given_up_at_once(kind: FaultKind) -> None:
    rig = Rig()
    await rig.dog.arm()
    rig.wire.faults[STATUS] = Fault(kind, "no answer")
    await rig.pass_ms(TIMEOUT_MS // 2)
    assert rig.state == "ARMED"
    await rig.pass_ms(TIMEOUT_MS)
    assert rig.state == "TRIPPED"


async def test_a_trigger_without_an_answer_from_one_of_several_units_is_none() -> None:
    rig = Rig("turck-bl")
    await rig.dog.arm()
    rig.wire.errors[0x1120] = DeviceTimeoutError("no answer", again=True)
    await rig.pass_ms(TIMEOUT_MS // 2)
    assert rig.state == "ARMED"
    await rig.pass_ms(TIMEOUT_MS)
    assert rig.state == "TRIPPED"


async def test_a_link_that_breaks_is_the_devices_matter() -> None:
    rig = Rig()
    rig.wire.errors[TIME] = DeviceTimeoutError("no answer")
    with pytest.raises(DeviceTimeoutError):
        await rig.dog.arm()
    rig.wire.errors.clear()
    await rig.dog.arm()
    rig.wire.errors[TRIGGER] = DeviceTimeoutError("no answer")
    with pytest.raises(DeviceTimeoutError):
        await rig.pass_ms(TIMEOUT_MS)
    rig.dog.lost()
    assert rig.state == "OFF"
    refused = rig.dog.refusal()
    assert refused is not None
    assert (refused.status, refused.reason) == (BAD_INVALID_STATE, "the watchdog of io is not armed yet")


async def test_what_could_not_be_armed_is_tried_again_after_a_while() -> None:
    rig = Rig()
    rig.wire.errors[TIME] = DeviceRefusedError("D340 no", status=BAD_DEVICE_FAILURE)
    await rig.dog.arm()
    assert rig.state == "FAILED"
    assert rig.dog.notice.endswith("nothing is written: D340 no")
    rig.wire.errors.clear()
    await rig.pass_ms(4_900)
    assert rig.state == "FAILED"
    await rig.pass_ms(200)
    assert rig.state == "ARMED"


@pytest.mark.parametrize(
    ("frozen", "reason"),
    [(TIME, "its time was set to 10, 0 was read back"), (STATUS, "its status is 3 after it was started")],
)
async def test_it_is_armed_only_once_that_was_read_back(frozen: int, reason: str) -> None:
    rig = Rig()
    rig.wire.frozen = {frozen}
    if frozen == STATUS:
        rig.wire.held = {STATUS: 3}
        rig.wire.write = _quiet(rig.wire)  # type: ignore[method-assign]
    await rig.dog.arm()
    assert rig.dog.notice.endswith(reason)


def _quiet(wire: Registers) -> Any:
    async def write(place: Place, encoded: bytes) -> None:
        wire.held[cast(ModbusAddress, place).start] = int.from_bytes(encoded, "big")

    return write


async def test_a_read_back_that_is_refused_is_the_reason() -> None:
    rig = Rig()
    rig.wire.faults[TIME] = Fault(FaultKind.DEVICE, "D344 device failure")
    await rig.dog.arm()
    assert rig.dog.notice.endswith("its time was set to 10, D344 device failure")


async def test_one_that_is_let_start_by_itself_does_so_at_once() -> None:
    rig = Rig(by_hand=False)
    await rig.dog.arm()
    rig.wire.held[STATUS] = TRIPPED
    await rig.pass_ms(TIMEOUT_MS // 2)
    assert rig.state == "ARMED"
    assert (STOP, 0xAA55) in rig.wire.written  # what clears the fault of a WAGO 750


async def test_an_acknowledge_that_nobody_serves_ends_in_time() -> None:
    rig = Rig()
    rig.wire.held[STATUS] = TRIPPED
    await rig.dog.arm()
    await rig.dog.serve()
    outcome = await rig.dog.restart(asyncio.Event(), timeout_s=0.01)
    assert outcome.status == BAD_TIMEOUT


async def test_an_acknowledge_meets_its_end_with_the_link() -> None:
    rig = Rig()
    rig.wire.held[STATUS] = TRIPPED
    await rig.dog.arm()
    async with asyncio.TaskGroup() as tasks:
        asked = tasks.create_task(rig.dog.restart(asyncio.Event(), timeout_s=5.0))
        await asyncio.sleep(0)
        rig.dog.lost()
    assert asked.result().status == BAD_TIMEOUT
    assert rig.state == "TRIPPED"  # over the next connection, too
    await rig.dog.arm()
    assert rig.state == "TRIPPED"


async def test_an_acknowledge_of_one_that_does_not_start_says_why() -> None:
    rig = Rig()
    rig.wire.held[STATUS] = TRIPPED
    await rig.dog.arm()
    rig.wire.errors[STOP] = DeviceRefusedError("D340 no", status=BAD_DEVICE_FAILURE)
    wake = asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        asked = tasks.create_task(rig.dog.restart(wake, timeout_s=5.0))
        await wake.wait()
        await rig.dog.serve()
    assert asked.result().status == BAD_INVALID_STATE
    assert asked.result().reason.endswith("D340 no")
    # It still says that it has tripped: the next look finds that, and wants another acknowledge.
    rig.wire.errors.clear()
    await rig.pass_ms(5_100)
    assert rig.state == "TRIPPED"
    wake.clear()
    async with asyncio.TaskGroup() as tasks:
        asked = tasks.create_task(rig.dog.restart(wake, timeout_s=5.0))
        await wake.wait()
        await rig.dog.serve()
    assert asked.result().status == GOOD
