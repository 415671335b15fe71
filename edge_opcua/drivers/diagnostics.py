"""The block ``<device>.link``: what the link does and how well, kept up to date without flooding the bus."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, fields
from typing import Final

from edge_opcua.core.bus import BlockWriter
from edge_opcua.core.clock import Clock
from edge_opcua.core.values import BAD_WAITING_FOR_INITIAL_DATA, GOOD, Link
from edge_opcua.drivers.linkstate import State
from edge_opcua.drivers.wire import Traffic

_NO_LINK: Final = (State.CONNECTING, State.OFFLINE, State.DEMOTED)  # what it said of itself is no news
_LEAST_PAUSE_NS: Final = 500_000_000
_RTT_WEIGHT: Final = 0.1
_RATE_WEIGHT: Final = 0.2
_SCANS: Final = 256  # of which the jitter is the 99th percentile


@dataclass(slots=True)
class Counts:
    """What happened since the process started; each is a row of the block.

    Args:
        timeouts: Requests without an answer in time.
        retries: Reads that were sent again.
        busy: Answers by which the device put the request off.
        writes: Writes that were begun.
        indeterminate: Writes that were begun and not answered.
        landed_late: Those of them that were seen to take effect afterwards.
        overruns: Polls that were left out because the one before took too long.
        refused: Tags that the device does not give now.
        units_lost: Units behind the connection that do not answer now.
    """

    timeouts: int = 0
    retries: int = 0
    busy: int = 0
    writes: int = 0
    indeterminate: int = 0
    landed_late: int = 0
    overruns: int = 0
    refused: int = 0
    units_lost: int = 0


_COUNTS: Final = tuple(each.name for each in fields(Counts))


class LinkBlock:
    """Facts about one link.

    Args:
        writer: Writer of the block.
        clock: Clock for stamps.
        simulated: Whether the device is simulated.

    Attributes:
        counts: What is counted by those who see it.
        rtt_ms: Moving average of the round trips, ms.
        notice: What people should know now, where the device itself says nothing; empty: nothing.
    """

    def __init__(self, writer: BlockWriter, clock: Clock, *, simulated: bool = False) -> None:
        self.writer = writer
        self.last_error = ""
        self.notice = ""
        self.opened = 0
        self.last_good_ns = 0
        self.counts = Counts()
        self.rtt_ms = 0.0
        self._clock = clock
        self._simulated = simulated
        self._scan_ms = self._scan_max_ms = 0.0
        self._values = self._published_values = 0
        self._rate = 0.0  # moving average: a group may be polled less often than this is published
        self._lateness_ns: deque[int] = deque(maxlen=_SCANS)
        self._published_ns = 0
        self._row = {tag.name: row for row, tag in enumerate(writer.batch.layout.spec.tags)}

    def took(self, rtt_ms: float) -> None:
        """Note how long a round trip took; the published figure is a moving average."""
        self.rtt_ms += (rtt_ms - self.rtt_ms) * (_RTT_WEIGHT if self.rtt_ms else 1.0)

    def scanned(self, scan_ms: float, late_ns: int, values: int) -> None:
        """Note a poll: how long it took, how late it began, how many values it was about."""
        self._scan_ms = scan_ms
        self._scan_max_ms = max(self._scan_max_ms, scan_ms)
        self._lateness_ns.append(late_ns)
        self._values += values

    @property
    def is_due(self) -> bool:
        """Whether it is time to publish although nothing has happened: twice a second."""
        return self._clock.monotonic_ns() - self._published_ns >= _LEAST_PAUSE_NS

    def publish(self, state: State, traffic: Traffic, *, good: int, bad: int) -> None:
        """Publish the facts."""
        now_ns = self._clock.monotonic_ns()
        elapsed_ns = now_ns - self._published_ns
        self._published_ns = now_ns
        utc_ns = self._clock.utc_ns()
        batch, row = self.writer.batch, self._row
        batch.set(row["state"], int(state))
        batch.set_text(row["state_text"], state.name)
        batch.set(row["requests"], traffic.requests)
        batch.set(row["errors"], traffic.errors)
        batch.set(row["reconnects"], max(0, self.opened - 1))
        batch.set(row["bytes"], traffic.size_bytes)
        batch.set(row["rtt_ms"], self.rtt_ms)
        notice = "" if state in _NO_LINK else traffic.notice or self.notice
        batch.set_text(row["last_error"], notice or self.last_error)
        batch.set_text(row["notice"], notice)
        batch.set(row["last_good_ns"], self.last_good_ns)
        batch.set(row["values_good"], good)
        batch.set(row["values_bad"], bad)
        for name in _COUNTS:
            batch.set(row[name], getattr(self.counts, name))
        self._publish_scans(elapsed_ns)
        batch.status[:] = GOOD
        for name, known in (("rtt_ms", self.rtt_ms), ("last_good_ns", self.last_good_ns)):
            if not known:  # nothing was read yet: neither 0 ms nor the year 1601 is a fact
                batch.status[row[name]] = BAD_WAITING_FOR_INITIAL_DATA
        batch.source_ns[:] = utc_ns
        batch.server_ns[:] = utc_ns
        # The block is about the link, so its own source is always there.
        self.writer.publish(link=Link.UP)

    def _publish_scans(self, elapsed_ns: int) -> None:
        batch, row = self.writer.batch, self._row
        batch.set(row["scan_ms"], self._scan_ms)
        batch.set(row["scan_max_ms"], self._scan_max_ms)
        lateness_ns = sorted(self._lateness_ns)
        worst = lateness_ns[len(lateness_ns) * 99 // 100] if lateness_ns else 0
        batch.set(row["jitter_ms"], worst / 1e6)
        if elapsed_ns >= _LEAST_PAUSE_NS:  # else too few for a rate
            rate = (self._values - self._published_values) * 1e9 / elapsed_ns
            self._rate += (rate - self._rate) * (_RATE_WEIGHT if self._rate else 1.0)
            self._published_values = self._values
        batch.set(row["values_per_s"], self._rate)
        batch.set(row["simulated"], self._simulated)
