"""Browse, BrowseNext, TranslateBrowsePathsToNodeIds, RegisterNodes, UnregisterNodes (Part 4 §5.9).

What a caller may not browse does not exist here: it is in no result, leads to no path, and asked for by its
NodeId it is BadNodeIdUnknown. There are no views.
"""

from __future__ import annotations

import secrets
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from weakref import WeakKeyDictionary

from asyncua import ua
from asyncua.common.utils import ServiceError

from edge_opcua.opcua.access import Access, Permission
from edge_opcua.opcua.addressspace import Nodes
from edge_opcua.opcua.limits import ServerLimits
from edge_opcua.opcua.services.service import Caller, Service
from edge_opcua.opcua.services.slices import Encoded, Pace, answer, begin
from edge_opcua.opcua.services.view.paths import Paths
from edge_opcua.opcua.services.view.register import Registration
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
            "Browse": Service(_BrowseParameters, self._serve_browse, ("NodesToBrowse",), most.browse),
            "BrowseNext": Service(
                ua.BrowseNextParameters, self._serve_browse_next, ("ContinuationPoints",), most.browse
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
        most = params.RequestedMaxReferencesPerNode or self._limits.references_per_node
        most = min(most, self._limits.references_per_node)
        searches = [self._search(caller, wanted, most) for wanted in params.NodesToBrowse]
        return begin(self._browse(caller, searches, ua.BrowseResponse()))

    def _serve_browse_next(self, caller: Caller, params: ua.BrowseNextParameters) -> Any:
        points = self._points.get(caller, {})
        searches = [points.pop(point or b"", None) for point in params.ContinuationPoints]
        if params.ReleaseContinuationPoints:
            return ua.BrowseNextResponse()  # Part 4 §5.9.3.2: the results are empty
        invalid = int(ua.StatusCodes.BadContinuationPointInvalid)
        found = [invalid if each is None else each for each in searches]
        return begin(self._browse(caller, found, ua.BrowseNextResponse()))

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

    def _browse(
        self, caller: Caller, searches: Sequence[Search | int], response: Any
    ) -> Generator[None, None, Encoded]:
        self._requests += 1
        request, pace, room = self._requests, Pace(), self._limits.response_bytes
        parts = [len(searches).to_bytes(_LENGTH_BYTES, "little")]
        for search in searches:
            if isinstance(search, int):
                result = nothing(search)
                if pace.is_over():
                    yield
            else:
                page = Page()
                more = yield from self._searcher.fill(page, search, caller, pace, room)
                result = self._keep(caller, search, page, request) if more else page.result(None)
            room -= len(result)
            if room < 0:
                raise ServiceError(ua.StatusCodes.BadResponseTooLarge)
            parts.append(result)
        parts.append(_NO_DIAGNOSTICS)
        return Encoded(response, b"".join(parts))

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


def _weight(result: ua.BrowsePathResult) -> int:
    return 1 + len(result.Targets)
