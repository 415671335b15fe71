"""Read requests on their way to the wire: several at once, once more if one is lost, dead units left out."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Hashable, Sequence
from typing import Final

from edge_opcua.core.clock import Clock
from edge_opcua.drivers.cost import RequestCost
from edge_opcua.drivers.diagnostics import LinkBlock
from edge_opcua.drivers.planner import Request
from edge_opcua.drivers.stations import Admission, Stations
from edge_opcua.drivers.wire import Fault, FaultKind, Reading, Wire
from edge_opcua.errors import DeviceTimeoutError

_LEAST_PROBE_S: Final = 0.25
_PROBE_ROUND_TRIPS: Final = 10

Answers = Sequence[Sequence[Reading]]


class Asking:
    """The read side of one connection.

    Args:
        wire: The connection.
        clock: Clock for round trips.
        link: Counters of the device.
        cost: Learns what a request costs.
        stations: Units behind the connection; None if there is only one.
        retries: How often a read without an answer is sent again.
        between: Called before each round trip: writes go first.

    Attributes:
        deadline_ns: Monotonic time after which nothing is asked again, ns: the values would be stale.
        heard: Whether anything has been answered since this was set to False.
    """

    def __init__(
        self,
        wire: Wire,
        clock: Clock,
        link: LinkBlock,
        cost: RequestCost,
        stations: Stations | None,
        retries: int,
        between: Callable[[], Awaitable[None]],
    ) -> None:
        self.deadline_ns = 0
        self.heard = False
        self._wire = wire
        self._clock = clock
        self._link = link
        self._cost = cost
        self._stations = stations
        self._retries = retries
        self._between = between

    async def read(self, requests: Sequence[Request]) -> Answers:
        """Send requests and return the answers to their fragments, in order.

        Raises:
            DeviceTimeoutError: No answer in time, also when asked again.
            DeviceError: The connection broke.
        """
        if not requests:  # everything was refused: that says nothing against the link
            self.heard = True
        if self._stations is not None:
            return await self._read_stations(requests, self._stations)
        answers: list[Sequence[Reading]] = []
        depth = max(1, self._wire.depth)
        for first in range(0, len(requests), depth):
            answers += await self._read_only_unit(requests[first : first + depth])
        return answers

    async def _read_only_unit(self, chunk: Sequence[Request]) -> Answers:
        """Read from the only unit there is: if that is absent, so is the device."""
        for attempt in range(self._retries + 1):
            started_ns = self._clock.monotonic_ns()
            answers = await self._send(chunk)
            absent = _absent(answers)
            if absent is None:
                self.heard = True
                return answers
            self._link.counts.timeouts += 1
            if attempt == self._retries or not self._time_left(started_ns):
                break
            self._link.counts.retries += 1
        assert absent is not None
        raise DeviceTimeoutError(absent.reason)

    async def _read_stations(self, requests: Sequence[Request], stations: Stations) -> Answers:
        answers: list[Sequence[Reading]] = [()] * len(requests)
        waiting = deque(range(len(requests)))
        depth = max(1, self._wire.depth)
        while waiting:
            chunk: list[int] = []
            later: list[int] = []
            tried: set[Hashable] = set()
            while waiting and len(chunk) < depth:
                index = waiting.popleft()
                name = self._station(requests[index])
                admission = stations.admit(name)
                if admission is Admission.NO:
                    fault = stations.refusal(name, requests[index])
                    answers[index] = (fault,) * len(requests[index].fragments)
                elif admission is Admission.ONCE and name in tried:
                    later.append(index)
                else:
                    chunk.append(index)
                    tried.add(name)
            if chunk:
                got = await self._send([requests[index] for index in chunk])
                for index, answer in zip(chunk, got, strict=True):
                    answers[index] = await self._judge(requests[index], answer, stations)
            waiting.extendleft(reversed(later))
        return answers

    async def _judge(
        self, request: Request, answer: Sequence[Reading], stations: Stations
    ) -> Sequence[Reading]:
        """Tell the unit's link what came; a lost answer is asked for once more before it counts."""
        name = self._station(request)
        for attempt in range(self._retries + 1):
            absent = _absent((answer,))
            if absent is None:
                self.heard = True
                stations.answered(name)
                return answer
            self._link.counts.timeouts += 1
            once_more = attempt < self._retries and stations.admit(name) is Admission.ASK
            started_ns = self._clock.monotonic_ns()
            if not once_more or not self._time_left(started_ns):
                break
            self._link.counts.retries += 1
            (answer,) = await self._send((request,))
        assert absent is not None
        return (stations.failed(name, request, absent.reason),) * len(request.fragments)

    async def probe(self) -> bool:
        """Try one unit that is lost, if one is due; return whether it is there again."""
        stations = self._stations
        if stations is None:
            return False
        found = stations.probe(max(_LEAST_PROBE_S, _PROBE_ROUND_TRIPS * self._link.rtt_ms / 1000))
        if found is None:
            return False
        name, request = found
        (answer,) = await self._send((request,), measured=False)
        absent = _absent((answer,))
        if absent is None:
            stations.answered(name)
            return True
        self._link.counts.timeouts += 1
        stations.failed(name, request, absent.reason)
        return False

    def _station(self, request: Request) -> Hashable:
        return self._wire.shape.station(request.fragments[0].space)

    async def _send(self, chunk: Sequence[Request], *, measured: bool = True) -> Answers:
        """Make one round trip; once more if the wire says that the connection stands."""
        for attempt in range(self._retries + 1):
            await self._between()
            started_ns, on_line_s = self._clock.monotonic_ns(), self._wire.traffic.on_line_s
            try:
                answers = await self._wire.read(chunk)
            except DeviceTimeoutError as exc:
                self._link.counts.timeouts += 1
                if not exc.again or attempt == self._retries or not self._time_left(started_ns):
                    raise
                self._link.counts.retries += 1
                continue
            if measured:
                self._measure(chunk, started_ns, on_line_s)
            self._note_faults(chunk, answers)
            return answers
        raise AssertionError("unreachable")

    def _measure(self, chunk: Sequence[Request], started_ns: int, on_line_s: float) -> None:
        """Note the round trip; of what it costs, the wait for others on a shared line is no part."""
        elapsed_s = (self._clock.monotonic_ns() - started_ns) / 1e9
        self._link.took(1000 * elapsed_s)
        own_s = self._wire.traffic.on_line_s - on_line_s
        self._cost.took(min(elapsed_s, own_s) if own_s else elapsed_s, chunk, self._wire.shape)

    def _note_faults(self, chunk: Sequence[Request], answers: Answers) -> None:
        """Note what was refused; of a stretch that is divided next, its parts say what is really wrong."""
        for request, each in zip(chunk, answers, strict=True):
            for fragment, answer in zip(request.fragments, each, strict=True):
                if isinstance(answer, Fault):
                    self._link.counts.busy += answer.kind is FaultKind.BUSY
                    if answer.kind is not FaultKind.ADDRESS or len(fragment.rows) < 2:
                        self._link.last_error = answer.reason

    def _time_left(self, started_ns: int) -> bool:
        """Return whether waiting as long once more would still end before the values are stale."""
        now_ns = self._clock.monotonic_ns()
        return now_ns + (now_ns - started_ns) <= self.deadline_ns


def _absent(answers: Answers) -> Fault | None:
    for each in answers:
        for answer in each:
            if isinstance(answer, Fault) and answer.kind is FaultKind.ABSENT:
                return answer
    return None
