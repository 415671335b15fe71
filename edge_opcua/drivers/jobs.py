"""What a device has to read, made from its configuration: poll groups, captures, and what triggers them."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field

from edge_opcua.config.schema import DeviceConfig
from edge_opcua.core.bus import Bus
from edge_opcua.core.clock import Clock
from edge_opcua.core.values import GOOD, UNCERTAIN_SIMULATED
from edge_opcua.drivers.capture import Capture
from edge_opcua.drivers.cost import RequestCost
from edge_opcua.drivers.group import GroupSettings, PollGroup
from edge_opcua.drivers.noread import closed_stretches
from edge_opcua.drivers.options import DriverOptions
from edge_opcua.drivers.plan import capture_places, rows_of
from edge_opcua.drivers.schedule import Job, Trigger
from edge_opcua.drivers.setpoint import Setpoint
from edge_opcua.drivers.wire import Driver


@dataclass(frozen=True, slots=True)
class Work:
    """What one device has to do.

    Args:
        jobs: What is read.
        setpoints: Tags that clients may write, by name.
        spaces: Where everything lies.
        echoes: The echo of each command that has one, by name of the command's tag.
    """

    jobs: list[Job] = field(default_factory=list)
    setpoints: dict[str, Setpoint] = field(default_factory=dict)
    spaces: set[Hashable] = field(default_factory=set)
    echoes: dict[str, Setpoint] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class WorkBuilder:
    """Makes the work of a device, and becomes the writer of its blocks.

    Args:
        cfg: The device.
        driver: Class of its protocol.
        options: Its options.
        bus: The tag bus.
        clock: Clock for stamps.
        cost: What a request to the device costs.
        stale_ns: Age at which what was read is stale, ns.
    """

    cfg: DeviceConfig
    driver: type[Driver]
    options: DriverOptions
    bus: Bus
    clock: Clock
    cost: RequestCost
    stale_ns: int

    def build(self) -> Work:
        """Make it.

        Raises:
            ConfigError: An address or a range is unusable.
        """
        work = Work()
        self._groups(work)
        self._captures(work)
        self._triggers(work)
        self._echoes(work)
        return work

    def _groups(self, work: Work) -> None:
        cfg = self.cfg
        closed = closed_stretches(self.options.no_read, cfg, self.driver)
        for group in cfg.groups:
            tags = cfg.tags_of(group.name)
            if not tags:
                continue
            rows = rows_of(cfg, group.name, self.driver)
            settings = GroupSettings(
                no_read=closed,
                refused_again_s=self.options.refused_again_s,
                max_age_s=tuple(tags.column("max_age_s")),
                cost=self.cost,
                mark=UNCERTAIN_SIMULATED if cfg.simulate else GOOD,
            )
            polled = PollGroup(rows, self.bus.writer(cfg.block_name(group.name)), self.clock, settings)
            period_ns, phase_ns = group.period_ms * 1_000_000, group.phase_ms * 1_000_000
            work.jobs.append(Job(group.name, polled, period_ns, phase_ns, self.stale_ns, len(rows)))
            work.spaces.update(row.place.space for row in rows)
            for row in tags.rows_where("access", "rw").tolist():
                tag = tags[row]
                work.setpoints[tag.name] = Setpoint(tag, rows[row], row, polled)

    def _captures(self, work: Work) -> None:
        cfg = self.cfg
        for capture in cfg.captures:
            heads, samples = capture_places(cfg, capture, self.driver)
            writer = self.bus.writer(cfg.block_name(capture.name))
            taken = Capture(capture, heads, samples, writer, self.clock, simulated=cfg.simulate)
            work.jobs.append(Job(capture.name, taken, capture.poll_ms * 1_000_000, 0, self.stale_ns, 1))
            work.spaces.update(place.space for place in (*heads.values(), samples))

    def _triggers(self, work: Work) -> None:
        jobs = {job.name: job for job in work.jobs}
        tags = self.cfg.tags
        for group in self.cfg.groups:
            row = None if group.trigger is None else tags.row_of(group.trigger)
            if row is None or group.name not in jobs:
                continue
            source = tags.cell(row, "group")
            at = self.cfg.tags_of(source).row_of(tags.cell(row, "name"))
            if at is not None and source in jobs:
                jobs[source].triggers.append(Trigger(at, jobs[group.name]))

    def _echoes(self, work: Work) -> None:
        groups = {job.name: job.polled for job in work.jobs}
        for name, setpoint in work.setpoints.items():
            row = self.cfg.tags.row_of(setpoint.tag.echo) if setpoint.tag.echo else None
            if row is None:
                continue
            echo = self.cfg.tags[row]
            polled = groups[echo.group]
            at = self.cfg.tags_of(echo.group).row_of(echo.name)
            if at is not None and isinstance(polled, PollGroup):
                work.echoes[name] = Setpoint(echo, rows_of(self.cfg, echo.group, self.driver)[at], at, polled)
