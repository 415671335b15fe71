"""How a value may move: within its limits, not too fast, not too often, never from where it is not; pure."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from edge_opcua.config.outputs import OutputValueConfig, Strategy

RAMP_NS: Final = 100_000_000
"""Time between two steps of a ramp that has no longer one of its own."""

_ROUNDED: Final = 1 + 1e-9
"""The steps of a ramp do not add up exactly; what is left would be one more write of the same value."""


@dataclass(frozen=True, slots=True)
class Shape:
    """The rules of one value.

    Args:
        low: Smallest value.
        high: Largest value.
        rate_per_s: Fastest change; infinite for any.
        deadband: Smaller changes are not written.
        min_interval_ns: Shortest time between two writes.
        strategy: What is written when the output falls safe.
        preset: Fail-safe value of strategy ``preset``.
    """

    low: float = -math.inf
    high: float = math.inf
    rate_per_s: float = math.inf
    deadband: float = 0.0
    min_interval_ns: int = 0
    strategy: Strategy = "preset"
    preset: float | None = None


@dataclass(frozen=True, slots=True)
class Held:
    """What the device holds, as far as we know.

    Args:
        value: The value; None if nobody knows.
        at_ns: Monotonic time since which it holds it.
    """

    value: float | None = None
    at_ns: int = 0


@dataclass(frozen=True, slots=True)
class Move:
    """What to write.

    Args:
        value: The value.
        clamped: Whether it is not the one that was asked for, but the nearest one allowed.
        on_the_way: Whether it is a step of a ramp.
    """

    value: float
    clamped: bool = False
    on_the_way: bool = False


def shape_of(value: OutputValueConfig, low: float | None, high: float | None) -> Shape:
    """Return the rules of a value.

    Args:
        value: Its configuration.
        low: Lower end of the tag's own range.
        high: Upper end of the tag's own range.
    """
    lows = [each for each in (value.low, low) if each is not None]
    highs = [each for each in (value.high, high) if each is not None]
    return Shape(
        low=max(lows, default=-math.inf),
        high=min(highs, default=math.inf),
        rate_per_s=math.inf if value.rate_per_s is None else value.rate_per_s,
        deadband=value.deadband,
        min_interval_ns=value.min_interval_ms * 1_000_000,
        strategy=value.strategy,
        preset=value.preset,
    )


def move(shape: Shape, held: Held, wanted: float, now_ns: int) -> Move | None:
    """Return what to write now so that the device comes nearer to what is wanted; None for nothing.

    Args:
        shape: Rules of the value.
        held: What the device holds; where nobody knows, the first value is written as it is.
        wanted: What is asked for; what is no number is refused.
        now_ns: Monotonic time, ns.
    """
    if not math.isfinite(wanted):
        return None
    target = min(max(wanted, shape.low), shape.high)
    clamped = target != wanted
    if held.value is None:
        return Move(target, clamped)
    if target == held.value or abs(target - held.value) < shape.deadband:
        return None
    elapsed_ns = now_ns - held.at_ns
    if elapsed_ns < shape.min_interval_ns:
        return None
    step_ns = max(shape.min_interval_ns, RAMP_NS)
    reach = shape.rate_per_s * min(elapsed_ns, step_ns) / 1e9  # who stood still for long does not jump
    distance = target - held.value
    if abs(distance) <= reach * _ROUNDED:
        return Move(target, clamped)
    if elapsed_ns < step_ns:
        return None
    return Move(held.value + math.copysign(reach, distance), clamped, on_the_way=True)


def safe_value(shape: Shape) -> float | None:
    """Return what is written when the output falls safe; None for nothing."""
    chosen: dict[Strategy, float | None] = {
        "preset": shape.preset,
        "low": shape.low,
        "high": shape.high,
        "hold_last": None,
        "relinquish": None,
    }
    value = chosen[shape.strategy]
    return value if value is not None and math.isfinite(value) else None
