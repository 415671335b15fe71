"""Modbus TCP: addresses, limits and the connection."""

from __future__ import annotations

from typing import ClassVar

from edge_opcua.config.schema import DeviceConfig
from edge_opcua.core.clock import Clock
from edge_opcua.drivers.lines import Lines
from edge_opcua.drivers.modbus.address import ModbusAddress, parse
from edge_opcua.drivers.modbus.settings import ModbusOptions, ModbusShape, parse_url
from edge_opcua.drivers.options import DriverOptions, checked
from edge_opcua.drivers.wire import Wire


class ModbusDriver:
    """Driver of Modbus TCP devices; URL ``modbus://host[:502][/unit]``."""

    Config: ClassVar[type[DriverOptions]] = ModbusOptions

    @classmethod
    def parse_address(cls, text: str) -> ModbusAddress:
        """Read one address, e.g. ``1/hr:100:REAL``; AddressError with a hint if it cannot be read."""
        return parse(text)

    @classmethod
    def check_url(cls, url: str) -> None:
        """Refuse a URL by which no device of this driver can be reached; ConfigError."""
        parse_url(url)

    @classmethod
    def options(cls, cfg: DeviceConfig) -> ModbusOptions:
        """Return the checked options of a device; ConfigError if they or the URL are unusable."""
        parse_url(cfg.url)
        return checked(ModbusOptions, cfg)

    @classmethod
    def place(cls, text: str, cfg: DeviceConfig) -> ModbusAddress:
        """Return an address with the unit of the URL and the byte order of the device filled in."""
        return parse(text).at_device(unit=parse_url(cfg.url).unit, order=cls.options(cfg).order)

    @classmethod
    def shape(cls, cfg: DeviceConfig) -> ModbusShape:
        """Return the limits of a request."""
        options = cls.options(cfg)
        return ModbusShape(options.max_registers, options.max_bits, options.max_gap)

    @classmethod
    def wire(cls, cfg: DeviceConfig, clock: Clock, lines: Lines) -> Wire:  # noqa: ARG003
        """Return a connection, not yet open."""
        from edge_opcua.drivers.modbus.wire import ModbusWire  # so that `check` need not load the library

        options = cls.options(cfg)
        return ModbusWire(parse_url(cfg.url), cls.shape(cfg), options, cfg.timeout_ms / 1000, clock)
