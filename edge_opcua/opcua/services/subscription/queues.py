"""Queues of monitored items: how long, what is discarded, and who carries the Overflow bit (pure)."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import Generic, TypeVar

# InfoType DataValue (0x0400) and its Overflow bit (0x0080), Part 4 §7.39.
OVERFLOW = 0x0480

T = TypeVar("T")


class ValueQueue(Generic[T]):
    """The queue of a data item (Part 4 §5.13.1.5): values, each with its Overflow bit.

    Args:
        size: Longest queue, at least 1.
        discard_oldest: Whether the oldest gives way; otherwise the newest is replaced.
    """

    __slots__ = ("_entries", "discard_oldest", "size")

    def __init__(self, size: int, *, discard_oldest: bool) -> None:
        self.size = size
        self.discard_oldest = discard_oldest
        self._entries: deque[tuple[T, bool]] = deque()

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[tuple[T, bool]]:
        return iter(self._entries)

    def push(self, value: T) -> bool:
        """Append a value; returns whether another was discarded for it.

        The Overflow bit tells where values are missing: on what is now the oldest, or on the new value that
        replaced the last one. A queue of one is a buffer, not a queue: it has no Overflow bit.
        """
        entries = self._entries
        if len(entries) < self.size:
            entries.append((value, False))
            return False
        if self.size == 1:
            entries[0] = (value, False)
            return True
        if self.discard_oldest:
            entries.popleft()
            entries[0] = (entries[0][0], True)
            entries.append((value, False))
        else:
            entries[-1] = (value, True)
        return True

    def pop(self) -> tuple[T, bool]:
        """Take the oldest value out."""
        return self._entries.popleft()

    def clear(self) -> None:
        """Forget everything (MonitoringMode Disabled)."""
        self._entries.clear()

    def resize(self, size: int, *, discard_oldest: bool) -> int:
        """Change size and policy, as ModifyMonitoredItems does; returns how many values were discarded."""
        self.size, self.discard_oldest = size, discard_oldest
        entries = self._entries
        lost = max(0, len(entries) - size)
        if lost and discard_oldest:
            for _ in range(lost):
                entries.popleft()
            entries[0] = (entries[0][0], True)
        elif lost:
            last = entries[-1]  # what is newest stays, as if it had replaced the others
            for _ in range(lost):
                entries.pop()
            entries[-1] = (last[0], True)
        if size == 1 and entries:
            entries[0] = (entries[0][0], False)
        return lost

    def restore(self, entries: Iterable[tuple[T, bool]]) -> None:
        """Take over what was queued elsewhere."""
        self._entries.extend(entries)


class EventQueue(Generic[T]):
    """The queue of an event item (Part 4 §7.22.3): what was lost is told by an event of its own.

    That event has a place beside the queue and is never discarded; the next one is made only after it
    was sent.

    Args:
        size: Longest queue, at least 1.
        discard_oldest: Whether the oldest gives way; then the notice comes first, otherwise last.
    """

    __slots__ = ("_events", "_first", "_last", "discard_oldest", "size")

    def __init__(self, size: int, *, discard_oldest: bool) -> None:
        self.size = size
        self.discard_oldest = discard_oldest
        self._events: deque[T] = deque()
        self._first: T | None = None
        self._last: T | None = None

    def __len__(self) -> int:
        return len(self._events) + (self._first is not None) + (self._last is not None)

    @property
    def told(self) -> bool:
        """Whether a notice of overflow waits to be sent."""
        return self._first is not None or self._last is not None

    def push(self, events: Sequence[T]) -> int:
        """Append events; returns how many were discarded: if any, a notice is due if none waits."""
        queued = self._events
        room = self.size - len(queued)
        if len(events) <= room:
            queued.extend(events)
            return 0
        lost = len(events) - room
        if self.discard_oldest:
            queued.extend(events)
            for _ in range(lost):
                queued.popleft()
        else:
            queued.extend(events[:room])
            queued[-1] = events[-1]
        return lost

    def tell(self, notice: T) -> None:
        """Enter the notice of overflow, unless one waits already."""
        if self.told:
            return
        if self.discard_oldest:
            self._first = notice
        else:
            self._last = notice

    def pop(self) -> T:
        """Take out what comes next.

        Raises:
            IndexError: Nothing waits.
        """
        if self._first is not None:
            notice, self._first = self._first, None
            return notice
        if not self._events and self._last is not None:
            notice, self._last = self._last, None
            return notice
        return self._events.popleft()

    def clear(self) -> None:
        """Forget everything (MonitoringMode Disabled)."""
        self._events.clear()
        self._first = self._last = None

    def resize(self, size: int, *, discard_oldest: bool) -> int:
        """Change size and policy; returns how many events were discarded."""
        self.size, self.discard_oldest = size, discard_oldest
        lost = max(0, len(self._events) - size)
        for _ in range(lost):
            if discard_oldest:
                self._events.popleft()
            else:
                self._events.pop()
        return lost
