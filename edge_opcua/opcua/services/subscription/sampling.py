"""Sampling at a client's pace: one timer per rate, which looks only at items that were told of a change."""

from __future__ import annotations

import math
from typing import Protocol

from asyncua import ua

from edge_opcua.opcua.limits import ServerLimits
from edge_opcua.opcua.services.subscription.schedule import Schedule, Ticket


class Sampled(Protocol):
    """A data item, as its group sees it."""

    def sample(self, value: ua.DataValue) -> None:
        """Take a value."""
        ...

    def read(self) -> ua.DataValue:
        """Return the present value."""
        ...


class Sampler(Protocol):
    """Items that take their samples together."""

    def sample(self) -> None:
        """Take a sample."""
        ...


class Group:
    """The items of one sampling interval.

    Attributes:
        touched: The newest value of each item that was told of one since the last sample.
        members: Items that are sampled one by one.
        columns: Those that are sampled together.
    """

    __slots__ = ("_polled", "columns", "members", "ticket", "touched")

    def __init__(self) -> None:
        self.touched: dict[Sampled, ua.DataValue] = {}
        self.members: set[Sampled] = set()
        self.columns: dict[Sampler, None] = {}
        self._polled: dict[Sampled, None] = {}
        self.ticket: Ticket | None = None

    def enter(self, item: Sampled, *, polled: bool) -> None:
        """Take an item in; a polled one is read every time."""
        self.members.add(item)
        if polled:
            self._polled[item] = None

    def leave(self, item: Sampled) -> None:
        """Let an item go."""
        self.members.discard(item)
        self.touched.pop(item, None)
        self._polled.pop(item, None)

    def work(self) -> None:
        """Take a sample."""
        for columns in tuple(self.columns):
            columns.sample()
        touched, self.touched = self.touched, {}
        for item, value in touched.items():
            item.sample(value)
        for item in tuple(self._polled):
            item.sample(item.read())


class Sampling:
    """All sampling groups.

    Args:
        schedule: The server's timer.
        limits: Bounds of the sampling interval.

    Attributes:
        tick_ms: How often values change at most: what wants no slower samples is told of every change.
    """

    def __init__(self, schedule: Schedule, limits: ServerLimits) -> None:
        self.tick_ms = limits.min_sampling_ms
        self._schedule = schedule
        self._limits = limits
        self._groups: dict[float, Group] = {}

    def __len__(self) -> int:
        return len(self._groups)

    def set_tick(self, tick_ms: float) -> None:
        """Say how often values change at most; done before there are items."""
        self.tick_ms = max(float(tick_ms), self._limits.min_sampling_ms)

    def revise(self, requested_ms: float, publishing_ms: float, node_ms: float) -> float:
        """Return the sampling interval an item really gets (Part 4 §7.21).

        Args:
            requested_ms: As asked; negative: the publishing interval; 0: as fast as possible.
            publishing_ms: The subscription's publishing interval.
            node_ms: MinimumSamplingInterval of the node; not above 0: unknown.

        Returns:
            A multiple of the tick, so that there are not as many timers as ideas of a second.
        """
        wanted = publishing_ms if not math.isfinite(requested_ms) or requested_ms < 0 else requested_ms
        least = max(self._limits.min_sampling_ms, self.tick_ms)
        wanted = min(max(wanted, least, node_ms), self._limits.max_sampling_ms)
        return math.ceil(round(wanted / self.tick_ms, 6)) * self.tick_ms

    def join(self, item: Sampled, interval_ms: float, *, polled: bool) -> Group | None:
        """Enter an item where its samples are taken; None: it is told of each change at once."""
        if not polled and interval_ms <= self.tick_ms:
            return None
        group = self._group(interval_ms)
        group.enter(item, polled=polled)
        return group

    def _group(self, interval_ms: float) -> Group:
        group = self._groups.get(interval_ms)
        if group is None:
            group = self._groups[interval_ms] = Group()
            group.ticket = self._schedule.every(interval_ms / 1000, group.work)
        return group

    def leave(self, item: Sampled, interval_ms: float) -> None:
        """Let an item go; a group without items ends."""
        group = self._groups.get(interval_ms)
        if group is None:
            return
        group.leave(item)
        self._end_if_empty(group, interval_ms)

    def follow(self, columns: Sampler, interval_ms: float) -> None:
        """Enter items that take their samples together."""
        self._group(interval_ms).columns[columns] = None

    def unfollow(self, columns: Sampler, interval_ms: float) -> None:
        """Let them go."""
        group = self._groups[interval_ms]
        del group.columns[columns]
        self._end_if_empty(group, interval_ms)

    def _end_if_empty(self, group: Group, interval_ms: float) -> None:
        if group.members or group.columns:
            return
        del self._groups[interval_ms]
        if group.ticket is not None:
            self._schedule.cancel(group.ticket)
