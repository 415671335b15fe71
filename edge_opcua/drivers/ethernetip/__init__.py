"""EtherNet/IP: tags of Logix controllers and CIP attributes: addresses, limits and the connection."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from edge_opcua.config.schema import DeviceConfig
from edge_opcua.core.clock import Clock
from edge_opcua.drivers.ethernetip.address import EipAddress, parse
from edge_opcua.drivers.ethernetip.areas import EipArea, area_of
from edge_opcua.drivers.ethernetip.settings import UNCONNECTED_BYTES, EipOptions, EipShape, parse_url
from edge_opcua.drivers.lines import Lines
from edge_opcua.drivers.options import DriverOptions, checked
from edge_opcua.drivers.wire import Wire

_LEAST_INTERVAL_S = 2.0
_GREATEST_INTERVAL_S = 120.0


class EtherNetIpDriver:
    """Driver of devices that speak EtherNet/IP; URL ``eip://host[:44818][/slot]``."""

    Config: ClassVar[type[DriverOptions]] = EipOptions

    @classmethod
    def parse_address(cls, text: str) -> EipAddress:
        """Read one address, e.g. ``Pump[3].Speed:REAL``; AddressError with a hint if it is none."""
        return parse(text)

    @classmethod
    def parse_area(cls, text: str, url: str, options: Mapping[str, Any]) -> EipArea:  # noqa: ARG003 - tags are absolute
        """Read where an area of words begins, e.g. ``EdgeAI_Control``; AddressError if that is nowhere."""
        return area_of(text, options)

    @classmethod
    def check_url(cls, url: str) -> None:
        """Refuse a URL by which no device of this driver can be reached; ConfigError."""
        parse_url(url)

    @classmethod
    def options(cls, cfg: DeviceConfig) -> EipOptions:
        """Return the checked options of a device; ConfigError if they or the URL are unusable."""
        parse_url(cfg.url)
        return checked(EipOptions, cfg)

    @classmethod
    def place(cls, text: str, cfg: DeviceConfig) -> EipAddress:  # noqa: ARG003 - there are no defaults
        """Return the place of an address."""
        return parse(text)

    @classmethod
    def shape(cls, cfg: DeviceConfig) -> EipShape:
        """Return the limits if the device grants the connection that is asked for."""
        options = cls.options(cfg)
        limit = options.connection_bytes or UNCONNECTED_BYTES
        return EipShape(limit, options.max_gap, batches=not parse_url(cfg.url).micro800)

    @classmethod
    def wire(cls, cfg: DeviceConfig, clock: Clock, lines: Lines) -> Wire:  # noqa: ARG003
        """Return a connection, not yet open."""
        from edge_opcua.drivers.ethernetip.wire import EipWire  # so that `check` need not load it

        periods = [group.period_ms for group in cfg.groups] + [capture.poll_ms for capture in cfg.captures]
        interval_s = min(_GREATEST_INTERVAL_S, max(_LEAST_INTERVAL_S, min(periods, default=0) / 1000))
        return EipWire(parse_url(cfg.url), cls.options(cfg), interval_s, cfg.timeout_ms / 1000, clock)
