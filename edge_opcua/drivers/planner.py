"""Which requests read a set of addresses: few, none larger than the protocol allows, no tag torn; pure."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

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
    """What goes over the wire in one round trip."""

    fragments: tuple[Fragment, ...]


class Shape(Protocol):
    """The limits of a protocol on one connection."""

    def unit_bytes(self, space: Hashable) -> int:
        """Return how many bytes of the image one unit takes."""
        ...

    def max_units(self, space: Hashable) -> int:
        """Return how many units one fragment may have."""
        ...

    def max_gap(self, space: Hashable) -> int:
        """Return how many unwanted units may be read to save a fragment."""
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


def plan_reads(places: Sequence[Place], shape: Shape, holes: Holes | None = None) -> ReadPlan:
    """Plan the requests for all rows that are not known to be bad.

    Args:
        places: Address of each row.
        shape: Limits of the protocol.
        holes: What is known to be unreadable.
    """
    known = holes or Holes()
    wanted = sorted(
        (row for row in range(len(places)) if row not in known.bad),
        key=lambda row: (repr(places[row].space), places[row].start, -places[row].size),
    )
    fragments: list[Fragment] = []
    image_at = [-1] * len(places)
    end_of_image = 0
    for start, size, rows in _stretches(places, wanted, shape, known.cuts):
        space = places[rows[0]].space
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


def _stretches(
    places: Sequence[Place], wanted: Sequence[int], shape: Shape, cuts: set[tuple[Hashable, int]]
) -> Iterator[tuple[int, int, tuple[int, ...]]]:
    """Yield start, size and rows of what is read in one piece; larger than a fragment only for one row."""
    rows: list[int] = []
    start = end = 0
    for row in wanted:
        place = places[row]
        if rows and not _joins(place, places[rows[0]].space, start, end, shape, cuts):
            yield start, end - start, tuple(rows)
            rows = []
        if not rows:
            start, end = place.start, place.start
        rows.append(row)
        end = max(end, place.start + place.size)
    if rows:
        yield start, end - start, tuple(rows)


def _joins(
    place: Place, space: Hashable, start: int, end: int, shape: Shape, cuts: set[tuple[Hashable, int]]
) -> bool:
    if place.space != space or (space, place.start) in cuts:
        return False
    return place.start - end <= shape.max_gap(space) and max(
        end, place.start + place.size
    ) - start <= shape.max_units(space)


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
