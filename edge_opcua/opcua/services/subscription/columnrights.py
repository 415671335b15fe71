"""Which tags a user may not read, asked for many of them at once."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from edge_opcua.opcua.access import Access, Permission
from edge_opcua.opcua.services.subscription.recordlog import Flags
from edge_opcua.opcua.tags.table import TagTable

_MAY_READ: Final = int(Permission.Read)
_UNKNOWN, _ALLOWED, _DENIED = range(3)
# Sets of roles that are remembered: there are hardly as many kinds of users.
_KINDS_OF_USERS: Final = 32


class TagRights:
    """Asks :class:`Access` once for each tag and set of roles; what it says does not change.

    Args:
        access: Who may do what.
        tags: The tags.
    """

    def __init__(self, access: Access, tags: TagTable) -> None:
        self._access = access
        self._tags = tags
        self._known: OrderedDict[Hashable, npt.NDArray[np.uint8]] = OrderedDict()

    def denied(self, roles: frozenset[Any], numbers: npt.NDArray[np.intp]) -> Flags:
        """Return which of some tags a user with these roles may not read."""
        known = self._of(roles)
        for number in numbers[known[numbers] == _UNKNOWN].tolist():
            self._ask(known, roles, number)
        answers: Flags = known[numbers] == _DENIED
        return answers

    def is_denied(self, roles: frozenset[Any], number: int) -> bool:
        """Whether a user with these roles may not read a tag."""
        known = self._of(roles)
        if known[number] == _UNKNOWN:
            self._ask(known, roles, number)
        return bool(known[number] == _DENIED)

    def _ask(self, known: npt.NDArray[np.uint8], roles: frozenset[Any], number: int) -> None:
        may = self._access.bits(self._tags.node_id(number), roles) & _MAY_READ
        known[number] = _ALLOWED if may else _DENIED

    def _of(self, roles: frozenset[Any]) -> npt.NDArray[np.uint8]:
        known = self._known.get(roles)
        if known is None or len(known) < len(self._tags):
            known = self._known[roles] = np.zeros(len(self._tags), np.uint8)
            if len(self._known) > _KINDS_OF_USERS:
                self._known.popitem(last=False)
        return known
