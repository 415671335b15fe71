"""The write side of one connection: each write goes out once, ahead of reads, and is read back."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from edge_opcua.core.ports import WriteOutcome
from edge_opcua.core.values import BAD_TIMEOUT, GOOD
from edge_opcua.drivers.diagnostics import LinkBlock
from edge_opcua.drivers.outbox import Outbox, WriteJob
from edge_opcua.drivers.planner import Place, plan_reads
from edge_opcua.drivers.setpoint import Setpoint, judge_read_back
from edge_opcua.drivers.wire import Fault, Wire, content
from edge_opcua.errors import DeviceError, DeviceRefusedError, DeviceTimeoutError


class Writes:
    """Writes that wait, and how they are done.

    Args:
        wire: The connection.
        link: Counters of the device.
        written: Told of each tag that was written and read back.

    Attributes:
        held: Whether writes wait, because nothing was read over this connection yet.
    """

    def __init__(self, wire: Wire, link: LinkBlock, written: Callable[[Setpoint], None]) -> None:
        self.outbox = Outbox()
        self.held = False
        self._wire = wire
        self._link = link
        self._written = written

    async def send_tag(self, setpoint: Setpoint, encoded: bytes, *, timeout_s: float) -> WriteOutcome:
        """Queue the write of a tag and wait for what the device then holds."""
        job = WriteJob(lambda job: self._write_tag(job, setpoint, encoded))
        return await self.outbox.send(job, timeout_s=timeout_s)

    async def send_bytes(self, area: str, offset: int, payload: bytes, *, timeout_s: float) -> WriteOutcome:
        """Queue raw bytes ahead of all other writes."""
        job = WriteJob(lambda job: self._settle(job, self._wire.write_bytes(area, offset, payload)))
        return await self.outbox.send(job, timeout_s=timeout_s, urgent=True)

    async def serve(self) -> None:
        """Do the writes that wait."""
        if self.held or not self.outbox.arrived.is_set():
            return
        while (job := self.outbox.take()) is not None:
            self._link.counts.writes += 1
            await job.perform(job)

    async def _write_tag(self, job: WriteJob, setpoint: Setpoint, encoded: bytes) -> None:
        await self._settle(job, self._wire.write(setpoint.place, encoded), final=False)
        if job.done.is_set():
            return
        try:
            job.settle(judge_read_back(setpoint, encoded, await self._read_back(setpoint.place)))
        except DeviceError as exc:
            reason = f"the device took the value, but reading it back failed: {exc}"
            job.settle(WriteOutcome(BAD_TIMEOUT, reason))
            raise
        self._written(setpoint)

    async def _settle(self, job: WriteJob, write: Awaitable[Any], *, final: bool = True) -> None:
        """Await a write and give the outcome; a fault of the link passes on after that."""
        job.sent = True
        try:
            await write
        except DeviceRefusedError as exc:
            self._link.last_error = str(exc)
            job.settle(WriteOutcome(exc.status, str(exc)))
        except DeviceTimeoutError as exc:
            job.settle(WriteOutcome(BAD_TIMEOUT, f"{exc}; the write may still take effect"))
            self._link.counts.timeouts += 1
            if not exc.again:  # else only this unit is silent, and whoever reads it next will see
                raise
        except DeviceError as exc:
            job.settle(WriteOutcome(BAD_TIMEOUT, f"{exc}; the write may have taken effect"))
            raise
        else:
            if final:
                job.settle(WriteOutcome(GOOD))

    async def _read_back(self, place: Place) -> bytes | Fault:
        plan = plan_reads([place], self._wire.shape)
        wire = bytearray(plan.image_bytes)
        for request in plan.requests:
            (answers,) = await self._wire.read((request,))
            for fragment, answer in zip(request.fragments, answers, strict=True):
                if isinstance(answer, Fault):
                    return answer
                held = content(answer)
                wire[fragment.image_at : fragment.image_at + len(held)] = held
        return bytes(wire)
