"""Which requests read a set of addresses: few, none larger than the protocol allows, no tag torn; pure.

Unwanted units between two tags are read along where that costs less than another request (the cost model)::

    cost of a plan = sum over its stretches of   overhead + size x wire bytes / byte rate

:func:`_cheapest` finds the plan of least cost, not just a good one.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Final, Protocol

from edge_opcua.core.ports import Address
from edge_opcua.drivers.codec import Codec


class Place(Address, Protocol):
    """An address as the planner needs it; each protocol's address class is one."""

    @property
    def space(self) -> Hashable:
        """What one fragment can cover, e.g. unit and area, or a data block."""
        ...

    @property
    def start(self) -> int:
        """First unit (register, bit or byte)."""
        ...

    @property
    def size(self) -> int:
        """Units the value takes."""
        ...

    @property
    def element_size(self) -> int:
        """Units that two requests must not tear apart."""
        ...

    @property
    def codec(self) -> Codec:
        """How wire bytes become the value."""
        ...


@dataclass(frozen=True, slots=True)
class Fragment:
    """One stretch of one space, read at once.

    Args:
        space: Where.
        start: First unit.
        size: Units.
        image_at: Byte of the image at which its bytes are put.
        rows: Rows that live in it, in the order of their addresses.
    """

    space: Hashable
    start: int
    size: int
    image_at: int = 0
    rows: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Request:
    """What goes over the wire in one round trip.

    Args:
        fragments: What is read.
        deadline_s: Longest wait for the answer where it is shorter than the wire's own, e.g. to find out
            whether a lost unit is there again; None: the wire's own.
    """

    fragments: tuple[Fragment, ...]
    deadline_s: float | None = None


class Shape(Protocol):
    """The limits of a protocol on one connection, and what its line carries."""

    @property
    def byte_rate(self) -> float:
        """Bytes per second that the line carries: ``ETHERNET_BYTE_RATE``, or what a serial line does."""
        ...

    def unit_bytes(self, space: Hashable) -> int:
        """Return how many bytes of the image one unit takes."""
        ...

    def wire_bytes(self, space: Hashable) -> float:
        """Return how many bytes of an answer one unit takes; 1/8 for bits."""
        ...

    def station(self, space: Hashable) -> Hashable:
        """Return which of several units on the connection has that space; None where there is only one."""
        ...

    def max_units(self, space: Hashable) -> int:
        """Return how many units one fragment may have."""
        ...

    def max_gap(self, space: Hashable) -> int | None:
        """Return how many unwanted units may be read to save a fragment; None: what the cost model says."""
        ...

    def fits(self, fragments: Sequence[Fragment], more: Fragment) -> bool:
        """Return whether a request that has these fragments can take one more."""
        ...


@dataclass(frozen=True, slots=True)
class ReadPlan:
    """How to read a set of rows.

    Args:
        requests: What to send, in order.
        image_bytes: Length of the image that the answers fill.
        image_at: For each row, the byte of the image at which it starts; -1 if it is not read.
    """

    requests: tuple[Request, ...]
    image_bytes: int
    image_at: tuple[int, ...]


@dataclass
class Holes:
    """What a device has taught us about its addresses.

    Args:
        bad: Rows that cannot be read, with the device's reason.
        cuts: Places before which a new fragment has to start, because something unreadable lies there.
    """

    bad: dict[int, str] = field(default_factory=dict)
    cuts: set[tuple[Hashable, int]] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class Stretch:
    """Units of one space that are not to be read along.

    Args:
        space: Where.
        start: First unit.
        end: The unit behind the last.
    """

    space: Hashable
    start: int
    end: int


ETHERNET_BYTE_RATE: Final = 10e6
# Before anything was measured: what most PLCs take to answer, and the bytes around an answer.
_GUESS_S: Final = 0.002
_FRAME_BYTES: Final = 20


def guessed_overhead_s(shape: Shape) -> float:
    """Return what a request costs apart from the units it reads, before that was measured, seconds."""
    return _GUESS_S + _FRAME_BYTES / shape.byte_rate


@dataclass(frozen=True, slots=True)
class Terms:
    """What decides which unwanted units are read along.

    Args:
        overhead_s: What a request costs apart from the units it reads, seconds; None: not measured yet.
        no_read: What must not be read along.
    """

    overhead_s: float | None = None
    no_read: tuple[Stretch, ...] = ()


def plan_reads(
    places: Sequence[Place], shape: Shape, holes: Holes | None = None, terms: Terms | None = None
) -> ReadPlan:
    """Plan the requests for all rows that are not known to be bad.

    Args:
        places: Address of each row.
        shape: Limits of the protocol.
        holes: What is known to be unreadable.
        terms: What decides about gaps.
    """
    known = holes or Holes()
    fragments: list[Fragment] = []
    image_at = [-1] * len(places)
    end_of_image = 0
    for stretch, rows in _stretches(places, shape, known, terms or Terms()):
        space, start = stretch.space, stretch.start
        size = stretch.end - start
        unit_bytes = shape.unit_bytes(space)
        for row in rows:
            image_at[row] = end_of_image + (places[row].start - start) * unit_bytes
        step = _step(size, shape.max_units(space), places[rows[0]].element_size)
        for offset in range(0, size, step):
            piece = min(step, size - offset)
            at = end_of_image + offset * unit_bytes
            fragments.append(Fragment(space, start + offset, piece, at, rows))
        end_of_image += size * unit_bytes
    return ReadPlan(tuple(pack(fragments, shape)), end_of_image, tuple(image_at))


def pack(fragments: Sequence[Fragment], shape: Shape) -> Iterator[Request]:
    """Put fragments into as few requests as the protocol allows, keeping their order."""
    current: list[Fragment] = []
    for fragment in fragments:
        if current and not shape.fits(current, fragment):
            yield Request(tuple(current))
            current = []
        current.append(fragment)
    if current:
        yield Request(tuple(current))


@dataclass(frozen=True, slots=True)
class _Item:
    """A row on its way into the plan: first unit, the unit behind its last, number."""

    start: int
    end: int
    row: int


def _stretches(
    places: Sequence[Place], shape: Shape, known: Holes, terms: Terms
) -> Iterator[tuple[Stretch, tuple[int, ...]]]:
    """Yield what is read in one piece and its rows; larger than a fragment only for one row."""
    spaces: dict[Hashable, list[_Item]] = {}
    barriers: dict[Hashable, list[tuple[int, int]]] = {}
    for stretch in terms.no_read:
        barriers.setdefault(stretch.space, []).append((stretch.start, stretch.end))
    cuts: dict[Hashable, set[int]] = {}
    for where, start in known.cuts:
        cuts.setdefault(where, set()).add(start)
    for row, place in enumerate(places):
        start = place.start
        if row in known.bad:
            barriers.setdefault(place.space, []).append((start, start + place.size))
        else:
            spaces.setdefault(place.space, []).append(_Item(start, start + place.size, row))
    for space in sorted(spaces, key=repr):
        items = sorted(spaces[space], key=lambda item: (item.start, -item.end))
        closed = _Closed.of(barriers.get(space, ()))
        limit = shape.max_units(space)
        gap = shape.max_gap(space)
        overhead = _NEVER if gap is not None else _overhead_units(space, shape, terms)
        for segment in _segments(items, limit, gap, closed, cuts.get(space, set())):
            for members in _cheapest(segment, limit, overhead):
                end = max(item.end for item in members)
                yield Stretch(space, members[0].start, end), tuple(item.row for item in members)


@dataclass(frozen=True, slots=True)
class _Closed:
    """What may not be read along in one space: first units in order, and how far all up to each reach."""

    starts: Sequence[int]
    reach: Sequence[int]

    @classmethod
    def of(cls, stretches: Iterable[tuple[int, int]]) -> _Closed:
        ordered = sorted(stretches)
        reach = accumulate((end for _, end in ordered), max)
        return cls([start for start, _ in ordered], list(reach))

    def meets(self, start: int, end: int) -> bool:
        """Return whether any of it lies between two units."""
        last = bisect_left(self.starts, end) - 1
        return start < end and last >= 0 and self.reach[last] > start


_NEVER: Final = 10**9  # units that nobody would read to save a request


def _overhead_units(space: Hashable, shape: Shape, terms: Terms) -> int:
    """Return how many units may be read in the time that another request costs."""
    overhead_s = guessed_overhead_s(shape) if terms.overhead_s is None else terms.overhead_s
    return min(_NEVER, round(overhead_s * shape.byte_rate / shape.wire_bytes(space)))


def _segments(
    items: Sequence[_Item], limit: int, gap: int | None, closed: _Closed, cuts: set[int]
) -> Iterator[list[_Item]]:
    """Divide the rows of a space where no stretch may go on; a row larger than a fragment is alone."""
    segment: list[_Item] = []
    end = 0
    for item in items:
        if item.end - item.start > limit:
            if segment:
                yield segment
                segment = []
            yield [item]
            continue
        too_far = gap is not None and item.start - end > gap
        if segment and (too_far or item.start in cuts or closed.meets(end, item.start)):
            yield segment
            segment = []
        end = max(end, item.end) if segment else item.end
        segment.append(item)
    if segment:
        yield segment


def _cheapest(items: Sequence[_Item], limit: int, overhead: int) -> Iterator[Sequence[_Item]]:
    """Divide rows into stretches of least cost: dynamic programming from the right, a window minimum.

    Args:
        items: Rows by first unit, none larger than ``limit``.
        limit: Most units of a stretch.
        overhead: What a stretch costs apart from its units, counted in units.
    """
    count = len(items)
    ends = [items[0].end] * count
    for i in range(1, count):
        ends[i] = max(ends[i - 1], items[i].end)
    # Cheapest from row i on: overhead - start[i] + the least of  end[k] + cost[k + 1]  over last rows k.
    cost = [0] * (count + 1)
    behind = [0] * count
    window: deque[tuple[int, int]] = deque()
    for i in range(count - 1, -1, -1):
        start = items[i].start
        last = ends[i] + cost[i + 1]
        while window and window[0][0] > last:
            window.popleft()
        window.appendleft((last, i))
        while len(window) > 1 and ends[window[-1][1]] - start > limit:  # one row alone may be larger
            window.pop()
        least, k = window[-1]
        cost[i] = overhead - start + least
        behind[i] = k + 1
    at = 0
    while at < count:
        yield items[at : behind[at]]
        at = behind[at]


def _step(size: int, max_units: int, element_size: int) -> int:
    """Return the size of the pieces of a stretch: whole, or the most whole elements that fit."""
    if size <= max_units:
        return size
    return max_units - max_units % element_size


def halves(rows: Sequence[int], places: Sequence[Place]) -> tuple[tuple[int, ...], tuple[int, ...]] | None:
    """Divide rows that could not be read together: at the widest gap, else in the middle.

    Args:
        rows: Rows of one space in the order of their addresses.
        places: Address of each row.

    Returns:
        Both parts, or None if the rows overlap and so stand or fall together.
    """
    best, best_score = 0, (-1, 0)
    end = places[rows[0]].start + places[rows[0]].size
    for i in range(1, len(rows)):
        place = places[rows[i]]
        gap = place.start - end
        if gap >= 0:
            score = (gap, -abs(2 * i - len(rows)))
            if score > best_score:
                best, best_score = i, score
        end = max(end, place.start + place.size)
    if not best:
        return None
    return tuple(rows[:best]), tuple(rows[best:])


def span(rows: Sequence[int], places: Sequence[Place]) -> Fragment:
    """Return the fragment that covers some rows of one space."""
    start = min(places[row].start for row in rows)
    end = max(places[row].start + places[row].size for row in rows)
    return Fragment(places[rows[0]].space, start, end - start, rows=tuple(rows))
