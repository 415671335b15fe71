"""The tag table: every tag of the plant by the string of its NodeId, and where its value lies.

A tag has no node object. It has a number here, and everything a client can ask of it is worked out from its
row of the configuration and its row of a block.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import Any, Final, overload

import numpy as np
import numpy.typing as npt
from asyncua import ua

from edge_opcua.config.tags import TagConfig, TagRows
from edge_opcua.errors import IdentityError
from edge_opcua.opcua.namespaces import Namespace
from edge_opcua.opcua.tags.live import LiveBlock

PLANT: Final = int(Namespace.PLANT)
_INT: Final = np.dtype("i")


class Configs(Sequence[TagConfig]):
    """What the configuration says of all tags: its rows, block after block; objects are made when asked."""

    def __init__(self) -> None:
        self._parts: list[TagRows] = []
        self._starts: list[int] = []
        self._length = 0
        # Who asks something of a tag usually asks more of it.
        self._last: tuple[int, TagConfig] | None = None

    def extend(self, rows: TagRows) -> None:
        """Add the rows of another block."""
        self._parts.append(rows)
        self._starts.append(self._length)
        self._length += len(rows)

    def __len__(self) -> int:
        return self._length

    @overload
    def __getitem__(self, index: int) -> TagConfig: ...
    @overload
    def __getitem__(self, index: slice) -> list[TagConfig]: ...
    def __getitem__(self, index: int | slice) -> TagConfig | list[TagConfig]:
        if isinstance(index, slice):
            return [self[each] for each in range(*index.indices(self._length))]
        if self._last is not None and self._last[0] == index:
            return self._last[1]
        number = range(self._length)[index]
        part = bisect_right(self._starts, number) - 1
        found = self._parts[part][number - self._starts[part]]
        self._last = (number, found)
        return found

    def __iter__(self) -> Iterator[TagConfig]:
        return chain.from_iterable(self._parts)

    def cell(self, number: int, name: str) -> Any:
        """Return one field of one tag."""
        part = bisect_right(self._starts, number) - 1
        return self._parts[part].cell(number - self._starts[part], name)

    def column(self, name: str) -> Iterator[Any]:
        """Yield one field of every tag: far cheaper than the rows."""
        return chain.from_iterable(part.column(name) for part in self._parts)

    def fields(self, names: Sequence[str], start: int, stop: int) -> Iterator[tuple[Any, ...]]:
        """Yield some fields of the tags from one number up to another; cheap as well."""
        for part in range(
            max(bisect_right(self._starts, start) - 1, 0), bisect_right(self._starts, stop - 1)
        ):
            first, rows = self._starts[part], self._parts[part]
            some = rows[max(start - first, 0) : max(stop - first, 0)]
            yield from zip(*map(some.column, names), strict=True)


class TagTable:
    """All tags, in the order in which clients browse them.

    Filled before anybody can connect; afterwards nothing in it changes.

    Attributes:
        folder: The folder they are in.
        names: Strings of their NodeIds, UTF-8, by number.
        configs: What the configuration says of them, by number.
        writable: 1 for those that clients may write, else 0, by number.
        blocks: The blocks they lie in.
        devices: Name of the device of each block.
    """

    def __init__(self, folder: ua.NodeId | None = None) -> None:
        self.folder = folder or ua.NodeId()
        self.names: list[bytes] = []
        self.configs = Configs()
        self.writable = bytearray()
        self.blocks: list[LiveBlock] = []
        self.devices: list[str] = []
        # Index of the block and row in it, by number: four bytes each instead of a tuple of two objects.
        self._blocks = array("i")
        self._rows = array("i")
        self._numbers: dict[bytes, int] = {}

    def __len__(self) -> int:
        return len(self.names)

    def add(self, block: LiveBlock, rows: Iterable[tuple[int, str, TagConfig]], *, device: str = "") -> None:
        """Add the tags of a block: row, string of the NodeId, and configuration of each.

        Raises:
            IdentityError: Two tags would have the same NodeId.
        """
        given = tuple(rows)
        configs = TagRows.of(config for _, _, config in given)
        self.extend(
            block, [row for row, _, _ in given], [name for _, name, _ in given], configs, device=device
        )

    def extend(
        self, block: LiveBlock, rows: Sequence[int], names: Sequence[str], configs: TagRows, *, device: str
    ) -> None:
        """Add the tags of a block, as columns.

        Args:
            block: The block.
            rows: Row of each tag in it.
            names: String of each tag's NodeId.
            configs: Configuration of each tag.
            device: Name of their device.

        Raises:
            IdentityError: Two tags would have the same NodeId.
        """
        first = len(self.names)
        self.names += [name.encode("utf-8", "surrogatepass") for name in names]
        for number, encoded in enumerate(self.names[first:], first):
            if self._numbers.setdefault(encoded, number) != number:
                raise taken(encoded.decode("utf-8", "surrogatepass"))
        self.configs.extend(configs)
        self.writable += bytes(access == "rw" for access in configs.column("access"))
        self._blocks.extend([len(self.blocks)] * len(names))
        self._rows.extend(rows)
        self.blocks.append(block)
        self.devices.append(device)

    def find(self, name: bytes) -> int | None:
        """Return the number of the tag whose NodeId has this string (UTF-8), or None."""
        return self._numbers.get(name)

    def number(self, node: ua.NodeId) -> int | None:
        """Return the number of a tag, or None if the NodeId is not one of a tag."""
        if node.NamespaceIndex != PLANT or not isinstance(node.Identifier, str):
            return None
        return self._numbers.get(node.Identifier.encode("utf-8", "surrogatepass"))

    def name(self, number: int) -> str:
        """Return the string of a tag's NodeId."""
        return self.names[number].decode("utf-8", "surrogatepass")

    def node_id(self, number: int) -> ua.NodeId:
        """Return the NodeId of a tag."""
        return ua.NodeId(self.name(number), PLANT)

    def place(self, number: int) -> tuple[LiveBlock, int]:
        """Return the block of a tag and its row there."""
        return self.blocks[self._blocks[number]], self._rows[number]

    def places(self) -> tuple[npt.NDArray[np.intc], npt.NDArray[np.intc]]:
        """Return the index of the block and the row in it of every tag, shape ``(n,)`` each, as copies."""
        return np.array(self._blocks, _INT), np.array(self._rows, _INT)

    def device(self, number: int) -> str:
        """Return the name of a tag's device."""
        return self.devices[self._blocks[number]]


def taken(name: str) -> IdentityError:
    """Return the error that says that two nodes would have the same NodeId."""
    return IdentityError(
        f'two nodes would be called "{name}": rename one of them, or give a tag a node_id', code="C193"
    )
