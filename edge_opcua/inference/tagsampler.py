"""Takes samples of the tags of one pipeline and puts them on the bus, where a lane finds them like captures.

It runs beside the devices, in their process, so that a window lives on while lanes come and go. A sample is
what all tags are at one moment: a tag that is read more seldom stands in it with its last value and what the
bus says of that. A new process begins with an empty window: what was missed meanwhile nobody knows.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import structlog

from edge_opcua.core.bus import BlockReader, Bus
from edge_opcua.core.clock import Clock
from edge_opcua.core.values import GOOD, Link, is_bad
from edge_opcua.inference.fed import Fed
from edge_opcua.inference.intake import Inputs
from edge_opcua.inference.tagwindow import TagWindow

BEAT_S: Final = 0.1
"""Longest time between two signs of life: a lane that hears none for long takes its source for lost."""
_NS: Final = 1_000_000_000
_MS_NS: Final = 1_000_000
_WORD: Final = 0xFFFFFFFF

Listen = Callable[[Callable[[], None]], Callable[[], None]]
"""Lets something be called each time the trigger was read; what it returns ends that."""

_log = structlog.get_logger(__name__)


class TagSampler:
    """Samples the tags of one pipeline.

    Args:
        fed: The tags and when they are sampled.
        block: Block of the samples.
        bus: The tag bus.
        clock: For times.
        listen: Tells when the trigger was read; None if time is the trigger.

    Raises:
        ModelError: A tag is not a number (M504).

    Attributes:
        missed: Samples that were not taken in time since this began.
    """

    def __init__(self, fed: Fed, block: str, bus: Bus, clock: Clock, listen: Listen | None = None) -> None:
        self.missed = 0
        self._fed = fed
        self._clock = clock
        self._listen = listen
        self._inputs = Inputs(bus, fed.tags)
        self._window = TagWindow([tag.reference for tag in fed.tags], fed.window)
        self._writer = bus.writer(block)
        batch = self._writer.batch
        self._row = {name: batch.row(name) for name in batch.layout.rows}
        self._number = int(batch.value(self._row["sequence"])) if self._writer.sequence else 0  # type: ignore[arg-type]
        self._trigger = None if fed.trigger is None else _Trigger(bus, fed.trigger.block, fed.trigger.tag)
        self._lost = False

    async def run(self) -> None:
        """Take samples until cancelled."""
        if self._trigger is None:
            await self._by_time()
            return
        assert self._listen is not None, "a trigger can be listened to"
        stop = self._listen(self._heard)
        try:
            while True:
                self._look_at_link()
                await self._clock.sleep(BEAT_S)
        finally:
            stop()

    async def _by_time(self) -> None:
        assert self._fed.every_ms is not None, "time is the trigger"
        period_ns = round(self._fed.every_ms * _MS_NS)
        due_ns = self._clock.monotonic_ns()
        while True:
            now_ns = self._clock.monotonic_ns()
            if now_ns >= due_ns:
                late = (now_ns - due_ns) // period_ns
                if late:
                    self._miss(late)
                due_ns += period_ns * (late + 1)
                self.take()
            else:
                self._writer.beat()
            wait_ns = due_ns - self._clock.monotonic_ns()
            await self._clock.sleep(max(0.0, min(BEAT_S, wait_ns / _NS)))

    def _miss(self, count: int) -> None:
        """Keep the window in step with time: it says how far apart its samples are."""
        self.missed += count
        self._window.repeat(count)
        if count > 1:
            _log.warning("samples.missed", block=self._name, samples=count)

    def _heard(self) -> None:
        assert self._trigger is not None, "only a trigger is listened to"
        if self._trigger.has_changed():
            self.take(self._trigger.cycle)

    def _look_at_link(self) -> None:
        """Tell when no sample can come any more, because nobody reads the trigger."""
        assert self._trigger is not None, "only with a trigger"
        lost = self._trigger.is_lost()
        if lost != self._lost:
            self._lost = lost
            self._writer.publish(link=Link.LOST if lost else Link.UP, refreshed=False)
        else:
            self._writer.beat()

    def take(self, cycle: int | None = None) -> None:
        """Take a sample now and publish the window.

        Args:
            cycle: Machine cycle it belongs to; None: samples are counted.
        """
        readings = self._inputs.read()
        self._window.add([each.value for each in readings], [each.status for each in readings])
        now_ns = self._clock.utc_ns()
        times = [each.source_ns for each in readings if not is_bad(each.status)]
        status, reason = self._window.worst()
        self._number = self._number % _WORD + 1
        batch, row = self._writer.batch, self._row
        numbers: dict[str, int | float] = {
            "sequence": self._number,
            "ready_ns": now_ns,
            "sample_rate_hz": self._fed.rate_hz,
            "stroke": self._number if cycle is None else cycle & _WORD,
            "missed": self.missed,
            "read_ms": 0.0,
            "map": self._fed.map_number,
        }
        for name, number in numbers.items():
            batch.set(row[name], number)
        batch.set_array(row["waveform"], self._window.values.reshape(-1))
        batch.set_text(row["reason"], reason)
        batch.status[:] = GOOD
        batch.status[row["waveform"]] = status
        batch.source_ns[:] = now_ns
        batch.source_ns[row["waveform"]] = min(times, default=now_ns)
        batch.server_ns[:] = now_ns
        self._lost = False
        self._writer.publish(link=Link.UP)

    @property
    def _name(self) -> str:
        return self._writer.batch.layout.spec.name


class _Trigger:
    """A tag of which a change is waited for; a Bad value says nothing, and the first one is no change.

    Args:
        bus: The tag bus.
        block: Block it lives in.
        tag: Its name there.

    Attributes:
        cycle: Its value at the last change if that is a whole number.
    """

    def __init__(self, bus: Bus, block: str, tag: str) -> None:
        self.cycle: int | None = None
        self._reader: BlockReader = bus.reader(block)
        self._row = bus.layout(block).rows[tag]
        self._last: Any = None

    def has_changed(self) -> bool:
        """Return whether the value is another than when this was asked before."""
        batch = self._reader.latest()
        if batch is None or is_bad(int(batch.status[self._row])):
            return False
        value = batch.value(self._row)
        changed = self._last is not None and bool(value != self._last)
        self._last = value
        self.cycle = value if isinstance(value, int) and not isinstance(value, bool) else None
        return changed

    def is_lost(self) -> bool:
        """Return whether nobody can read it now."""
        batch = self._reader.latest()
        if batch is None:
            return False
        return batch.link not in (Link.CONNECTING, Link.UP)
