"""What the driver's own library tells of NVIDIA cards: heat, clocks, load, memory; no package is needed."""

from __future__ import annotations

import ctypes
import math
from dataclasses import dataclass
from typing import Any, Final

from edge_opcua.inference.thermal import Place

_LIBRARY: Final = "libnvidia-ml.so.1"
_OK: Final = 0
_SENSOR_GPU: Final = 0  # NVML_TEMPERATURE_GPU
_THRESHOLD_SLOWDOWN: Final = 1  # NVML_TEMPERATURE_THRESHOLD_SLOWDOWN
_CLOCK_SM: Final = 1  # NVML_CLOCK_SM
_NAME_BYTES: Final = 96  # NVML_DEVICE_NAME_V2_BUFFER_SIZE

# Reasons for lower clocks that heat or the supply has, of nvmlDeviceGetCurrentClocksEventReasons.
_SLOWED: Final = {
    0x08: "slowed down by its hardware",
    0x20: "slowed down by its driver for heat",
    0x40: "slowed down by its hardware for heat",
    0x80: "slowed down by its supply",
}


class _Utilization(ctypes.Structure):
    """nvmlUtilization_t: percent of the last sample period."""

    _fields_ = (("gpu", ctypes.c_uint), ("memory", ctypes.c_uint))


class _Memory(ctypes.Structure):
    """nvmlMemory_t: bytes."""

    _fields_ = (("total", ctypes.c_ulonglong), ("free", ctypes.c_ulonglong), ("used", ctypes.c_ulonglong))


@dataclass(frozen=True, slots=True)
class CardUse:
    """How much of a card is in use; None where it does not tell.

    Args:
        name: Its name.
        utilisation: Share of the last sample period in which it computed, 0..1.
        memory_used_bytes: Memory in use.
        memory_bytes: All of its memory.
        celsius: How hot it is.
    """

    name: str
    utilisation: float | None
    memory_used_bytes: int | None
    memory_bytes: int | None
    celsius: float | None


class Nvml:
    """The cards of this machine; see :meth:`open`.

    Args:
        library: NVML, initialised.
    """

    def __init__(self, library: Any) -> None:
        self._library = library
        self._cards = [(handle, _name(library, handle)) for handle in _handles(library)]

    @classmethod
    def open(cls) -> Nvml | None:
        """Return the cards the driver knows; None where there is no driver or it does not answer."""
        try:
            library = ctypes.CDLL(_LIBRARY)
        except OSError:
            return None
        return None if library.nvmlInit_v2() != _OK else cls(library)

    def places(self) -> list[Place]:
        """Return what the cards say now; one that does not answer is left out."""
        found = []
        for handle, name in self._cards:
            celsius = self._asked("nvmlDeviceGetTemperature", handle, _SENSOR_GPU)
            if celsius is None:
                continue
            trip = self._asked("nvmlDeviceGetTemperatureThreshold", handle, _THRESHOLD_SLOWDOWN)
            reason = self._slowed(handle)
            found.append(
                Place(
                    name,
                    float(celsius),
                    math.nan if trip is None else float(trip),
                    reason,
                    self._factor(handle) if reason else 1.0,
                )
            )
        return found

    def uses(self) -> list[CardUse]:
        """Return how much of each card is in use now."""
        found = []
        for handle, name in self._cards:
            busy, memory = _Utilization(), _Memory()
            is_known = self._library.nvmlDeviceGetUtilizationRates(handle, ctypes.byref(busy)) == _OK
            has_memory = self._library.nvmlDeviceGetMemoryInfo(handle, ctypes.byref(memory)) == _OK
            celsius = self._asked("nvmlDeviceGetTemperature", handle, _SENSOR_GPU)
            found.append(
                CardUse(
                    name,
                    busy.gpu / 100 if is_known else None,
                    int(memory.used) if has_memory else None,
                    int(memory.total) if has_memory else None,
                    None if celsius is None else float(celsius),
                )
            )
        return found

    def _slowed(self, handle: Any) -> str:
        bits = ctypes.c_ulonglong()
        # Its name before driver 535; newer drivers know both.
        if self._library.nvmlDeviceGetCurrentClocksThrottleReasons(handle, ctypes.byref(bits)) != _OK:
            return ""
        return next((text for bit, text in _SLOWED.items() if bits.value & bit), "")

    def _factor(self, handle: Any) -> float:
        most = self._asked("nvmlDeviceGetMaxClockInfo", handle, _CLOCK_SM)
        now = self._asked("nvmlDeviceGetClockInfo", handle, _CLOCK_SM)
        return max(1.0, most / now) if most and now else 1.0

    def _asked(self, function: str, handle: Any, which: int) -> int | None:
        value = ctypes.c_uint()
        if getattr(self._library, function)(handle, ctypes.c_uint(which), ctypes.byref(value)) != _OK:
            return None
        return value.value


def _handles(library: Any) -> list[ctypes.c_void_p]:
    count = ctypes.c_uint()
    if library.nvmlDeviceGetCount_v2(ctypes.byref(count)) != _OK:
        return []
    handles = []
    for index in range(count.value):
        handle = ctypes.c_void_p()
        if library.nvmlDeviceGetHandleByIndex_v2(ctypes.c_uint(index), ctypes.byref(handle)) == _OK:
            handles.append(handle)
    return handles


def _name(library: Any, handle: Any) -> str:
    text = ctypes.create_string_buffer(_NAME_BYTES)
    if library.nvmlDeviceGetName(handle, text, ctypes.c_uint(_NAME_BYTES)) != _OK:
        return "NVIDIA card"
    return text.value.decode(errors="replace")
