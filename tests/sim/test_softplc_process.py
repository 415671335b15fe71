"""The soft PLC as a process: its servers in the eyes of clients by others, and its commands."""

from __future__ import annotations

import asyncio
import io
import json
import shlex
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
import snap7
from pymodbus.client import AsyncModbusTcpClient
from snap7.error import S7ProtocolError

from edge_opcua.core.clock import SystemClock
from edge_opcua.errors import ControlError
from edge_opcua.sim.process import UnitProcess
from edge_opcua.sim.softplc.errors import StError
from edge_opcua.sim.softplc.process import spoken

ROOT = Path(__file__).parents[2]
PROGRAM = """
PROGRAM Main
VAR
    Given : ARRAY[0..3] OF WORD;
    Sum : ARRAY[0..1] OF INT;
    Ticks, Divisor : INT := 1;
    Button, Seen : BOOL;
    Level : REAL;
END_VAR
Ticks := Ticks + 1;
Sum[0] := WORD_TO_INT(Given[0]) + WORD_TO_INT(Given[1]);
Sum[1] := 100 / Divisor;
IF Button THEN Seen := TRUE; END_IF;
Level := Level + INT_TO_REAL(Sum[0]);
END_PROGRAM
"""


@asynccontextmanager
async def running(tmp_path: Path, *arguments: str, text: str = PROGRAM) -> AsyncIterator[UnitProcess]:
    file = tmp_path / "main.st"
    file.write_text(text, "utf-8")
    plc = UnitProcess("plc", "edge_opcua.sim.softplc")
    try:
        await plc.start(str(file), *arguments)
        yield plc
    finally:
        await plc.end()


async def until(look: Callable[[], Awaitable[Any]]) -> Any:
    """Return what ``look`` finds as soon as it finds anything."""
    async with asyncio.timeout(10.0):
        while not (found := await look()):
            await SystemClock().sleep(0.02)
    return found


async def test_a_client_of_snap7_writes_before_a_scan_and_reads_what_it_made(tmp_path: Path) -> None:
    def talk(port: int) -> tuple[bytes, bool]:
        client = snap7.Client()
        client.connect("127.0.0.1", 0, 1, port)
        try:
            client.db_write(20, 4, bytearray((0, 40, 0xFF, 0xFE)))
            found = bytes(client.db_read(21, 0, 2))
            try:
                client.db_write(21, 0, bytearray(2))
            except S7ProtocolError:
                return found, True
            return found, False
        finally:
            client.disconnect()

    async with running(tmp_path, "--area", "Given=DB20.DBB4", "--area", "Sum=DB21,ro") as plc:
        found, refused = await anyio.to_thread.run_sync(talk, plc.ready["s7"])

    assert int.from_bytes(found, "big", signed=True) == 38  # a write is answered after its scan
    assert refused


async def test_a_client_of_pymodbus_sees_registers_that_belong_to_one_scan(tmp_path: Path) -> None:
    async with (
        running(tmp_path, "--area", "Given=hr:200", "--area", "Sum=hr:204,ro", "--scan-ms", "10") as plc,
        AsyncModbusTcpClient("127.0.0.1", port=plc.ready["modbus"], timeout=5) as client,
    ):
        await client.write_registers(200, [7, 0xFFFF, 1, 2], device_id=1)
        answer = await client.read_holding_registers(200, count=6, device_id=1)
        masked = await client.mask_write_register(address=203, and_mask=0xFFF5, or_mask=0x0008, device_id=1)
        after = await client.read_holding_registers(203, count=1, device_id=1)
        denied = await client.write_register(204, 1, device_id=1)
        beyond = await client.read_holding_registers(199, count=2, device_id=1)

    assert answer.registers == [7, 0xFFFF, 1, 2, 6, 100]
    assert not masked.isError()
    assert after.registers == [8]
    assert denied.isError()
    assert beyond.isError()


async def test_a_parent_sets_watches_and_freezes(tmp_path: Path) -> None:
    async with running(tmp_path, "--set", "Given=[1, 2, 0, 0]", "--scan-ms", "5") as plc:
        await plc.ask("watch", names=["Seen", "Level"])
        await plc.ask("press", name="Button", scans=2)

        async def seen() -> list[dict[str, Any]]:
            found: list[dict[str, Any]] = (await plc.ask("trace", name="Seen"))["changes"]
            return found

        (change,) = await until(seen)
        assert (change["before"], change["after"]) == (False, True)
        assert change["ns"] <= SystemClock().monotonic_ns()  # the clock of all processes of this machine
        assert (await plc.ask("trace"))["steps"] == {"Level": 3.0}
        await until(lambda: _off(plc))

        await plc.ask("freeze", on=True)
        scans = (await plc.ask("state"))["scans"]
        await SystemClock().sleep(0.05)
        assert (await plc.ask("state"))["scans"] == scans
        await plc.ask("freeze", on=False)

        await plc.ask("set", values={"Divisor": 0})
        await until(lambda: _fault(plc))
        assert await _fault(plc) == "line 12: division by zero"
        with pytest.raises(ValueError, match="Nobody"):
            await plc.ask("get", names=["Nobody"])


async def _off(plc: UnitProcess) -> bool:
    return not (await plc.ask("get", names=["Button"]))["Button"]


async def _fault(plc: UnitProcess) -> str:
    return str((await plc.ask("state"))["fault"])


async def test_a_program_that_is_wrong_is_told_to_the_parent_with_its_place(tmp_path: Path) -> None:
    with pytest.raises(ControlError, match="line 1, column 35: there is no variable b"):
        async with running(tmp_path, text="PROGRAM Main VAR a : INT; END_VAR b := a; END_PROGRAM"):
            pass


async def test_a_person_types_commands_and_reads_json(tmp_path: Path) -> None:
    file = tmp_path / "main.st"
    file.write_text(PROGRAM, "utf-8")
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "edge_opcua.sim.softplc", str(file), "--area", "Sum=hr:0"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    typed = b"set Given[0] 16#10\nget Given Divisor\nwhat\nquit\n"
    async with asyncio.timeout(15.0):
        out, _ = await process.communicate(typed)

    ready, *answers = [json.loads(line) for line in io.BytesIO(out)]
    assert ready["ready"]["modbus"] > 0
    assert answers == [{}, {"Given": [16, 0, 0, 0], "Divisor": 1}, {"error": "not a command: what"}]
    assert process.returncode == 0


async def test_the_command_of_the_guide_starts_the_block_of_the_example() -> None:
    guide = (ROOT / "docs" / "howto" / "soft-plc.md").read_text("utf-8")
    command = guide.partition("```sh\n")[2].partition("```")[0].replace("--port 10102", "--port 0")
    _, *words = shlex.split(command.replace("\\\n", " "))
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, *words),
        cwd=ROOT,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(15.0):
        out, _ = await process.communicate(b"get edge.CommOk Enable\nset Fallback 2.5\nreaction\nquit\n")

    ready, values, _, reaction = [json.loads(line) for line in io.BytesIO(out)]
    assert ready["ready"]["s7"] > 0
    assert values == {"edge.CommOk": False, "Enable": True}
    assert reaction["falls"] == 0


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("set edge.Out 2.5", ("set", {"values": {"edge.Out": 2.5}})),
        ("set Enable TRUE", ("set", {"values": {"Enable": True}})),
        ("press OpAck 3", ("press", {"name": "OpAck", "scans": 3})),
        ("watch a b", ("watch", {"names": ["a", "b"]})),
        ("trigger 50", ("trigger", {"times": 50})),
        ("freeze off", ("freeze", {"on": False})),
        ("reaction", ("reaction", {})),
    ],
)
def test_what_a_person_types(line: str, found: tuple[str, dict[str, Any]]) -> None:
    assert spoken(line) == found


@pytest.mark.parametrize("line", ["set a nonsense", "set a", "get", "freeze maybe", "set a 99#1"])
def test_what_is_no_command(line: str) -> None:
    with pytest.raises(StError):
        spoken(line)
