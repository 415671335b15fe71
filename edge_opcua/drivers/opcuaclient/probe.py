"""What is found out about an unknown OPC UA server: endpoints, name plate, variables; never writes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from asyncua import ua

from edge_opcua.core.clock import Clock, SystemClock
from edge_opcua.core.statedir import StateDir, default_state_dir
from edge_opcua.core.ticks import to_text
from edge_opcua.core.values import Scalar, status_name
from edge_opcua.core.worker import Worker
from edge_opcua.drivers.opcuaclient import browse
from edge_opcua.drivers.opcuaclient.address import OpcUaAddress, parse, parse_node
from edge_opcua.drivers.opcuaclient.messages import ServiceRefusedError
from edge_opcua.drivers.opcuaclient.reasons import UNREADABLE, is_of_node, node_fault, refusal
from edge_opcua.drivers.opcuaclient.session import Access, Offer, Session, offers_of
from edge_opcua.drivers.opcuaclient.settings import AUTO, NONE, OpcUaOptions, parse_url
from edge_opcua.drivers.opcuaclient.wire import OpcUaWire
from edge_opcua.drivers.planner import Fragment, Request
from edge_opcua.drivers.probing import NO_TIME, Candidate, Finding, Target, failed, options_of
from edge_opcua.drivers.reasons import GARBLED, parts_of
from edge_opcua.drivers.wire import Fault, Reading, Stamped
from edge_opcua.errors import AddressError, ConfigError, DeviceError, DeviceTimeoutError
from edge_opcua.security.pki import open_pki, own_certificate

_SESSION_S: Final = 60.0
_LOOK_S: Final = 5.0  # a server looks up many nodes for one answer
_KEY_S: Final = 20.0  # making a key
# Faults of the way to the server, before any protocol.
_CONNECT: Final = ("D310", "D311", "D312", "D315", "D316")
_PLATE: Final = {
    "vendor": ua.ObjectIds.Server_ServerStatus_BuildInfo_ManufacturerName,
    "model": ua.ObjectIds.Server_ServerStatus_BuildInfo_ProductName,
    "version": ua.ObjectIds.Server_ServerStatus_BuildInfo_SoftwareVersion,
    "build": ua.ObjectIds.Server_ServerStatus_BuildInfo_BuildNumber,
}


async def probe(target: Target, clock: Clock | None = None) -> AsyncIterator[Finding]:
    """Connect, look, close; see :data:`edge_opcua.drivers.probing.Prober`.

    Args:
        target: The server, and what to read from it.
        clock: Clock for how long an answer took.

    Raises:
        AddressError: An address to be read does not follow the grammar; nothing was connected.
        ConfigError: The URL or an option is unusable; nothing was connected.
    """
    look = _Look(target, clock or SystemClock())
    try:
        async for finding in look.steps():
            yield finding
    finally:
        await look.close()


@dataclass(frozen=True, slots=True)
class _Wanted:
    """An address to be read; its type is the server's to say if none was written."""

    text: str
    address: OpcUaAddress | None
    node: Any


class _Look:
    """One look at one server.

    Args:
        target: The server.
        clock: Clock.
    """

    def __init__(self, target: Target, clock: Clock) -> None:
        self._target = target
        self._clock = clock
        self._wanted = [_wanted(text) for text in target.reads]
        self._options = options_of(OpcUaOptions, target)
        pki = StateDir(target.state_dir or default_state_dir()).pki
        self._access = Access("probe", parse_url(target.url), self._options, pki, _SESSION_S)
        self._wire: OpcUaWire | None = None
        self._sent = 0

    async def close(self) -> None:
        """Say goodbye."""
        if self._wire is not None:
            await self._wire.close()

    async def steps(self) -> AsyncIterator[Finding]:
        """Yield each finding as soon as it is known."""
        wire = self._make()
        started_ns = self._clock.monotonic_ns()
        try:
            told = await Session(self._access, self._target.timeout_s, self._clock, wire.traffic).describe()
        except DeviceError as exc:
            code, text, _ = parts_of(str(exc))
            mute = isinstance(exc, DeviceTimeoutError)  # it took the connection: neither power nor cable
            if code in _CONNECT and not mute:
                yield self._failed("connect", str(exc))
                return
            yield self._found("connect", f"tcp {self._access.endpoint.port} open")
            yield self._failed("protocol", f"{GARBLED.code} {text}: {GARBLED.step}" if mute else str(exc))
            return
        took_ms = (self._clock.monotonic_ns() - started_ns) / 1e6
        offers = offers_of(told.Endpoints)
        yield self._found("connect", f"tcp {self._access.endpoint.port} open")
        yield self._protocol(offers, took_ms)
        server = told.Endpoints[0].Server if told.Endpoints else ua.ApplicationDescription()
        try:
            await self._open(offers)
        except DeviceError as exc:
            yield self._identity(server, {})
            yield self._failed("browse", str(exc))
            return
        try:
            async for finding in self._inside(server):
                yield finding
        except ServiceRefusedError as exc:
            yield self._failed("browse", refusal(exc.status).of(self._access.endpoint.name))
        except DeviceError as exc:
            yield self._failed("read", str(exc))

    def _make(self) -> OpcUaWire:
        self._wire = OpcUaWire(
            self._access, self._access.options, max(self._target.timeout_s, _LOOK_S), self._clock
        )
        return self._wire

    async def _open(self, offers: list[Offer]) -> None:
        """Open a session as a device of these settings would; without security only where there is none."""
        if self._options.security == AUTO and offers and not any(offer.secured for offer in offers):
            plain = self._options.model_copy(update={"security": NONE})
            self._access = replace(self._access, options=plain)
            self._sent += self._wire.traffic.requests if self._wire is not None else 0
            self._make()
        if self._access.options.security != NONE:
            files = Worker("probe.files")
            try:
                await files.call(_make_identity, self._access.pki, timeout_s=_KEY_S)
            except (ConfigError, TimeoutError) as exc:
                raise DeviceError(UNREADABLE.of(f"{self._access.pki} ({exc})")) from exc
            finally:
                files.close()
        assert self._wire is not None
        await self._wire.open()

    async def _inside(self, server: Any) -> AsyncIterator[Finding]:
        assert self._wire is not None
        session = self._wire.session
        values = await browse.read(
            session, [ua.NodeId(each) for each in _PLATE.values()], ua.AttributeIds.Value
        )
        plate = {key: str(browse.held(value) or "") for key, value in zip(_PLATE, values, strict=True)}
        yield self._identity(server, plate)
        uris = self._wire.namespaces
        tags = []
        async for variable in browse.variables(session):
            try:
                address = parse(browse.address_of(variable, uris)).canonical
            except AddressError:
                continue
            facts = {"name": variable.path, "address": address, "type": variable.type}
            facts |= {"unit": variable.unit, "description": variable.description}
            tags.append({**facts, "writable": variable.writable})
        most = ", the first of more" if len(tags) >= browse.MOST_TAGS else ""
        text = f"{len(tags)} variables{most} in {len(uris)} namespaces"
        yield self._found("browse", text, {"tags": tags, "namespaces": uris})
        for wanted in self._wanted:
            yield await self._read(wanted)

    def _protocol(self, offers: list[Offer], took_ms: float) -> Finding:
        there = list(dict.fromkeys(str(offer) for offer in offers))
        users = list(dict.fromkeys(token.TokenType.name for offer in offers for token in offer.tokens))
        text = f"OPC UA answers in {took_ms:.0f} ms; security {', '.join(there)}; users {', '.join(users)}"
        return self._found("protocol", text, {"rtt_ms": took_ms, "endpoints": there, "users": users})

    def _identity(self, server: Any, plate: Mapping[str, str]) -> Finding:
        name = str(getattr(server.ApplicationName, "Text", None) or "")
        facts = {**plate, "name": name, "uri": str(server.ApplicationUri or "")}
        words = [plate.get(key, "") for key in ("vendor", "model", "version")]
        text = " ".join(word for word in words if word) or name or facts["uri"]
        return self._found("identity", text or "does not say who it is", facts)

    async def _read(self, wanted: _Wanted) -> Finding:
        assert self._wire is not None
        address = wanted.address
        if address is None:
            node = self._wire.names.resolve(wanted.node)
            if isinstance(node, Fault):
                return self._refused(node)
            (value,) = await browse.read(self._wire.session, [node], ua.AttributeIds.Value)
            status = int(value.StatusCode.value) if value.StatusCode is not None else 0
            if is_of_node(status):
                return self._refused(node_fault(status, f"read of {wanted.text}"))
            kind = browse.type_of(value)
            if not kind:
                text = f"read of {wanted.text}: no value of a type that a tag can have"
                return Finding("read", text, "D374", "write the address of another node", self._facts({}))
            address = parse(f"{wanted.text}:{kind}")
        ((answer,),) = await self._wire.read((Request((Fragment(address.space, 0, 1, rows=(0,)),)),))
        return self._reading(wanted, address, answer)

    def _reading(self, wanted: _Wanted, address: OpcUaAddress, answer: Reading) -> Finding:
        if isinstance(answer, Fault):
            return self._refused(answer)
        assert isinstance(answer, Stamped), "this driver stamps everything"
        value: Any = address.codec.decode(answer.wire)
        if address.scalar is Scalar.DATETIME and value is not None:
            value = [to_text(each) for each in value] if isinstance(value, list) else to_text(value)
        shown = NO_TIME if value is None else value
        text = f"{wanted.text}   {shown}   {status_name(answer.status)}"
        candidates = (Candidate(address.canonical, "", {str(address.type): value}, "the type of the server"),)
        return replace(self._found("read", text), candidates=candidates)

    def _refused(self, fault: Fault) -> Finding:
        code, text = fault.reason[:4], fault.reason[5:]
        return Finding("read", text, code, facts=self._facts({}))

    def _facts(self, facts: Mapping[str, Any]) -> dict[str, Any]:
        now = self._wire.traffic.requests if self._wire is not None else 0
        return {**facts, "requests": self._sent + now}

    def _found(self, step: str, text: str, facts: Mapping[str, Any] | None = None) -> Finding:
        return Finding(step, text, facts=self._facts(facts or {}))

    def _failed(self, step: str, told: str) -> Finding:
        return failed(step, told, self._facts({}))


def _make_identity(pki: Path) -> None:
    """Make a certificate if there is none, so that it and the server's can be trusted in one go."""
    if not own_certificate(pki).exists():
        open_pki(pki)


def _wanted(text: str) -> _Wanted:
    """Read an address, or a NodeId without a type; AddressError if it is neither."""
    clean = text.strip()
    try:
        return _Wanted(clean, parse(clean), None)
    except AddressError as exc:
        if exc.code != "T213":
            raise
    return _Wanted(clean, None, parse_node(clean))
