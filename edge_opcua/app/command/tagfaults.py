"""What is wrong with a tag that was read, at its row of the table, with the byte order that would fit."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from edge_opcua.app.command.look import remedy, told
from edge_opcua.config.problem import Place, Problem, Severity
from edge_opcua.config.schema import DeviceConfig
from edge_opcua.core.values import (
    BAD_SENSOR_FAILURE,
    UNCERTAIN_EU_EXCEEDED,
    Value,
    is_bad,
    is_good,
    status_name,
)
from edge_opcua.drivers.codec import NumberCodec, unscaled
from edge_opcua.drivers.decode import Row
from edge_opcua.drivers.wire import Driver
from edge_opcua.errors import AddressError, ConfigError, WriteRejectedError

# By bytes of the value, the usual ones first.
_ORDERS: Final = {
    2: ("ABCD", "BADC"),
    4: ("ABCD", "CDAB", "BADC", "DCBA"),
    8: ("ABCDEFGH", "GHEFCDAB", "EFGHABCD", "CDABGHEF", "HGFEDCBA", "BADCFEHG", "DCBAHGFE", "FEHGBADC"),
}
_ORDER_SETTING: Final = re.compile(r"\s*;\s*order\s*=[^;]*")
_WHERE: Final = re.compile(r"(?:unit \d+ |read of )?(\S+?):? ")
_INFO_BITS: Final = 0xFFFF0000


@dataclass(frozen=True, slots=True)
class TagReading:
    """What was read of one tag.

    Args:
        row: Its number in the tag table of the device, from 0.
        status: StatusCode; None if there is no value yet.
        value: Engineering value; None if Bad.
        said: What the driver said about it, beginning with a code; "" for nothing.
        place: How the decoder reads it; None if it was read by somebody else.
        wire: Bytes of the value; empty if they are not known.
    """

    row: int
    status: int | None
    value: Value = None
    said: str = ""
    place: Row | None = None
    wire: bytes = b""


def problems_of(device: DeviceConfig, tags: Sequence[TagReading], driver: type[Driver]) -> list[Problem]:
    """Return what is wrong, in the order of the table."""
    found: list[Problem] = []
    for tag in tags:
        if tag.status is not None and is_good(tag.status):
            continue
        code, severity, message, help_text = _judge(device, tag, driver)
        file, line = device.tags.cell(tag.row, "file"), device.tags.cell(tag.row, "line")
        found.append(Problem(code, message, severity, file, Place(line), help=help_text))
    return found


def told_once(problems: Sequence[Problem]) -> list[Problem]:
    """Return the same with each remedy only where it stands first, as a person reads them."""
    seen: set[str] = set()
    found = []
    for problem in problems:
        repeats = problem.is_error and problem.help in seen
        found.append(replace(problem, help="") if repeats else problem)
        seen.add(problem.help)
    return found


def _judge(device: DeviceConfig, tag: TagReading, driver: type[Driver]) -> tuple[str, Severity, str, str]:
    """Return code, severity, sentence and help of a tag that is not Good."""
    name, address = device.tags.cell(tag.row, "name"), device.tags.cell(tag.row, "address")
    what = f"{name} {address}"
    if tag.status is None:
        return "D384", Severity.ERROR, f"{what}: {tag.said or 'has no value yet'}", remedy("D384")
    if tag.status & _INFO_BITS == UNCERTAIN_EU_EXCEEDED:
        unit = device.tags.cell(tag.row, "unit")
        shown = f"{number_text(tag.value)} {unit}".rstrip()
        low, high = device.tags.cell(tag.row, "low"), device.tags.cell(tag.row, "high")
        text = f"{what} = {shown}, range is {_bound(low)}..{_bound(high)}"
        return "D352", Severity.WARNING, text, _fitting(device, tag, driver) or remedy("D352")
    if tag.status == BAD_SENSOR_FAILURE and not tag.said:
        better = _fitting(device, tag, driver)
        is_time = tag.place is not None and _is_time(tag.place)
        text = f"{what}: the bytes are no {'date or time' if is_time else 'number (NaN)'}"
        return "D319", Severity.ERROR, text, better or remedy("D319")
    severity = Severity.ERROR if is_bad(tag.status) else Severity.WARNING
    if not tag.said and tag.place is None and severity is Severity.WARNING:
        return "D384", severity, f"{what}: its value is old ({status_name(tag.status)})", remedy("D384")
    if not tag.said:
        return "D340", severity, f"{what}: {status_name(tag.status)}", remedy("D340")
    code, sentence, step = told(tag.said, "D340")
    shown = _without_address(sentence, address)
    if tag.place is None and shown == sentence:  # the server knows what was refused last, not of which row
        shown = f"refused; the last refusal of the device: {sentence}"
    return code, severity, f"{what}: {shown}", step


def _without_address(sentence: str, address: str) -> str:
    """Leave out where the fault lies if the address says so already."""
    where = _WHERE.match(sentence)
    return sentence[where.end() :] if where and where[1] in address else sentence


def _is_time(row: Row) -> bool:
    codec = row.place.codec
    return isinstance(codec, NumberCodec) and codec.type.form is not None


def _fitting(device: DeviceConfig, tag: TagReading, driver: type[Driver]) -> str:
    """Return the byte order by which the same bytes lie within the range, as a help; "" if none does."""
    values = list(_other_orders(device, tag, driver))
    if not values:
        return ""
    # Right values are written with few digits; wrong ones are not.
    order, value = min(values, key=lambda pair: len(number_text(pair[1])))
    return f"with ;order={order} it is {number_text(value)}"


def _other_orders(
    device: DeviceConfig, tag: TagReading, driver: type[Driver]
) -> Iterator[tuple[str, float | int]]:
    row = tag.place
    address = device.tags.cell(tag.row, "address")
    try:
        wire = tag.wire or _wire_of(device, tag, driver)
    except (WriteRejectedError, ConfigError):
        return
    scale, offset = device.tags.cell(tag.row, "scale"), device.tags.cell(tag.row, "offset")
    low, high = device.tags.cell(tag.row, "low"), device.tags.cell(tag.row, "high")
    for order in _ORDERS.get(len(wire), ()):
        try:
            place = driver.place(f"{_ORDER_SETTING.sub('', address)};order={order}", device)
        except AddressError:
            return  # this protocol has one order
        codec = place.codec
        if not isinstance(codec, NumberCodec) or codec.count or len(wire) != codec.size_bytes:
            return
        if codec.type.form is not None:
            return  # a date or time has no size by which it could be told
        if row is not None and codec == row.place.codec:
            continue
        raw = codec.decode(wire)
        value = raw if scale == 1.0 and offset == 0.0 else raw * scale + offset
        if _lies_within(value, low, high):
            yield order, value


def _lies_within(value: float, low: float | None, high: float | None) -> bool:
    """Return whether a value is in a range and large enough to be meant: wrong orders make 1e-40 of much."""
    if not math.isfinite(value):
        return False
    if (low is not None and value < low) or (high is not None and value > high):
        return False
    widest = max((abs(bound) for bound in (low, high) if bound is not None), default=1.0)
    return value == 0 or abs(value) >= 1e-6 * widest


def _wire_of(device: DeviceConfig, tag: TagReading, driver: type[Driver]) -> bytes:
    """Return the bytes that a value was made of, where only the value is known."""
    place = driver.place(device.tags.cell(tag.row, "address"), device)
    scale, offset = device.tags.cell(tag.row, "scale"), device.tags.cell(tag.row, "offset")
    value: Any = tag.value
    if scale != 1.0 or offset != 0.0:
        value = unscaled(value, scalar=place.scalar, scale=scale, offset=offset)
    return place.codec.encode(value)


def number_text(value: Any) -> str:
    """Return a value with the digits that a REAL has."""
    return f"{value:.7g}" if isinstance(value, float) else str(value)


def _bound(value: float | None) -> str:
    return "" if value is None else f"{value:g}"
