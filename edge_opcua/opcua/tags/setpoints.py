"""The tags that clients may write, and what they may write there."""

from __future__ import annotations

from dataclasses import dataclass

from asyncua import ua

from edge_opcua.core.values import Scalar
from edge_opcua.opcua.tags.table import TagTable


@dataclass(frozen=True, slots=True)
class Setpoint:
    """A variable that clients may write.

    Args:
        tag: Public id of the tag, ``<device>/<tag>``.
        type: Built-in type a write must have.
        length: 0 for a scalar, else the capacity.
        low: Smallest value allowed, None for no limit.
        high: Largest value allowed, None for no limit.
    """

    tag: str
    type: Scalar
    length: int
    low: float | None
    high: float | None


class Setpoints:
    """The writable tags of a table; nothing is kept of them.

    Args:
        tags: The tags.
    """

    def __init__(self, tags: TagTable) -> None:
        self._tags = tags

    def get(self, node: ua.NodeId) -> Setpoint | None:
        """Return what may be written to a node, None if it is no writable tag."""
        number = self._tags.number(node)
        if number is None or not self._tags.writable[number]:
            return None
        config = self._tags.configs[number]
        name = f"{self._tags.device(number)}/{config.name}"
        return Setpoint(name, config.type, config.length, config.low, config.high)
