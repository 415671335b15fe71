"""AliasNames (Part 17): ``<device>/<tag>``, the name everybody here uses, to the node that shows the tag.

A client that asks by name needs no NodeId in its project. Aliases are answered from the tag table; there is
no node for each, so that a hundred thousand tags cost nothing to browse.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from asyncua import ua
from asyncua.server.address_space import AddressSpace

from edge_opcua.config.schema import EdgeConfig
from edge_opcua.core.clock import Clock
from edge_opcua.opcua.access import Access, Kind, Permission
from edge_opcua.opcua.namespaces import Names, Namespace, plant_id
from edge_opcua.opcua.services.event.like import compile_like
from edge_opcua.opcua.services.service import caller
from edge_opcua.opcua.space import tag_node_name
from edge_opcua.opcua.types import is_subtype

__all__ = ["MAX_FOUND", "Aliases", "aliases_of", "version_time"]

MAX_FOUND: Final = 10_000
_SLICE: Final = 100  # a client's worst pattern takes about 50 µs for a name
_ALIAS_FOR: Final = ua.NodeId(ua.ObjectIds.AliasFor)
_WILD: Final = frozenset("%_[]\\")
_LAST_CHANGE: Final = ua.NodeId(ua.ObjectIds.Aliases_LastChange)
# FindAlias of a category answers for everything below it (Part 17 §6.3.1); Topics has nothing.
_WITH_TAGS: Final = (ua.ObjectIds.Aliases_FindAlias, ua.ObjectIds.TagVariables_FindAlias)
_WITHOUT: Final = (ua.ObjectIds.Topics_FindAlias,)
# Part 5 §12.3: a VersionTime counts seconds from 2000-01-01 on.
_YEAR_2000_NS: Final = 946_684_800 * 1_000_000_000


def aliases_of(config: EdgeConfig) -> dict[str, ua.NodeId]:
    """Return the node of every tag and capture by its public name, in the order of the tables."""
    names = Names(config.site.machine)
    found = {}
    for device in config.devices:
        for tag in device.tags:
            found[f"{device.name}/{tag.name}"] = plant_id(tag_node_name(names, tag))
        for capture in device.captures:
            name = f"{names.capture(capture.name)}.Waveform"
            found[f"{device.name}/{capture.name}"] = plant_id(name)
    return found


def version_time(utc_ns: int) -> int:
    """Return a time as VersionTime, seconds since 2000-01-01 UTC."""
    return max(0, utc_ns - _YEAR_2000_NS) // 1_000_000_000


class Aliases:
    """Answers FindAlias (Part 17 §6.3.2).

    Args:
        aspace: The address space.
        access: Who may see what: an alias whose node is hidden from the caller is not found.
        names: Node by alias, best match first; what has no node is left out.
    """

    def __init__(self, aspace: AddressSpace, access: Access, names: Mapping[str, ua.NodeId]) -> None:
        self._aspace = aspace
        self._access = access
        self._names = {alias: node for alias, node in names.items() if node in aspace}

    def install(self, clock: Clock) -> None:
        """Put the methods in their places; aliases change only with a restart, so LastChange is now."""
        for method in (*_WITH_TAGS, *_WITHOUT):
            node = ua.NodeId(int(method))
            self._aspace.add_method_callback(node, self.find if method in _WITH_TAGS else _find_nothing)
            self._access.mark(Kind.OWN, [node])
        now = ua.Variant(version_time(clock.utc_ns()), ua.VariantType.UInt32)
        self._aspace[_LAST_CHANGE].attributes[ua.AttributeIds.Value].value = ua.DataValue(now)

    async def find(
        self, _parent: ua.NodeId, pattern: ua.Variant, reference: ua.Variant
    ) -> list[ua.Variant] | ua.StatusCode:
        """Return the aliases that match; BadInvalidArgument for a pattern that is none.

        BadResponseTooLarge if there are more than :data:`MAX_FOUND`.
        """
        try:
            matches = _matcher(pattern.Value or "")
        except ValueError:
            return ua.StatusCode(ua.StatusCodes.BadInvalidArgument)
        if not self._is_alias_for(reference.Value):
            return _answer([])
        found: list[Any] = []
        roles = caller().roles
        for seen, (alias, node) in enumerate(self._candidates(pattern.Value or "")):
            if seen % _SLICE == _SLICE - 1:
                await asyncio.sleep(0)
            if not matches(alias) or not self._access.may(roles, Permission.Browse, node):
                continue
            if len(found) == MAX_FOUND:
                return ua.StatusCode(ua.StatusCodes.BadResponseTooLarge)
            found.append(_alias(alias, node))
        return _answer(found)

    def _candidates(self, pattern: str) -> Iterator[tuple[str, ua.NodeId]]:
        """Yield what may match, the exact name first: ``_`` stands in many names, and is a wildcard."""
        exact = self._names.get(pattern)
        if exact is not None:
            yield pattern, exact
        if not _WILD.isdisjoint(pattern):
            yield from ((alias, node) for alias, node in self._names.items() if alias != pattern)

    def _is_alias_for(self, wanted: ua.NodeId | None) -> bool:
        """Whether AliasFor is the reference type wanted or a subtype of it; none wanted means any."""
        return wanted is None or wanted.is_null() or is_subtype(self._aspace, _ALIAS_FOR, wanted)


def _matcher(pattern: str) -> Callable[[str], bool]:
    return compile_like(pattern) if not _WILD.isdisjoint(pattern) else pattern.__eq__


def _alias(alias: str, node: ua.NodeId) -> ua.AliasNameDataType:
    target = ua.ExpandedNodeId(node.Identifier, node.NamespaceIndex)
    return ua.AliasNameDataType(ua.QualifiedName(alias, Namespace.PLANT), [target])


def _answer(found: list[Any]) -> list[ua.Variant]:
    return [ua.Variant(found, ua.VariantType.ExtensionObject, is_array=True)]


async def _find_nothing(_parent: ua.NodeId, _pattern: ua.Variant, _reference: ua.Variant) -> list[ua.Variant]:
    return _answer([])
