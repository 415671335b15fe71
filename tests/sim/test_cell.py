"""The whole cell, read by clients we did not write: python-snap7's for the PLC, pymodbus' for the unit."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import snap7
from pymodbus.client import AsyncModbusTcpClient
from pymodbus.exceptions import ModbusException

from edge_opcua.config.eai import Stat, eai_map
from edge_opcua.errors import ControlError
from edge_opcua.sim import cell as cell_module
from edge_opcua.sim.cell import Cell, main
from edge_opcua.sim.physics import PressPhysics
from tests.sim.edgetwin import ACTIVE, PRESS_INTERFACE, EdgeTwin

SEED = 11


@pytest.fixture(scope="module")
async def cell() -> AsyncIterator[Cell]:
    async with Cell(time_factor=10.0, seed=SEED) as cell:
        yield cell


@pytest.fixture
def plc(cell: Cell) -> Iterator[Any]:
    client = snap7.client.Client()
    client.connect("127.0.0.1", 0, 1, cell.ports["press"])
    yield client
    client.disconnect()


@pytest.fixture
async def unit(cell: Cell) -> AsyncIterator[AsyncModbusTcpClient]:
    client = AsyncModbusTcpClient(
        "127.0.0.1", port=cell.ports["vib"], timeout=1, retries=0, reconnect_delay=0
    )
    assert await client.connect()
    yield client
    client.close()


async def read(client: AsyncModbusTcpClient, address: int, count: int) -> list[int]:
    response = await client.read_holding_registers(address, count=count, device_id=1)
    assert not response.isError(), response
    return list(response.registers)


async def capture(client: AsyncModbusTcpClient) -> tuple[int, int, np.ndarray[Any, np.dtype[np.int16]]]:
    """Read one capture as a driver does, and return its sequence number, its stroke and its samples."""
    while True:
        head = await read(client, 0, 16)
        if head[1]:
            words = [word for at in range(100, 2_100, 125) for word in await read(client, at, 125)]
            if (await read(client, 0, 1))[0] == head[0]:
                return head[0], head[14] << 16 | head[15], np.array(words, np.uint16).view(np.int16)
        await asyncio.sleep(0.01)


async def eventually(holds: Callable[[], bool], *, within_s: float = 15.0) -> None:
    async with asyncio.timeout(within_s):
        while not holds():
            await asyncio.sleep(0.01)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


# What the units show


async def test_the_plc_shows_what_happens_in_the_press(cell: Cell, plc: Any) -> None:
    await eventually(lambda: struct.unpack_from(">I", plc.db_read(10, 0, 4))[0] > 0)
    await cell.guard(closed=False)
    await asyncio.sleep(0.1)
    truth, raw = await cell.truth(), bytes(plc.db_read(10, 0, 64))
    await cell.guard(closed=True)

    stroke, state = struct.unpack_from(">Ih", raw, 0)
    part, tonnage, speed, die_temp = struct.unpack_from(">Ifff", raw, 12)
    made = PressPhysics(SEED).stroke(stroke, wear=truth["wear"])
    assert (stroke, part) == (truth["stroke"], truth["part_id"])
    assert state == 2  # PackML Idle: the guard is open
    assert speed == 0.0
    assert (tonnage, die_temp) == (pytest.approx(made.tonnage), pytest.approx(made.die_temp))
    assert raw[38:56].rstrip(b"\0") == bytes((16, 14)) + b"SIDE PANEL 1.2"


async def test_the_unit_shows_the_strokes_that_the_physics_makes(
    cell: Cell, unit: AsyncModbusTcpClient
) -> None:
    sequence, stroke, samples = await capture(unit)
    wear = (await cell.truth())["wear"]

    assert sequence > 0
    np.testing.assert_array_equal(samples, PressPhysics(SEED).stroke(stroke, wear=wear).raw)


async def test_wear_and_a_broken_accelerometer_reach_the_registers(
    cell: Cell, unit: AsyncModbusTcpClient
) -> None:
    await cell.wear(0.9)
    await cell.sensor_fault("accelerometer")
    first = (await read(unit, 0, 1))[0]
    while (await read(unit, 8, 1)) != [1]:
        await asyncio.sleep(0.02)
    await cell.sensor_fault(None)
    while (await read(unit, 8, 1)) != [0]:
        await asyncio.sleep(0.02)
    sequence, stroke, samples = await capture(unit)
    await cell.wear(0.05)

    assert sequence > first
    np.testing.assert_array_equal(samples, PressPhysics(SEED).stroke(stroke, wear=0.9).raw)


async def test_a_capture_is_ready_200_ms_after_its_stroke(unit: AsyncModbusTcpClient) -> None:
    while not (await read(unit, 1, 1))[0]:
        await asyncio.sleep(0.005)
    asked = time.monotonic()
    while (await read(unit, 1, 1))[0]:  # until the next stroke begins
        asked = time.monotonic()
        await asyncio.sleep(0.005)
    while not (await read(unit, 1, 1))[0]:
        await asyncio.sleep(0.005)
    sampled_s = time.monotonic() - asked
    words = await read(unit, 2, 4)
    ready_ns = words[0] << 48 | words[1] << 32 | words[2] << 16 | words[3]

    assert 0.1 < sampled_s < 2.0  # 0.2 on a machine that has nothing else to do
    assert abs(ready_ns - time.time_ns()) < 2_000_000_000


async def test_the_unit_is_read_only_and_ends_at_its_last_register(unit: AsyncModbusTcpClient) -> None:
    refused = await unit.write_register(0, 1, device_id=1)
    outside = await unit.read_holding_registers(2_099, count=2, device_id=1)

    assert refused.exception_code == outside.exception_code == 2


async def test_a_multi_read_of_all_blocks_is_one_answer(plc: Any) -> None:
    area = snap7.type.Area.DB
    items = [
        {"area": area, "db_number": db, "start": 0, "size": size}
        for db, size in ((10, 64), (11, 9), (21, 16))
    ]
    code, data = plc.read_multi_vars(items)

    assert code == 0
    assert [len(one) for one in data] == [64, 9, 16]
    assert struct.unpack(">ffB", data[1]) == (18.0, 1_200.0, 2)


async def test_a_set_point_is_read_back_clamped_right_after_the_write(plc: Any) -> None:
    plc.db_write(11, 0, bytearray(struct.pack(">f", 500.0)))
    assert struct.unpack(">f", plc.db_read(11, 0, 4)) == (60.0,)

    plc.db_write(11, 0, bytearray(struct.pack(">f", 18.0)))
    assert struct.unpack(">f", plc.db_read(11, 0, 4)) == (18.0,)


async def test_the_edge_cannot_write_the_block_of_the_plc(plc: Any) -> None:
    with pytest.raises(snap7.error.S7Error):
        plc.db_write(10, 0, bytearray(4))


async def test_the_plc_stops_trusting_a_silent_edge_and_resumes_on_an_acknowledge(
    cell: Cell, plc: Any
) -> None:
    twin = EdgeTwin(eai_map("verdict", PRESS_INTERFACE, "s7"))

    def beat(stat: Stat = ACTIVE) -> None:
        twin.stat = stat
        twin.beat()
        plc.db_write(20, 0, bytearray(twin.image()))

    def flags() -> int:
        return int(plc.db_read(10, 10, 1)[0])

    beat()
    beat()
    assert flags() & 3 == 1
    beat()
    silent = time.monotonic()
    while flags() & 1:
        await asyncio.sleep(0.005)
    # 500 ms and one scan; a loaded test machine may scan late, never early.
    assert 0.48 < time.monotonic() - silent < 1.5
    assert flags() & 3 == 2
    reaction = (await cell.truth())["reaction"]
    assert reaction["falls"] == 1
    assert reaction["fell_ns"] <= time.monotonic_ns()
    assert 480 < reaction["silence_ms"] < 1500
    assert reaction["fell_ns"] - reaction["beaten_ns"] == pytest.approx(reaction["silence_ms"] * 1e6, abs=1)

    beat(ACTIVE | Stat.ACK_REQUIRED)
    assert flags() & 3 == 2
    plc.write_area(snap7.type.Area.DB, 11, 8, bytearray((3,)))
    assert flags() & 3 == 0
    assert plc.db_read(11, 8, 1)[0] == 2  # the button has come back
    beat()
    assert flags() & 3 == 1


async def test_a_hundred_reconnects_leave_no_connection_in_the_plc(cell: Cell) -> None:
    for _ in range(100):
        client = snap7.client.Client()
        client.connect("127.0.0.1", 0, 1, cell.ports["press"])
        client.db_read(10, 0, 4)
        client.disconnect()
    async with asyncio.timeout(3.0):
        while (await cell.truth())["s7_connections"]:
            await asyncio.sleep(0.01)


# Links and processes that fail


async def test_a_cut_link_is_refused_until_it_is_mended(cell: Cell, plc: Any) -> None:
    await cell.link("press", "cut")
    with pytest.raises(snap7.error.S7Error):
        plc.db_read(10, 0, 4)
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", cell.ports["press"])
    assert (await cell.truth())["links"] == {"press": "cut", "vib": "pass"}

    await cell.link("press", "pass")
    plc.disconnect()
    plc.connect("127.0.0.1", 0, 1, cell.ports["press"])
    assert len(plc.db_read(10, 0, 4)) == 4


async def test_garbage_on_the_wire_never_ends_a_unit(cell: Cell) -> None:
    for name in ("press", "vib"):
        await cell.link(name, "garbage")
    for _ in range(10):
        client = AsyncModbusTcpClient(
            "127.0.0.1", port=cell.ports["vib"], timeout=0.1, retries=0, reconnect_delay=0
        )
        await client.connect()
        with contextlib.suppress(ModbusException):
            await client.read_holding_registers(0, count=16, device_id=1)
        client.close()
        with contextlib.suppress(ConnectionError, TimeoutError):
            reader, writer = await asyncio.open_connection("127.0.0.1", cell.ports["press"])
            writer.write(bytes.fromhex("0300001611e00000000100c0010ac1020100c2020101"))
            async with asyncio.timeout(0.1):
                await reader.read(100)
        writer.transport.abort()
    for name in ("press", "vib"):
        await cell.link(name, "pass")

    client = AsyncModbusTcpClient("127.0.0.1", port=cell.ports["vib"], retries=0, reconnect_delay=0)
    await client.connect()
    assert (await read(client, 6, 2)) == [10_000, 2_000]
    client.close()
    plc = snap7.client.Client()
    plc.connect("127.0.0.1", 0, 1, cell.ports["press"])
    assert len(plc.db_read(10, 0, 64)) == 64
    plc.disconnect()


async def test_a_stopped_unit_goes_on_with_fresh_captures(cell: Cell, unit: AsyncModbusTcpClient) -> None:
    await capture(unit)
    before = await cell.truth()
    os.kill(cell.pids["vib"], signal.SIGSTOP)
    try:
        with pytest.raises(ModbusException):
            await unit.read_holding_registers(0, count=16, device_id=1)
        frozen = await cell.truth()
    finally:
        os.kill(cell.pids["vib"], signal.SIGCONT)

    assert frozen["silent"] == ["vib"]
    assert frozen["captured_stroke"] == before["captured_stroke"]
    await eventually_answers(cell)
    await asyncio.sleep(0.5)
    after = await cell.truth()
    assert after["captures_missed"] > before["captures_missed"]  # what fell meanwhile is not made up for
    assert after["stroke"] - after["captured_stroke"] <= 1


async def eventually_answers(cell: Cell) -> None:
    async with asyncio.timeout(3.0):
        while (await cell.truth())["silent"]:
            await asyncio.sleep(0.01)


async def test_a_unit_that_was_switched_off_comes_back_on_its_port(cell: Cell, plc: Any) -> None:
    port, pid = cell.ports["press"], cell.pids["press"]
    await cell.restart("press")

    assert not alive(pid)
    assert cell.ports["press"] == port
    plc.disconnect()
    plc.connect("127.0.0.1", 0, 1, port)
    assert struct.unpack_from(">I", plc.db_read(10, 0, 4))[0] <= 2


async def test_a_dead_unit_is_reported_and_not_waited_for() -> None:
    async with Cell() as cell:
        os.kill(cell.pids["vib"], signal.SIGKILL)
        await eventually(lambda: not alive(cell.pids["vib"]))

        assert (await cell.truth())["silent"] == ["vib"]
        os.kill(cell.pids["press"], signal.SIGKILL)
        with pytest.raises(ControlError, match="press"):
            await cell.wear(0.5)


@pytest.mark.parametrize(
    "refused",
    [
        lambda cell: cell.wear(1.5),
        lambda cell: cell.sensor_fault("nose"),
        lambda cell: cell.link("press", "melt"),
        lambda cell: cell.link("pump", "cut"),
        lambda cell: cell.restart("pump"),
    ],
)
async def test_what_the_cell_cannot_do_is_refused(cell: Cell, refused: Callable[[Cell], Any]) -> None:
    with pytest.raises(ValueError, match=r".+"):
        await refused(cell)


@pytest.mark.parametrize("factor", [0.5, 21.0, float("nan")])
def test_a_time_factor_outside_its_range_is_refused(factor: float) -> None:
    with pytest.raises(ValueError, match="between 1 and 20"):
        Cell(time_factor=factor)


# Beginning and end


async def test_the_cell_ends_within_a_second_with_a_unit_stopped() -> None:
    async with Cell() as cell:
        pids = list(cell.pids.values())
        os.kill(cell.pids["press"], signal.SIGSTOP)
        ending = time.monotonic()

    assert time.monotonic() - ending < 1.0
    assert not any(alive(pid) for pid in pids)


async def test_a_taken_port_is_named_and_leaves_nothing_running() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        cell = Cell(ports={"press": taken.getsockname()[1]})
        with pytest.raises(ControlError, match=r"proxy process could not start: .*in use"):
            await cell.__aenter__()
    with pytest.raises(ControlError, match="does not run"):
        _ = cell.pids


@pytest.mark.parametrize("module", ["press", "vibration"])
async def test_a_unit_whose_port_is_taken_says_so(module: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        unit = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            f"edge_opcua.sim.{module}",
            "--port",
            port,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        said, _ = await unit.communicate()

    assert port in json.loads(said)["failed"]
    assert unit.returncode == 1


async def test_a_caller_killed_without_warning_leaves_nothing_behind() -> None:
    script = """
import asyncio, json, os, signal, sys
from edge_opcua.sim.cell import Cell
async def main():
    async with Cell() as cell:
        os.kill(cell.pids["vib"], signal.SIGSTOP)
        print(json.dumps(cell.pids), flush=True)
        await asyncio.sleep(60)
asyncio.run(main())
"""
    caller = await asyncio.create_subprocess_exec(
        sys.executable, "-c", script, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    assert caller.stdout is not None
    pids = json.loads(await caller.stdout.readline())
    assert all(alive(pid) for pid in pids.values())

    caller.kill()
    await caller.wait()

    await eventually(lambda: not any(alive(pid) for pid in pids.values()), within_s=1.0)
    assert await caller.stdout.read() == b""  # nobody else holds its stdout


async def test_a_person_can_play_with_the_cell() -> None:
    player = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "edge_opcua.sim.cell",
        "--time-factor",
        "20",
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert player.stdin is not None
    assert player.stdout is not None
    assert (await player.stdout.readline()).startswith(b"s7://127.0.0.1:")
    assert (await player.stdout.readline()).startswith(b"modbus://127.0.0.1:")
    player.stdin.write(b"wear 0.8\nfault tonnage\ncut vib\nwear 7\ndance\ntruth\nquit\n")
    said = (await player.stdout.read()).decode()

    assert await player.wait() == 0
    assert "wear is a share between 0 and 1" in said
    assert "not a command: dance" in said
    assert "'vib': 'cut'" in said
    assert said.count("0.8") == 1


async def test_a_player_who_closes_his_terminal_line_ends_it_with_sigterm() -> None:
    player = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "edge_opcua.sim.cell",
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
    )
    assert player.stdout is not None
    await player.stdout.readline()
    player.send_signal(signal.SIGTERM)

    assert await player.wait() == 0


@pytest.mark.parametrize(
    "line",
    [
        "freeze press",
        "freeze press replies",
        "delay vib 0.1",
        "garbage vib",
        "guard closed",
        "fault none",
        "",
    ],
)
async def test_every_command_of_the_console_is_understood(cell: Cell, line: str) -> None:
    if line:
        assert await cell_module.obey(cell, line) == ""
    for unit in ("press", "vib"):
        await cell_module.obey(cell, f"pass {unit}")
    assert "links" in await cell_module.obey(cell, "truth")


@pytest.mark.parametrize("module", ["press", "vibration", "proxy"])
async def test_a_unit_alone_says_where_it_listens_and_ends_on_sigterm(module: str) -> None:
    unit = await asyncio.create_subprocess_exec(
        sys.executable, "-m", f"edge_opcua.sim.{module}", stdout=subprocess.PIPE
    )
    assert unit.stdout is not None
    ready = json.loads(await unit.stdout.readline())["ready"]
    assert ready.get("port", 1)
    unit.terminate()

    assert await unit.wait() == 0


@pytest.mark.parametrize("wrong", [["--wear", "3"], ["--time-factor", "0"], ["--port-base", "80000"]])
def test_an_argument_out_of_range_is_wrong_use_before_anything_starts(
    wrong: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(wrong)
    assert ended.value.code == 2
    assert "is out of range" in capsys.readouterr().err
