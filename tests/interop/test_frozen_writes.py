"""Peers of others that stand still while they are written to: what timed out lands and is seen (§6.1)."""

from __future__ import annotations

import asyncio
import signal
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import structlog

from edge_opcua.core.ports import WriteOutcome
from edge_opcua.core.values import BAD_NO_COMMUNICATION, BAD_TIMEOUT, GOOD
from edge_opcua.drivers.doubts import Fate, Finding
from edge_opcua.drivers.writeterms import WriteTerms
from tests.drivers.peers import Bench, config
from tests.interop import modbus_stacks as stacks
from tests.interop import test_s7_peers as snap7

pytestmark = [pytest.mark.interop, pytest.mark.timeout(120)]
ANNA = WriteTerms(who="anna", why="the frozen-peer trial")
OLD, NEW = 2000, 999


@dataclass
class Frozen:
    """A peer that can be stopped.

    Args:
        driver: Our driver for it.
        url: Where it is.
        address: A word that holds :data:`OLD`.
        process: What is stopped.
    """

    driver: str
    url: str
    address: str
    process: asyncio.subprocess.Process

    async def stop(self) -> None:
        """Let it stand still; a signal takes its time."""
        self.process.send_signal(signal.SIGSTOP)
        threads = Path(f"/proc/{self.process.pid}/task")
        async with asyncio.timeout(5.0):
            while any(
                each.read_text().rpartition(")")[2].split()[0] != "T" for each in threads.glob("*/stat")
            ):
                await asyncio.sleep(0.001)


@asynccontextmanager
async def libmodbus(programs: Path) -> AsyncIterator[Frozen]:
    async with stacks.tcp(stacks.build(programs)) as stack:
        yield Frozen("modbus", stack.url, "hr:2000:INT", stack.device)


@asynccontextmanager
async def csnap7(_: Path) -> AsyncIterator[Frozen]:
    if not snap7.PYTHON.exists():
        pytest.skip("snap7 is not installed; run tests/peers/install")
    async with snap7.serving() as plc:
        await plc.put("DB2", 10, struct.pack(">h", OLD))
        yield Frozen("s7", plc.url, "DB2.DBW10:INT", plc.process)


async def soon(bench: Bench) -> None:
    """Go on before the connection is given up."""


async def after_the_loss(bench: Bench) -> None:
    """Go on when the connection was closed long ago."""
    await bench.until(lambda: not bench.device.status.reads, timeout_s=10.0)


async def write_to_frozen(
    there: Frozen, bench: Bench, resumes: Callable[[Bench], Awaitable[None]]
) -> WriteOutcome:
    await there.stop()
    try:
        outcome = await bench.device.write("x", NEW, timeout_s=5.0, terms=ANNA)
        if outcome.status != BAD_NO_COMMUNICATION:
            await resumes(bench)
    finally:
        there.process.send_signal(signal.SIGCONT)
    return outcome


@pytest.mark.parametrize("peer", [libmodbus, csnap7])
@pytest.mark.parametrize("resumes", [soon, after_the_loss])
async def test_a_write_to_a_frozen_peer_lands_and_is_told_with_its_writer(
    peer: Callable[[Path], AbstractAsyncContextManager[Frozen]],
    resumes: Callable[[Bench], Awaitable[None]],
    tmp_path: Path,
) -> None:
    found: list[Finding] = []
    async with peer(tmp_path) as there:
        cfg = config(there.driver, there.url, {"x": there.address}, extra={"x": {"access": "rw"}})
        bench = Bench(cfg, tell=found.append)
        with structlog.testing.capture_logs() as logs:
            async with bench.running() as device:
                await bench.until_state("ONLINE")
                await bench.until(lambda: bench.values("fast")["x"] == OLD)
                outcome = await write_to_frozen(there, bench, resumes)
                while outcome.status == BAD_NO_COMMUNICATION:  # it froze within a read: nothing was sent
                    await bench.until_state("ONLINE", timeout_s=10.0)
                    outcome = await write_to_frozen(there, bench, resumes)
                await bench.until(lambda: bool(found), timeout_s=10.0)
                await bench.until(lambda: device.link_up, timeout_s=10.0)
                assert bench.values("fast")["x"] == NEW
                await bench.until(lambda: bench.values("link")["landed_late"] == 1)
                reconnects = bench.values("link")["reconnects"]
                # What was written afterwards stays: the late one is gone.
                assert (await device.write("x", 7)).status == GOOD
    assert outcome.status == BAD_TIMEOUT
    (finding,) = found
    assert (finding.fate, finding.held, finding.doubt.old, finding.doubt.new) == (Fate.LANDED, NEW, OLD, NEW)
    assert (finding.doubt.terms.who, finding.doubt.terms.why) == (ANNA.who, ANNA.why)
    assert [entry["code"] for entry in logs if entry["event"] == "write.landed_late"] == ["D392"]
    if there.driver == "modbus":  # its numbers tell late answers apart, so that the connection can be kept
        assert (reconnects == 0) == (resumes is soon)
