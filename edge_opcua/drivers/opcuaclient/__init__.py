"""OPC UA servers as devices: S7-1500 with optimized blocks, Kepware and others; addresses and connection."""

from __future__ import annotations

from typing import ClassVar

from edge_opcua.config.schema import DeviceConfig
from edge_opcua.core.clock import Clock
from edge_opcua.drivers.lines import Lines
from edge_opcua.drivers.opcuaclient.address import OpcUaAddress, Space, parse
from edge_opcua.drivers.opcuaclient.settings import OpcUaOptions, OpcUaShape, parse_url
from edge_opcua.drivers.options import DriverOptions, checked
from edge_opcua.drivers.wire import Wire

_LEAST_SESSION_S = 30.0
_GREATEST_SESSION_S = 3600.0


class OpcUaDriver:
    """Driver of devices that have an OPC UA server; URL ``opc.tcp://host[:4840][/path]``."""

    Config: ClassVar[type[DriverOptions]] = OpcUaOptions

    @classmethod
    def parse_address(cls, text: str) -> OpcUaAddress:
        """Read one address, e.g. ``ns=3;s="DB1"."speed":REAL``; AddressError with a hint if it is none."""
        return parse(text)

    @classmethod
    def check_url(cls, url: str) -> None:
        """Refuse a URL by which no device of this driver can be reached; ConfigError."""
        parse_url(url)

    @classmethod
    def options(cls, cfg: DeviceConfig) -> OpcUaOptions:
        """Return the checked options of a device; ConfigError if they or the URL are unusable."""
        parse_url(cfg.url)
        return checked(OpcUaOptions, cfg)

    @classmethod
    def place(cls, text: str, cfg: DeviceConfig) -> OpcUaAddress:  # noqa: ARG003 - there are no defaults
        """Return the place of an address."""
        return parse(text)

    @classmethod
    def shape(cls, cfg: DeviceConfig) -> OpcUaShape:
        """Return the limits if the server allows what is asked for."""
        return OpcUaShape(cls.options(cfg).max_nodes)

    @classmethod
    def wire(cls, cfg: DeviceConfig, clock: Clock, lines: Lines) -> Wire:
        """Return a connection, not yet open."""
        from edge_opcua.drivers.opcuaclient.session import Access  # so that `check` need not load the stack
        from edge_opcua.drivers.opcuaclient.wire import OpcUaWire

        options = cls.options(cfg)
        access = Access(cfg.name, parse_url(cfg.url), options, lines.pki, _session_s(cfg))
        periods_s = _periods_s(cfg) if options.mode == "subscribe" else {}
        return OpcUaWire(access, options, cfg.timeout_ms / 1000, clock, periods_s)


def _periods_s(cfg: DeviceConfig) -> dict[Space, float]:
    """Return what the server may send by itself, and how often it is wanted.

    What is read on demand is read then, and a capture has to be read in one piece.
    """
    found: dict[Space, float] = {}
    apart: set[Space] = set()
    for group in cfg.groups:
        spaces = {parse(address).space for address in cfg.tags_of(group.name).column("address")}
        if group.on_request or group.trigger or group.on_demand:
            apart |= spaces
            continue
        for space in spaces:
            found[space] = min(group.period_ms / 1000, found.get(space, float("inf")))
    for capture in cfg.captures:
        texts = (capture.sequence, capture.ready, capture.ready_ns, capture.stroke, capture.samples)
        apart |= {parse(text).space for text in texts if text is not None}
    return {space: period_s for space, period_s in found.items() if space not in apart}


def _session_s(cfg: DeviceConfig) -> float:
    """Return how long the server shall keep a session over which nobody asks."""
    periods = [group.period_ms for group in cfg.groups if not group.on_demand]
    periods += [capture.poll_ms for capture in cfg.captures]
    if not periods:
        return _GREATEST_SESSION_S
    return min(_GREATEST_SESSION_S, max(_LEAST_SESSION_S, 3 * max(periods) / 1000))
