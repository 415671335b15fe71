"""Whose turn it is on a line: each unit of each device in turn, writes before reads; bounded and pure."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Hashable, Iterator
from typing import Final, Generic, TypeVar

_Item = TypeVar("_Item")

MAX_WAITING: Final = 4096


class Turns(Generic[_Item]):
    """What waits for a line, by lane; a lane is one unit of one device."""

    def __init__(self) -> None:
        self._urgent: deque[tuple[Hashable, _Item]] = deque()
        self._lanes: OrderedDict[Hashable, deque[_Item]] = OrderedDict()
        self._count = 0

    def __len__(self) -> int:
        return self._count

    @property
    def full(self) -> bool:
        """Whether nothing more may be put in: many more wait than a line could ever serve."""
        return self._count >= MAX_WAITING

    def put(self, lane: Hashable, item: _Item, *, urgent: bool = False) -> None:
        """Let something wait behind its lane's others, or, if urgent, behind the urgent ones of all lanes."""
        self._count += 1
        if urgent:
            self._urgent.append((lane, item))
        else:
            self._lanes.setdefault(lane, deque()).append(item)

    def put_first(self, lane: Hashable, item: _Item) -> None:
        """Let something that was taken already go on before everything else."""
        self._count += 1
        self._urgent.appendleft((lane, item))

    def take(self, may: Callable[[_Item], bool]) -> _Item | None:
        """Return the next one that may go, or None; its lane goes to the end of the line.

        Args:
            may: Whether something may go now; what may not keeps its place.
        """
        for place, (_, item) in enumerate(self._urgent):
            if may(item):
                del self._urgent[place]
                self._count -= 1
                return item
        for lane, items in self._lanes.items():
            if may(items[0]):
                self._lanes.move_to_end(lane)
                if len(items) == 1:
                    del self._lanes[lane]
                self._count -= 1
                return items.popleft()
        return None

    def clear(self) -> Iterator[_Item]:
        """Take out and yield everything."""
        urgent, self._urgent = self._urgent, deque()
        lanes, self._lanes = self._lanes, OrderedDict()
        self._count = 0
        yield from (item for _, item in urgent)
        for items in lanes.values():
            yield from items
