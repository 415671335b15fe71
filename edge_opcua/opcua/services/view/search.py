"""The search through one node's references, page by page, from references to the bytes of a BrowseResult."""

from __future__ import annotations

import struct
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from typing import Final

from asyncua import ua
from asyncua.common.utils import ServiceError

from edge_opcua.opcua.access import Access, Permission
from edge_opcua.opcua.addressspace import Nodes
from edge_opcua.opcua.services.service import Caller
from edge_opcua.opcua.services.slices import Pace
from edge_opcua.opcua.services.view.folder import REFERENCE, TagRows
from edge_opcua.opcua.services.view.references import encoder

__all__ = ["Description", "Page", "Search", "Searcher", "has_direction", "nothing"]

_FORWARD, _INVERSE, _BOTH = (
    int(getattr(ua.BrowseDirection, each)) for each in ("Forward", "Inverse", "Both")
)
_MAY_BROWSE: Final = int(Permission.Browse)
_ALL: Final = int(ua.BrowseResultMask.All)
_VARIABLE: Final = int(ua.NodeClass.Variable)
_BATCH: Final = 50
# A tag takes about an eighth of what a reference of a node takes.
_PER_UNIT: Final = 8
_STATUS: Final = struct.Struct("<I").pack
_COUNT: Final = struct.Struct("<i").pack
_NO_POINT: Final = _COUNT(-1)


@dataclass
class Description:
    """A BrowseDescription with the enumeration as it came, so that an unknown one has its StatusCode."""

    NodeId: ua.NodeId = field(default_factory=ua.NodeId)
    BrowseDirection: ua.Int32 = 0
    ReferenceTypeId: ua.NodeId = field(default_factory=ua.NodeId)
    IncludeSubtypes: ua.Boolean = True
    NodeClassMask: ua.UInt32 = 0
    ResultMask: ua.UInt32 = 0


@dataclass(slots=True)
class Search:
    """Where the search through one node's references stands.

    The references are those of the moment when Browse was asked, followed by the tags if it is their folder;
    which of them the caller may see is decided when he gets them.

    Args:
        references: All of them but the tags.
        tags: Numbers of the tags that follow.
        description: What the client wants.
        kinds: The reference types it wants; None: all.
        most: Most references in one result.
        position: The first one not yet looked at.
        request: Number of the request that keeps it as a continuation point.
        lasting: Whether it is known that the targets are there.
    """

    references: Sequence[ua.ReferenceDescription]
    tags: Sequence[int]
    description: Description
    kinds: frozenset[ua.NodeId] | None
    most: int
    position: int = 0
    request: int = 0
    lasting: bool = False


class Page:
    """One BrowseResult in the making.

    Attributes:
        count: References in it.
        size: Their bytes.
    """

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self.count = 0
        self.size = 0

    def add(self, encoded: bytes, count: int) -> None:
        """Add encoded references, one after the other."""
        self._parts.append(encoded)
        self.count += count
        self.size += len(encoded)

    def result(self, point: bytes | None) -> bytes:
        """Return the BrowseResult, with the continuation point under which there is more."""
        encoded = _NO_POINT if point is None else _COUNT(len(point)) + point
        return b"".join((_STATUS(0), encoded, _COUNT(self.count), *self._parts))


def has_direction(wanted: Description) -> bool:
    """Whether the BrowseDirection is one that there is."""
    return bool(_FORWARD <= wanted.BrowseDirection <= _BOTH)


def nothing(code: int) -> bytes:
    """Return a BrowseResult without references, and why."""
    return _STATUS(code) + _NO_POINT + _COUNT(0)


class Searcher:
    """Looks through references for what a client wants and may see.

    Args:
        aspace: The address space.
        access: Who may see what.
    """

    def __init__(self, aspace: Nodes, access: Access) -> None:
        self._aspace = aspace
        self._access = access
        self._rows = TagRows(aspace, access)

    def search(self, wanted: Description, kinds: frozenset[ua.NodeId] | None, most: int) -> Search:
        """Return a search through the references that a node has now."""
        node = wanted.NodeId
        data = self._aspace.get(node)
        if data is None:
            number = self._aspace.tags.number(node)
            known = None if number is None else self._rows.references_of(number)
            found = self._aspace.references_of(node) if known is None else known
            return Search(found, (), wanted, kinds, most, lasting=known is not None)
        tags = self._rows.order if node == self._aspace.tags.folder else ()
        return Search(tuple(data.references), tags, wanted, kinds, most)

    def fill(
        self, page: Page, search: Search, caller: Caller, pace: Pace, most_bytes: int
    ) -> Generator[None, None, bool]:
        """Go on with a search until the page is full or the search at its end; return whether there is more.

        Raises:
            ServiceError: BadResponseTooLarge.
        """
        matches, encode = self._filter(search, caller), encoder(search.description.ResultMask & _ALL)
        references = search.references
        for start in range(search.position, len(references), _BATCH):
            stop = min(start + _BATCH, len(references))
            if pace.is_over(stop - start):
                _check(page, most_bytes)
                yield
            found = [each for each in range(start, stop) if matches(references[each])]
            taken = found[: search.most - page.count]
            page.add(b"".join([encode(references[each]) for each in taken]), len(taken))
            if len(found) > len(taken):
                search.position = found[len(taken)]
                return True
        search.position = max(search.position, len(references))
        _check(page, most_bytes)
        return (yield from self._fill_tags(page, search, caller, pace, most_bytes))

    def _filter(self, search: Search, caller: Caller) -> Callable[[ua.ReferenceDescription], bool]:
        wanted, kinds, roles, lasting = search.description, search.kinds, caller.roles, search.lasting
        bits, knows, classes = self._access.bits, self._aspace.knows, wanted.NodeClassMask
        forward, inverse = wanted.BrowseDirection != _INVERSE, wanted.BrowseDirection != _FORWARD

        def matches(reference: ua.ReferenceDescription) -> bool:
            return bool(
                (forward if reference.IsForward else inverse)
                and (kinds is None or reference.ReferenceTypeId in kinds)
                and (not classes or classes & reference.NodeClass)
                # A reference may outlive its target.
                and (lasting or knows(reference.NodeId))
                and bits(reference.NodeId, roles) & _MAY_BROWSE
            )

        return matches

    def _fill_tags(
        self, page: Page, search: Search, caller: Caller, pace: Pace, most_bytes: int
    ) -> Generator[None, None, bool]:
        if not _are_tags_wanted(search):
            return False
        before, rows = len(search.references), self._rows
        mask = search.description.ResultMask & _ALL
        at = search.position - before
        while at < len(search.tags):
            stop = min(at + rows.step, len(search.tags))
            numbers = search.tags[at:stop]
            learnt = rows.learn(numbers)
            visible = rows.visible(numbers, caller.roles)
            taken = visible[: search.most - page.count]
            page.add(rows.encode(taken, mask), len(taken))
            if len(visible) > len(taken):
                search.position = before + at + numbers.index(visible[len(taken)])
                return True
            seen, at = stop - at, stop
            if pace.is_over(learnt + seen // _PER_UNIT):
                _check(page, most_bytes)
                yield
        return False


def _are_tags_wanted(search: Search) -> bool:
    wanted = search.description
    return bool(
        len(search.tags)
        and wanted.BrowseDirection != _INVERSE
        and (search.kinds is None or REFERENCE in search.kinds)
        and (not wanted.NodeClassMask or wanted.NodeClassMask & _VARIABLE)
    )


def _check(page: Page, most_bytes: int) -> None:
    if page.size > most_bytes:
        raise ServiceError(ua.StatusCodes.BadResponseTooLarge)
