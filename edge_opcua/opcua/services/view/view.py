"""Browse, BrowseNext, TranslateBrowsePathsToNodeIds, RegisterNodes, UnregisterNodes (Part 4 §5.9).

What a caller may not browse does not exist here: it is in no result, leads to no path, and asked for by its
NodeId it is BadNodeIdUnknown. There are no views.
"""

from __future__ import annotations

import secrets
from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from weakref import WeakKeyDictionary

from asyncua import ua
from asyncua.common.utils import ServiceError
from asyncua.ua.ua_binary import nodeid_to_binary

from edge_opcua.opcua.access import Access, Permission
from edge_opcua.opcua.addressspace import Nodes
from edge_opcua.opcua.limits import ServerLimits
from edge_opcua.opcua.services.service import Caller, Reply, Service
from edge_opcua.opcua.services.slices import Encoded, Pace, Rest, answer, begin
from edge_opcua.opcua.services.view.paths import Paths
from edge_opcua.opcua.services.view.register import Registration
from edge_opcua.opcua.services.view.request import browse_next_request, browse_request
from edge_opcua.opcua.services.view.search import (
    Description,
    Page,
    Search,
    Searcher,
    has_direction,
    nothing,
)
from edge_opcua.opcua.types import Subtypes

_POINT_BYTES: Final = 16
_LENGTH_BYTES: Final = 4
_MAY_BROWSE: Final = int(Permission.Browse)
_NO_DIAGNOSTICS: Final = bytes(4)
# What it takes to begin with a node, in what a slice counts in.
_PER_NODE: Final = 4
_TYPE_IDS: Final[Mapping[type[Any], bytes]] = {
    kind: bytes(nodeid_to_binary(kind().TypeId)) for kind in (ua.BrowseResponse, ua.BrowseNextResponse)
}


@dataclass
class _BrowseParameters:
    """The parameters of Browse, with descriptions of our own."""

    View: ua.ViewDescription = field(default_factory=ua.ViewDescription)
    RequestedMaxReferencesPerNode: ua.UInt32 = 0
    NodesToBrowse: list[Description] = field(default_factory=list)


class Views:
    """The view services.

    Continuation points belong to the session and go with it: nobody but the session holds on to them, so they
    are freed together (a session that ends is forgotten by everybody).

    Args:
        aspace: The address space.
        access: Who may see what.
        limits: Most references in one result, most continuation points, most operations.
    """

    def __init__(self, aspace: Nodes, access: Access, limits: ServerLimits) -> None:
        self._aspace = aspace
        self._access = access
        self._limits = limits
        self._subtypes = Subtypes(aspace)
        self._searcher = Searcher(aspace, access)
        self._paths = Paths(aspace, access, self._subtypes)
        self._points: WeakKeyDictionary[Caller, dict[bytes, Search]] = WeakKeyDictionary()
        self._requests = 0

    def services(self) -> Mapping[str, Service]:
        """Browse, BrowseNext, TranslateBrowsePathsToNodeIds, RegisterNodes, UnregisterNodes."""
        most = self._limits.operations
        return {
            "Browse": Service(
                _BrowseParameters,
                self._serve_browse,
                ("NodesToBrowse",),
                most.browse,
                raw=self._browse_raw,
            ),
            "BrowseNext": Service(
                ua.BrowseNextParameters,
                self._serve_browse_next,
                ("ContinuationPoints",),
                most.browse,
                changes=True,
                raw=self._browse_next_raw,
            ),
            "TranslateBrowsePathsToNodeIds": Service(
                ua.TranslateBrowsePathsToNodeIdsParameters,
                self._serve_translate,
                ("BrowsePaths",),
                most.translate,
            ),
            **Registration(self._limits).services(),
        }

    def points(self) -> int:
        """Return how many continuation points there are, all sessions together."""
        return sum(map(len, self._points.values()))

    # --- Browse, BrowseNext --------------------------------------------------------------------------

    def _serve_browse(self, caller: Caller, params: _BrowseParameters) -> Any:
        if not params.View.ViewId.is_null():
            raise ServiceError(ua.StatusCodes.BadViewIdUnknown)
        most = params.RequestedMaxReferencesPerNode
        return begin(_response(ua.BrowseResponse(), self._browse(caller, params.NodesToBrowse, most)))

    def _browse_raw(self, caller: Caller, whole: bytes, at: int, reply: Reply) -> bool | Rest[Any]:
        found = browse_request(whole, at, self._limits)
        if found is None:
            return False
        most, wanted = found
        return _begin_raw(self._browse(caller, wanted, most), ua.BrowseResponse, reply)

    def _serve_browse_next(self, caller: Caller, params: ua.BrowseNextParameters) -> Any:
        searches = self._taken(caller, [point or b"" for point in params.ContinuationPoints])
        if params.ReleaseContinuationPoints:
            return ua.BrowseNextResponse()  # Part 4 §5.9.3.2: the results are empty
        return begin(_response(ua.BrowseNextResponse(), self._fill(caller, searches, len(searches))))

    def _browse_next_raw(self, caller: Caller, whole: bytes, at: int, reply: Reply) -> bool | Rest[Any]:
        points = browse_next_request(whole, at, self._limits)
        if points is None:
            return False
        searches = self._taken(caller, points)
        return _begin_raw(self._fill(caller, searches, len(searches)), ua.BrowseNextResponse, reply)

    def _taken(self, caller: Caller, points: Sequence[bytes]) -> list[Search | int]:
        """Return the searches under continuation points, which are good once."""
        kept = self._points.get(caller, {})
        invalid = int(ua.StatusCodes.BadContinuationPointInvalid)
        return [kept.pop(point, invalid) for point in points]

    def _browse(
        self, caller: Caller, wanted: Sequence[Description], most: int
    ) -> Generator[None, None, bytes]:
        limit = self._limits.references_per_node
        most = min(most or limit, limit)
        return self._fill(caller, (self._search(caller, each, most) for each in wanted), len(wanted))

    def _search(self, caller: Caller, wanted: Description, most: int) -> Search | int:
        """Return what to look for, or the StatusCode why there is nothing to be found."""
        codes = ua.StatusCodes
        node = wanted.NodeId
        if not self._aspace.knows(node) or not self._access.bits(node, caller.roles) & _MAY_BROWSE:
            return int(codes.BadNodeIdUnknown)
        if not has_direction(wanted):
            return int(codes.BadBrowseDirectionInvalid)
        kinds = None
        if not wanted.ReferenceTypeId.is_null():
            kind = self._aspace.attribute(wanted.ReferenceTypeId, ua.AttributeIds.NodeClass)
            if kind != ua.NodeClass.ReferenceType:
                return int(codes.BadReferenceTypeIdInvalid)
            if wanted.IncludeSubtypes:
                kinds = self._subtypes.of(wanted.ReferenceTypeId)
            else:
                kinds = frozenset({wanted.ReferenceTypeId})
        return self._searcher.search(wanted, kinds, most)

    def _fill(
        self, caller: Caller, searches: Iterable[Search | int], count: int
    ) -> Generator[None, None, bytes]:
        """Return the results, encoded, as far as one answer takes them."""
        self._requests += 1
        request, pace, room = self._requests, Pace(), self._limits.response_bytes
        parts = [count.to_bytes(_LENGTH_BYTES, "little")]
        for search in searches:
            if pace.is_over(_PER_NODE):
                yield
            if isinstance(search, int):
                result = nothing(search)
            else:
                page = Page()
                more = yield from self._searcher.fill(page, search, caller, pace, room)
                result = self._keep(caller, search, page, request) if more else page.result(None)
            room -= len(result)
            if room < 0:
                raise ServiceError(ua.StatusCodes.BadResponseTooLarge)
            parts.append(result)
        parts.append(_NO_DIAGNOSTICS)
        return b"".join(parts)

    def _keep(self, caller: Caller, search: Search, page: Page, request: int) -> bytes:
        """Keep the rest under a continuation point; those of earlier requests give way (Part 4 §7.9)."""
        points = self._points.setdefault(caller, {})
        if len(points) >= self._limits.browse_continuation_points:
            earlier = next((point for point, each in points.items() if each.request != request), None)
            if earlier is None:
                return nothing(int(ua.StatusCodes.BadNoContinuationPoints))
            del points[earlier]
        search.request = request
        point = secrets.token_bytes(_POINT_BYTES)
        points[point] = search
        return page.result(point)

    # --- TranslateBrowsePathsToNodeIds ---------------------------------------------------------------

    def _serve_translate(self, caller: Caller, params: ua.TranslateBrowsePathsToNodeIdsParameters) -> Any:
        return begin(self._translate(caller, params.BrowsePaths))

    def _translate(self, caller: Caller, paths: Sequence[ua.BrowsePath]) -> Generator[None, None, Any]:
        results: list[ua.BrowsePathResult] = []
        pace = Pace()
        for path in paths:
            results += [(yield from self._paths.follow(caller, path, pace))]
        response = ua.TranslateBrowsePathsToNodeIdsResponse()
        return (yield from answer(response, results, self._limits.response_bytes, _weight))


def _response(response: Any, work: Generator[None, None, bytes]) -> Generator[None, None, Encoded]:
    """Do a work and return its bytes as a response."""
    return Encoded(response, (yield from work))


def _begin_raw(work: Generator[None, None, bytes], response: type[Any], reply: Reply) -> bool | Rest[Encoded]:
    """Do the first slice of a work; send its bytes if that was all, else return the rest."""
    try:
        next(work)
    except StopIteration as done:
        reply.send_bytes(_TYPE_IDS[response], done.value)
        return True
    return Rest(_response(response(), work))


def _weight(result: ua.BrowsePathResult) -> int:
    return 1 + len(result.Targets)
