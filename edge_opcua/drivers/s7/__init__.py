"""S7 communication (PUT/GET) with S7-300, 400, 1200 and 1500: addresses, limits and the connection."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from edge_opcua.config.schema import DeviceConfig
from edge_opcua.core.clock import Clock
from edge_opcua.drivers.lines import Lines
from edge_opcua.drivers.options import DriverOptions, checked
from edge_opcua.drivers.s7.address import S7Address, parse
from edge_opcua.drivers.s7.areas import S7Area, area_of
from edge_opcua.drivers.s7.settings import S7Options, S7Shape, parse_url
from edge_opcua.drivers.wire import Wire


class S7Driver:
    """Driver of Siemens PLCs; URL ``s7://host[:102][?rack=0&slot=1]``."""

    Config: ClassVar[type[DriverOptions]] = S7Options

    @classmethod
    def parse_address(cls, text: str) -> S7Address:
        """Read one address, e.g. ``DB10.DBD16:REAL``; AddressError with a hint if it cannot be read."""
        return parse(text)

    @classmethod
    def parse_area(cls, text: str, url: str, options: Mapping[str, Any]) -> S7Area:  # noqa: ARG003 - S7 areas are absolute
        """Read where an area of words begins, e.g. ``DB21.DBB40``; AddressError if that is nowhere."""
        return area_of(text, options)

    @classmethod
    def check_url(cls, url: str) -> None:
        """Refuse a URL by which no device of this driver can be reached; ConfigError."""
        parse_url(url)

    @classmethod
    def options(cls, cfg: DeviceConfig) -> S7Options:
        """Return the checked options of a device; ConfigError if they or the URL are unusable."""
        parse_url(cfg.url)
        return checked(S7Options, cfg)

    @classmethod
    def place(cls, text: str, cfg: DeviceConfig) -> S7Address:  # noqa: ARG003 - S7 has no defaults
        """Return the place of an address."""
        return parse(text)

    @classmethod
    def shape(cls, cfg: DeviceConfig) -> S7Shape:
        """Return the limits if the PLC grants the PDU size that is asked for."""
        options = cls.options(cfg)
        return S7Shape(options.pdu, options.max_gap)

    @classmethod
    def wire(cls, cfg: DeviceConfig, clock: Clock, lines: Lines) -> Wire:  # noqa: ARG003
        """Return a connection, not yet open."""
        from edge_opcua.drivers.s7.wire import S7Wire  # so that `check` need not load the library

        return S7Wire(cfg.name, parse_url(cfg.url), cls.options(cfg), cfg.timeout_ms / 1000, clock)
