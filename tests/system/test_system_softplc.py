"""Requests of a PLC over Modbus TCP, both ends real: the exported block in a soft PLC, and the running edge.

What a trial on the bench of the reference found is kept from coming back: without a rule to start anew the
handshake of both ends waited for ever after a pause of one of them.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, Self

import pytest

from edge_opcua.assets import examples_dir
from edge_opcua.config.loader import load
from edge_opcua.core.clock import SystemClock
from edge_opcua.demo.server import DemoServer
from edge_opcua.ladder.codesys import function_block
from edge_opcua.ladder.facts import facts_of
from edge_opcua.sim.process import UnitProcess

pytestmark = [pytest.mark.system, pytest.mark.timeout(120)]

CONFIG = """\
version = 1
site = {{ name = "line-2", machine = "Tester" }}
opcua = {{ listen = "127.0.0.1:0" }}
models = {{ folder = "{models}" }}
[[devices]]
name = "plc"
driver = "modbus"
url = "modbus://127.0.0.1:{port}/1"
tags = "plc.csv"
timeout_ms = 500
groups = [{{ name = "slow", period_ms = 500 }}]
  [[devices.captures]]
  name = "request"
  poll_ms = 20
  sequence = "hr:203:UINT"
  stroke = "hr:203:UINT"
  ready = "hr:200.1:BOOL"
  samples = "hr:1000:INT[2000]"
  scale = 0.01
  unit = "m/s²"
  sample_rate_hz = 10000
[[pipelines]]
name = "judge"
model = "press-anomaly"
capture = "plc/request"
context = ["plc/tonnage", "plc/die_temp", "plc/strokes_per_min"]
deadline_ms = 300
[[outputs]]
name = "answer"
device = "plc"
pipeline = "judge"
granted_by = "plc"
auto_restart = false
recover_hold_s = 0.5
  [outputs.interface]
  mode = "triggered"
  control = "hr:200"
  status = "hr:300"
"""
TAGS = """\
name,address,unit,scale,group
tonnage,hr:3000:INT,kN,0.1,slow
die_temp,hr:3001:INT,°C,0.1,slow
strokes_per_min,hr:3002:INT,1/min,1,slow
"""
CONTEXT = [8000, 400, 18]
REQUESTS = 5


class Line:
    """A soft PLC and the edge that answers it; ``async with`` starts and ends both."""

    def __init__(self, home: Path) -> None:
        self.plc = UnitProcess("PLC", "edge_opcua.sim.softplc")
        self._home = home
        self._stack = contextlib.AsyncExitStack()
        self._arguments: list[str] = []

    async def __aenter__(self) -> Self:
        try:
            await self._start()
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def _start(self) -> None:
        group = await self._stack.enter_async_context(asyncio.TaskGroup())
        self._stack.push_async_callback(self.plc.end)
        config = self._home / "line.toml"
        (self._home / "plc.csv").write_text(TAGS, "utf-8")
        config.write_text(CONFIG.format(models=examples_dir() / "press" / "models", port=1), "utf-8")
        loaded = load(config, env={})
        assert loaded.config is not None, loaded.problems
        facts = facts_of(loaded.config, loaded.config.outputs[0])
        text = self._home / f"{facts.block}.st"
        text.write_text(function_block(facts), "utf-8")
        self._arguments = [
            *(str(text), "--block", facts.block, "--payload", "2003", "--modbus-port"),
            "0",
            *("--area", "Status=hr:300", "--area", "Control=hr:200,ro", "--area", "Payload=hr:1000,ro"),
            *("--set", "Enable=TRUE", "--set", "Grant=TRUE"),
        ]
        await self.switch_on()
        port = self.plc.ready["modbus"]
        self._arguments[6] = str(port)
        config.write_text(CONFIG.format(models=examples_dir() / "press" / "models", port=port), "utf-8")
        (self._home / "state").mkdir()
        server = DemoServer(config, self._home / "state", {})
        self._stack.push_async_callback(server.stop)
        await server.start(group)

    async def switch_on(self) -> None:
        """Start the PLC with a payload; its counters begin anew."""
        noise = random.Random(7)
        await self.plc.start(*self._arguments)
        samples = [round(noise.gauss(0.0, 300.0)) for _ in range(2000)]
        await self.plc.ask("set", values={"Payload": [*samples, *CONTEXT]})

    async def value(self, name: str) -> Any:
        return (await self.plc.ask("get", names=[name]))[name]

    async def until(self, look: Callable[[], Awaitable[Any]], what: str, *, within_s: float = 40.0) -> Any:
        try:
            async with asyncio.timeout(within_s):
                while not (found := await look()):
                    await SystemClock().sleep(0.05)
                return found
        except TimeoutError as exc:
            shown = await self.plc.ask("get", names=["edge", "Control", "Status"])
            log = (self._home / "state" / "demo-server.log").read_text("utf-8", "replace")
            raise AssertionError(f"not seen: {what}\n{shown}\n{log[-4000:]}") from exc

    async def in_use(self) -> None:
        """Press the button until the PLC uses the edge.

        A PLC that was switched off and on has nothing latched, and yet the edge waits for somebody.
        """

        async def trusted() -> bool:
            await self.plc.ask("press", name="OpAck")
            return bool(await self.value("edge.InUse"))

        await self.until(trusted, "a PLC that uses the edge")

    async def asked(self) -> dict[str, Any]:
        """Ask several times and return all answers."""
        await self.plc.ask("trigger", times=REQUESTS)

        async def done() -> dict[str, Any] | None:
            found = await self.plc.ask("answers")
            return None if found["left"] else found

        found: dict[str, Any] = await self.until(done, "all answers", within_s=40.0)
        return found


@pytest.fixture(scope="module")
async def line(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Line]:
    async with Line(tmp_path_factory.mktemp("line")) as running:
        yield running


async def test_each_request_gets_the_answer_to_itself(line: Line) -> None:
    await line.in_use()

    found = await line.asked()

    assert found["errors"] == []
    assert await line.value("edge.ResultSeq") == await line.value("Control[3]") == REQUESTS
    assert await line.value("edge.Verdict") in (1, 2)
    assert await line.value("edge.Cycle") == REQUESTS


async def test_a_plc_that_stood_still_in_the_middle_of_a_request_is_served_again(line: Line) -> None:
    await line.in_use()
    await line.plc.ask("trigger", times=1)
    await line.plc.ask("freeze", on=True)
    await SystemClock().sleep(1.5)  # longer than its time-out, ours, and the acknowledge time-out
    await line.plc.ask("freeze", on=False)
    await line.until(lambda: line.value("edge.AckReq"), "a PLC that latched")

    await line.in_use()

    assert (await line.asked())["errors"] == []


async def test_a_plc_that_was_switched_off_and_on_is_served_again(line: Line) -> None:
    await line.in_use()
    await line.plc.end()
    await SystemClock().sleep(1.0)

    await line.switch_on()
    assert await line.value("Control[3]") == 0  # its requests are counted anew
    await line.in_use()

    found = await line.asked()
    assert found["errors"] == []
    assert await line.value("edge.ResultSeq") == REQUESTS
