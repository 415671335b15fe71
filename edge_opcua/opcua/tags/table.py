"""The tag table: every tag of the plant by the string of its NodeId, and where its value lies.

A tag has no node object. It has a number here, and everything a client can ask of it is worked out from its
row of the configuration and its row of a block.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final, NamedTuple, overload

import numpy as np
import numpy.typing as npt
from asyncua import ua

from edge_opcua.config.tags import TagConfig, TagRows
from edge_opcua.errors import IdentityError
from edge_opcua.opcua.namespaces import Namespace
from edge_opcua.opcua.tags.live import LiveBlock

PLANT: Final = int(Namespace.PLANT)
_INT: Final = np.dtype("i")


class Part(NamedTuple):
    """The tags of a block, as columns.

    Args:
        block: The block.
        rows: Row of each tag in it.
        names: String of each tag's NodeId.
        configs: Configuration of each tag.
        device: Name of their device.
    """

    block: LiveBlock
    rows: Sequence[int]
    names: Sequence[str]
    configs: TagRows
    device: str


class Configs(Sequence[TagConfig]):
    """What the configuration says of all tags: its rows, block after block; objects are made when asked."""

    def __init__(self) -> None:
        self._parts: list[TagRows] = []
        self._starts: list[int] = []
        self._length = 0
        # Part and row in it by number, once the rows no longer follow one another.
        self._places: tuple[array[int], array[int]] | None = None
        # Who asks something of a tag usually asks more of it.
        self._last: tuple[int, TagConfig] | None = None

    def extend(self, rows: TagRows) -> None:
        """Add the rows of another block."""
        self._parts.append(rows)
        self._starts.append(self._length)
        self._length += len(rows)

    def scatter(self, parts: list[TagRows], part: array[int], row: array[int]) -> None:
        """Take other rows: those of number ``n`` are row ``row[n]`` of part ``part[n]``."""
        self._parts, self._places, self._length = parts, (part, row), len(part)
        self._last = None

    def _locate(self, number: int) -> tuple[TagRows, int]:
        if self._places is not None:
            part, row = self._places
            return self._parts[part[number]], row[number]
        at = bisect_right(self._starts, number) - 1
        return self._parts[at], number - self._starts[at]

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
        rows, row = self._locate(number)
        found = rows[row]
        self._last = (number, found)
        return found

    def cell(self, number: int, name: str) -> Any:
        """Return one field of one tag."""
        rows, row = self._locate(number)
        return rows.cell(row, name)

    def fields(self, names: Sequence[str], numbers: Sequence[int]) -> Iterator[tuple[Any, ...]]:
        """Yield some fields of some tags: far cheaper than one by one."""
        if self._places is not None or not isinstance(numbers, range):
            yield from self._scattered(names, numbers)
            return
        start, stop = numbers.start, numbers.stop
        for part in range(
            max(bisect_right(self._starts, start) - 1, 0), bisect_right(self._starts, stop - 1)
        ):
            first, rows = self._starts[part], self._parts[part]
            some = rows[max(start - first, 0) : max(stop - first, 0)]
            yield from zip(*map(some.column, names), strict=True)

    def _scattered(self, names: Sequence[str], numbers: Sequence[int]) -> Iterator[tuple[Any, ...]]:
        """Do the same run by run, where a run is of one part."""
        if self._places is None:
            yield from (tuple(self.cell(number, name) for name in names) for number in numbers)
            return
        where = np.array(numbers, np.intp)
        parts, rows = (np.frombuffer(each, _INT)[where] for each in self._places)
        for run in np.split(np.arange(len(where)), np.flatnonzero(np.diff(parts)) + 1):
            if len(run):
                some = self._parts[int(parts[run[0]])][rows[run].astype(np.intp)]
                yield from zip(*map(some.column, names), strict=True)


class TagTable:
    """All tags, in the order in which clients browse them.

    Filled before anybody can connect. When the configuration changes, all of it is replaced at once; a NodeId
    keeps its number for good, so a number never comes to mean another tag. The number of one that is gone
    has a place in a block of its own, in which everything is unknown.

    Attributes:
        changes: How often the tags were replaced.
        folder: The folder they are in.
        order: Numbers of the tags that there are, in the order in which clients browse them.
        names: Strings of their NodeIds, UTF-8, by number.
        configs: What the configuration says of them, by number.
        writable: 1 for those that clients may write, else 0, by number.
        blocks: The blocks they lie in.
        devices: Name of the device of each block.
    """

    def __init__(self, folder: ua.NodeId | None = None) -> None:
        self.changes = 0
        self.folder = folder or ua.NodeId()
        self.order: Sequence[int] = range(0)
        self.names: list[bytes] = []
        self.configs = Configs()
        self.writable = bytearray()
        self.blocks: list[LiveBlock] = []
        self.devices: list[str] = []
        # Index of the block and row in it, by number: four bytes each instead of a tuple of two objects.
        self._blocks = array("i")
        self._rows = array("i")
        self._numbers: dict[bytes, int] = {}
        self._gone: dict[bytes, int] = {}

    def __len__(self) -> int:
        return len(self.order)

    @property
    def size(self) -> int:
        """How many numbers there are: of tags, and of those that are gone."""
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
        self.order = range(len(self.names))

    def replace(self, parts: Sequence[Part], gone: LiveBlock) -> None:
        """Hold other tags from now on.

        Args:
            parts: All that there are, in the order in which clients browse them.
            gone: A block of one row for those that are no longer there.

        Raises:
            IdentityError: Two tags would have the same NodeId; everything stays as it was.
        """
        known = {**self._gone, **self._numbers}
        numbers: dict[bytes, int] = {}
        for each in parts:
            for name in each.names:
                encoded = name.encode("utf-8", "surrogatepass")
                if encoded in numbers:
                    raise taken(name)
                numbers[encoded] = known.setdefault(encoded, len(known))
        size = len(known)
        former = {number: self.configs[number] for name, number in known.items() if name not in numbers}
        order = np.fromiter(numbers.values(), _INT, len(numbers))
        self._place(parts, order, size, former, gone)
        self.names = sorted(known, key=known.__getitem__)
        self._numbers = numbers
        self._gone = {name: number for name, number in known.items() if name not in numbers}
        self.order = array("i", order.tobytes())
        self.changes += 1

    def _place(
        self,
        parts: Sequence[Part],
        order: npt.NDArray[np.intc],
        size: int,
        former: dict[int, TagConfig],
        gone: LiveBlock,
    ) -> None:
        """Enter by number where each tag lies; the row of one that is gone is that of its last time."""
        lengths = [len(each.names) for each in parts]
        block = np.full(size, len(parts), _INT)
        row, part, place = np.zeros(size, _INT), np.full(size, len(parts), _INT), np.zeros(size, _INT)
        writable = np.zeros(size, np.uint8)
        block[order] = part[order] = np.repeat(np.arange(len(parts), dtype=_INT), lengths)
        row[order] = [each for one in parts for each in one.rows]
        place[order] = [each for length in lengths for each in range(length)]
        writable[order] = [access == "rw" for one in parts for access in one.configs.column("access")]
        lost = np.fromiter(former, _INT, len(former))
        place[lost] = np.arange(len(lost), dtype=_INT)
        self._blocks, self._rows = array("i", block.tobytes()), array("i", row.tobytes())
        self.writable = bytearray(writable.tobytes())
        self.blocks = [*(each.block for each in parts), gone]
        self.devices = [*(each.device for each in parts), ""]
        self.configs.scatter(
            [*(each.configs for each in parts), TagRows.of(former.values())],
            array("i", part.tobytes()),
            array("i", place.tobytes()),
        )

    def withhold(self, names: Iterable[str]) -> None:
        """Let clients write some tags no longer, whatever their rows say; until all are replaced.

        Args:
            names: Strings of their NodeIds.
        """
        for name in names:
            number = self._numbers.get(name.encode("utf-8", "surrogatepass"))
            if number is not None:
                self.writable[number] = 0

    def is_gone(self, number: int) -> bool:
        """Whether there is no longer a tag of this number."""
        return bool(self._gone) and self.names[number] in self._gone

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
