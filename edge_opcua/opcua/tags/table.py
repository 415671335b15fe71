"""The tag table: every tag of the plant by the string of its NodeId, and where its value lies.

A tag has no node object. It has a number here, and everything a client can ask of it is worked out from its
row of the configuration and its row of a block.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from typing import Final

import numpy as np
import numpy.typing as npt
from asyncua import ua

from edge_opcua.config.schema import TagConfig
from edge_opcua.errors import IdentityError
from edge_opcua.opcua.namespaces import Namespace
from edge_opcua.opcua.tags.live import LiveBlock

PLANT: Final = int(Namespace.PLANT)
_INT: Final = np.dtype("i")


class TagTable:
    """All tags, in the order in which clients browse them.

    Filled before anybody can connect; afterwards nothing in it changes.

    Attributes:
        folder: The folder they are in.
        names: Strings of their NodeIds, UTF-8, by number.
        configs: What the configuration says of them, by number.
        blocks: The blocks they lie in.
        devices: Name of the device of each block.
    """

    def __init__(self, folder: ua.NodeId | None = None) -> None:
        self.folder = folder or ua.NodeId()
        self.names: list[bytes] = []
        self.configs: list[TagConfig] = []
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
        index = len(self.blocks)
        self.blocks.append(block)
        self.devices.append(device)
        for row, name, config in rows:
            encoded = name.encode("utf-8", "surrogatepass")
            number = len(self.names)
            if self._numbers.setdefault(encoded, number) != number:
                raise taken(name)
            self.names.append(encoded)
            self.configs.append(config)
            self._blocks.append(index)
            self._rows.append(row)

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
