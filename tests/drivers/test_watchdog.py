"""Watchdogs of devices: armed before anything is written, triggered, never cleared behind anybody's back."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import structlog

from edge_opcua.core.values import BAD_INVALID_STATE, BAD_NOT_SUPPORTED, GOOD
from edge_opcua.drivers import watchprofile
from edge_opcua.drivers.watchprofile import Profile, fitted, profile, profiles
from edge_opcua.errors import ConfigError
from edge_opcua.sim.proxy import Mode
from tests.drivers.peers import DRIVERS, Bench, ModbusPeer, config, proxied
from tests.drivers.watchpeer import MoxaPeer, TurckPeer, WagoPeer
from tests.drivers.watchprocess import STATUS, TIME, TRIPPED

# Read before the event loop runs.
ALL = {name: profile(name) for name in profiles()}
TIMEOUT_MS = 700
TAGS = {"lamp": "co:1", "valve": "co:2", "level": "hr:3:INT"}
RW = {name: {"access": "rw"} for name in TAGS}


def device_config(port: int, name: str = "wago-750", **watchdog: Any) -> Any:
    settings = {"profile": name, "timeout_ms": TIMEOUT_MS} | watchdog
    return config("modbus", f"modbus://127.0.0.1:{port}/1", TAGS, extra=RW, watchdog=settings)


@asynccontextmanager
async def running(port: int, name: str = "wago-750", **watchdog: Any) -> AsyncIterator[Bench]:
    bench = Bench(device_config(port, name, **watchdog))
    async with bench.running():
        yield bench


def notice(bench: Bench) -> str:
    batch = bench.reader("link").latest()
    return "" if batch is None else batch.text(batch.row("notice"))


# --- profiles ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ALL)
def test_a_profile_says_where_it_comes_from_and_what_nobody_has_tried(name: str) -> None:
    found = ALL[name]
    assert found.source
    assert found.unverified  # none of them has met its hardware yet
    assert found.safe
    assert found.status is not None or found.trigger is not None  # else nothing would ever be sent


@pytest.mark.parametrize("name", ALL)
def test_every_address_of_a_profile_is_one_that_its_drivers_write(name: str) -> None:
    for driver in ALL[name].drivers:
        places = [DRIVERS[driver].parse_address(address) for address in ALL[name].addresses]
        assert all(place.writable for place in places)


def test_a_key_that_no_profile_has_is_refused() -> None:
    with pytest.raises(ValueError, match="tirgger"):
        Profile.model_validate(ALL["wago-750"].model_dump() | {"tirgger": {"address": "hr:1:UINT"}})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"profile": "wago"},
            'there is no watchdog "wago"; there are moxa-iologik-e1200, turck-bl, wago-750',
        ),
        ({"timeout_ms": 450}, "450 ms is no time of the watchdog wago-750: 200..6553500 ms in steps of 100"),
        ({"timeout_ms": 100}, "100 ms is no time of the watchdog wago-750"),
        ({"profile": "moxa-iologik-e1200"}, "700 ms is no time of the watchdog moxa-iologik-e1200: 1000"),
    ],
)
def test_a_watchdog_that_the_device_cannot_have_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as refused:
        Bench(device_config(1, **({"name": settings["profile"]} if "profile" in settings else settings)))
    assert refused.value.code == "C174"


def test_a_watchdog_is_armed_by_its_own_protocols_only() -> None:
    settings = {"profile": "wago-750", "timeout_ms": 1000}
    cfg = config("s7", "s7://plc", {"v": "DB1.DBW0:INT"}, watchdog=settings)
    with pytest.raises(ConfigError, match="is armed by modbus, not by s7"):
        fitted(cfg, DRIVERS["s7"])
    assert fitted(config("s7", "s7://plc", {"v": "DB1.DBW0:INT"}), DRIVERS["s7"]) is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('title = "x"', "drivers: Field required"),
        ('{status}\n[trigger]\naddress = "xx:1"', "watchdog: "),
        ('{status}\n[trigger]\naddress = "hr:1:REAL"', "hr:1:REAL is no register and no coil"),
    ],
)
def test_a_profile_that_is_wrong_is_refused(
    text: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever adds one is told what its file lacks, before anything is written to a device."""
    head = 'title = "x"\ndrivers = ["modbus"]\nsafe = "off"\nunit_ms = 1\nleast_ms = 1\nmost_ms = 9999\n'
    status = f'{head}source = ["a"]\nunverified = []\n'
    name = f"made{abs(hash(text))}"  # profiles are read once for each name
    (tmp_path / f"{name}.toml").write_text(text.replace("{status}", status))
    monkeypatch.setattr(watchprofile, "_FOLDER", tmp_path)
    with pytest.raises(ConfigError, match=message) as refused:
        fitted(device_config(1, name), DRIVERS["modbus"])
    assert refused.value.code == "C174"


def test_a_simulated_device_has_no_watchdog() -> None:
    cfg = device_config(1).model_copy(update={"simulate": True})
    assert fitted(cfg, DRIVERS["modbus"]) is None


# --- a device that tells ------------------------------------------------------------------------------


async def test_it_is_armed_before_the_first_write_and_read_back() -> None:
    async with WagoPeer().serving() as peer, running(peer.port) as bench:
        await bench.until(lambda: bench.device.link_up)
        assert (await bench.device.write("lamp", True)).status == GOOD
        asked = [(start, value) for _, function, start, value in peer.asked if function in (5, 6)]
        assert asked[:4] == [(TIME, 7), (0x1001, 0), (0x1002, 0), (0x1003, 1)]
        assert asked.index((1, 0xFF00)) > 3
        assert peer.watchdog.time_ms == TIMEOUT_MS
        assert notice(bench) == ""


async def test_it_is_triggered_while_nobody_writes_anything() -> None:
    async with WagoPeer().serving() as peer, running(peer.port) as bench:
        await bench.until(lambda: bench.device.link_up)
        await bench.device.write("lamp", True)
        await bench.until(lambda: peer.watchdog.triggers > 6)  # longer than one time-out
        assert peer.watchdog.state != TRIPPED
        assert peer.coils[1]


async def test_a_slow_poll_does_not_keep_the_trigger_waiting() -> None:
    async with WagoPeer().serving() as peer:
        cfg = device_config(peer.port)
        slow = cfg.groups[0].model_copy(update={"period_ms": 60_000})
        bench = Bench(cfg.model_copy(update={"groups": (slow,)}))
        async with bench.running():
            await bench.until(lambda: peer.watchdog.triggers > 5)
            assert peer.watchdog.state != TRIPPED


async def test_without_us_the_outputs_fall_safe_and_stay_so_until_somebody_acknowledges() -> None:
    async with WagoPeer().serving() as peer:
        bench = Bench(device_config(peer.port))
        async with bench.running_once() as device:
            await bench.until(lambda: device.link_up)
            await device.write("lamp", True)
        await bench.until(lambda: peer.watchdog.now() == TRIPPED)
        again = bench.restarted()
        with structlog.testing.capture_logs() as logs:
            async with again.running() as device:
                await again.until(lambda: device.watchdog_tripped)
                assert not device.link_up
                await again.until(lambda: notice(again).startswith("D393 the watchdog of dev has tripped"))
                await again.until(lambda: device.watchdog_notice != "")  # the link has proved itself
                refused = await device.write("lamp", True)
                assert refused.status == BAD_INVALID_STATE
                assert "has tripped (it says so): all outputs off" in refused.reason
                await asyncio.sleep(0.05)
                assert peer.watchdog.now() == TRIPPED  # nothing we do meanwhile clears it
                assert not peer.coils[1]

                assert (await device.restart_watchdog()).status == GOOD
                assert not device.watchdog_tripped
                assert not peer.coils[1]  # acknowledged is not switched on
                await again.until(lambda: device.link_up)
                assert (await device.write("lamp", True)).status == GOOD
                assert peer.coils[1]
        assert [log["event"] for log in logs if log["event"].startswith("watchdog.")] == [
            "watchdog.tripped",
            "watchdog.armed",
        ]


async def test_whoever_may_let_it_start_by_itself_says_so() -> None:
    async with WagoPeer().serving() as peer:
        bench = Bench(device_config(peer.port, restart="automatic"))
        async with bench.running_once() as device:
            await bench.until(lambda: device.link_up)
        await bench.until(lambda: peer.watchdog.now() == TRIPPED)
        again = bench.restarted()
        async with again.running() as device:
            await again.until(lambda: device.link_up)
            assert peer.watchdog.now() != TRIPPED


async def test_a_cut_that_lasted_longer_than_the_time_counts_as_a_trip_whatever_the_device_says() -> None:
    """The trigger that is written first thing would clear the fault of a WAGO 750 unseen."""
    async with WagoPeer().serving() as peer, proxied(peer.port) as link, running(link.port) as bench:
        await bench.until(lambda: bench.device.link_up)
        peer.status_refused = True
        await link.set(Mode.parse("cut"))
        await bench.until(lambda: peer.watchdog.now() == TRIPPED)
        await link.set(Mode.parse("pass"))
        await bench.until(lambda: "was not triggered for" in bench.device.watchdog_notice)
        assert (await bench.device.write("lamp", True)).status == BAD_INVALID_STATE


async def test_a_short_cut_is_no_trip() -> None:
    async with (
        WagoPeer().serving() as peer,
        proxied(peer.port) as link,
        running(link.port, timeout_ms=5_000) as bench,
    ):
        await bench.until(lambda: bench.device.link_up)
        await link.set(Mode.parse("cut"))
        await bench.until(lambda: not bench.device.link_up)
        await link.set(Mode.parse("pass"))
        await bench.until(lambda: bench.device.link_up)
        assert peer.watchdog.now() != TRIPPED
        assert not bench.device.watchdog_tripped


async def test_a_trip_while_the_link_lives_is_noticed() -> None:
    async with WagoPeer().serving() as peer, running(peer.port) as bench:
        await bench.until(lambda: bench.device.link_up)
        peer.watchdog.state = TRIPPED
        await bench.until(lambda: bench.device.watchdog_tripped)
        assert (await bench.device.restart_watchdog()).status == GOOD


async def test_somebody_who_stops_it_is_noticed_and_it_is_armed_again() -> None:
    async with WagoPeer().serving() as peer, running(peer.port) as bench:
        await bench.until(lambda: bench.device.link_up)
        peer.watchdog.state = 0
        await bench.until(lambda: notice(bench).startswith("D394"))
        assert notice(bench).endswith("nothing is written: somebody has stopped it")
        assert not bench.device.link_up


async def test_one_that_runs_with_another_time_is_set_anew() -> None:
    async with WagoPeer().serving() as peer:
        peer.watchdog.write(TIME, 50)
        peer.watchdog.write(0x1003, 7)
        async with running(peer.port) as bench:
            await bench.until(lambda: bench.device.link_up)
            assert peer.watchdog.time_ms == TIMEOUT_MS


async def test_without_its_registers_nothing_is_written() -> None:
    async with WagoPeer().serving() as peer:
        peer.holes = {STATUS}
        async with running(peer.port) as bench:
            await bench.until(lambda: bench.device.status.state.name == "ONLINE")
            refused = await bench.device.write("lamp", True)
            assert refused.status == BAD_INVALID_STATE
            assert refused.reason.startswith("D394 the watchdog of dev is not armed, nothing is written")
            assert not bench.device.link_up
            assert bench.values("fast")["level"] == 0  # reads go on


# --- devices that do not tell -------------------------------------------------------------------------


async def test_a_gateway_that_tells_nothing_is_triggered_by_writing_its_time_again() -> None:
    async with TurckPeer().serving() as peer, running(peer.port, "turck-bl") as bench:
        await bench.until(lambda: bench.device.link_up)
        await bench.device.write("lamp", True)
        await asyncio.sleep(2 * TIMEOUT_MS / 1000)
        assert (peer.tripped, peer.registers[0x1120], peer.coils[1]) == (0, TIMEOUT_MS, True)


async def test_a_gateway_that_does_not_take_the_trigger_is_not_written_to() -> None:
    async with TurckPeer().serving() as peer, running(peer.port, "turck-bl") as bench:
        await bench.until(lambda: bench.device.link_up)
        peer.locked = True
        await bench.until(lambda: not bench.device.link_up)
        assert (await bench.device.write("lamp", True)).reason.startswith("D394")


async def test_a_watchdog_that_only_its_web_page_sets_is_watched_and_cleared() -> None:
    async with (
        MoxaPeer().serving() as peer,
        running(peer.port, "moxa-iologik-e1200", timeout_ms=1000) as bench,
    ):
        await bench.until(lambda: bench.device.link_up)
        peer.coils[4144] = True
        await bench.until(lambda: bench.device.watchdog_tripped)
        assert (await bench.device.restart_watchdog()).status == GOOD
        assert not peer.coils[4144]
        await bench.until(lambda: bench.device.link_up)


async def test_a_device_without_one_has_nothing_to_start() -> None:
    async with ModbusPeer().serving() as peer:
        bench = Bench(config("modbus", f"modbus://127.0.0.1:{peer.port}/1", TAGS, extra=RW))
        async with bench.running() as device:
            await bench.until(lambda: device.link_up)
            assert (await device.restart_watchdog()).status == BAD_NOT_SUPPORTED
            assert not device.watchdog_tripped


async def test_one_that_has_not_tripped_is_not_started_again() -> None:
    async with WagoPeer().serving() as peer, running(peer.port) as bench:
        await bench.until(lambda: bench.device.link_up)
        assert (await bench.device.restart_watchdog()).status == BAD_INVALID_STATE


# --- a process of its own ------------------------------------------------------------------------------


async def _line(process: asyncio.subprocess.Process) -> list[bytes]:
    assert process.stdout is not None
    async with asyncio.timeout(10.0):
        return (await process.stdout.readline()).split()


async def test_a_device_in_another_process_switches_off_when_we_are_gone() -> None:
    """On pymodbus' server, which is not ours, with its own clock."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.drivers.watchprocess"),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    try:
        ready, port = await _line(process)
        assert ready == b"ready"
        bench = Bench(device_config(int(port)))
        async with bench.running_once() as device:
            await bench.until(lambda: device.link_up)
            assert (await _line(process))[:2] == [b"state", b"1"]
            assert (await device.write("level", 7)).status == GOOD
        bench.bus.close()
        # We let go without a word; nobody triggers any more.
        state = await _line(process)
        assert state == [b"state", b"2", *[b"0"] * 4]
    finally:
        process.kill()
        async with asyncio.timeout(5.0):
            await process.communicate()
