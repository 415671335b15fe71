"""Modbus over TCP, TLS, RTU over TCP and serial lines: addresses, limits and the connection."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any, ClassVar

from edge_opcua.config.schema import DeviceConfig
from edge_opcua.core.clock import Clock
from edge_opcua.drivers.lines import Lines
from edge_opcua.drivers.modbus.address import ModbusAddress, parse
from edge_opcua.drivers.modbus.areas import ModbusArea, area_of
from edge_opcua.drivers.modbus.endpoint import Endpoint, LineSettings, parse_url
from edge_opcua.drivers.modbus.settings import ModbusOptions, ModbusShape
from edge_opcua.drivers.options import DriverOptions, checked
from edge_opcua.drivers.wire import Wire
from edge_opcua.errors import AddressError, ConfigError


class ModbusDriver:
    """Driver of Modbus devices; URL ``modbus://host[:502][/unit]``, or ``+tls``, ``+rtutcp``, ``+rtu``."""

    Config: ClassVar[type[DriverOptions]] = ModbusOptions

    @classmethod
    def parse_address(cls, text: str) -> ModbusAddress:
        """Read one address, e.g. ``1/hr:100:REAL``; AddressError with a hint if it cannot be read."""
        return parse(text)

    @classmethod
    def parse_area(cls, text: str, url: str, options: Mapping[str, Any]) -> ModbusArea:
        """Read where an area of words begins, e.g. ``hr:200``; AddressError if that is nowhere."""
        return area_of(text, url, options)

    @classmethod
    def check_url(cls, url: str) -> None:
        """Refuse a URL by which no device of this driver can be reached; ConfigError."""
        parse_url(url)

    @classmethod
    def options(cls, cfg: DeviceConfig) -> ModbusOptions:
        """Return the checked options of a device; ConfigError if they or the URL are unusable."""
        options = checked(ModbusOptions, cfg)
        wrong = options.wrong_with(parse_url(cfg.url))
        if wrong:
            raise ConfigError(f"{cfg.name}: options: {wrong}")
        return options

    @classmethod
    def place(cls, text: str, cfg: DeviceConfig) -> ModbusAddress:
        """Return an address with the unit of the URL and the byte order of the device filled in."""
        options, endpoint = cls.options(cfg), parse_url(cfg.url)
        found = parse(text).at_device(unit=endpoint.unit, order=options.order, order64=options.order64)
        wrong = endpoint.check_unit(found.unit or 0)
        if wrong:
            raise AddressError(f"{text}: {wrong}", code="T216")
        return found

    @classmethod
    def shape(cls, cfg: DeviceConfig) -> ModbusShape:
        """Return the limits of a request."""
        options = cls.options(cfg)
        return ModbusShape(
            options.max_registers, options.max_bits, options.max_gap, parse_url(cfg.url).byte_rate
        )

    @classmethod
    def line(cls, cfg: DeviceConfig) -> tuple[Hashable, LineSettings]:
        """Return what makes it the same line for another device, and how this one needs it to be."""
        options, endpoint = cls.options(cfg), parse_url(cfg.url)
        wanted = options.line(endpoint)
        own = options.connections == "own" and endpoint.way != "rtu"
        return ((wanted.key, cfg.name) if own else wanted.key), wanted

    @classmethod
    def wire(cls, cfg: DeviceConfig, clock: Clock, lines: Lines) -> Wire:
        """Return a connection, not yet open; ConfigError if another device needs the line to be different."""
        from edge_opcua.drivers.modbus.line import Line  # so that `check` need not load the libraries
        from edge_opcua.drivers.modbus.wire import ModbusWire, OnLine

        options, endpoint = cls.options(cfg), parse_url(cfg.url)
        key, wanted = cls.line(cfg)
        line = lines.get(key, lambda: Line(wanted))
        if line.settings != wanted:
            raise ConfigError(f"{cfg.name}: another device sets the line {wanted.name} up differently")
        place = OnLine(line, _units(cfg, endpoint))
        return ModbusWire(endpoint, cls.shape(cfg), options, cfg.timeout_ms / 1000, clock, place)


def _units(cfg: DeviceConfig, endpoint: Endpoint) -> frozenset[int]:
    """Return the units that the addresses of a device name; that they can be read was checked before."""
    addresses = [str(address) for address in cfg.tags.column("address")]
    for capture in cfg.captures:
        given = capture.sequence, capture.ready, capture.ready_ns, capture.stroke, capture.samples
        addresses += [address for address in given if address]
    named = {address.partition("/")[0].strip() for address in addresses if "/" in address}
    units = {int(unit) for unit in named}
    if not addresses or any("/" not in address for address in addresses):
        units.add(endpoint.unit)
    return frozenset(units)
