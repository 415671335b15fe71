"""The interface block over EtherNet/IP: memory by cpppo, reached by pylogix, our exported block as program.

The whole edge runs as a user starts it. What is ours at the other end is the text of the function block, and
what executes that text; the arrays and both protocol stacks there are by others.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
import signal
import struct
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import pytest
from pylogix import PLC

from edge_opcua.assets import examples_dir
from edge_opcua.config.eai import ControlWord, EaiMap, Stat, StatusWord, eai_map
from edge_opcua.config.loader import load
from edge_opcua.config.schema import EdgeConfig
from edge_opcua.core.clock import SystemClock
from edge_opcua.core.journalfile import look
from edge_opcua.core.statedir import StateDir
from edge_opcua.demo.server import DemoServer
from edge_opcua.ladder.codesys import function_block
from edge_opcua.ladder.facts import facts_of
from edge_opcua.sim.softplc.plc import SoftPlc, main_around
from tests.interop.dissect import Talk, recorded
from tests.interop.test_eip_peers import Cpppo, dissection

# pylogix forgets sockets after a failure, which would be complained of whenever they are collected.
pytestmark = [
    pytest.mark.interop,
    pytest.mark.timeout(120),
    pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning", "ignore:Exception ignored in"),
]

CONFIG = """\
version = 1
site = {{ name = "line-3", machine = "Tester" }}
opcua = {{ listen = "127.0.0.1:0" }}
models = {{ folder = "{models}" }}
[[devices]]
name = "plc"
driver = "ethernet-ip"
url = "eip://127.0.0.1:{port}/0"
tags = "plc.csv"
timeout_ms = 2000
groups = [{{ name = "slow", period_ms = 500 }}]
  [[devices.captures]]
  name = "request"
  poll_ms = 50
  sequence = "EdgeAI_Control[3]:WORD"
  stroke = "EdgeAI_Control[3]:WORD"
  ready = "EdgeAI_Control[0].1:BOOL"
  samples = "Payload:INT[2000]"
  scale = 0.01
  unit = "m/s²"
  sample_rate_hz = 10000
[[pipelines]]
name = "judge"
model = "press-anomaly"
capture = "plc/request"
context = ["plc/tonnage", "plc/die_temp", "plc/strokes_per_min"]
deadline_ms = 1000
[[outputs]]
name = "answer"
device = "plc"
pipeline = "judge"
granted_by = "plc"
heartbeat_ms = 100
plc_timeout_ms = 2000
recover_hold_s = 0.3
  [outputs.interface]
  mode = "triggered"
  control = "EdgeAI_Control"
  status = "EdgeAI_Status"
  poll_ms = 50
"""
TAGS = """\
name,address,unit,scale,group
tonnage,Context[0]:INT,kN,0.1,slow
die_temp,Context[1]:INT,°C,0.1,slow
strokes_per_min,Context[2]:INT,1/min,1,slow
"""
CONTEXT = [8000, 400, 18]
SCAN_S = 0.02
PEER_S = 0.5
BUSY_PEER_S = 10.0
AMPLITUDES = (100.0, 300.0, 1500.0)


class Memory:
    """The areas in cpppo as pylogix sees them, exchanged again and again in a thread of its own.

    Args:
        port: Where cpppo listens.
        status_words: Length of the array that the edge writes.

    Attributes:
        status: What was read last.
        control: What is written next.
        exchanges: How often both succeeded.
    """

    def __init__(self, port: int, status_words: int) -> None:
        self.status: Sequence[int] = (0,) * status_words
        self.control: Sequence[int] = (0,) * len(ControlWord)
        self.exchanges = 0
        self._port = port
        self._stopped = threading.Event()

    def stop(self) -> None:
        self._stopped.set()

    def run(self) -> None:
        """Exchange until stopped; after a failure on a new connection."""
        while not self._stopped.is_set():
            with self.client() as plc:
                while not self._stopped.wait(SCAN_S) and self._exchange(plc):
                    self.exchanges += 1

    def put(self, name: str, values: Sequence[int]) -> None:
        """Write an array of INT."""
        with self.client(BUSY_PEER_S) as plc:
            assert plc.Write(name, list(values)).Status == "Success"

    @contextlib.contextmanager
    def client(self, timeout_s: float = PEER_S) -> Iterator[Any]:
        with PLC("127.0.0.1", port=self._port, timeout=timeout_s) as plc, plc.conn.msg_socket:
            yield plc

    def _exchange(self, plc: Any) -> bool:
        found = plc.Read("EdgeAI_Status", len(self.status))
        if found.Status != "Success":
            return False
        self.status = tuple(word & 0xFFFF for word in found.Value)
        signed = struct.unpack(f"<{len(self.control)}h", struct.pack(f"<{len(self.control)}H", *self.control))
        return bool(plc.Write("EdgeAI_Control", list(signed)).Status == "Success")


@dataclass
class Controller:
    """A program that scans on while its memory cannot be reached, as a processor does.

    Args:
        program: The exported block.
        memory: Where its areas lie.
    """

    program: SoftPlc
    memory: Memory
    results: list[tuple[int, int, float]] = field(default_factory=list)
    errors: list[int] = field(default_factory=list)

    async def scan_on(self) -> None:
        clock, main = SystemClock(), self.program.main
        while True:
            for index, word in enumerate(self.memory.status):
                main.set(f"Status[{index}]", word)
            self.program.scan(clock.monotonic_ns())
            assert not self.program.fault
            self.memory.control = tuple(main.get("Control"))
            if main.get("edge.Done"):
                names = ("edge.Cycle", "edge.Verdict", "edge.Score")
                self.results.append(tuple(main.get(name) for name in names))
            if main.get("edge.Error"):
                self.errors.append(main.get("edge.ErrorId"))
            await clock.sleep(SCAN_S)


class Line:
    """cpppo, the controller's program and the edge; ``async with`` starts and ends all."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.clock = SystemClock()
        self.state = StateDir(home / "state")
        self.cpppo = Cpppo(
            "EdgeAI_Control=INT[8]", "EdgeAI_Status=INT[19]", "Payload=INT[2000]", "Context=INT[3]"
        )
        self.controller: Controller
        self.config: EdgeConfig
        self.talk: Talk
        self._stack = contextlib.AsyncExitStack()

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
        loop, group = asyncio.get_running_loop(), asyncio.TaskGroup()
        await self._stack.enter_async_context(group)
        await loop.run_in_executor(None, self.cpppo.start)
        self._stack.push_async_callback(loop.run_in_executor, None, self.cpppo.stop)
        self.talk = await self._stack.enter_async_context(recorded(self.cpppo.port))
        config = self.home / "line.toml"
        models = examples_dir() / "press" / "models"
        config.write_text(CONFIG.format(models=models, port=self.talk.port), "utf-8")
        (self.home / "plc.csv").write_text(TAGS, "utf-8")
        found = load(config, env={})
        assert found.config is not None, found.problems
        self.config = found.config
        facts = facts_of(found.config, found.config.outputs[0])
        assert not facts.map.high_first  # as the memory of this family has it
        text = function_block(facts)
        memory = Memory(self.cpppo.port, facts.map.status_words)
        await loop.run_in_executor(None, memory.put, "Context", CONTEXT)
        self.controller = Controller(SoftPlc([text, main_around(text, facts.block)]), memory)
        exchanging = loop.run_in_executor(None, memory.run)
        self._stack.push_async_callback(asyncio.wait_for, exchanging, 10.0)
        self._stack.callback(memory.stop)
        for name in ("Enable", "Grant"):
            self.set(name, value=True)
        scanning = group.create_task(self.controller.scan_on())
        self._stack.callback(scanning.cancel)
        (self.home / "state").mkdir()
        server = DemoServer(config, self.home / "state", {})
        self._stack.push_async_callback(server.stop)
        await server.start(group)

    @property
    def map(self) -> EaiMap:
        output = self.config.outputs[0]
        assert output.interface is not None
        return eai_map(output.name, output.interface, "ethernet-ip")

    def get(self, name: str) -> Any:
        return self.controller.program.main.get(name)

    def set(self, name: str, *, value: bool) -> None:
        self.controller.program.main.set(name, value)

    async def until(self, look: Callable[[], Any], what: str, *, within_s: float = 40.0) -> None:
        ends_s = self.clock.monotonic_s() + within_s
        while not look():
            if self.clock.monotonic_s() > ends_s:
                log = (self.home / "state" / "demo-server.log").read_text("utf-8", "replace")
                shown = [self.controller.memory.status, self.controller.memory.control]
                raise AssertionError(f"not seen: {what}\n{shown}\n{log[-4000:]}")
            await self.clock.sleep(SCAN_S)

    async def in_use(self) -> None:
        """Press the button until the controller uses the edge; the edge may wait where nothing is latched."""
        looks = itertools.count()

        def pressed() -> bool:
            if next(looks) % 20 == 0:
                self.controller.program.press("OpAck", scans=5)
            return bool(self.get("edge.InUse"))

        await self.until(pressed, "a controller that uses the edge")

    async def ask(self, amplitude: float, seed: int) -> None:
        """Put a payload into the memory, trigger, and wait for the answer."""
        noise = random.Random(seed)
        samples = [max(-32768, min(32767, round(noise.gauss(0.0, amplitude)))) for _ in range(2000)]
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(None, self.controller.memory.put, "Payload", samples)
        before = len(self.controller.results)
        await self.until(lambda: self.get("edge.Ready"), "an edge that takes a request")
        self.set("Trigger", value=True)
        await self.until(lambda: len(self.controller.results) > before, "an answer")
        self.set("Trigger", value=False)
        await self.until(lambda: not self.get("edge.Busy"), "the end of a request")

    async def journalled(self, number: int) -> list[tuple[int, int, float]]:
        """Return what the edge's own journal says of its newest results, as the controller would hold it."""

        def read() -> list[tuple[int, int, float]]:
            rows = [record.body for record in look(self.state.journal, kinds=("result",), last=50)]
            judged = [row for row in rows if row["score"] is not None]  # others tell of a lost source
            return [(row["stroke"], row["verdict"], as_real(row["score"])) for row in judged[-number:]]

        loop, found = asyncio.get_running_loop(), list[tuple[int, int, float]]()
        for _ in range(100):
            found = await loop.run_in_executor(None, read)
            if found and found[-1][0] == self.controller.results[-1][0]:
                break
            await self.clock.sleep(0.05)
        return found


def as_real(value: float) -> float:
    """Return a number as a REAL holds it."""
    real: float = struct.unpack("<f", struct.pack("<f", value))[0]
    return real


@pytest.fixture(scope="module")
async def line(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Line]:
    async with Line(tmp_path_factory.mktemp("line")) as running:
        yield running


async def test_both_ends_have_the_same_map_and_each_answer_arrives_as_it_was_given(line: Line) -> None:
    await line.in_use()
    status, control = line.controller.memory.status, line.controller.memory.control
    versions = status[StatusWord.INTERFACE_VERSION], control[ControlWord.INTERFACE_VERSION]
    assert versions == (line.map.version, line.map.version)

    line.controller.errors.clear()  # before the edge was there it was silent
    for seed, amplitude in enumerate(AMPLITUDES):
        await line.ask(amplitude, seed)

    seen = line.controller.results
    assert line.controller.errors == []
    assert [cycle for cycle, _, _ in seen] == [1, 2, 3]
    assert {verdict for _, verdict, _ in seen} <= {1, 2}
    assert len({score for _, _, score in seen}) == len(AMPLITUDES)
    assert seen == await line.journalled(len(seen))
    assert line.get("edge.ResultSeq") == line.get("Control[3]") == len(AMPLITUDES)


async def test_wireshark_understands_what_the_edge_asked_for(line: Line, tmp_path: Path) -> None:
    await line.in_use()
    services = await dissection(Talk(said=list(line.talk.said)), tmp_path / "talk.pcap")
    assert services >= {"0x4d", "0x52"}, "the status area written, a request read in parts"


async def test_a_controller_that_stands_still_is_latched_until_somebody_acknowledges(line: Line) -> None:
    await line.in_use()
    memory = line.controller.memory

    line.cpppo.signal(signal.SIGSTOP)
    try:
        await line.until(lambda: line.get("edge.AckReq"), "a controller that latched")
    finally:
        line.cpppo.signal(signal.SIGCONT)
    assert not line.get("edge.InUse")
    exchanges = memory.exchanges
    await line.until(lambda: memory.exchanges > exchanges + 10, "memory within reach")
    await line.until(
        lambda: memory.status[StatusWord.STAT] & Stat.ACK_REQUIRED, "an edge that asks for an acknowledge"
    )
    assert line.get("edge.AckReq"), "nobody has acknowledged yet"
    assert not line.get("edge.InUse")

    await line.in_use()

    before = len(line.controller.results)
    await line.ask(500.0, 9)
    assert line.controller.results[before:] == await line.journalled(1)
    assert not line.get("edge.Error")
