"""One S7 connection as the poller uses it: blocks of bytes read side by side, each judged by itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, cast

import structlog
from snap7.datatypes import S7Area, S7WordLen

from edge_opcua.core.clock import Clock, SystemClock
from edge_opcua.core.values import BAD_NOT_SUPPORTED
from edge_opcua.drivers.codec import BitCodec
from edge_opcua.drivers.planner import Fragment, Place, Request
from edge_opcua.drivers.s7 import reasons
from edge_opcua.drivers.s7.address import S7Address
from edge_opcua.drivers.s7.areas import parse_area
from edge_opcua.drivers.s7.frames import (
    HeaderRefusedError,
    parse_read,
    parse_setup,
    parse_write,
    read_request,
    sequence_of,
)
from edge_opcua.drivers.s7.settings import WRITE_BYTES, Endpoint, S7Options, S7Shape
from edge_opcua.drivers.s7.sysinfo import State, cpu_state
from edge_opcua.drivers.s7.transport import Transport
from edge_opcua.drivers.wire import Fault, FaultKind, Reading, Traffic
from edge_opcua.errors import AddressError, DeviceError, DeviceRefusedError

_AREAS: Final = {"DB": S7Area.DB, "M": S7Area.MK, "I": S7Area.PE, "Q": S7Area.PA}
_BUSY_TRIES: Final = 3
_LOOK_EVERY_S: Final = 10.0
_CODES: Final = {name: int(area) for name, area in _AREAS.items()}
_log = structlog.get_logger(__name__)


class S7Wire:
    """One connection to one PLC.

    Args:
        name: Name of the device; the thread is called after it.
        endpoint: Where the PLC is.
        options: Settings of the device.
        timeout_s: Deadline of one request, seconds.
        clock: Clock for when the CPU is asked for its mode.

    Attributes:
        state: Mode of the CPU when it was last asked.
        transport: The connection itself, for what is no tag.
    """

    def __init__(
        self,
        name: str,
        endpoint: Endpoint,
        options: S7Options,
        timeout_s: float,
        clock: Clock | None = None,
    ) -> None:
        self.shape = S7Shape(options.pdu, options.max_gap)
        self.traffic = Traffic()
        self.state = State.UNKNOWN
        self._name = name
        self._options = options
        self.transport = Transport(name, endpoint, timeout_s, self.traffic)
        self._clock = clock or SystemClock()
        self._asked_s = 0.0
        self._depth = 1
        # A LOGO! knows no system status lists, and some gateways drop who asks.
        self._tells_state = endpoint.tsap is None

    async def open(self) -> None:
        """Connect and agree on a PDU size; DeviceError if that fails or takes too long."""
        await self._connect()
        if not self._tells_state:
            return
        try:
            await self._look()
        except DeviceError:
            self._tells_state = False
            await self._connect()

    async def _look(self) -> None:
        """Ask for the mode of the CPU: what a stopped one shows is readable, and old."""
        self._asked_s = self._clock.monotonic_s()
        state = await cpu_state(self.transport)
        if state is State.STOP and self.state is not State.STOP:
            reason = reasons.STOPPED
            _log.warning("plc.stopped", device=self._name, code=reason.code, reason=reason.of(self._name))
        elif self.state is State.STOP and state is State.RUN:
            _log.info("plc.runs", device=self._name)
        self.state = state
        self.traffic.notice = reasons.STOPPED.of(self._name) if state is State.STOP else ""

    async def _connect(self) -> None:
        transport = self.transport
        await transport.open()
        wanted = self._options.parallel
        try:
            request = transport.requests.build_setup_communication_request(wanted, wanted, self._options.pdu)
            granted, jobs = parse_setup(await transport.ask(request), sequence_of(request))
        except DeviceError:
            await transport.close()
            raise
        self.shape = S7Shape(min(granted, self._options.pdu), self._options.max_gap)
        self._depth = min(jobs, wanted)

    async def close(self) -> None:
        """Drop the connection; a call that still waits for an answer ends at once."""
        await self.transport.close()

    @property
    def depth(self) -> int:
        """As many as the PLC granted, and the options allow."""
        return self._depth

    async def read(self, requests: Sequence[Request]) -> Sequence[Sequence[Reading]]:
        """See :class:`edge_opcua.drivers.wire.Wire`; a request refused as a whole is asked block by block."""
        if self._tells_state and self._clock.monotonic_s() - self._asked_s >= _LOOK_EVERY_S:
            await self._look()
        return await self._read(requests, _BUSY_TRIES)

    async def _read(self, requests: Sequence[Request], tries: int) -> list[Sequence[Reading]]:
        """Read; what a CPU without free resources refuses is asked again so many times."""
        transport = self.transport
        frames = [self._build(request.fragments) for request in requests]
        waits = [request.deadline_s for request in requests if request.deadline_s is not None]
        answers = await transport.ask_all(frames, min(waits, default=None))
        return [
            await self._judge(request, frame, answer, tries)
            for request, frame, answer in zip(requests, frames, answers, strict=True)
        ]

    def _build(self, fragments: Sequence[Fragment]) -> bytes:
        items = []
        for fragment in fragments:
            area, db = cast("tuple[str, int]", fragment.space)
            items.append((_CODES[area], db, fragment.start, fragment.size))
        return read_request(self.transport.next_sequence(), items)

    async def _judge(self, request: Request, frame: bytes, answer: bytes, tries: int) -> Sequence[Reading]:
        """Return what an answer says of each block."""
        names = [_name(fragment) for fragment in request.fragments]
        sizes = [fragment.size for fragment in request.fragments]
        try:
            found = parse_read(answer, sequence_of(frame), names, sizes)
        except HeaderRefusedError as exc:
            self.traffic.errors += 1
            if len(names) > 1:
                return await self._one_by_one(request, tries)
            if tries and exc.refusal.kind is FaultKind.BUSY:
                return (await self._read((request,), tries - 1))[0]
            return (exc.fault(f"read of {names[0]}"),)
        self.traffic.errors += sum(isinstance(part, Fault) for part in found)
        return found

    async def _one_by_one(self, request: Request, tries: int) -> Sequence[Reading]:
        singles = [Request((fragment,), request.deadline_s) for fragment in request.fragments]
        found: list[Reading] = []
        for first in range(0, len(singles), self._depth):
            for (answer,) in await self._read(singles[first : first + self._depth], tries):
                found.append(answer)
        return found

    async def write(self, place: Place, encoded: bytes) -> None:
        """See :class:`edge_opcua.drivers.wire.Wire`."""
        address = cast(S7Address, place)
        if not isinstance(address.codec, BitCodec):
            await self._write(address.area, address.db, address.start, S7WordLen.BYTE, encoded)
            return
        if len(encoded) != 1:
            raise DeviceRefusedError("several bits cannot be written at once", status=BAD_NOT_SUPPORTED)
        bit = 8 * address.start + (address.bit or 0)
        await self._write(address.area, address.db, bit, S7WordLen.BIT, encoded)

    async def write_bytes(self, area: str, offset: int, payload: bytes) -> None:
        """Write words in one request; ``area`` is e.g. ``DB20`` or ``DB21.DBB40``."""
        try:
            found = parse_area(area)
        except AddressError as exc:
            raise DeviceRefusedError(str(exc), status=BAD_NOT_SUPPORTED, code=exc.code) from exc
        await self._write(found.area, found.db, found.start + 2 * offset, S7WordLen.BYTE, payload)

    async def _write(self, area: str, db: int, start: int, width: S7WordLen, payload: bytes) -> None:
        most = self.shape.pdu - WRITE_BYTES
        if len(payload) > most:
            raise DeviceRefusedError(f"one request writes {most} bytes", status=BAD_NOT_SUPPORTED)
        build: Any = self.transport.requests.build_write_request
        request: bytes = build(_AREAS[area], db, start, width, payload)
        name = f"DB{db}" if area == "DB" else area
        parse_write(await self.transport.tell(request), sequence_of(request), name)


def _name(fragment: Fragment) -> str:
    area, db = cast("tuple[str, int]", fragment.space)
    return f"DB{db}" if area == "DB" else area
