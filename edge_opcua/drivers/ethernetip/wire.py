"""One device over EtherNet/IP: many services in one request, each judged by itself (frames: ADR 22)."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import replace
from typing import Final, NamedTuple, cast

from edge_opcua.core.clock import Clock
from edge_opcua.core.values import BAD_NOT_SUPPORTED, BAD_TYPE_MISMATCH
from edge_opcua.drivers.ethernetip import cip
from edge_opcua.drivers.ethernetip.address import BITS, BOOLS, TEXT, EipAddress, Space, parse
from edge_opcua.drivers.ethernetip.areas import parse_area
from edge_opcua.drivers.ethernetip.cip import Reply
from edge_opcua.drivers.ethernetip.content import attribute_image, fragment_name, split_type, tag_image
from edge_opcua.drivers.ethernetip.reasons import (
    connection_refusal,
    fault_of,
    is_route_failure,
    reason_of,
    status_text,
)
from edge_opcua.drivers.ethernetip.session import Session
from edge_opcua.drivers.ethernetip.settings import UNCONNECTED_BYTES, EipOptions, EipShape, Endpoint
from edge_opcua.drivers.ethernetip.types import (
    BOOL,
    CIP_TYPES,
    COUNTED_8,
    COUNTED_16,
    DWORD,
    STRUCTURE,
    accepts,
    type_name,
)
from edge_opcua.drivers.planner import Fragment, Place, Request
from edge_opcua.drivers.wire import Fault, FaultKind, Reading, Traffic, whole_words
from edge_opcua.errors import AddressError, DeviceError, DeviceRefusedError

_TOO_LARGE: Final = 0x11
_NO_MULTIPLE: Final = 0x08
_NO_PATH: Final = (0x04, 0x05)
_MAX_PREPARED: Final = 1024
_WRITE_BYTES: Final = 24  # of a request, apart from path and value


class _Prepared(NamedTuple):
    """A planned request as it goes over the wire; holding it keeps its identity."""

    request: Request
    message: bytes
    codes: tuple[int, ...]


class EipWire:
    """One connection to one device.

    Args:
        endpoint: Where the device is.
        options: Its settings.
        interval_s: Longest time between two requests that is ordinary, seconds.
        timeout_s: Deadline of one request, seconds.
        clock: Clock for pauses between attempts at a busy device.
    """

    def __init__(
        self, endpoint: Endpoint, options: EipOptions, interval_s: float, timeout_s: float, clock: Clock
    ) -> None:
        limit = options.connection_bytes or UNCONNECTED_BYTES
        self.shape = EipShape(limit, options.max_gap, batches=not endpoint.micro800)
        self.traffic = Traffic()
        self._endpoint = endpoint
        self._options = options
        self._interval_s = interval_s
        self._timeout_s = timeout_s
        self._clock = clock
        self._session: Session | None = None
        self._types: dict[str, bytes] = {}
        self._unpacked: set[str] = set()  # BOOL arrays with a byte for each element
        self._prepared: dict[int, _Prepared] = {}

    async def open(self) -> None:
        """Connect, open a session and a connection; DeviceError if the device does not let us."""
        await self.close()
        session = Session(self._endpoint, self._timeout_s, self.traffic)
        self._session = session
        self._types.clear()  # a download may have changed them
        self._unpacked.clear()
        self._prepared.clear()
        try:
            await session.connect()
            await session.register()
            await self._open_connection(session)
        except DeviceError:
            await self.close()
            raise
        self.shape = replace(self.shape, limit=session.size or UNCONNECTED_BYTES)

    async def _open_connection(self, session: Session) -> None:
        if not self._options.connection_bytes:
            return
        try:
            await session.open_connection(self._options.connection_bytes, self._interval_s)
        except DeviceRefusedError as exc:
            if exc.code != "D367":  # what knows no connections is asked without
                raise

    def attach(self, session: Session) -> None:
        """Use a session that is open already, as it is; :meth:`close` closes it."""
        self._session = session
        self.shape = replace(self.shape, limit=session.size or UNCONNECTED_BYTES)

    async def close(self) -> None:
        """Drop the connection at once; the device's farewell is not waited for."""
        session, self._session = self._session, None
        if session is not None:
            session.close()

    @property
    def depth(self) -> int:
        """One request at a time: a class 3 connection carries no more."""
        return 1

    async def read(self, requests: Sequence[Request]) -> Sequence[Sequence[Reading]]:
        """See :class:`edge_opcua.drivers.wire.Wire`; what is busy is asked again within the deadline."""
        session, answers = self._get_session(), []
        try:
            for request in requests:
                session.hurry(request.deadline_s)
                answers.append(await self._read_request(request))
        finally:
            session.hurry(None)
        return answers

    async def _read_request(self, request: Request) -> Sequence[bytes | Fault]:
        answers = await self._read_once(request)
        for _ in range(self._options.busy_retries):
            busy = [i for i, answer in enumerate(answers) if _is(answer, FaultKind.BUSY)]
            if not busy:
                break
            await self._clock.sleep(self._options.busy_wait_ms / 1000)
            again = await self._read_once(Request(tuple(request.fragments[i] for i in busy)))
            for i, answer in zip(busy, again, strict=True):
                answers[i] = answer
        self.traffic.errors += sum(isinstance(answer, Fault) for answer in answers)
        return answers

    async def _read_once(self, request: Request) -> list[bytes | Fault]:
        answers: list[bytes | Fault] = []
        for fragment, reply in zip(request.fragments, await self._ask_all(request), strict=True):
            answer = self._judge(fragment, reply)
            if answer is None:
                answer = await self._read_on(fragment, reply)
            if _is(answer, FaultKind.ADDRESS):
                answer = await self._reconsider(fragment, answer)
            answers.append(answer)
        return answers

    async def _ask_all(self, request: Request) -> Sequence[Reply]:
        """Ask for all fragments at once, or one after the other if the device takes only one service."""
        session = self._get_session()
        if len(request.fragments) == 1 or not self.shape.batches:
            return [await session.ask(self._encode(fragment)) for fragment in request.fragments]
        prepared = self._prepare(request)
        reply = await session.ask(prepared.message)
        if reply.status in (cip.SUCCESS, cip.SERVICE_FAILED):
            return cip.parse_multiple(reply, prepared.codes)
        self._pass_route_failure(reply)
        if reason_of(reply).kind is FaultKind.BUSY:
            return [reply] * len(request.fragments)
        if reply.status == _NO_MULTIPLE:
            self.shape = replace(self.shape, batches=False)
        middle = len(request.fragments) // 2
        halves = (request.fragments[:middle], request.fragments[middle:])
        return [each for half in halves for each in await self._ask_all(Request(half))]

    def _prepare(self, request: Request) -> _Prepared:
        """Return a request as bytes; planned once, a request is sent with every poll."""
        known = self._prepared.get(id(request))
        if known is None:
            if len(self._prepared) >= _MAX_PREPARED:
                self._prepared.clear()
            services = [self._encode(fragment) for fragment in request.fragments]
            known = _Prepared(request, cip.multiple(services), tuple(each[0] for each in services))
            self._prepared[id(request)] = known
        return known

    def _encode(self, fragment: Fragment) -> bytes:
        space = cast(Space, fragment.space)
        if space.generic:
            return cip.service(cip.GET_ATTRIBUTE, cip.attribute_path(space.path))
        return cip.read_tag(*self._target(fragment))

    def _target(self, fragment: Fragment) -> tuple[bytes, int]:
        """Return the path and the number of elements that a fragment asks for."""
        space = cast(Space, fragment.space)
        if space.kind == BITS:
            return cip.tag_path(space.path, 0), 1
        if space.kind != BOOLS or space.path in self._unpacked:
            return cip.tag_path(space.path, fragment.start), fragment.size
        first, last = fragment.start // 32, (fragment.start + fragment.size - 1) // 32
        return cip.tag_path(space.path, first), last - first + 1

    def _judge(self, fragment: Fragment, reply: Reply) -> bytes | Fault | None:
        """Return what a reply says; None if the fragment has to be asked for again, by itself."""
        generic = cast(Space, fragment.space).generic
        if reply.status == cip.SUCCESS:
            return attribute_image(fragment, reply.payload) if generic else self._tag(fragment, reply.payload)
        if reply.status in (cip.PARTIAL, _TOO_LARGE) and not generic:
            return None
        self._pass_route_failure(reply)
        return fault_of(reply, f"read of {fragment_name(fragment)}")

    def _tag(self, fragment: Fragment, payload: bytes) -> bytes | Fault | None:
        head, value = split_type(payload)
        space = cast(Space, fragment.space)
        self._types[space.path] = head
        if space.kind == BOOLS and self._learn_packing(fragment, space.path, head[0]):
            return None
        return tag_image(fragment, head, value)

    def _learn_packing(self, fragment: Fragment, path: str, code: int) -> bool:
        """Note whether a BOOL array has a bit or a byte for each element; True if that is news."""
        if code == BOOL and path not in self._unpacked and fragment.start + fragment.size > 1:
            self._unpacked.add(path)
        elif code == DWORD and path in self._unpacked:
            self._unpacked.discard(path)
        else:
            return False
        self._prepared.clear()
        return True

    async def _read_on(self, fragment: Fragment, begun: Reply) -> bytes | Fault:
        """Read what did not fit into one answer, piece by piece."""
        path, count = self._target(fragment)
        what = f"read of {fragment_name(fragment)}"
        value = split_type(begun.payload)[1] if begun.status == cip.PARTIAL else b""
        while True:
            reply = await self._get_session().ask(cip.read_fragment(path, count, len(value)))
            if reply.status not in (cip.SUCCESS, cip.PARTIAL):
                self._pass_route_failure(reply)
                return fault_of(reply, what)
            head, piece = split_type(reply.payload)
            if reply.status == cip.SUCCESS:
                answer = self._tag(fragment, head + value + piece)
                return (
                    answer if answer is not None else Fault(FaultKind.BUSY, f"D368 {what}: it was changing")
                )
            if not piece:
                raise DeviceError(f"{what}: the answer makes no progress")
            value += piece
            if len(value) > 8 * count * max(8, cast(Space, fragment.space).unit_bytes):
                raise DeviceError(f"{what}: the answer does not end")

    async def _reconsider(self, fragment: Fragment, fault: bytes | Fault) -> bytes | Fault:
        """Find out whether all of a tag is missing, so that nobody looks for it row by row."""
        space = cast(Space, fragment.space)
        if isinstance(fault, Fault) and len(fragment.rows) > 1 and not space.generic:
            reply = await self._get_session().ask(cip.read_tag(cip.tag_path(space.path, 0), 1))
            if reply.status in _NO_PATH:
                return replace(fault, kind=FaultKind.DENIED)
        return fault

    async def write(self, place: Place, encoded: bytes) -> None:
        """See :class:`edge_opcua.drivers.wire.Wire`."""
        address = cast(EipAddress, place)
        space = address.space
        if not address.writable:
            raise DeviceRefusedError(f"{address.place} cannot be written", status=BAD_NOT_SUPPORTED)
        if space.generic:
            await self._send(
                address.place, cip.service(cip.SET_ATTRIBUTE, cip.attribute_path(space.path), encoded)
            )
            return
        head = await self._type_of(address)
        if space.kind == BITS:
            size = _integer_bytes(address.place, head)
            await self._modify(address, cip.tag_path(space.path, 0), address.bit or 0, size, encoded)
        elif space.kind == BOOLS and head[0] == DWORD:
            path = cip.tag_path(space.path, address.start // 32)
            await self._modify(address, path, address.start % 32, 4, encoded)
        else:
            await self._write_value(address, head, encoded)

    async def _write_value(self, address: EipAddress, head: bytes, encoded: bytes) -> None:
        space = address.space
        wanted = "BOOL" if space.kind == BOOLS else address.type.type.name
        value = encoded
        if space.kind == TEXT:
            value = await self._text(address, head, encoded)
        elif not accepts(wanted, head[0]):
            kind = type_name(head[0])
            raise DeviceRefusedError(f"D364 {address.place} is {kind}", status=BAD_TYPE_MISMATCH, code="D364")
        await self._send(
            address.place, cip.write_tag(cip.tag_path(space.path, address.start), head, address.size, value)
        )

    async def _modify(self, address: EipAddress, path: bytes, first: int, size: int, bits: bytes) -> None:
        """Set and clear bits of an integer in the device, so that nobody's other bits are touched."""
        if first + len(bits) > 8 * size:
            raise DeviceRefusedError(
                f"{address.place}: bits of two integers cannot be written at once", status=BAD_NOT_SUPPORTED
            )
        ones = sum(1 << first + i for i, bit in enumerate(bits) if bit)
        touched = sum(1 << first + i for i in range(len(bits)))
        keep = (1 << 8 * size) - 1 & ~touched
        await self._send(address.place, cip.modify_tag(path, ones, keep, size))

    async def _text(self, address: EipAddress, head: bytes, encoded: bytes) -> bytes:
        """Return the text of a codec as the device holds it."""
        text = encoded[2 : 2 + encoded[1]]
        if head[0] == COUNTED_8:
            return bytes((len(text),)) + text
        if head[0] == COUNTED_16:
            return len(text).to_bytes(2, "little") + text + b"\0" * (len(text) % 2)
        if head[0] != STRUCTURE:
            kind = type_name(head[0])
            raise DeviceRefusedError(f"D364 {address.place} is {kind}", status=BAD_TYPE_MISMATCH, code="D364")
        _, held = await self._read_one(address)
        if len(text) > len(held) - 4:
            raise DeviceRefusedError(
                f"{address.place} holds {len(held) - 4} characters", status=BAD_TYPE_MISMATCH, code="D364"
            )
        return len(text).to_bytes(4, "little") + text.ljust(len(held) - 4, b"\0")

    async def _type_of(self, address: EipAddress) -> bytes:
        """Return the type of a tag as a write has to repeat it; read if it is not known yet."""
        return self._types.get(address.space.path) or (await self._read_one(address))[0]

    async def _read_one(self, address: EipAddress) -> tuple[bytes, bytes]:
        start = 0 if address.space.kind in (BITS, BOOLS) else address.start
        request = cip.read_tag(cip.tag_path(address.space.path, start), 1)
        head, value = split_type((await self._demand(f"read of {address.place}", request)).payload)
        self._types[address.space.path] = head
        return head, value

    async def write_bytes(self, area: str, offset: int, payload: bytes) -> None:
        """Write words in one request; ``area`` is e.g. ``EdgeAI_Status``, an array of INT.

        Element n becomes word n: what comes with the high byte first goes out as CIP has it, low byte first.
        """
        try:
            found = parse_area(area)
        except AddressError as exc:
            raise DeviceRefusedError(str(exc), status=BAD_NOT_SUPPORTED, code=exc.code) from exc
        words = whole_words(area, payload)
        head = await self._type_of(parse(found.words(0, 1)))
        if not accepts("WORD", head[0]):
            text = f"D364 {area} is {type_name(head[0])}; words need an array of INT"
            raise DeviceRefusedError(text, status=BAD_TYPE_MISMATCH, code="D364")
        path = cip.tag_path(found.path, found.start + offset)
        value = struct.pack(f"<{len(words)}H", *words)
        await self._send(area, cip.write_tag(path, head, len(words), value))

    async def _send(self, name: str, request: bytes) -> None:
        """Send a request that writes, once."""
        if len(request) + 2 > self.shape.limit:
            most = self.shape.limit - _WRITE_BYTES - 2 * request[1]
            raise DeviceRefusedError(f"one request writes {most} bytes of {name}", status=BAD_NOT_SUPPORTED)
        session = self._get_session()
        session.writing = True
        try:
            await self._demand(f"write of {name}", request)
        except DeviceRefusedError:
            session.writing = False
            raise
        session.writing = False

    async def _demand(self, what: str, request: bytes) -> Reply:
        """Send a request and return its answer; DeviceRefusedError if the device says no."""
        reply = await self._get_session().ask(request)
        if reply.status == cip.SUCCESS:
            return reply
        self.traffic.errors += 1
        self._pass_route_failure(reply)
        reason = reason_of(reply)
        text = f"{reason.code} {what}: {reason.text} ({status_text(reply)})"
        raise DeviceRefusedError(text, status=reason.status, code=reason.code)

    def _pass_route_failure(self, reply: Reply) -> None:
        """Raise if it was not the device that refused, but something on the way to it."""
        if is_route_failure(reply):
            code, text = connection_refusal(reply)
            raise DeviceError(f"{code} {self._endpoint.host}: {text}")

    def _get_session(self) -> Session:
        if self._session is None:
            raise DeviceError(f"{self._endpoint.host}:{self._endpoint.port} is not connected")
        return self._session


def _is(answer: Reading, kind: FaultKind) -> bool:
    return isinstance(answer, Fault) and answer.kind is kind


def _integer_bytes(name: str, head: bytes) -> int:
    """Return the bytes of an integer type; DeviceRefusedError if it is none."""
    kind = CIP_TYPES.get(head[0])
    if kind is None or not kind.size_bytes or kind.name in ("BOOL", "REAL", "LREAL"):
        raise DeviceRefusedError(
            f"D364 {name} is {type_name(head[0])}, no integer", status=BAD_TYPE_MISMATCH, code="D364"
        )
    return kind.size_bytes
