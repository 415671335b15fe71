"""One Modbus device on its line: reads and writes as exchanges, exceptions as faults.

The connection is the line's, and may carry other devices' requests too. Any frame that cannot be the answer
to what was asked costs the connection: after that, no late answer can be taken for a newer one.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np

from edge_opcua.core.clock import Clock
from edge_opcua.core.values import BAD_DEVICE_FAILURE, BAD_NOT_SUPPORTED
from edge_opcua.drivers.codec import BitCodec
from edge_opcua.drivers.modbus.address import BITS, ModbusAddress
from edge_opcua.drivers.modbus.areas import parse_area
from edge_opcua.drivers.modbus.endpoint import Endpoint
from edge_opcua.drivers.modbus.line import Line, Member
from edge_opcua.drivers.modbus.pdu import (
    Answer,
    Ask,
    ask_mask,
    ask_read,
    ask_write_bits,
    ask_write_registers,
)
from edge_opcua.drivers.modbus.reasons import ABSENT, refusal
from edge_opcua.drivers.modbus.settings import ModbusOptions, ModbusShape
from edge_opcua.drivers.planner import Fragment, Place, Request
from edge_opcua.drivers.wire import Fault, FaultKind, Reading, whole_words
from edge_opcua.errors import AddressError, DeviceError, DeviceRefusedError, DeviceTimeoutError

_ACKNOWLEDGE: int = 5
_GATEWAY_TARGET: int = 11


@dataclass(frozen=True, slots=True)
class OnLine:
    """A device's place on a line.

    Args:
        line: The line.
        units: Units that the device asks; with several, one that is silent is absent, not a lost link.
    """

    line: Line
    units: frozenset[int]


class ModbusWire:
    """One device on a line.

    Args:
        endpoint: Where the device is.
        shape: Limits of a request.
        options: Settings of the device.
        timeout_s: Deadline of one request, seconds.
        clock: Clock for pauses between attempts at a busy device.
        place: Its place on a line that others use, too; None for a line of its own.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        shape: ModbusShape,
        options: ModbusOptions,
        timeout_s: float,
        clock: Clock,
        place: OnLine | None = None,
    ) -> None:
        own = place or OnLine(Line(options.line(endpoint)), frozenset({endpoint.unit}))
        self.shape = shape
        self.line = own.line
        self._endpoint = endpoint
        self._options = options
        self._timeout_s = timeout_s
        self._clock = clock
        self._many = len(own.units) > 1
        self._member = Member(own.units, self.depth, options.request_delay_ms / 1000, timeout_s)
        self.traffic = self._member.traffic

    async def open(self) -> None:
        """Join the line, which connects it if nobody has; DeviceError if that fails or takes too long."""
        await self.close()
        await self.line.join(self._member, self._timeout_s)

    async def close(self) -> None:
        """Leave the line at once; the last to leave closes it."""
        self.line.leave(self._member)

    @property
    def depth(self) -> int:
        """Requests that may be on the way at once; RTU has no numbers to tell their answers apart."""
        return 1 if self._endpoint.rtu else self._options.pipeline

    async def read(self, requests: Sequence[Request]) -> Sequence[Sequence[Reading]]:
        """See :class:`edge_opcua.drivers.wire.Wire`; a busy device is asked again within the deadline."""
        fragments = [fragment for request in requests for fragment in request.fragments]
        deadlines = [request.deadline_s for request in requests if request.deadline_s is not None]
        timeout_s = min([self._timeout_s, *deadlines])
        answers = await self._read(fragments, timeout_s)
        for _ in range(self._options.busy_retries):
            busy = [place for place, answer in enumerate(answers) if _is_busy(answer)]
            if not busy:
                break
            await self._clock.sleep(self._options.busy_wait_ms / 1000)
            again = await self._read([fragments[at] for at in busy], timeout_s)
            for place, answer in zip(busy, again, strict=True):
                answers[place] = answer
        return [(answer,) for answer in answers]

    async def _read(self, fragments: Sequence[Fragment], timeout_s: float) -> list[Reading]:
        asks = []
        for fragment in fragments:
            unit, area = cast("tuple[int, str]", fragment.space)
            asks.append(ask_read(unit, area, fragment.start, fragment.size))
        outcomes = await self._ask(asks, timeout_s)
        return [
            self._reading(fragment, ask, outcome)
            for fragment, ask, outcome in zip(fragments, asks, outcomes, strict=True)
        ]

    def _reading(self, fragment: Fragment, ask: Ask, outcome: Answer | DeviceTimeoutError) -> Reading:
        if isinstance(outcome, bytes):
            if cast("tuple[int, str]", fragment.space)[1] not in BITS:
                return outcome
            packed = np.frombuffer(outcome, np.uint8)
            return np.unpackbits(packed, count=fragment.size, bitorder="little").tobytes()
        self.traffic.errors += 1
        if isinstance(outcome, DeviceTimeoutError):
            return Fault(FaultKind.ABSENT, ABSENT.of(f"unit {ask.unit}"))
        fault = refusal(outcome).fault(ask.what, outcome)
        if fault.kind is FaultKind.ABSENT and not self._many:
            raise DeviceError(fault.reason)  # the only unit there is: its link is lost
        return fault

    async def write(self, place: Place, encoded: bytes) -> None:
        """See :class:`edge_opcua.drivers.wire.Wire`."""
        address = cast(ModbusAddress, place)
        unit = address.unit or 0
        if address.area in BITS:
            await self._command(ask_write_bits(unit, address.start, [bool(bit) for bit in encoded]))
        elif isinstance(address.codec, BitCodec):
            await self._write_register_bits(unit, address, encoded)
        else:
            registers = struct.unpack(f">{len(encoded) // 2}H", encoded)
            await self._command(ask_write_registers(unit, address.start, registers))

    async def write_bytes(self, area: str, offset: int, payload: bytes) -> None:
        """Write words in one request; ``area`` is e.g. ``hr:200``, or ``3/hr:200`` for another unit."""
        try:
            found = parse_area(area, self._endpoint.unit)
        except AddressError as exc:
            raise DeviceRefusedError(str(exc), status=BAD_NOT_SUPPORTED, code=exc.code) from exc
        if not found.writable:
            raise DeviceRefusedError(f"{area} can only be read", status=BAD_NOT_SUPPORTED, code="T260")
        words = whole_words(area, payload)
        await self._command(ask_write_registers(found.unit, found.start + offset, words))

    async def _write_register_bits(self, unit: int, address: ModbusAddress, encoded: bytes) -> None:
        if address.size != 1:
            raise DeviceRefusedError(
                "bits of two registers cannot be written at once", status=BAD_NOT_SUPPORTED
            )
        first = address.bit or 0
        ones = sum(1 << first + i for i, bit in enumerate(encoded) if bit)
        touched = sum(1 << first + i for i in range(len(encoded)))
        if self._options.bit_writes == "mask":
            await self._command(ask_mask(unit, address.start, 0xFFFF & ~touched, ones))
            return
        (now,) = await self._read([Fragment((unit, address.area), address.start, 1)], self._timeout_s)
        if not isinstance(now, bytes):
            reason = now.reason if isinstance(now, Fault) else "not read"
            raise DeviceRefusedError(reason, status=BAD_DEVICE_FAILURE)
        register = int.from_bytes(now, "big") & ~touched | ones
        await self._command(ask_write_registers(unit, address.start, [register]))

    async def _command(self, ask: Ask) -> None:
        (outcome,) = await self._ask([ask], self._timeout_s)
        if isinstance(outcome, DeviceTimeoutError):
            self.traffic.errors += 1
            raise DeviceTimeoutError(str(outcome), again=True)  # the other units are asked as before
        if isinstance(outcome, int):
            self.traffic.errors += 1
            told = refusal(outcome)
            text = told.text(f"{ask.what} function {ask.function}", outcome)
            if outcome == _GATEWAY_TARGET:  # it may have reached the unit, whose answer did not come back
                raise DeviceTimeoutError(text)
            if outcome == _ACKNOWLEDGE:  # it was taken, and will be done at some time
                raise DeviceTimeoutError(text, again=True)
            raise DeviceRefusedError(text, status=told.status, code=told.reason.code)

    async def _ask(self, asks: Sequence[Ask], timeout_s: float) -> list[Answer | DeviceTimeoutError]:
        """Have some requests on the way at once and return what came of each.

        A time-out is an outcome only where it says nothing about the other units; else it is raised.
        """
        self.traffic.requests += len(asks)
        futures: list[asyncio.Future[Answer]] = []
        try:
            for ask in asks:
                futures.append(self.line.submit(self._member, ask, timeout_s))  # noqa: PERF401 - to be settled
            return [await self._outcome(future) for future in futures]
        except DeviceError:
            self.traffic.errors += 1
            raise
        finally:
            for future in futures:
                if not future.done():
                    future.cancel()
                elif not future.cancelled():
                    future.exception()  # it is known: the first one was raised

    async def _outcome(self, future: asyncio.Future[Answer]) -> Answer | DeviceTimeoutError:
        try:
            return await future
        except DeviceTimeoutError as exc:
            if self._many and self.line.lives:
                return exc
            raise


def _is_busy(answer: Reading) -> bool:
    return isinstance(answer, Fault) and answer.kind is FaultKind.BUSY
