"""AliasNames (Part 17): ``<device>/<tag>``, the name everybody here uses, to the node that shows the tag.

A client that asks by name needs no NodeId in its project. Aliases are answered from the tag table; there is
no node for each, so that a hundred thousand tags cost nothing to browse.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final, Protocol

from asyncua import ua

from edge_opcua.config.schema import EdgeConfig
from edge_opcua.core.clock import Clock
from edge_opcua.opcua.access import Access, Kind, Permission
from edge_opcua.opcua.addressspace import Nodes
from edge_opcua.opcua.namespaces import Names, Namespace, plant_id
from edge_opcua.opcua.services.event.like import compile_like
from edge_opcua.opcua.services.service import caller
from edge_opcua.opcua.space import tag_node_names
from edge_opcua.opcua.types import is_subtype

__all__ = ["MAX_FOUND", "Aliases", "PlantAliases", "version_time"]

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


class AliasNames(Protocol):
    """Nodes by alias."""

    def get(self, alias: str, /) -> ua.NodeId | None:
        """Return the node of an alias, None if there is none such."""
        ...

    def items(self) -> Iterable[tuple[str, ua.NodeId]]:
        """Return every alias and its node, best match first."""
        ...


class PlantAliases:
    """The public name of every tag and capture that clients can see, in the order of the tables.

    Only those are kept that the table gives a NodeId of its own; of the others the name is part of theirs.

    Args:
        aspace: The address space.
        config: The machine.
    """

    def __init__(self, aspace: Nodes, config: EdgeConfig) -> None:
        self._aspace = aspace
        self._config = config
        self._names = Names(config.site.machine)
        tags = aspace.tags
        self._own = {
            f"{tags.device(number)}/{name}": number
            for number, (own, name) in zip(
                tags.order, tags.configs.fields(("node_id", "name"), tags.order), strict=True
            )
            if own
        }

    def get(self, alias: str) -> ua.NodeId | None:
        """Return the node of an alias, None if there is none such."""
        number = self._own.get(alias)
        if number is not None:
            return self._aspace.tags.node_id(number)
        device, _, name = alias.partition("/")
        return self._tag(device, name) or self._capture(device, name)

    def items(self) -> Iterator[tuple[str, ua.NodeId]]:
        """Yield every alias and its node."""
        for device in self._config.devices:
            for start in range(0, len(device.tags), _SLICE):
                part = device.tags[start : start + _SLICE]
                nodes = map(plant_id, tag_node_names(self._names, part))
                for name, node in zip(part.column("name"), nodes, strict=True):
                    if self._aspace.knows(node):
                        yield f"{device.name}/{name}", node
            for capture in device.captures:
                found = self._capture(device.name, capture.name)
                if found is not None:
                    yield f"{device.name}/{capture.name}", found

    def _tag(self, device: str, name: str) -> ua.NodeId | None:
        tags = self._aspace.tags
        number = tags.find(self._names.tag(name).encode("utf-8", "surrogatepass"))
        if number is None or tags.device(number) != device or tags.configs[number].name != name:
            return None
        return tags.node_id(number)

    def _capture(self, device: str, name: str) -> ua.NodeId | None:
        there = any(
            capture.name == name
            for each in self._config.devices
            if each.name == device
            for capture in each.captures
        )
        node = plant_id(f"{self._names.capture(name)}.Waveform")
        return node if there and self._aspace.knows(node) else None


def version_time(utc_ns: int) -> int:
    """Return a time as VersionTime, seconds since 2000-01-01 UTC."""
    return max(0, utc_ns - _YEAR_2000_NS) // 1_000_000_000


class Aliases:
    """Answers FindAlias (Part 17 §6.3.2).

    Args:
        aspace: The address space.
        access: Who may see what: an alias whose node is hidden from the caller is not found.
        names: Node by alias.
    """

    def __init__(self, aspace: Nodes, access: Access, names: AliasNames) -> None:
        self._aspace = aspace
        self._access = access
        self._names = names

    def install(self, clock: Clock) -> None:
        """Put the methods in their places."""
        for method in (*_WITH_TAGS, *_WITHOUT):
            node = ua.NodeId(int(method))
            self._aspace.add_method_callback(node, self.find if method in _WITH_TAGS else _find_nothing)
            self._access.mark(Kind.OWN, [node])
        self.use(self._names, clock)

    def use(self, names: AliasNames, clock: Clock) -> None:
        """Answer from other names from now on: LastChange says when that was (Part 17 §9.2)."""
        self._names = names
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
