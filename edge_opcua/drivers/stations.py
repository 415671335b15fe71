"""The units behind one connection, each with its own link state: a dead one delays and blanks no other."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Final

import structlog

from edge_opcua.core.clock import Clock
from edge_opcua.drivers.linkstate import Event, LinkPolicy, LinkStatus, State, happen, retry_pause_s
from edge_opcua.drivers.planner import Request
from edge_opcua.drivers.wire import Fault, FaultKind

_NEVER: Final = 1 << 62
_FULL_DEADLINE_EVERY: Final = 4
_log = structlog.get_logger(__name__)


class Admission(Enum):
    """Whether a unit is asked."""

    ASK = "ask"
    ONCE = "once"  # it has not proved itself: one request, and the others when that was answered
    NO = "no"


@dataclass(slots=True)
class _Station:
    status: LinkStatus
    reason: str = ""
    probe: Request | None = None
    due_ns: int = _NEVER
    probes: int = 0


@dataclass(slots=True)
class Stations:
    """The units that one device addresses, by the table of :mod:`edge_opcua.drivers.linkstate`.

    Args:
        device: Name of the device, for the log.
        names: The units.
        policy: When a unit counts as lost and as recovered.
        clock: Clock for times.
        draw: Random numbers in 0..1 for the pauses between attempts.
        lose: Told of each unit that is given up.
    """

    device: str
    names: Iterable[Hashable]
    policy: LinkPolicy
    clock: Clock
    draw: Callable[[], float]
    lose: Callable[[Hashable], None] = lambda _: None
    _all: dict[Hashable, _Station] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Know nothing of any unit: the connection is a new one."""
        now_ns = self.clock.monotonic_ns()
        self._all = {name: _Station(LinkStatus(State.CONNECTING, now_ns)) for name in self.names}

    @property
    def lost(self) -> int:
        """Number of units that do not answer."""
        return sum(bool(each.status.lost_ns) and not each.status.reads for each in self._all.values())

    @property
    def reason(self) -> str:
        """Why the last unit was lost."""
        return next((each.reason for each in self._all.values() if each.reason), "")

    @property
    def all_lost(self) -> bool:
        """Whether no unit answers at all."""
        return bool(self._all) and self.lost == len(self._all)

    @property
    def due_ns(self) -> int:
        """Monotonic time at which the next unit is to be probed, ns."""
        return min((station.due_ns for station in self._all.values()), default=_NEVER)

    def admit(self, name: Hashable) -> Admission:
        """Return whether a unit is asked in a regular poll."""
        status = self._all[name].status
        if status.reads and status.state is not State.SUSPECT:
            return Admission.ASK
        untried = status.state is State.CONNECTING and not status.attempts
        return Admission.ONCE if untried else Admission.NO

    def refusal(self, name: Hashable, request: Request) -> Fault:
        """Return what a request to a unit that is not asked is answered with; it is asked this later."""
        station = self._all[name]
        station.probe = station.probe or request
        kind = FaultKind.ABSENT if station.status.lost_ns else FaultKind.MISSED
        return Fault(kind, station.reason)

    def writes(self, name: Hashable) -> State | None:
        """Return the state of a unit that takes no writes now, or None if it does."""
        station = self._all.get(name)
        if station is None or station.status.writes:
            return None
        return station.status.state if station.status.lost_ns else None

    def reason_of(self, name: Hashable) -> str:
        """Return why a unit was lost."""
        return self._all[name].reason

    def answered(self, name: Hashable) -> None:
        """Note that a unit gave any answer."""
        station = self._all[name]
        before = station.status
        if before.state is State.ONLINE:
            return
        now_ns = self.clock.monotonic_ns()
        status = before
        if status.state in (State.OFFLINE, State.DEMOTED):
            status = happen(status, Event.RETRY, self.policy, now_ns)
        if status.state is State.CONNECTING:
            status = happen(status, Event.CONNECTED, self.policy, now_ns)
        station.status = happen(status, Event.GOOD_SCAN, self.policy, now_ns)
        station.due_ns, station.probe = _NEVER, None
        if before.lost_ns and station.status.state is State.ONLINE:
            outage_s = (now_ns - before.lost_ns) / 1e9
            station.reason = ""
            _log.info("driver.unit_connected", device=self.device, unit=name, outage_s=round(outage_s, 3))

    def failed(self, name: Hashable, request: Request, reason: str) -> Fault:
        """Note that a unit did not answer; return what its rows get."""
        station = self._all[name]
        before = station.status
        now_ns = self.clock.monotonic_ns()
        station.probe, station.reason = request, reason
        event = Event.CONNECT_FAILED if before.state is State.CONNECTING else Event.FAILED_REQUEST
        if before.state is State.ONLINE:  # what is well is not counted answer by answer
            before = replace(before, last_good_ns=now_ns)
        status = happen(before, event, self.policy, now_ns)
        station.status = status
        station.due_ns = now_ns
        if status.lost_ns:
            station.due_ns += int(retry_pause_s(status, self.policy, self.draw()) * 1e9)
            if not before.lost_ns:
                event_name = "driver.unit_lost" if before.last_good_ns else "driver.unit_unreachable"
                _log.warning(event_name, device=self.device, unit=name, reason=reason)
                self.lose(name)
        return Fault(FaultKind.ABSENT if status.lost_ns else FaultKind.MISSED, reason)

    def probe(self, deadline_s: float) -> tuple[Hashable, Request] | None:
        """Return which unit is to be tried now, and by which request; None if none is due.

        Args:
            deadline_s: How long units that answer take at most, seconds: a lost one is not waited for any
                longer, apart from every fourth time.
        """
        now_ns = self.clock.monotonic_ns()
        for name, station in self._all.items():
            if station.due_ns > now_ns or station.probe is None:
                continue
            station.probes += 1
            if station.status.state in (State.OFFLINE, State.DEMOTED):
                station.status = happen(station.status, Event.RETRY, self.policy, now_ns)
            patient = station.probes % _FULL_DEADLINE_EVERY == 0
            return name, replace(station.probe, deadline_s=None if patient else deadline_s)
        return None
