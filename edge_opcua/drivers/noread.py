"""Ranges of a device that must never be read along: the option ``no_read``, in the driver's own grammar."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from edge_opcua.config.schema import DeviceConfig
from edge_opcua.drivers.planner import Place, Stretch
from edge_opcua.drivers.wire import Driver
from edge_opcua.errors import AddressError, ConfigError

_RANGE: Final = re.compile(r"(?P<head>.*?)(?P<first>\d+)(?:\s*-\s*(?P<last>\d+))?")
# A range has no type; the first of these that the address takes stands for one unit of it.
_TYPES: Final = (":BOOL", ":BYTE", ":INT", ":DINT", "")


def closed_stretches(ranges: Sequence[str], cfg: DeviceConfig, driver: type[Driver]) -> tuple[Stretch, ...]:
    """Return what must not be read along.

    Args:
        ranges: E.g. ``hr:100-119``, ``3/ir:7`` or ``DB10.DBB20-40``; both ends belong to it.
        cfg: The device.
        driver: Reads the addresses.

    Raises:
        ConfigError: A range does not follow the driver's grammar (C127).
    """
    return tuple(_stretch(text.strip(), cfg, driver) for text in ranges)


def _stretch(text: str, cfg: DeviceConfig, driver: type[Driver]) -> Stretch:
    match = _RANGE.fullmatch(text)
    if match is not None:
        first = _place(f"{match['head']}{match['first']}", cfg, driver)
        last = _place(f"{match['head']}{match['last'] or match['first']}", cfg, driver)
        if first is not None and last is not None and first.start <= last.start:
            return Stretch(first.space, first.start, last.start + last.size)
    raise ConfigError(
        f'{cfg.name}: "{text}" in options.no_read is not a range; write e.g. hr:100-119 or DB10.DBB20-40',
        code="C127",
    )


def _place(text: str, cfg: DeviceConfig, driver: type[Driver]) -> Place | None:
    for kind in _TYPES:
        try:
            return driver.place(text + kind, cfg)
        except AddressError:
            continue
    return None


def check_not_closed(
    cfg: DeviceConfig, names: Sequence[str], places: Sequence[Place], closed: Sequence[Stretch]
) -> None:
    """Refuse a tag that lies in a range which must not be read.

    Raises:
        ConfigError: There is one (T236).
    """
    for stretch in closed:
        for name, place in zip(names, places, strict=True):
            inside = place.start < stretch.end and stretch.start < place.start + place.size
            if inside and place.space == stretch.space:
                raise ConfigError(
                    f"{cfg.name}/{name}: {place.canonical} lies in a range of options.no_read", code="T236"
                )
