"""How long an output may take from a fault to its fail-safe value: its times, and the worst cases.

The executor and `check` use the same times, so that what is promised is what is done.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, TypeAlias

from edge_opcua.config.lanes import TICK_MS as LANE_TICK_MS
from edge_opcua.config.lanes import silence_ms
from edge_opcua.config.outputs import OutputConfig
from edge_opcua.config.schema import EdgeConfig, PipelineConfig

TICK_MS: Final = 25
"""Longest time between two decisions of an output."""

_LANE_BEATS_MS: Final = 4 * LANE_TICK_MS
_POLLS: Final = 3
_ASK_AGAIN_MS: Final = 100  # between a request that got no answer and the next one


@dataclass(frozen=True, slots=True)
class Times:
    """When silence becomes a fault, ms.

    Args:
        heartbeat_ms: Period of the heartbeat.
        plc_timeout_ms: Time after which the PLC distrusts us.
        lane_ms: Silence of the lane.
        input_ms: Silence of a device that the pipeline's capture, or one of its tags, comes from.
        control_ms: Age at which the PLC's own words say nothing any more.
        lag_ms: Time between two decisions after which we do not trust ourselves: frozen, or suspended.
        write_ms: Deadline of one write.
    """

    heartbeat_ms: float
    plc_timeout_ms: float
    lane_ms: float
    input_ms: float
    control_ms: float
    lag_ms: float
    write_ms: float


_Parts: TypeAlias = tuple[tuple[str, float], ...]


@dataclass(frozen=True, slots=True)
class Reaction:
    """The worst case of one fault.

    Args:
        fault: What fails, in words.
        parts: What the time is made of: name and ms, in order.
    """

    fault: str
    parts: tuple[tuple[str, float], ...]

    @property
    def total_ms(self) -> float:
        """From the fault to the PLC's fail-safe value, ms; infinite if nobody notices."""
        return sum(ms for _, ms in self.parts)


def times_of(config: EdgeConfig, output: OutputConfig) -> Times:
    """Return the times of an output."""
    target = config.device(output.device)
    timeout_ms = float(output.plc_timeout_ms)
    poll_ms = output.interface.poll_ms if output.interface is not None else 0
    # Sooner than the PLC's own time-out, so that the PLC hears the reason before it gives us up.
    lane_ms = max(_LANE_BEATS_MS, timeout_ms - 2 * output.heartbeat_ms)
    pipeline = config.pipeline(output.pipeline)
    if pipeline.lane == "safety":  # its promise to every reader; we look once a tick
        lane_ms = min(lane_ms, max(silence_ms(pipeline.deadline_ms), 2 * TICK_MS))
    return Times(
        heartbeat_ms=float(output.heartbeat_ms),
        plc_timeout_ms=timeout_ms,
        lane_ms=lane_ms,
        input_ms=max(timeout_ms, _silence_ms(config, pipeline)),
        control_ms=max(timeout_ms, _POLLS * poll_ms),
        # After that the PLC has given us up, or is about to: what we knew of it is history.
        lag_ms=max(timeout_ms - output.heartbeat_ms, 4 * TICK_MS),
        write_ms=min(timeout_ms, float(target.timeout_ms)),
    )


def _silence_ms(config: EdgeConfig, pipeline: PipelineConfig) -> float:
    """Return how long the devices of a pipeline may be silent, ms: one answer may be lost."""
    silences = []
    references = [each for each in (*pipeline.inputs.values(), pipeline.trigger) if each is not None]
    for device in config.source_devices(pipeline):
        own = [
            name for owner, _, name in (each.partition("/") for each in references) if owner == device.name
        ]
        groups = {config.tag(f"{device.name}/{name}")[1].group for name in own}
        periods = [device.group(group).period_ms for group in groups]
        captures = {f"{device.name}/{each.name}": each.poll_ms for each in device.captures}
        periods += [captures[pipeline.capture]] if pipeline.capture in captures else []
        silences.append(device.timeout_ms + _ASK_AGAIN_MS + float(_POLLS * max(periods)))
    return max(silences)


def reactions(config: EdgeConfig, output: OutputConfig) -> tuple[Reaction, ...]:
    """Return the worst case of each kind of fault, as the PLC sees it."""
    times = times_of(config, output)
    pipeline = config.pipeline(output.pipeline)
    hold = (("hold", 1000 * output.hold_s),) if output.hold_s else ()
    scan = ("PLC scan", output.plc_scan_ms)
    act = (("decide", float(TICK_MS)), ("write", times.write_ms), scan)
    frozen = [Reaction("lane frozen", (("silence", times.lane_ms), *act))]
    if output.has_heartbeat:
        # The last heartbeat is seen a scan after it was written, and the time-out acts in the scan after it.
        dead: _Parts = (("PLC scan", output.plc_scan_ms), ("PLC time-out", times.plc_timeout_ms), scan)
        # Without a sign of life of the lane there is no heartbeat either.
        frozen.append(Reaction("lane frozen", (("last sign of life", LANE_TICK_MS), *dead)))
    else:
        dead = _unwatched(config, output)
    revoked = (Reaction("authority revoked by the PLC", (scan,)),)
    return (
        Reaction("edge or network dead", dead),
        min(frozen, key=lambda reaction: reaction.total_ms),
        Reaction("result late", (("deadline", float(pipeline.deadline_ms)), *hold, *act)),
        Reaction("input lost", (("silence", times.input_ms), *hold, *act)),
        *(revoked if output.interface is not None or output.grant is not None else ()),
        Reaction("taken by an operator", act),
    )


def _unwatched(config: EdgeConfig, output: OutputConfig) -> _Parts:
    """Return who notices the end of the writes where no program in the PLC does."""
    watchdog = config.device(output.device).watchdog
    if watchdog is None:
        return (("neither a heartbeat nor a watchdog", math.inf),)
    return (("watchdog of the device", float(watchdog.timeout_ms)),)
