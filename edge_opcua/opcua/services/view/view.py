"""Browse, BrowseNext, TranslateBrowsePathsToNodeIds, RegisterNodes, UnregisterNodes (Part 4 §5.9).

What a caller may not browse does not exist here: it is in no result, leads to no path, and asked for by its
NodeId it is BadNodeIdUnknown. There are no views.
"""

from __future__ import annotations

import secrets
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from weakref import WeakKeyDictionary

from asyncua import ua
from asyncua.common.utils import ServiceError
from asyncua.server.address_space import AddressSpace

from edge_opcua.opcua.access import Access, Permission
from edge_opcua.opcua.limits import ServerLimits
from edge_opcua.opcua.services.service import Caller, Service
from edge_opcua.opcua.services.slices import SLICE, answer, begin
from edge_opcua.opcua.services.view.paths import Paths
from edge_opcua.opcua.types import Subtypes, attribute

_POINT_BYTES: Final = 16
_FORWARD, _INVERSE, _BOTH = (
    int(getattr(ua.BrowseDirection, each)) for each in ("Forward", "Inverse", "Both")
)
_MAY_BROWSE: Final = int(Permission.Browse)
_PATHS_PER_SLICE: Final = 25
_ALL: Final = int(ua.BrowseResultMask.All)
_MASK: Final = tuple(
    (int(getattr(ua.BrowseResultMask, name)), name)
    for name in ("ReferenceTypeId", "IsForward", "NodeClass", "BrowseName", "DisplayName", "TypeDefinition")
)
# What stands for a field that the client did not ask for (Part 4 §5.9.2.2: null).
_LEFT_OUT: Final[Mapping[str, Any]] = {
    "ReferenceTypeId": ua.NodeId(),
    "IsForward": False,
    "NodeClass": ua.NodeClass.Unspecified,
    "BrowseName": ua.QualifiedName(),
    "DisplayName": ua.LocalizedText(),
    "TypeDefinition": ua.ExpandedNodeId(),
}


@dataclass
class _Description:
    """A BrowseDescription with the enumeration as it came, so that an unknown one has its StatusCode."""

    NodeId: ua.NodeId = field(default_factory=ua.NodeId)
    BrowseDirection: ua.Int32 = 0
    ReferenceTypeId: ua.NodeId = field(default_factory=ua.NodeId)
    IncludeSubtypes: ua.Boolean = True
    NodeClassMask: ua.UInt32 = 0
    ResultMask: ua.UInt32 = 0


@dataclass
class _BrowseParameters:
    """The parameters of Browse, with those descriptions."""

    View: ua.ViewDescription = field(default_factory=ua.ViewDescription)
    RequestedMaxReferencesPerNode: ua.UInt32 = 0
    NodesToBrowse: list[_Description] = field(default_factory=list)


@dataclass(slots=True)
class _Search:
    """Where the search through one node's references stands.

    The references are those of the moment when Browse was asked; which of them the caller may see is decided
    when he gets them.

    Args:
        references: All of them.
        description: What the client wants.
        kinds: The reference types it wants; None: all.
        most: Most references in one result.
        position: The first one not yet looked at.
        request: Number of the request that keeps it as a continuation point.
    """

    references: Sequence[ua.ReferenceDescription]
    description: _Description
    kinds: frozenset[ua.NodeId] | None
    most: int
    position: int = 0
    request: int = 0


class Views:
    """The view services.

    Continuation points belong to the session and go with it: nobody but the session holds on to them, so they
    are freed together (a session that ends is forgotten by everybody).

    Args:
        aspace: The address space.
        access: Who may see what.
        limits: Most references in one result, most continuation points, most operations.
    """

    def __init__(self, aspace: AddressSpace, access: Access, limits: ServerLimits) -> None:
        self._aspace = aspace
        self._access = access
        self._limits = limits
        self._subtypes = Subtypes(aspace)
        self._paths = Paths(aspace, access, self._subtypes)
        self._points: WeakKeyDictionary[Caller, dict[bytes, _Search]] = WeakKeyDictionary()
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
            "RegisterNodes": Service(
                ua.RegisterNodesParameters, _register, ("NodesToRegister",), most.register
            ),
            "UnregisterNodes": Service(
                ua.UnregisterNodesParameters, _unregister, ("NodesToUnregister",), most.register
            ),
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

    def _search(self, caller: Caller, wanted: _Description, most: int) -> _Search | int:
        """Return what to look for, or the StatusCode why there is nothing to be found."""
        codes = ua.StatusCodes
        data = self._aspace.get(wanted.NodeId)
        if data is None or not self._access.bits(wanted.NodeId, caller.roles) & _MAY_BROWSE:
            return int(codes.BadNodeIdUnknown)
        if not _FORWARD <= wanted.BrowseDirection <= _BOTH:
            return int(codes.BadBrowseDirectionInvalid)
        kinds = None
        if not wanted.ReferenceTypeId.is_null():
            kind = attribute(self._aspace, wanted.ReferenceTypeId, ua.AttributeIds.NodeClass)
            if kind != ua.NodeClass.ReferenceType:
                return int(codes.BadReferenceTypeIdInvalid)
            if wanted.IncludeSubtypes:
                kinds = self._subtypes.of(wanted.ReferenceTypeId)
            else:
                kinds = frozenset({wanted.ReferenceTypeId})
        return _Search(tuple(data.references), wanted, kinds, most)

    def _browse(
        self, caller: Caller, searches: Sequence[_Search | int], response: Any
    ) -> Generator[None, None, Any]:
        self._requests += 1
        request = self._requests
        results = []
        work = 0
        for search in searches:
            if isinstance(search, int):
                results.append(ua.BrowseResult(StatusCode=ua.StatusCode(ua.UInt32(search))))
                continue
            result = ua.BrowseResult()
            for reference in self._matching(caller, search):
                work += 1
                if work >= SLICE:
                    work = 0
                    yield
                if reference is None:
                    continue
                if len(result.References) == search.most:
                    search.position -= 1  # this one is the first of the next result
                    self._keep(caller, search, result, request)
                    break
                result.References.append(reference)
            results.append(result)
        return (yield from answer(response, results, self._limits.response_bytes, _weight))

    def _matching(self, caller: Caller, search: _Search) -> Iterator[ua.ReferenceDescription | None]:
        """Yield the rest of a node's references as the client wants them, None for each that he does not."""
        wanted, kinds, roles = search.description, search.kinds, caller.roles
        bits, get = self._access.bits, self._aspace.get
        classes = wanted.NodeClassMask
        forward, inverse = wanted.BrowseDirection != _INVERSE, wanted.BrowseDirection != _FORWARD
        fields = [name for bit, name in _MASK if wanted.ResultMask & bit]
        whole = wanted.ResultMask & _ALL == _ALL
        for reference in search.references[search.position :]:
            search.position += 1
            if (
                (forward if reference.IsForward else inverse)
                and (kinds is None or reference.ReferenceTypeId in kinds)
                and (not classes or classes & reference.NodeClass)
                # A reference may outlive its target.
                and get(reference.NodeId) is not None
                and bits(reference.NodeId, roles) & _MAY_BROWSE
            ):
                yield reference if whole else _masked(reference, fields)
            else:
                yield None

    def _keep(self, caller: Caller, search: _Search, result: ua.BrowseResult, request: int) -> None:
        """Keep the rest under a continuation point; those of earlier requests give way (Part 4 §7.9)."""
        points = self._points.setdefault(caller, {})
        if len(points) >= self._limits.browse_continuation_points:
            earlier = next((point for point, each in points.items() if each.request != request), None)
            if earlier is None:
                result.StatusCode = ua.StatusCode(ua.StatusCodes.BadNoContinuationPoints)
                result.References = []
                return
            del points[earlier]
        search.request = request
        point = secrets.token_bytes(_POINT_BYTES)
        points[point] = search
        result.ContinuationPoint = point

    # --- TranslateBrowsePathsToNodeIds ---------------------------------------------------------------

    def _serve_translate(self, caller: Caller, params: ua.TranslateBrowsePathsToNodeIdsParameters) -> Any:
        return begin(self._translate(caller, params.BrowsePaths))

    def _translate(self, caller: Caller, paths: Sequence[ua.BrowsePath]) -> Generator[None, None, Any]:
        results: list[ua.BrowsePathResult] = []
        for path in paths:
            if len(results) % _PATHS_PER_SLICE == _PATHS_PER_SLICE - 1:
                yield
            results += [(yield from self._paths.follow(caller, path))]
        response = ua.TranslateBrowsePathsToNodeIdsResponse()
        return (yield from answer(response, results, self._limits.response_bytes))


def _weight(result: ua.BrowseResult) -> int:
    return 1 + len(result.References)


def _masked(reference: ua.ReferenceDescription, fields: Sequence[str]) -> ua.ReferenceDescription:
    """Return a copy with these fields only, and the NodeId, which is always there."""
    shown = dict(_LEFT_OUT)
    for name in fields:
        shown[name] = getattr(reference, name)
    return ua.ReferenceDescription(NodeId=reference.NodeId, **shown)


def _register(_: Caller, params: ua.RegisterNodesParameters) -> ua.RegisterNodesResponse:
    """Return the same NodeIds: ours are found at once, there is no faster name for them (Part 4 §5.9.5)."""
    response = ua.RegisterNodesResponse()
    response.Parameters.RegisteredNodeIds = params.NodesToRegister
    return response


def _unregister(_: Caller, params: ua.UnregisterNodesParameters) -> ua.UnregisterNodesResponse:  # noqa: ARG001 - nothing was kept
    return ua.UnregisterNodesResponse()
