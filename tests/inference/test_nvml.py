"""The driver's library of NVIDIA cards, asked by its C names; a class with the same functions answers."""

from __future__ import annotations

import ctypes
import math
from typing import Any

from edge_opcua.inference.nvml import Nvml

NOT_SUPPORTED = 3  # NVML_ERROR_NOT_SUPPORTED


class Driver:
    """Takes what the C functions take: handles, numbers, and places to write the answer to."""

    def __init__(
        self, *, celsius: int = 70, reasons: int = 0, clock_mhz: int = 1500, slowdown: int = 92
    ) -> None:
        self.celsius, self.reasons, self.clock_mhz, self.slowdown = celsius, reasons, clock_mhz, slowdown

    def nvmlDeviceGetCount_v2(self, count: Any) -> int:  # noqa: N802 - NVML's name
        count._obj.value = 1
        return 0

    def nvmlDeviceGetHandleByIndex_v2(self, index: ctypes.c_uint, handle: Any) -> int:  # noqa: N802
        handle._obj.value = 4711 + index.value
        return 0

    def nvmlDeviceGetName(self, handle: ctypes.c_void_p, name: Any, size: ctypes.c_uint) -> int:  # noqa: N802
        assert handle.value == 4711
        assert ctypes.sizeof(name) == size.value
        name.value = b"NVIDIA T4"
        return 0

    def nvmlDeviceGetTemperature(self, handle: Any, sensor: ctypes.c_uint, value: Any) -> int:  # noqa: N802
        value._obj.value = self.celsius
        return 0 if self.celsius else NOT_SUPPORTED

    def nvmlDeviceGetTemperatureThreshold(self, handle: Any, which: ctypes.c_uint, value: Any) -> int:  # noqa: N802
        assert which.value == 1  # slow-down, not shut-down
        value._obj.value = self.slowdown
        return 0 if self.slowdown else NOT_SUPPORTED

    def nvmlDeviceGetCurrentClocksThrottleReasons(self, handle: Any, bits: Any) -> int:  # noqa: N802
        bits._obj.value = self.reasons
        return 0

    def nvmlDeviceGetMaxClockInfo(self, handle: Any, clock: ctypes.c_uint, value: Any) -> int:  # noqa: N802
        value._obj.value = 2000
        return 0

    def nvmlDeviceGetClockInfo(self, handle: Any, clock: ctypes.c_uint, value: Any) -> int:  # noqa: N802
        value._obj.value = self.clock_mhz
        return 0

    def nvmlDeviceGetUtilizationRates(self, handle: Any, rates: Any) -> int:  # noqa: N802
        rates._obj.gpu, rates._obj.memory = 40, 7
        return 0 if self.celsius else NOT_SUPPORTED

    def nvmlDeviceGetMemoryInfo(self, handle: Any, memory: Any) -> int:  # noqa: N802
        memory._obj.total, memory._obj.free, memory._obj.used = 16 << 30, 12 << 30, 4 << 30
        return 0 if self.celsius else NOT_SUPPORTED


def test_a_card_tells_how_much_of_it_is_in_use_and_nothing_where_it_does_not_know() -> None:
    (use,) = Nvml(Driver()).uses()
    assert (use.name, use.utilisation, use.celsius) == ("NVIDIA T4", 0.4, 70.0)
    assert (use.memory_used_bytes, use.memory_bytes) == (4 << 30, 16 << 30)
    (unknown,) = Nvml(Driver(celsius=0)).uses()
    assert (unknown.utilisation, unknown.memory_used_bytes, unknown.celsius) == (None, None, None)


def test_a_card_tells_its_temperature_and_where_it_slows_down() -> None:
    (place,) = Nvml(Driver()).places()
    assert (place.name, place.celsius, place.trip) == ("NVIDIA T4", 70.0, 92.0)
    assert (place.throttled, place.factor) == ("", 1.0)


def test_heat_lowers_the_clock_but_idling_and_a_set_limit_do_not_count() -> None:
    (hot,) = Nvml(Driver(reasons=0x40, clock_mhz=800)).places()
    assert (hot.throttled, hot.factor) == ("slowed down by its hardware for heat", 2.5)
    for harmless in (0x1, 0x2, 0x4, 0x100):  # idle, application clocks, power cap, display
        (place,) = Nvml(Driver(reasons=harmless, clock_mhz=300)).places()
        assert (place.throttled, place.factor) == ("", 1.0)


def test_what_a_card_does_not_know_is_left_out() -> None:
    (place,) = Nvml(Driver(slowdown=0)).places()
    assert math.isnan(place.trip)
    assert Nvml(Driver(celsius=0)).places() == []
