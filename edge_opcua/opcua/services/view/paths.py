"""From a start and the names on the way to NodeIds (TranslateBrowsePathsToNodeIds, Part 4 §5.9.4)."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Final

from asyncua import ua
from asyncua.common.utils import ServiceError

from edge_opcua.opcua.access import Access, Permission
from edge_opcua.opcua.addressspace import Nodes
from edge_opcua.opcua.services.service import Caller
from edge_opcua.opcua.services.slices import Pace
from edge_opcua.opcua.services.view.folder import REFERENCE, TagNames
from edge_opcua.opcua.types import Subtypes

MAX_ELEMENTS: Final = 100
MAX_TARGETS: Final = 1000
MAX_REFERENCES: Final = 200_000
_WHOLE_PATH: Final = 0xFFFF_FFFF
_MAY_BROWSE: Final = int(Permission.Browse)
# In what a slice counts: a path, and how many names can be compared meanwhile.
_PATH: Final = 10
_PER_UNIT: Final = 4


class Paths:
    """Follows browse paths.

    Args:
        aspace: The address space.
        access: Who may see what.
        subtypes: Of the reference types.
    """

    def __init__(self, aspace: Nodes, access: Access, subtypes: Subtypes) -> None:
        self._aspace = aspace
        self._access = access
        self._subtypes = subtypes
        self._names = TagNames(aspace.tags)

    def follow(
        self, caller: Caller, path: ua.BrowsePath, pace: Pace
    ) -> Generator[None, None, ua.BrowsePathResult]:
        """Return the targets of one path."""
        elements = path.RelativePath.Elements
        result = ua.BrowsePathResult()
        if pace.is_over(_PATH):
            yield
        try:
            self._check(caller, path.StartingNode, elements)
            yield from self._walk(caller, path, result, pace)
        except ServiceError as exc:
            result.StatusCode = ua.StatusCode(ua.UInt32(exc.code))
            result.Targets = []
        return result

    def _check(self, caller: Caller, start: ua.NodeId, elements: Sequence[ua.RelativePathElement]) -> None:
        codes = ua.StatusCodes
        if not elements:
            raise ServiceError(codes.BadNothingToDo)
        if len(elements) > MAX_ELEMENTS:
            raise ServiceError(codes.BadQueryTooComplex)
        if not all(element.TargetName.Name for element in elements):
            raise ServiceError(codes.BadBrowseNameInvalid)
        if not self._may_see(caller, start):
            raise ServiceError(codes.BadNodeIdUnknown)

    def _walk(
        self,
        caller: Caller,
        path: ua.BrowsePath,
        result: ua.BrowsePathResult,
        pace: Pace,
    ) -> Generator[None, None, None]:
        elements, here, seen = path.RelativePath.Elements, [path.StartingNode], 0
        for index, element in enumerate(elements):
            found: dict[ua.NodeId, None] = {}
            kinds = self._kinds(element)
            for node in here:
                references = self._references(node)
                seen += len(references)
                if seen > MAX_REFERENCES:
                    raise ServiceError(ua.StatusCodes.BadQueryTooComplex)
                targets = _targets(references, element, kinds)
                if node == self._aspace.tags.folder and _is_to_tags(element, kinds):
                    targets += yield from self._tags(element.TargetName)
                found.update(dict.fromkeys(targets))
                if pace.is_over(len(references) // _PER_UNIT + len(targets)):
                    yield
            here = self._sort_out(caller, found, index + 1 < len(elements), index + 1, result)
        result.Targets += [ua.BrowsePathTarget(node, ua.UInt32(_WHOLE_PATH)) for node in here]
        if not result.Targets:
            raise ServiceError(ua.StatusCodes.BadNoMatch)

    def _sort_out(
        self,
        caller: Caller,
        found: dict[ua.NodeId, None],
        more: bool,  # noqa: FBT001 - private, once
        following: int,
        result: ua.BrowsePathResult,
    ) -> list[ua.NodeId]:
        """Return where to go on from; who is in another server is a target with the rest of the path."""
        here = []
        for node in found:
            if not _is_elsewhere(node):
                if self._may_see(caller, node):
                    here.append(node)
                continue
            rest = following if more else _WHOLE_PATH
            result.Targets.append(ua.BrowsePathTarget(node, ua.UInt32(rest)))
            if more:
                result.StatusCode = ua.StatusCode(ua.StatusCodes.UncertainReferenceOutOfServer)
        if len(here) + len(result.Targets) > MAX_TARGETS:
            raise ServiceError(ua.StatusCodes.BadTooManyMatches)
        return here

    def _references(self, node: ua.NodeId) -> Sequence[ua.ReferenceDescription]:
        """Return the references of a node; of the folder of the tags all but those to the tags."""
        data = self._aspace.get(node)
        if data is None:
            return self._aspace.references_of(node)
        references: Sequence[ua.ReferenceDescription] = data.references
        return references

    def _tags(self, name: ua.QualifiedName) -> Generator[None, None, list[ua.NodeId]]:
        """Return the tags of a name."""
        yield from self._names.learn()
        return [self._aspace.tags.node_id(number) for number in self._names.find(name)]

    def _kinds(self, element: ua.RelativePathElement) -> frozenset[ua.NodeId] | None:
        """Return the reference types that a step follows; None: all (Part 4 §7.31)."""
        kind = element.ReferenceTypeId
        if kind.is_null():
            return None
        if element.IncludeSubtypes and self._aspace.knows(kind):
            return self._subtypes.of(kind)
        return frozenset({kind})

    def _may_see(self, caller: Caller, node: ua.NodeId) -> bool:
        return self._aspace.knows(node) and bool(self._access.bits(node, caller.roles) & _MAY_BROWSE)


def _targets(
    references: Sequence[ua.ReferenceDescription],
    element: ua.RelativePathElement,
    kinds: frozenset[ua.NodeId] | None,
) -> list[ua.NodeId]:
    """Return where one step of the path leads (Part 4 §7.31)."""
    forward, name = not element.IsInverse, element.TargetName
    return [
        reference.NodeId
        for reference in references
        if reference.IsForward == forward
        and reference.BrowseName == name
        and (kinds is None or reference.ReferenceTypeId in kinds)
    ]


def _is_to_tags(element: ua.RelativePathElement, kinds: frozenset[ua.NodeId] | None) -> bool:
    """Whether a step from their folder may lead to tags."""
    return not element.IsInverse and (kinds is None or REFERENCE in kinds)


def _is_elsewhere(node: ua.NodeId) -> bool:
    """Whether a node is in another server."""
    return isinstance(node, ua.ExpandedNodeId) and bool(node.ServerIndex)
