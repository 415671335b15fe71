"""The well-known roles of OPC UA (Part 18 §4.2), as configuration, user store and server name them."""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum

from edge_opcua.errors import SecurityError

__all__ = ["ASSIGNABLE", "Role", "parse_roles"]


class Role(Enum):
    """A well-known role; its value is its numeric NodeId in namespace 0 (Part 6 Annex A)."""

    ANONYMOUS = 15644
    AUTHENTICATED_USER = 15656
    OBSERVER = 15668
    OPERATOR = 15680
    SUPERVISOR = 15692
    SECURITY_ADMIN = 15704
    CONFIGURE_ADMIN = 15716
    ENGINEER = 16036

    @property
    def browse_name(self) -> str:
        """Name of its node, and of the role in configuration and commands: ``ConfigureAdmin``."""
        return "".join(word.capitalize() for word in self.name.split("_"))

    @property
    def may(self) -> str:
        """What it may do, in the words of a person who gives it away."""
        return _MAY[self]

    @classmethod
    def named(cls, text: str) -> Role:
        """Return the role of a name, whatever its case: ``operator``, ``SecurityAdmin``, ``security-admin``.

        Raises:
            SecurityError: There is no such role.
        """
        wanted = text.strip().replace("-", "").replace("_", "").lower()
        for role in cls:
            if role.browse_name.lower() == wanted:
                return role
        known = ", ".join(role.browse_name.lower() for role in ASSIGNABLE)
        raise SecurityError(f'there is no role "{text}"; the roles are {known}')


_MAY = {
    Role.ANONYMOUS: "look at what everybody may see",
    Role.AUTHENTICATED_USER: "read and subscribe",
    Role.OBSERVER: "read, browse and subscribe",
    Role.OPERATOR: "read, acknowledge alarms and write set-points",
    Role.SUPERVISOR: "what an operator may, and see who else is connected",
    Role.SECURITY_ADMIN: "manage certificates, trust lists and roles",
    Role.CONFIGURE_ADMIN: "load models and see diagnostics",
    Role.ENGINEER: "read and load models",
}

# What users and client certificates can be given; the other two come by themselves (Part 18 §4.2).
ASSIGNABLE = tuple(role for role in Role if role not in (Role.ANONYMOUS, Role.AUTHENTICATED_USER))


def parse_roles(names: Iterable[str]) -> frozenset[Role]:
    """Return the roles of these names; each may be a list separated by commas.

    Raises:
        SecurityError: One of them is no role, or one that cannot be assigned.
    """
    found = frozenset(Role.named(name) for text in names for name in text.split(",") if name.strip())
    for role in found - set(ASSIGNABLE):
        raise SecurityError(f"the role {role.browse_name} comes by itself and cannot be assigned")
    return found
