"""Attributes whose value depends on who asks, or that follow from what this server lets anybody do."""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping
from typing import Final

from asyncua import ua

from edge_opcua.opcua.access import Access, Kind, Permission, Table
from edge_opcua.opcua.addressspace import Nodes
from edge_opcua.opcua.values import SharedDataValue
from edge_opcua.security.roles import Role

_ATTRIBUTES: Final = ua.AttributeIds
_LEVEL: Final = ua.AccessLevel
# Which permission each bit of the AccessLevel needs (Part 3 §8.57); the others are about the node itself.
_NEEDED: Final[tuple[tuple[int, int], ...]] = (
    (_LEVEL.CurrentRead.mask, int(Permission.Read)),
    (_LEVEL.CurrentWrite.mask, int(Permission.Write)),
    (_LEVEL.HistoryRead.mask, int(Permission.ReadHistory)),
    (
        _LEVEL.HistoryWrite.mask,
        int(Permission.InsertHistory | Permission.ModifyHistory | Permission.DeleteHistory),
    ),
    (_LEVEL.StatusWrite.mask, int(Permission.Write)),
    (_LEVEL.TimestampWrite.mask, int(Permission.Write)),
)
_WRITE_FULL_ARRAY_ONLY: Final = 1 << 10  # Part 3 §8.58
_ENCRYPTED: Final = int(
    ua.AccessRestrictionType.SigningRequired | ua.AccessRestrictionType.EncryptionRequired
)


class Personal:
    """Computes these attributes.

    Args:
        aspace: The address space.
        access: Who may do what.
        whole_only: The nodes whose value can only be written whole.
    """

    def __init__(self, aspace: Nodes, access: Access, *, whole_only: Container[ua.NodeId]) -> None:
        self._aspace = aspace
        self._access = access
        self._whole_only = whole_only

    def read(
        self, node: ua.NodeId, attribute: int, may: int, roles: frozenset[Role]
    ) -> SharedDataValue | int:
        """Return the value for a user with these permissions and roles, or the StatusCode why not."""
        found = COMPUTED[attribute](self, node, may, roles)
        return found if isinstance(found, int) else SharedDataValue(found)

    def user_access_level(self, node: ua.NodeId, may: int, _: frozenset[Role]) -> ua.Variant | int:
        """Return what he may do with the value (Part 3 §8.57)."""
        level = self._aspace.attribute(node, _ATTRIBUTES.AccessLevel)
        if level is None:
            return int(ua.StatusCodes.BadAttributeIdInvalid)
        for bit, needed in _NEEDED:
            if not may & needed:
                level &= ~bit
        return ua.Variant(level, ua.VariantType.Byte)

    def access_level_ex(self, node: ua.NodeId, _may: int, _: frozenset[Role]) -> ua.Variant | int:
        """Return AccessLevel and what only has a place here (Part 3 §8.58)."""
        level = self._aspace.attribute(node, _ATTRIBUTES.AccessLevel)
        if level is None:
            return int(ua.StatusCodes.BadAttributeIdInvalid)
        whole_only = node in self._whole_only
        return ua.Variant(level | (_WRITE_FULL_ARRAY_ONLY if whole_only else 0), ua.VariantType.UInt32)

    def user_executable(self, node: ua.NodeId, may: int, _: frozenset[Role]) -> ua.Variant | int:
        """Return whether he may call the method (Part 3 §5.7)."""
        executable = self._aspace.attribute(node, _ATTRIBUTES.Executable)
        if executable is None:
            return int(ua.StatusCodes.BadAttributeIdInvalid)
        return ua.Variant(bool(executable and may & int(Permission.Call)), ua.VariantType.Boolean)

    def role_permissions(self, node: ua.NodeId, may: int, _: frozenset[Role]) -> ua.Variant | int:
        """Return what every role may do, to who may know (Part 3 §5.2.9)."""
        if not may & int(Permission.ReadRolePermissions):
            return int(ua.StatusCodes.BadUserAccessDenied)
        return _rows(self._access.table(node), frozenset(Role))

    def user_role_permissions(self, node: ua.NodeId, _: int, roles: frozenset[Role]) -> ua.Variant | int:
        """Return what his own roles may do (Part 3 §5.2.10)."""
        return _rows(self._access.table(node), roles)

    def access_restrictions(self, node: ua.NodeId, _may: int, _: frozenset[Role]) -> ua.Variant | int:
        """Part 3 §8.56; who is not encrypted is Anonymous here, and cannot touch what is about security."""
        restricted = self._access.kind(node) is Kind.SECURITY
        return ua.Variant(_ENCRYPTED if restricted else 0, ua.VariantType.UInt16)


def _nothing(_personal: Personal, _node: ua.NodeId, _may: int, _: frozenset[Role]) -> ua.Variant | int:
    """Return WriteMask: clients change values, never the nodes themselves."""
    return ua.Variant(0, ua.VariantType.UInt32)


def _rows(table: Table, roles: frozenset[Role]) -> ua.Variant:
    rows = [
        ua.RolePermissionType(RoleId=ua.NodeId(role.value), Permissions=table[role])
        for role in Role
        if role in roles and table.get(role)
    ]
    return ua.Variant(rows, ua.VariantType.ExtensionObject, is_array=True)


# The attributes that are worked out here.
COMPUTED: Final[Mapping[int, Callable[[Personal, ua.NodeId, int, frozenset[Role]], ua.Variant | int]]] = {
    int(_ATTRIBUTES.WriteMask): _nothing,
    int(_ATTRIBUTES.UserWriteMask): _nothing,
    int(_ATTRIBUTES.UserAccessLevel): Personal.user_access_level,
    int(_ATTRIBUTES.AccessLevelEx): Personal.access_level_ex,
    int(_ATTRIBUTES.UserExecutable): Personal.user_executable,
    int(_ATTRIBUTES.RolePermissions): Personal.role_permissions,
    int(_ATTRIBUTES.UserRolePermissions): Personal.user_role_permissions,
    int(_ATTRIBUTES.AccessRestrictions): Personal.access_restrictions,
}
