"""The only table of quality: what a reader sees when links, writers and devices fail (architecture §4)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edge_opcua.core.batch import TagBatch
from edge_opcua.core.values import (
    BAD_COMMUNICATION_ERROR,
    BAD_CONFIGURATION_ERROR,
    BAD_DEVICE_FAILURE,
    BAD_NO_COMMUNICATION,
    BAD_OUT_OF_SERVICE,
    BAD_SENSOR_FAILURE,
    BAD_TIMEOUT,
    BAD_WAITING_FOR_INITIAL_DATA,
    GOOD,
    GOOD_CLAMPED,
    UNCERTAIN_EU_EXCEEDED,
    UNCERTAIN_LAST_USABLE,
    UNCERTAIN_NO_COMMUNICATION_LAST_USABLE,
    UNCERTAIN_SIMULATED,
    UNCERTAIN_SUBNORMAL,
    UNCERTAIN_SUBSTITUTE,
    Link,
    Policy,
    bad_rows,
)


@dataclass(frozen=True, slots=True)
class Rule:
    """One line of the table, for people and for the reference page."""

    situation: str
    status: int
    value: str


TABLE = (
    Rule("never read yet, link coming up", BAD_WAITING_FOR_INITIAL_DATA, "null"),
    Rule("never read, link cannot be made", BAD_NO_COMMUNICATION, "null"),
    Rule("read in time", GOOD, "value"),
    Rule(
        "not refreshed within `stale_after_s`, link alive",
        UNCERTAIN_LAST_USABLE,
        "last, source time unchanged",
    ),
    Rule(
        "link or writer lost, within `hold_s` (may be unlimited)",
        UNCERTAIN_NO_COMMUNICATION_LAST_USABLE,
        "last, source time unchanged",
    ),
    Rule("… `hold_s` over, a substitute is configured", UNCERTAIN_SUBSTITUTE, "the substitute"),
    Rule("… `hold_s` over, none configured", BAD_COMMUNICATION_ERROR, "null"),
    Rule("address, type or configuration fault", BAD_CONFIGURATION_ERROR, "null"),
    Rule("device fault", BAD_DEVICE_FAILURE, "null"),
    Rule("sensor fault", BAD_SENSOR_FAILURE, "null"),
    Rule("outside EURange", UNCERTAIN_EU_EXCEEDED, "value, with limit bits"),
    Rule("outside EURange, `clamp` is configured", GOOD_CLAMPED, "the limit, with limit bits"),
    Rule("made up, the device is simulated", UNCERTAIN_SIMULATED, "value"),
    Rule("disabled", BAD_OUT_OF_SERVICE, "null"),
    Rule("result from inputs of which some are Uncertain", UNCERTAIN_SUBNORMAL, "value"),
    Rule(
        "result whose required input is Bad",
        UNCERTAIN_SUBSTITUTE,
        "the fail-safe value; without one the input's status and null. The verdict is NotDecidable",
    ),
    Rule("result late", UNCERTAIN_SUBSTITUTE, "the fail-safe value"),
    Rule(
        "result late, `late = hold_last`",
        UNCERTAIN_LAST_USABLE,
        "the last verdict, its source time unchanged",
    ),
    Rule("result late, `late = publish_late`", UNCERTAIN_LAST_USABLE, "the late value"),
    Rule(
        "silence of a safety lane, longer than deadline and tick", UNCERTAIN_SUBSTITUTE, "the fail-safe value"
    ),
    Rule("result late, no fail-safe value", BAD_TIMEOUT, "null"),
)

_SECOND_NS = 1e9


def effective(batch: TagBatch, policy: Policy, *, beat_ns: int, now_ns: int) -> npt.NDArray[np.uint32]:
    """Return the status a reader must show for each row of a batch, now.

    A row's own Bad status (address, device or sensor fault) outlives any state of the link: it is the more
    exact reason. Everything else is overlaid by what is known of link and writer.

    Args:
        batch: The newest batch of the block.
        policy: The block's staleness and hold times.
        beat_ns: Monotonic time at which the writer last showed that it lives.
        now_ns: Monotonic time of the question.

    Returns:
        StatusCodes, uint32, shape ``(n_tags,)``. The value of a row is readable if its status is not Bad;
        it is the row's substitute if the status is UncertainSubstituteValue and the row's own is not.
    """
    link = batch.link
    status = batch.status
    if link is Link.DISABLED:
        return np.full(status.shape, BAD_OUT_OF_SERVICE, np.uint32)
    writer_lost = now_ns - beat_ns > policy.writer_lost_s * _SECOND_NS
    if writer_lost or link is not Link.UP:
        since_ns = beat_ns if link is Link.UP else min(batch.link_since_ns, beat_ns)
        held = now_ns - since_ns <= policy.hold_s * _SECOND_NS
        return _without_source(batch, held=held, coming_up=link is Link.CONNECTING and not writer_lost)
    if now_ns - batch.refreshed_ns <= policy.stale_after_s * _SECOND_NS:
        return status.copy()
    stale = np.where(bad_rows(status), status, np.uint32(UNCERTAIN_LAST_USABLE))
    return stale.astype(np.uint32, copy=False)


def steady_until(batch: TagBatch, policy: Policy, *, beat_ns: int, now_ns: int) -> float:
    """Return until when :func:`effective` answers as it does now, if nothing is published meanwhile.

    Args:
        batch: The newest batch of the block.
        policy: The block's staleness and hold times.
        beat_ns: Monotonic time at which the writer last showed that it lives; a later one only prolongs it.
        now_ns: Monotonic time of the question.

    Returns:
        Monotonic time, ns; infinite: only another batch changes it. Before ``now_ns`` if a sign of life of
        the writer would change it.
    """
    link = batch.link
    if link is Link.DISABLED:
        return math.inf
    lost_ns = beat_ns + policy.writer_lost_s * _SECOND_NS
    if now_ns > lost_ns:
        return -math.inf
    ends_ns = batch.refreshed_ns + policy.stale_after_s * _SECOND_NS
    if link is not Link.UP:
        ends_ns = min(batch.link_since_ns, beat_ns) + policy.hold_s * _SECOND_NS
    return min(lost_ns, ends_ns) if now_ns <= ends_ns else lost_ns


def _without_source(batch: TagBatch, *, held: bool, coming_up: bool) -> npt.NDArray[np.uint32]:
    """Overlay the rows of a block whose link or writer is lost, or whose link is being made."""
    own = batch.status
    shown: npt.NDArray[np.uint32]
    if held:
        shown = np.full(own.shape, UNCERTAIN_NO_COMMUNICATION_LAST_USABLE, np.uint32)
    else:
        shown = np.where(
            substitutes(batch), np.uint32(UNCERTAIN_SUBSTITUTE), np.uint32(BAD_COMMUNICATION_ERROR)
        ).astype(np.uint32, copy=False)
    bad = bad_rows(own)
    shown[bad] = own[bad]
    if not coming_up:
        shown[own == BAD_WAITING_FOR_INITIAL_DATA] = BAD_NO_COMMUNICATION
    return shown


def substitutes(batch: TagBatch) -> npt.NDArray[np.bool_]:
    """Return which rows have a substitute configured, shape ``(n_tags,)``."""
    return batch.layout.has_substitute
