"""Values that came in another unit than the model learned, recognised by their size; pure.

A transmitter that was exchanged or a PLC that was programmed anew sends psi where it sent bar. The value is
steady and looks healthy; only its size is wrong, and by a factor that is known.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

_SCALES: Final[Mapping[str, Mapping[str, tuple[float, float]]]] = {
    "pressure": {
        "Pa": (1.0, 0.0),
        "hPa": (1e2, 0.0),
        "mbar": (1e2, 0.0),
        "kPa": (1e3, 0.0),
        "psi": (6_894.757, 0.0),
        "bar": (1e5, 0.0),
        "MPa": (1e6, 0.0),
    },
    "temperature": {"K": (1.0, 0.0), "°C": (1.0, 273.15), "°F": (5 / 9, 255.372)},
    "length": {"µm": (1e-6, 0.0), "mm": (1e-3, 0.0), "cm": (1e-2, 0.0), "in": (0.0254, 0.0), "m": (1.0, 0.0)},
    "force": {"N": (1.0, 0.0), "lbf": (4.448222, 0.0), "kN": (1e3, 0.0), "t": (9_806.65, 0.0)},
    "acceleration": {"mm/s²": (1e-3, 0.0), "m/s²": (1.0, 0.0), "g": (9.80665, 0.0)},
    "velocity": {"mm/s": (1e-3, 0.0), "in/s": (0.0254, 0.0), "m/s": (1.0, 0.0)},
    "rate": {"1/h": (1 / 3_600, 0.0), "1/min": (1 / 60, 0.0), "1/s": (1.0, 0.0), "Hz": (1.0, 0.0)},
    "power": {"W": (1.0, 0.0), "kW": (1e3, 0.0), "hp": (745.6999, 0.0), "MW": (1e6, 0.0)},
    "current": {"µA": (1e-6, 0.0), "mA": (1e-3, 0.0), "A": (1.0, 0.0)},
    "voltage": {"mV": (1e-3, 0.0), "V": (1.0, 0.0), "kV": (1e3, 0.0)},
    "mass": {"g": (1e-3, 0.0), "lb": (0.4535924, 0.0), "kg": (1.0, 0.0), "t": (1e3, 0.0)},
    "torque": {"N·m": (1.0, 0.0), "lbf·ft": (1.355818, 0.0), "kN·m": (1e3, 0.0)},
    "flow": {"l/h": (1 / 3_600, 0.0), "l/min": (1 / 60, 0.0), "m³/h": (1 / 3.6, 0.0), "l/s": (1.0, 0.0)},
    "time": {"µs": (1e-6, 0.0), "ms": (1e-3, 0.0), "s": (1.0, 0.0), "min": (60.0, 0.0), "h": (3_600.0, 0.0)},
    "share": {"ppm": (1e-6, 0.0), "%": (1e-2, 0.0), "1": (1.0, 0.0)},
}
"""Units of one quantity: what one of them is in the first of SI, and where their zero lies."""

_ALIASES: Final[Mapping[str, str]] = {
    "C": "°C",
    "degC": "°C",
    "F": "°F",
    "degF": "°F",
    "m/s2": "m/s²",
    "um": "µm",
    "uA": "µA",
    "us": "µs",
    "Nm": "N·m",
    "min-1": "1/min",
    "rpm": "1/min",
    "l/m": "l/min",
}
_DECIMALS: Final = (10.0, 100.0, 1000.0)


def looks_like(middle: float, spread: float, unit: str, usual: tuple[float, float, float]) -> str:
    """Return the unit that values are in if they are not in their own; empty if none explains them.

    A unit explains them if they, taken as values of it, lie where they usually do and move no more.

    Args:
        middle: Median of the values.
        spread: How far apart their quartiles lie.
        unit: Unit they should be in.
        usual: Their usual smallest, middle and largest value.

    Returns:
        E.g. ``in psi``, ``10 times too large`` for a decimal point that has moved, or an empty text.
    """
    low, centre, high = usual
    room = (high - low) / 4
    best, named = float("inf"), ""
    for name, scale, offset in _others(unit):
        there = middle * scale + offset
        far = abs(there - centre)
        if low - room <= there <= high + room and spread * abs(scale) <= 2 * (high - low) and far < best:
            best, named = far, name
    return named


def _others(unit: str) -> Iterator[tuple[str, float, float]]:
    """Yield other units in words, and factor and offset from a value in them to one in ``unit``."""
    own = _ALIASES.get(unit, unit)
    known = False
    for scales in _SCALES.values():
        if own in scales:
            known = True
            wanted, zero = scales[own]
            for name, (scale, other_zero) in scales.items():
                if name != own:
                    yield f"in {name}", scale / wanted, (other_zero - zero) / wanted
    if not known:
        for factor in _DECIMALS:
            yield f"{factor:g} times too large", 1 / factor, 0.0
            yield f"{factor:g} times too small", factor, 0.0
