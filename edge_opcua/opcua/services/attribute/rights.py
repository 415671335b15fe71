"""Which tags a user may read, by the number of the tag: asked once for each, however often it is read."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from asyncua import ua

from edge_opcua.opcua.access import Access, Permission
from edge_opcua.opcua.tags.table import TagTable
from edge_opcua.security.roles import Role

Roles = frozenset[Role]
# What is known of a tag.
_UNASKED, _MAY, _MAY_NOT = 0, 1, 2
_READ: Final = int(Permission.Read)
# Sets of roles whose rights are kept: there are few, for all users together.
_MOST: Final = 64
# About a millisecond of asking: without rules, and with rules that nobody asked for yet.
_SLICE: Final = 50_000
_RULED: Final = 500

DENIED: Final = int(ua.StatusCodes.BadUserAccessDenied)
Numbers = npt.NDArray[np.integer[Any]]
Flags = npt.NDArray[np.bool_]


class Rights:
    """Knows who may read which tag.

    Args:
        access: Who may do what; it covers the tags before anybody asks.
        tags: The tags.
    """

    def __init__(self, access: Access, tags: TagTable) -> None:
        self._access = access
        self._tags = tags
        self._version = access.changes
        self._of: dict[Roles, npt.NDArray[np.uint8]] = {}
        self._step = _RULED if access.rule_count else _SLICE

    @property
    def changes(self) -> int:
        """Another number once something may be allowed that was not, or the other way round."""
        return self._access.changes

    def may_read(self, roles: Roles, number: int) -> bool:
        """Whether somebody may read the value of one tag."""
        known = self._known(roles)
        found = known.item(number)
        if found == _UNASKED:
            found = known[number] = self._ask(roles, number)
        return bool(found == _MAY)

    def denied(self, roles: Roles, numbers: Numbers) -> Generator[None, None, Flags | None]:
        """Return which of these tags somebody may not read, None if he may read all; yields while it asks."""
        known = self._known(roles)
        found = known[numbers]
        if not found.all():
            missing = np.unique(numbers[found == _UNASKED])
            for start in range(0, len(missing), self._step):
                if start:
                    yield
                self._learn(roles, known, missing[start : start + self._step])
            found = known[numbers]
        denied = found == _MAY_NOT
        return denied if denied.any() else None

    def _ask(self, roles: Roles, number: int) -> int:
        bits = self._access.sum_of(self._access.table_of_tag(number), roles)
        return _MAY if bits & _READ else _MAY_NOT

    def _learn(self, roles: Roles, known: npt.NDArray[np.uint8], numbers: Numbers) -> None:
        """Ask for many tags: once for each table that any of them has."""
        codes, tables = self._access.tables_of_tags(numbers)
        sum_of = self._access.sum_of
        every, places = np.unique(codes, return_inverse=True)
        may = [_MAY if sum_of(tables[code], roles) & _READ else _MAY_NOT for code in every.tolist()]
        known[numbers] = np.array(may, np.uint8)[places]

    def _known(self, roles: Roles) -> npt.NDArray[np.uint8]:
        if self._version != self._access.changes:
            self._version = self._access.changes
            self._of.clear()
        known = self._of.get(roles)
        if known is None or len(known) != self._tags.size:
            if len(self._of) >= _MOST:
                self._of.clear()
            known = self._of[roles] = np.zeros(self._tags.size, np.uint8)
        return known
