"""How hot the machine is, and how much slower it has become for it, wherever the platform tells.

Heat is the one load that no scheduler admits: the same model takes twice as long without anybody having
asked for more. So costs are scaled by what the clock has lost, and best effort is given up before it is lost.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

BELOW_TRIP_K: Final = 10.0
HYSTERESIS_K: Final = 3.0
CALM_LOOKS: Final = 15
"""So often in a row nothing may have slowed down before best effort is served again.

A machine at its limit slows down for moments: without it everything would be shed and served in turns.
"""
MOST_FACTOR: Final = 10.0

_ROOT: Final = Path("/")
_PLAUSIBLE_C: Final = (-60.0, 250.0)  # what unused sensors say lies outside
# Trip points at which the machine slows down or ends; "active" ones only switch a fan.
_TRIPS: Final = frozenset({"passive", "hot", "critical"})
_COOLING: Final = re.compile(r"processor|cpufreq|cpu|gpu", re.IGNORECASE)
_NOT_COOLING: Final = re.compile(r"fan|lcd|backlight", re.IGNORECASE)
# Raspberry Pi: frequency capped, throttled, soft temperature limit; bits 16 and up only tell the past.
_PI_SLOWED: Final = 0b1110


@dataclass(frozen=True, slots=True)
class Heat:
    """How hot it is, and what that does.

    Args:
        celsius: Temperature of the place nearest to its limit; NaN if nothing here tells.
        warm: Whether best effort should be given up; for a while after it has slowed down too.
        throttled: Whether the machine has slowed itself down since the last look.
        factor: How much longer everything takes for it, from 1.
        where: The place, and what was seen there, for people; empty if nothing here tells.
    """

    celsius: float = math.nan
    warm: bool = False
    throttled: bool = False
    factor: float = 1.0
    where: str = ""


@dataclass(frozen=True, slots=True)
class Place:
    """One thing with a temperature.

    Args:
        name: For people.
        celsius: How hot it is.
        trip: From where on it slows down or ends; NaN if it does not tell.
        throttled: Whether it has slowed down; empty reason means no.
        factor: How much slower it is for it.
    """

    name: str
    celsius: float
    trip: float = math.nan
    throttled: str = ""
    factor: float = 1.0


class Accelerator(Protocol):
    """Whatever else has a temperature; :class:`edge_opcua.inference.nvml.Nvml` is one."""

    def places(self) -> list[Place]:
        """Return what it sees now."""
        ...


class Thermometer:
    """Reads what the platform tells.

    Looking for what there is happens once, here; :meth:`read` opens some ten small files. Firmware (ACPI) may
    take milliseconds to answer, so a process with deadlines below that reads in another thread.

    Args:
        warm_celsius: Temperature from which on it is warm; None: 10 K below what each place itself names.
        accelerators: What else to ask.
        root: Where ``sys`` is.
    """

    def __init__(
        self,
        *,
        warm_celsius: float | None = None,
        accelerators: Iterable[Accelerator] = (),
        root: Path = _ROOT,
    ) -> None:
        self._warm_celsius = warm_celsius
        self._accelerators = tuple(accelerators)
        self._zones = tuple(_zones(root))
        self._counters = tuple(_counters(root))
        self._counted = {path: _number(path) for path in self._counters}
        self._cooling = tuple(_cooling(root))
        self._pi = root / "sys/devices/platform/soc/soc:firmware/get_throttled"
        self._policies = tuple(sorted((root / "sys/devices/system/cpu/cpufreq").glob("policy*")))
        self._nominal_khz = {policy: _number(policy / "scaling_max_freq") for policy in self._policies}
        self._warm = False
        self._calm = CALM_LOOKS

    def read(self) -> Heat:
        """Return how hot it is now."""
        places = [place for accelerator in self._accelerators for place in accelerator.places()]
        places += [
            Place(name, celsius, trip)
            for folder, name, trip in self._zones
            if (celsius := _celsius(folder / "temp")) is not None
        ]
        slowed = [f"{place.name}: {place.throttled}" for place in places if place.throttled]
        processor = self._processor_slowed()
        factor = max((place.factor for place in places if place.throttled), default=1.0)
        if processor:
            slowed.append(processor)
            factor = max(factor, self._processor_factor())
        return self._heat(places, slowed, min(factor, MOST_FACTOR))

    def _heat(self, places: list[Place], slowed: list[str], factor: float) -> Heat:
        throttled = bool(slowed)
        self._calm = 0 if throttled else self._calm + 1
        slowed_lately = self._calm < CALM_LOOKS
        nearest = max(places, key=self._above, default=None)
        if nearest is None:
            self._warm = slowed_lately
            return Heat(warm=self._warm, throttled=throttled, factor=factor, where="; ".join(slowed))
        above = self._above(nearest)
        self._warm = slowed_lately or above >= (-HYSTERESIS_K if self._warm else 0.0)
        where = "; ".join([f"{nearest.name} {nearest.celsius:.0f} °C", *slowed])
        return Heat(nearest.celsius, self._warm, throttled, factor, where)

    def _above(self, place: Place) -> float:
        """Return by how many K a place is above the temperature from which on it is warm."""
        if self._warm_celsius is not None:
            return place.celsius - self._warm_celsius
        if math.isnan(place.trip):
            return -1000.0 + place.celsius  # it names no limit: it counts only where no other does
        return place.celsius - (place.trip - BELOW_TRIP_K)

    def _processor_slowed(self) -> str:
        """Say how the processor has slowed itself down since the last look; empty if it has not."""
        risen = [path for path in self._counters if self._has_risen(path)]
        if risen:
            return f"{risen[0].parent.parent.name} {risen[0].name} {self._counted[risen[0]]}"
        for folder, kind in self._cooling:
            if (state := _number(folder / "cur_state")) is not None and state > 0:
                return f"{kind} at step {state}"
        if (bits := _number(self._pi, 16)) is not None and bits & _PI_SLOWED:
            return f"the firmware has slowed it down (0x{bits:x})"
        return ""

    def _has_risen(self, path: Path) -> bool:
        before, now = self._counted[path], _number(path)
        self._counted[path] = now
        return before is not None and now is not None and now > before

    def _processor_factor(self) -> float:
        """Return nominal over present clock of the slowest group of cores."""
        factors = [1.0]
        for policy in self._policies:
            nominal = _number(policy / "cpuinfo_max_freq") or self._nominal_khz[policy]
            allowed = _number(policy / "scaling_max_freq")
            present = _number(policy / "scaling_cur_freq")
            if nominal and (clock := min(filter(None, (allowed, present)), default=None)):
                factors.append(nominal / clock)
        return max(factors)


def _zones(root: Path) -> Iterator[tuple[Path, str, float]]:
    for folder in sorted((root / "sys/class/thermal").glob("thermal_zone*")):
        if _celsius(folder / "temp") is not None:
            yield folder, _text(folder / "type") or folder.name, _first_trip(folder)


def _first_trip(folder: Path) -> float:
    trips = []
    for kind in folder.glob("trip_point_*_type"):
        celsius = _celsius(folder / kind.name.replace("_type", "_temp"))
        if _text(kind) in _TRIPS and celsius is not None and celsius > 0:  # 0 and below: not set
            trips.append(celsius)
    return min(trips, default=math.nan)


def _counters(root: Path) -> Iterator[Path]:
    """Yield the files that count slowing down: Intel's per core and package, Jetson's for over-current."""
    yield from sorted((root / "sys/devices/system/cpu").glob("cpu*/thermal_throttle/*_throttle_count"))
    yield from sorted((root / "sys/class/hwmon").glob("hwmon*/oc*_event_cnt"))


def _cooling(root: Path) -> Iterator[tuple[Path, str]]:
    for folder in sorted((root / "sys/class/thermal").glob("cooling_device*")):
        kind = _text(folder / "type")
        if _COOLING.search(kind) and not _NOT_COOLING.search(kind):
            yield folder, kind


def _celsius(path: Path) -> float | None:
    value = _number(path)
    if value is None:
        return None
    celsius = value / 1000
    return celsius if _PLAUSIBLE_C[0] < celsius < _PLAUSIBLE_C[1] else None


def _number(path: Path, base: int = 10) -> int | None:
    try:
        return int(path.read_text(), base)
    except (OSError, ValueError):  # a sensor that is asleep, or says nothing
        return None


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
