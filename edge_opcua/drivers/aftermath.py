"""What becomes of a device's writes behind the answer to their caller: looked at, logged and counted."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import structlog

from edge_opcua.core.clock import Clock
from edge_opcua.core.ports import WriteOutcome
from edge_opcua.core.values import is_bad, is_good
from edge_opcua.drivers.diagnostics import LinkBlock
from edge_opcua.drivers.doubts import Doubt, Doubts, Fate, Finding
from edge_opcua.drivers.planner import Place
from edge_opcua.drivers.schedule import Job, Polled
from edge_opcua.drivers.setpoint import Setpoint, held
from edge_opcua.drivers.writes import TagWrite

Tell = Callable[[Finding], None]
_log = structlog.get_logger(__name__)


def tell_nobody(finding: Finding) -> None:
    """Leave it at the log."""


@dataclass(slots=True)
class Aftermath:
    """The :class:`~edge_opcua.drivers.writes.Followers` of a device.

    Args:
        device: Its name.
        setpoints: Its writable tags.
        jobs: What it reads.
        link: Its counters.
        clock: Clock for times.
        why_not: Returns why nothing may be written to a place now.
        tell: Told what became of writes, for the record.
    """

    device: str
    setpoints: Mapping[str, Setpoint]
    jobs: Sequence[Job]
    link: LinkBlock
    clock: Clock
    why_not: Callable[[Place], WriteOutcome | None]
    tell: Tell = tell_nobody
    doubts: Doubts = field(default_factory=Doubts)

    def refusal(self, place: Place) -> WriteOutcome | None:
        """Return why nothing may be written to a place now; None: it may."""
        return self.why_not(place)

    def written(self, write: TagWrite, outcome: WriteOutcome) -> None:
        """Let readers see soon what the device has taken."""
        if is_good(outcome.status):
            self.doubts.wrote(write.setpoint.tag.name, write.new)
        self._read_soon(write.setpoint)

    def in_doubt(self, write: TagWrite, old: object, *, taken: bool) -> None:
        """Remember a write of which nobody knows what became, and look as soon as that is possible."""
        doubt = replace(self._doubt(write, old), taken=taken)
        self.link.counts.indeterminate += 1
        _log.warning(
            "write.unanswered",
            device=self.device,
            tag=doubt.tag,
            value=doubt.new,
            user=doubt.terms.who,
            code="D391",
        )
        for finding in self.doubts.add(doubt):
            self._say(finding)
        self._read_soon(write.setpoint)

    def known_late(self, write: TagWrite, old: object, outcome: WriteOutcome) -> None:
        """Record what became of a write whose caller had been told that nobody knows."""
        self.link.counts.indeterminate += 1
        fate = Fate.REFUSED_LATE if is_bad(outcome.status) else Fate.DONE_LATE
        self.doubts.note(write.setpoint.tag.name, fate)
        self._say(Finding(self._doubt(write, old), fate, write.new if fate.late else None))

    def look(self, polled: Polled) -> None:
        """Judge the writes to tags that were read just now."""
        if not self.doubts:
            return
        now_ns = self.clock.monotonic_ns()
        for tag in self.doubts.tags:
            setpoint = self.setpoints[tag]
            if setpoint.group is polled:
                for finding in self.doubts.look(tag, held(setpoint), _mark(setpoint), now_ns):
                    self._say(finding)

    def end(self) -> None:
        """Record that nobody will look any more."""
        for finding in self.doubts.end(self.clock.monotonic_ns()):
            self._say(finding)

    def _doubt(self, write: TagWrite, old: object) -> Doubt:
        setpoint = write.setpoint
        # What readers see may lag behind the device by the tag's deadband.
        terms = replace(write.terms, tolerance=max(write.terms.tolerance, setpoint.tag.deadband))
        now_ns = self.clock.monotonic_ns()
        momentary = write.kind.momentary
        seen = _mark(setpoint)
        return Doubt(setpoint.tag.name, terms, old, write.new, now_ns, momentary=momentary, seen=seen)

    def _say(self, finding: Finding) -> None:
        doubt, fate = finding.doubt, finding.fate
        facts = {
            "device": self.device,
            "tag": doubt.tag,
            "value": doubt.new,
            "held": finding.held,
            "user": doubt.terms.who,
            "after_s": round(finding.after_s, 3),
        }
        if fate.late:
            self.link.counts.landed_late += 1
            _log.warning("write.landed_late", **facts, code="D392")
        else:
            _log.info("write.judged", **facts, fate=fate.name.lower())
        self.tell(finding)

    def _read_soon(self, setpoint: Setpoint) -> None:
        for job in self.jobs:
            if job.polled is setpoint.group:
                job.ask(self.clock.monotonic_ns())


def _mark(setpoint: Setpoint) -> int:
    """Return what is another number after each reading of a tag."""
    return int(setpoint.group.writer.batch.server_ns[setpoint.index])
