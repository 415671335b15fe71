"""The last answer to a list, for as long as nothing that it depends on changes."""

from __future__ import annotations

from collections.abc import Iterable

from edge_opcua.opcua.services.attribute.rights import Rights, Roles
from edge_opcua.opcua.tags.live import LiveBlock


class LastAnswer:
    """Keeps one answer.

    Args:
        blocks: Whose values are in it.
    """

    __slots__ = ("_blocks", "_body", "_changes", "_roles", "_versions")

    def __init__(self, blocks: Iterable[LiveBlock]) -> None:
        self._blocks = tuple(blocks)
        self._body: bytes | None = None
        self._roles: Roles = frozenset()
        self._changes = 0
        self._versions: list[int] = []

    def get(self, roles: Roles, rights: Rights) -> bytes | None:
        """Return the answer if it is that of now for these roles, else None."""
        if (
            self._body is None
            or self._versions != self.versions()
            or self._roles != roles
            or self._changes != rights.changes
        ):
            return None
        return self._body

    def put(self, body: bytes, roles: Roles, changes: int, versions: list[int]) -> None:
        """Keep an answer.

        Args:
            body: The answer.
            roles: For whom it was made.
            changes: How often rights had changed when it was asked what he may read.
            versions: Of the blocks, when their values were taken.
        """
        self._body = body
        self._roles = roles
        self._changes = changes
        self._versions = versions

    def versions(self) -> list[int]:
        """Return the versions that the blocks have now."""
        return [block.version for block in self._blocks]
