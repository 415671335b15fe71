"""Looks at an unknown EtherNet/IP device: who it is, in which slot the controller sits, its tags, a read."""

from __future__ import annotations

import struct
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from edge_opcua.core.clock import SystemClock
from edge_opcua.drivers.ethernetip import cip
from edge_opcua.drivers.ethernetip.address import EipAddress, parse
from edge_opcua.drivers.ethernetip.content import split_type
from edge_opcua.drivers.ethernetip.reasons import fault_of
from edge_opcua.drivers.ethernetip.session import Session
from edge_opcua.drivers.ethernetip.settings import PORT, EipOptions, Endpoint, parse_url
from edge_opcua.drivers.ethernetip.taglist import MAX_TAGS, TagList
from edge_opcua.drivers.ethernetip.types import CIP_TYPES, STRING_HANDLE, STRUCTURE, type_name
from edge_opcua.drivers.ethernetip.wire import EipWire
from edge_opcua.drivers.planner import plan_reads
from edge_opcua.drivers.probing import NO_TIME, Candidate, Finding, Target, options_of
from edge_opcua.drivers.wire import Fault, content
from edge_opcua.errors import AddressError, DeviceError, DeviceRefusedError, DeviceTimeoutError

SLOTS: Final = range(4)
"""Slots that are looked into for a controller."""

_IDENTITY: Final = cip.service(cip.GET_ATTRIBUTES_ALL, cip.object_path(1, 1))
_PLATE: Final = struct.Struct("<HHHBBHIB")
_IDENTITY_ITEM: Final = 0x000C
_BEFORE_PLATE: Final = 2 + 4 + 2 + 16  # items; type and length; version; socket address
_CONTROLLER: Final = 14
_VENDORS: Final = {
    1: "Rockwell Automation",
    26: "Festo",
    34: "Hohner",
    40: "WAGO",
    44: "Yaskawa",
    46: "ABB",
    47: "Omron",
    48: "Turck",
    57: "Pepperl+Fuchs",
    90: "HMS",
    243: "Schneider Electric",
    283: "Hilscher",
    345: "Endress+Hauser",
    367: "Keyence",
    562: "Phoenix Contact",
    678: "Cognex",
    808: "SICK",
    1251: "Siemens",
}
_SHOWN: Final = 8
_INTERVAL_S: Final = 2.0
_NO_LIST: Final = "no list of tags: tell each by name"


@dataclass(frozen=True, slots=True)
class Plate:
    """What the identity object of a device says (CIP Vol 1 §5-2)."""

    vendor: str
    device_type: int
    model: str
    revision: str
    serial: str


def read_plate(raw: bytes) -> Plate:
    """Read vendor, type, code, revision, status, serial number and name; DeviceError if it ends before."""
    if len(raw) < _PLATE.size or len(raw) < _PLATE.size + raw[_PLATE.size - 1]:
        raise DeviceError("the identity of the device ends too early")
    vendor, kind, code, major, minor, _, serial, length = _PLATE.unpack_from(raw)
    name = raw[_PLATE.size : _PLATE.size + length].decode("latin-1").strip()
    model = name or f"product {code}"
    return Plate(_VENDORS.get(vendor, f"vendor {vendor}"), kind, model, f"{major}.{minor}", f"{serial:08X}")


async def probe(target: Target) -> AsyncIterator[Finding]:
    """See :data:`edge_opcua.drivers.probing.Prober`; AddressError for a read that cannot be one."""
    endpoint = parse_url(target.url)
    options = options_of(EipOptions, target)
    wanted = [_wanted(text) for text in target.reads]
    look = _Look(endpoint, options, target.timeout_s)
    try:
        await look.connect()
        yield Finding("connect", f"tcp {endpoint.port} open")
        plate = await look.listener()
        yield Finding("protocol", "EtherNet/IP answers")
        slots = await look.slots()
        yield look.identity(plate, slots)
        if endpoint.route:
            yield look.slots_found(slots)
        yield await look.browse()
        if wanted:
            await look.open_connection()
        for text, address in wanted:
            yield await look.read_once(text, address)
    finally:
        look.close()


def _wanted(text: str) -> tuple[str, EipAddress | None]:
    """Return an address to be read; None stands for one whose type the device shall tell."""
    try:
        return text, parse(text)
    except AddressError as exc:
        if exc.code != "T213" or text.startswith("@"):
            raise
        parse(f"{text}:{'BOOL' if _is_bit(text) else 'SINT'}")  # refused before anything connects
        return text, None


def _is_bit(text: str) -> bool:
    return text.rpartition(".")[2].isdecimal()


class _Look:
    """One look at one device."""

    def __init__(self, endpoint: Endpoint, options: EipOptions, timeout_s: float) -> None:
        self._endpoint = endpoint
        self._options = options
        self._timeout_s = timeout_s
        self._wire = EipWire(endpoint, options, _INTERVAL_S, timeout_s, SystemClock())
        self._session = Session(endpoint, timeout_s, self._wire.traffic)

    async def connect(self) -> None:
        """Connect, or connect anew."""
        self._session.close()
        self._session = Session(self._endpoint, self._timeout_s, self._wire.traffic)
        await self._session.connect()
        self._wire.attach(self._session)

    async def open_connection(self) -> None:
        """Read over a connection as the driver does, if the device gives one."""
        if not self._options.connection_bytes:
            return
        try:
            await self._session.open_connection(self._options.connection_bytes, _INTERVAL_S)
        except DeviceRefusedError:
            return
        self._wire.attach(self._session)

    def close(self) -> None:
        """Close what is open."""
        self._session.close()

    def _facts(self, **facts: Any) -> dict[str, Any]:
        return {**facts, "requests": self._wire.traffic.requests}

    async def listener(self) -> Plate | None:
        """Ask who listens there, and open a session; None if it does not say who it is."""
        plate: Plate | None = None
        try:
            body = await self._session.list_identity()
            if len(body) > _BEFORE_PLATE and body[2] | body[3] << 8 == _IDENTITY_ITEM:
                plate = read_plate(body[_BEFORE_PLATE:])
        except DeviceTimeoutError:
            raise
        except DeviceError:  # simple servers do not know this command
            await self.connect()
        await self._session.register()
        return plate

    async def slots(self) -> dict[int, Plate]:
        """Look into the slot of the URL and the first few others of its chassis."""
        route = self._endpoint.route
        last = route[-1][1] if route else ""
        if not isinstance(last, int):
            return {}
        found: dict[int, Plate] = {}
        for slot in sorted({last, *SLOTS}):
            try:
                reply = await self._session.ask_over(_IDENTITY, (*route[:-1], (route[-1][0], slot)))
            except DeviceTimeoutError:  # an empty slot that nobody speaks for
                await self.connect()
                await self._session.register()
                continue
            if reply.status == cip.SUCCESS:
                found[slot] = read_plate(reply.payload)
        return found

    def identity(self, listener: Plate | None, slots: Mapping[int, Plate]) -> Finding:
        """Return who the device at the end of the route is; who listens, if that does not say."""
        last = self._endpoint.route[-1][1] if self._endpoint.route else ""
        plate = slots.get(last, listener) if isinstance(last, int) else listener
        if plate is None:
            return Finding("identity", "gives no name", facts=self._facts())
        model = f"{plate.model} {plate.revision}"
        facts = self._facts(vendor=plate.vendor, model=model, serial=plate.serial)
        return Finding("identity", f"{plate.vendor} {model}, serial {plate.serial}", facts=facts)

    def slots_found(self, slots: Mapping[int, Plate]) -> Finding:
        """Return what sits in which slot; a fault if the slot of the URL is empty."""
        last = self._endpoint.route[-1][1]
        controllers = [slot for slot, plate in slots.items() if plate.device_type == _CONTROLLER]
        text = ", ".join(f"slot {slot} {plate.model}" for slot, plate in slots.items()) or "no slot answers"
        facts = self._facts(units=list(slots))
        if last in slots or not isinstance(last, int):
            return Finding("units", text, facts=facts)
        host, port = self._endpoint.host, self._endpoint.port
        host += f":{port}" if port != PORT else ""
        if controllers:
            step = f"write eip://{host}/{controllers[0]}: there is the controller"
        else:
            step = f"a device that is no controller has no slots: write eip://{host}?route="
        return Finding("units", f"nobody in slot {last}; {text}", "D361", step, facts)

    async def browse(self) -> Finding:
        """Upload the list of tags, if the device has one."""
        tags = TagList(self._session)
        try:
            found = await tags.tags()
        except DeviceRefusedError:
            return Finding("browse", _NO_LIST, facts=self._facts())
        except DeviceTimeoutError:
            raise
        except DeviceError:  # some end the session when they do not know a service
            await self.connect()
            await self._session.register()
            return Finding("browse", _NO_LIST, facts=self._facts())
        text = f"{len(found)} tags"
        if tags.programs:
            text += f", some of them of {len(tags.programs)} programs"
        if tags.unread:
            text += f"; {tags.unread} of types that are not read"
        if len(found) >= MAX_TAGS:
            text += f"; only the first {MAX_TAGS} are shown"
        return Finding("browse", text, facts=self._facts(tags=found))

    async def read_once(self, text: str, address: EipAddress | None) -> Finding:
        """Read one address once; what costs the session does not cost the reads that follow."""
        try:
            return await self._read(text, address)
        except DeviceTimeoutError:
            raise
        except DeviceError as exc:
            await self.connect()
            await self._session.register()
            await self.open_connection()
            return _refused(str(exc), self._facts())

    async def _read(self, text: str, address: EipAddress | None) -> Finding:
        if address is None:
            kind = await self._type_of(text)
            if isinstance(kind, Finding):
                return kind
            address = parse(f"{text}:{kind}")
        plan = plan_reads([address], self._wire.shape)
        wire = bytearray(plan.image_bytes)
        for answers, request in zip(await self._wire.read(plan.requests), plan.requests, strict=True):
            for answer, fragment in zip(answers, request.fragments, strict=True):
                if isinstance(answer, Fault):
                    return _refused(answer.reason, self._facts())
                held = content(answer)
                wire[fragment.image_at : fragment.image_at + len(held)] = held
        value = address.codec.decode(bytes(wire))
        named = Candidate(address.canonical, "", {str(address.type): value}, "the device says its type")
        shown = NO_TIME if value is None else repr(value if not isinstance(value, list) else value[:_SHOWN])
        return Finding("read", f"{address.canonical} = {shown}", facts=self._facts(), candidates=(named,))

    async def _type_of(self, text: str) -> str | Finding:
        """Return the type that a tag has in the device, as an address names it."""
        if _is_bit(text):
            return "BOOL"
        given = parse(f"{text}:SINT")
        request = cip.read_tag(cip.tag_path(given.space.path, given.start), 1)
        reply = await self._session.ask(request)
        if reply.status not in (cip.SUCCESS, cip.PARTIAL):
            return _refused(fault_of(reply, f"read of {text}").reason, self._facts())
        head, _ = split_type(reply.payload)
        if head[0] == STRUCTURE:
            if int.from_bytes(head[2:4], "little") == STRING_HANDLE:
                return "STRING"
            help_text = f"name one of its members, e.g. {text}.Member"
            return Finding("read", f"{text} is a structure", "D364", help_text, self._facts())
        kind = CIP_TYPES.get(head[0])
        if kind is None:
            return Finding("read", f"{text} is {type_name(head[0])}", "D364", facts=self._facts())
        return kind.read_as[0]


def _refused(reason: str, facts: Mapping[str, Any]) -> Finding:
    """Return the refusal of a read as a finding."""
    code, _, text = reason.partition(" ")
    if len(code) == 4 and code.startswith("D3"):
        return Finding("read", text, code, facts=facts)
    return Finding("read", reason, "D340", facts=facts)
