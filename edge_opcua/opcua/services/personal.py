"""Attributes whose value depends on who asks, or that follow from what this server lets anybody do."""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping
from typing import Any, Final

from asyncua import ua
from asyncua.server.address_space import NodeData

from edge_opcua.opcua.access import Access, Kind, Permission, Table
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

Reading = Callable[[NodeData, int, frozenset[Role]], ua.Variant | int]


class Personal:
    """Computes these attributes.

    Args:
        access: Who may do what.
        whole_only: The nodes whose value can only be written whole.
    """

    def __init__(self, access: Access, *, whole_only: Container[ua.NodeId]) -> None:
        self._access = access
        self._whole_only = whole_only
        self.attributes: Mapping[int, Reading] = {
            int(_ATTRIBUTES.WriteMask): _nothing,
            int(_ATTRIBUTES.UserWriteMask): _nothing,
            int(_ATTRIBUTES.UserAccessLevel): self._user_access_level,
            int(_ATTRIBUTES.AccessLevelEx): self._access_level_ex,
            int(_ATTRIBUTES.UserExecutable): self._user_executable,
            int(_ATTRIBUTES.RolePermissions): self._role_permissions,
            int(_ATTRIBUTES.UserRolePermissions): self._user_role_permissions,
            int(_ATTRIBUTES.AccessRestrictions): self._access_restrictions,
        }

    def read(self, data: NodeData, attribute: int, may: int, roles: frozenset[Role]) -> SharedDataValue | int:
        """Return the value for a user with these permissions and roles, or the StatusCode why not."""
        found = self.attributes[attribute](data, may, roles)
        return found if isinstance(found, int) else SharedDataValue(found)

    def _user_access_level(self, data: NodeData, may: int, _: frozenset[Role]) -> ua.Variant | int:
        level = _held(data, _ATTRIBUTES.AccessLevel)
        if level is None:
            return int(ua.StatusCodes.BadAttributeIdInvalid)
        for bit, needed in _NEEDED:
            if not may & needed:
                level &= ~bit
        return ua.Variant(level, ua.VariantType.Byte)

    def _access_level_ex(self, data: NodeData, _may: int, _: frozenset[Role]) -> ua.Variant | int:
        level = _held(data, _ATTRIBUTES.AccessLevel)
        if level is None:
            return int(ua.StatusCodes.BadAttributeIdInvalid)
        whole_only = data.nodeid in self._whole_only
        return ua.Variant(level | (_WRITE_FULL_ARRAY_ONLY if whole_only else 0), ua.VariantType.UInt32)

    def _user_executable(self, data: NodeData, may: int, _: frozenset[Role]) -> ua.Variant | int:
        executable = _held(data, _ATTRIBUTES.Executable)
        if executable is None:
            return int(ua.StatusCodes.BadAttributeIdInvalid)
        return ua.Variant(bool(executable and may & int(Permission.Call)), ua.VariantType.Boolean)

    def _role_permissions(self, data: NodeData, may: int, _: frozenset[Role]) -> ua.Variant | int:
        if not may & int(Permission.ReadRolePermissions):
            return int(ua.StatusCodes.BadUserAccessDenied)
        return _rows(self._access.table(data.nodeid), frozenset(Role))

    def _user_role_permissions(self, data: NodeData, _: int, roles: frozenset[Role]) -> ua.Variant | int:
        return _rows(self._access.table(data.nodeid), roles)

    def _access_restrictions(self, data: NodeData, _may: int, _: frozenset[Role]) -> ua.Variant | int:
        """Part 3 §8.56; who is not encrypted is Anonymous here, and cannot touch what is about security."""
        restricted = self._access.kind(data.nodeid) is Kind.SECURITY
        return ua.Variant(_ENCRYPTED if restricted else 0, ua.VariantType.UInt16)


def _nothing(_data: NodeData, _may: int, _: frozenset[Role]) -> ua.Variant | int:
    """Return WriteMask: clients change values, never the nodes themselves."""
    return ua.Variant(0, ua.VariantType.UInt32)


def _held(data: NodeData, attribute: ua.AttributeIds) -> Any:
    slot = data.attributes.get(attribute)
    return None if slot is None or slot.value is None else slot.value.Value.Value


def _rows(table: Table, roles: frozenset[Role]) -> ua.Variant:
    rows = [
        ua.RolePermissionType(RoleId=ua.NodeId(role.value), Permissions=table[role])
        for role in Role
        if role in roles and table.get(role)
    ]
    return ua.Variant(rows, ua.VariantType.ExtensionObject, is_array=True)
