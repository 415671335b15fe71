"""Which notation a product's addresses have for a device: its driver decides."""

from __future__ import annotations

from typing import Final

from edge_opcua.config.exchange import logix, registers, siemens
from edge_opcua.config.exchange.listing import Listing, Target, UntranslatableError
from edge_opcua.config.problem import quoted

MODBUS: Final = "modbus"
S7: Final = "s7"
LOGIX: Final = "ethernet-ip"


def other_driver(driver: str, product: str) -> UntranslatableError:
    """Return what to raise for a driver whose addresses a product cannot have."""
    return UntranslatableError(
        f"{product} has no addresses that the driver {quoted(driver)} reads",
        hint="name another device with --device",
    )


def type_of_ours(address: str, target: Target) -> tuple[str, int]:
    """Return IEC type and count of one of our addresses in its canonical spelling.

    Raises:
        UntranslatableError: It is not one (T250).
    """
    if target.driver == MODBUS:
        register = registers.from_ours(address, target)
        return register.type, register.count
    if target.driver == S7:
        place = siemens.from_ours(address)
        return place.type, place.count
    if target.driver == LOGIX:
        tag = logix.from_ours(address)
        return tag.type, tag.count
    raise other_driver(target.driver, "the list")


def from_kepware(text: str, kind: str, target: Target, listing: Listing, line: int) -> str:
    """Return our address for Kepware's.

    Args:
        text: Its address.
        kind: IEC type of its data type, with ``[]`` behind it for an array; empty for the default.
        target: Our device.
        listing: Where to note what is worth knowing.
        line: Its line.

    Raises:
        UntranslatableError: It cannot be had here.
    """
    plain, is_array = kind.removesuffix("[]"), kind.endswith("[]")
    if target.driver == MODBUS:
        return registers.from_kepware(text, plain, is_array, listing, line)
    if target.driver == S7:
        return siemens.from_foreign(text, plain, is_array=is_array)
    if target.driver == LOGIX:
        return logix.from_foreign(text, plain)
    raise other_driver(target.driver, "Kepware")


def to_kepware(address: str, target: Target) -> str:
    """Return Kepware's address for ours.

    Raises:
        UntranslatableError: It has none (T250).
    """
    if target.driver == MODBUS:
        return registers.to_kepware(registers.from_ours(address, target), target)
    if target.driver == S7:
        return siemens.to_item(siemens.from_ours(address))
    if target.driver == LOGIX:
        return logix.to_item(logix.from_ours(address))
    raise other_driver(target.driver, "Kepware")


def from_ignition(text: str, kind: str, target: Target, listing: Listing, line: int) -> str:
    """Return our address for what stands behind ``[device]`` in Ignition.

    Raises:
        UntranslatableError: It cannot be had here.
    """
    if target.driver == MODBUS:
        return registers.from_ignition(text, target, listing, line)
    if target.driver == S7:
        return siemens.from_foreign(text, "")
    if target.driver == LOGIX:
        return logix.from_foreign(text, kind)
    raise other_driver(target.driver, "Ignition")


def to_ignition(address: str, target: Target) -> str:
    """Return what stands behind ``[device]`` for one of our addresses.

    Raises:
        UntranslatableError: It has none (T250).
    """
    if target.driver == MODBUS:
        return registers.to_ignition(registers.from_ours(address, target), target)
    if target.driver == S7:
        return siemens.to_item(siemens.from_ours(address))
    if target.driver == LOGIX:
        return logix.to_item(logix.from_ours(address))
    raise other_driver(target.driver, "Ignition")


def from_neuron(text: str, kind: str, target: Target, listing: Listing, line: int) -> str:
    """Return our address for Neuron's.

    Raises:
        UntranslatableError: It cannot be had here.
    """
    if target.driver == MODBUS:
        return registers.from_neuron(text, kind, target, listing, line)
    if target.driver == S7:
        return siemens.from_foreign(text, kind, loose=True)
    if target.driver == LOGIX:
        return logix.from_foreign(text, kind)
    raise other_driver(target.driver, "Neuron")


def to_neuron(address: str, target: Target) -> str:
    """Return Neuron's address for ours.

    Raises:
        UntranslatableError: It has none (T250).
    """
    if target.driver == MODBUS:
        return registers.to_neuron(registers.from_ours(address, target), target)
    if target.driver == S7:
        return siemens.to_plain(siemens.from_ours(address))
    if target.driver == LOGIX:
        place = logix.from_ours(address)
        if place.count and (place.type, place.count) != ("STRING", logix.STRING_LENGTH):
            raise UntranslatableError("arrays have no address there", code="T250")
        return place.path
    raise other_driver(target.driver, "Neuron")
