"""Whether a device takes writes now, and why not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from edge_opcua.core.ports import WriteOutcome
from edge_opcua.core.values import BAD_INVALID_STATE, BAD_NO_COMMUNICATION
from edge_opcua.drivers.diagnostics import LinkBlock
from edge_opcua.drivers.linkstate import LinkStatus, State
from edge_opcua.drivers.planner import Place
from edge_opcua.drivers.stations import Stations
from edge_opcua.drivers.watchdog import Watchdog
from edge_opcua.drivers.wire import Wire


@dataclass(frozen=True, slots=True)
class Gate:
    """What has to hold before anything is written to a device.

    Args:
        device: Its name.
        wire: The connection.
        link: What is known of it, for the reason.
        stations: Units behind the connection; None if there is only one.
        watchdog: The device's own watchdog, if it is armed.
        status: Returns the state of the link.
    """

    device: str
    wire: Wire
    link: LinkBlock
    stations: Stations | None
    watchdog: Watchdog | None
    status: Callable[[], LinkStatus]

    def refusal(self) -> WriteOutcome | None:
        """Return why nothing may be written to the device; None: it may."""
        status = self.status()
        if status.writes:
            return None if self.watchdog is None else self.watchdog.refusal()
        if status.state is State.RECOVERING:
            return WriteOutcome(BAD_INVALID_STATE, f"the link to {self.device} has not proved itself yet")
        if status.state is State.DISABLED:
            return WriteOutcome(BAD_INVALID_STATE, f"{self.device} is not started")
        return WriteOutcome(BAD_NO_COMMUNICATION, f"no link to {self.device}: {self.link.last_error}")

    def unit_refusal(self, place: Place) -> WriteOutcome | None:
        """Return why nothing may be written to a place although the link stands; None: it may."""
        if self.watchdog is not None and (refusal := self.watchdog.refusal()) is not None:
            return refusal
        if self.stations is None:
            return None
        unit = self.wire.shape.station(place.space)
        state = self.stations.writes(unit)
        if state is None:
            return None
        if state is State.RECOVERING:
            return WriteOutcome(BAD_INVALID_STATE, f"unit {unit} of {self.device} has not proved itself yet")
        reason = self.stations.reason_of(unit)
        return WriteOutcome(BAD_NO_COMMUNICATION, f"unit {unit} of {self.device} does not answer: {reason}")
