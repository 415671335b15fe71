"""The tags as children of their folder: from the table straight to bytes, and from a BrowseName to the tag.

They are all Variables below one folder by one type of reference; what differs is the name and the type
definition, of which a byte per tag is kept once somebody browsed it.
"""

from __future__ import annotations

from collections.abc import Collection, Generator, Sequence
from typing import Any, Final, NamedTuple

from asyncua import ua

from edge_opcua.opcua.access import DEFAULTS, Access, Kind, Permission
from edge_opcua.opcua.addressspace import Nodes
from edge_opcua.opcua.items import item_type
from edge_opcua.opcua.services.slices import SLICE
from edge_opcua.opcua.services.view.references import (
    FORWARD,
    NO_CLASS,
    NO_NAME,
    NO_NODE,
    NO_TEXT,
    ONLY_TEXT,
    has,
    node_class,
    node_id,
)
from edge_opcua.opcua.tags.table import PLANT, TagTable
from edge_opcua.security.roles import Role

__all__ = ["REFERENCE", "TagNames", "TagRows"]

REFERENCE: Final = ua.NodeId(ua.ObjectIds.HasComponent)
_PROPERTY: Final = ua.NodeId(ua.ObjectIds.HasProperty)
_MAY_BROWSE: Final = int(Permission.Browse)
_LENGTH_BYTES: Final = 4
_USUAL: Final = 1024
_AT_ONCE: Final = 250
_AT_LEAST: Final = 25
# To look at a tag for the first time takes about a third of what a slice counts in.
_PER_UNIT: Final = 3
# What a tag's type definition and properties depend on, and whether it has a NodeId of its own.
_TELLING: Final = ("type", "length", "low", "high", "unit", "states", "scale", "offset", "node_id")
_INDEX: Final = int(PLANT).to_bytes(2, "little")
_NODE_ID: Final = bytes((int(ua.NodeIdType.String.value),)) + _INDEX
# Looking at a name takes about a fourth of what a slice counts in.
_PER_YIELD: Final = 4 * SLICE


class _Lengths(dict[int, bytes]):
    """Lengths as the codec writes them before a string, those of usual strings at hand."""

    def __missing__(self, length: int) -> bytes:
        return length.to_bytes(_LENGTH_BYTES, "little")


_LENGTHS: Final = _Lengths((length, length.to_bytes(_LENGTH_BYTES, "little")) for length in range(_USUAL))


class _Kind(NamedTuple):
    """What many tags have in common.

    Args:
        definition: Encoded type definition.
        usual: Whether the string of the NodeId is the folder's and the name.
        upward: References to the type and to the folder.
        properties: References to the properties; of each tag only the NodeIds are others.
    """

    definition: bytes
    usual: bool
    upward: tuple[ua.ReferenceDescription, ...]
    properties: tuple[ua.ReferenceDescription, ...]


class TagRows:
    """The references from the folder of the tags to the tags, and from them.

    Args:
        aspace: The address space.
        access: Who may see what.

    Attributes:
        step: How many to look at in one piece.
    """

    def __init__(self, aspace: Nodes, access: Access) -> None:
        self._aspace = aspace
        self._tags = aspace.tags
        self._access = access
        self._kinds: list[_Kind] = []
        self._kind_of: dict[int, int] | bytearray = bytearray()  # index of the kind, by number
        self._changes = aspace.tags.changes
        self._known: dict[tuple[Any, ...], int] = {}
        self._indices: dict[tuple[Any, ...], int] = {}
        # With many rules it takes long to find out who sees a tag.
        self.step = max(_AT_LEAST, _AT_ONCE // (1 + access.rule_count))

    @property
    def order(self) -> Sequence[int]:
        """Numbers of the tags, in the order of browsing; what becomes of them later does not change it."""
        return self._tags.order

    def learn(self, numbers: Sequence[int]) -> int:
        """Look at tags for the first time; return what work it is, in units of a slice."""
        if self._changes != self._tags.changes:
            self._changes = self._tags.changes
            self._kind_of, self._known, self._indices, self._kinds = {}, {}, {}, []
        kinds = self._kind_of
        if isinstance(kinds, bytearray):  # as many as there are were looked at in their order
            numbers = range(len(kinds), numbers[-1] + 1) if numbers else ()
        else:
            numbers = [each for each in numbers if each not in kinds]
        fields = self._tags.configs.fields(_TELLING, numbers)
        for number, (scalar, length, low, high, unit, states, scale, offset, own) in zip(
            numbers, fields, strict=True
        ):
            scaled = (scale, offset) != (1.0, 0.0)
            looks = (scalar, not length, low is None, high is None, not unit, not states, scaled, not own)
            kind = self._known.get(looks)
            if kind is None:
                kind = self._meet(looks, number)
            if isinstance(kinds, bytearray):
                kinds.append(kind)
            else:
                kinds[number] = kind
        return len(numbers) * (1 + self._access.rule_count) // _PER_UNIT

    def _meet(self, looks: tuple[Any, ...], number: int) -> int:
        """Return the kind of all tags that look like this one."""
        *_, usual = looks
        aspace, definition = self._aspace, node_id(item_type(self._tags.configs[number]))
        references = aspace.references_of(self._tags.node_id(number))
        below = [each for each in references if each.IsForward and each.ReferenceTypeId == _PROPERTY]
        above = [each for each in references if each not in below and aspace.knows(each.NodeId)]
        like = (definition, usual, *(each.BrowseName.Name for each in below))
        if like not in self._indices:
            self._indices[like] = len(self._kinds)
            self._kinds.append(_Kind(definition, usual, tuple(above), tuple(below)))
        self._known[looks] = self._indices[like]
        return self._known[looks]

    def references_of(self, number: int) -> Sequence[ua.ReferenceDescription] | None:
        """Return the references of a tag that was learnt, whose targets are all there; None: it was not."""
        if self._changes != self._tags.changes or not self._is_learnt(number):
            return None
        kind, name = self._kinds[self._kind_of[number]], self._tags.name(number)
        below = [
            ua.ReferenceDescription(
                each.ReferenceTypeId,
                True,  # noqa: FBT003 - IsForward
                ua.NodeId(f"{name}.{each.BrowseName.Name}", PLANT),
                each.BrowseName,
                each.DisplayName,
                each.NodeClass,
                each.TypeDefinition,
            )
            for each in kind.properties
        ]
        return (*kind.upward, *below)

    def _is_learnt(self, number: int) -> bool:
        kinds = self._kind_of
        return number < len(kinds) if isinstance(kinds, bytearray) else number in kinds

    def visible(self, numbers: Sequence[int], roles: frozenset[Role]) -> Sequence[int]:
        """Return those of some numbers that these roles see."""
        access = self._access
        if not access.rule_count:  # then set-points are seen by whoever sees what is plain
            return numbers if access.sum_of(DEFAULTS[Kind.PLAIN], roles) & _MAY_BROWSE else ()
        table_of, sum_of = access.table_of_tag, access.sum_of
        return [each for each in numbers if sum_of(table_of(each), roles) & _MAY_BROWSE]

    def encode(self, numbers: Sequence[int], mask: int) -> bytes:
        """Return the ReferenceDescriptions of these tags, one after the other.

        Args:
            numbers: Learnt before.
            mask: ResultMask without the bits that have no meaning.
        """
        head = node_id(REFERENCE) if has(mask, "ReferenceTypeId") else NO_NODE
        head += (FORWARD if has(mask, "IsForward") else bytes(1)) + _NODE_ID
        kind = node_class(ua.NodeClass.Variable) if has(mask, "NodeClass") else NO_CLASS
        defined = has(mask, "TypeDefinition")
        tails = [kind + (encoded if defined else NO_NODE) for encoded, *_ in self._kinds]
        usual = [each.usual for each in self._kinds]
        named, shown = has(mask, "BrowseName"), has(mask, "DisplayName")
        names, kinds, lengths, own = self._tags.names, self._kind_of, _LENGTHS, self._own_names(numbers)
        cut = len(_prefix(self._tags))
        parts: list[bytes] = []
        for number in numbers:
            node, of = names[number], kinds[number]
            name = node[cut:] if usual[of] else own[number]
            length = lengths[len(name)]
            parts += (head, lengths[len(node)], node)
            parts += (_INDEX, length, name) if named else (NO_NAME,)
            parts += (ONLY_TEXT, length, name, tails[of]) if shown else (NO_TEXT, tails[of])
        return b"".join(parts)

    def _own_names(self, numbers: Sequence[int]) -> dict[int, bytes]:
        """Return the names of the tags whose NodeIds do not tell them."""
        kinds, tells = self._kind_of, [each.usual for each in self._kinds]
        if all(tells) or not numbers:
            return {}
        wanted = [number for number in numbers if not tells[kinds[number]]]
        return {number: self._tags.configs.cell(number, "name").encode() for number in wanted}


class TagNames:
    """From a BrowseName to the tags that have it: several, if they are of several devices.

    The string of a tag's NodeId is its folder's and its name, unless the configuration gives it another one;
    so only those need an index, which is made when the first path leads to the folder.

    Args:
        tags: The table.
    """

    def __init__(self, tags: TagTable) -> None:
        self._tags = tags
        self._others: dict[str, int] = {}  # the first tag of each name
        self._more: dict[str, list[int]] = {}  # and those after it
        self._seen = 0
        self._changes = tags.changes

    def learn(self) -> Generator[None, None, None]:
        """Look for tags with a NodeId of their own, slice by slice."""
        tags = self._tags
        if self._changes != tags.changes:
            self._changes, self._seen = tags.changes, 0
            self._others, self._more = {}, {}
        changes = tags.changes
        while self._seen < len(tags) and changes == tags.changes:
            stop = min(self._seen + _PER_YIELD, len(tags))
            numbers = tags.order[self._seen : stop]
            fields = tags.configs.fields(("node_id", "name"), numbers)
            for number, (own, name) in zip(numbers, fields, strict=True):
                if own:
                    self._add(name, number)
            self._seen = stop
            if stop < len(tags):
                yield
        if changes != tags.changes:  # while somebody else had his turn
            yield from self.learn()

    def _add(self, name: str, number: int) -> None:
        if self._others.setdefault(name, number) != number:
            self._more.setdefault(name, []).append(number)

    def find(self, name: ua.QualifiedName) -> Collection[int]:
        """Return the numbers of the tags with a BrowseName, lowest first; learn before."""
        if name.NamespaceIndex != PLANT or not name.Name:
            return ()
        found = list(self._more.get(name.Name, ()))
        if name.Name in self._others:
            found.append(self._others[name.Name])
        usual = self._tags.find(_prefix(self._tags) + name.Name.encode("utf-8", "surrogatepass"))
        # What has this NodeId may have another name, or have it because the configuration says so.
        if usual is not None and usual not in found and self._tags.configs[usual].name == name.Name:
            found.append(usual)
        return sorted(found)


def _prefix(tags: TagTable) -> bytes:
    """Return what the strings of the NodeIds of tags begin with, unless the configuration gives others."""
    return f"{tags.folder.Identifier}.".encode()
