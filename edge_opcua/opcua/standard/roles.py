"""RoleSet (Part 18 §4.3): shows who has which role, to those who look after security.

The mapping is changed with ``edge-opcua users`` and ``edge-opcua trust``, not over OPC UA: the methods
AddRole, AddIdentity and their like are not executable.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, Final

from asyncua import ua
from asyncua.server.address_space import AddressSpace

from edge_opcua.opcua.access import Access, Kind
from edge_opcua.opcua.seam.identity import Snapshot
from edge_opcua.opcua.standard.variables import Variables, remove
from edge_opcua.security.roles import Role

__all__ = ["install_roles", "mapping"]

_FIXED: Final = {
    Role.ANONYMOUS: ua.IdentityCriteriaType.Anonymous,
    Role.AUTHENTICATED_USER: ua.IdentityCriteriaType.AuthenticatedUser,
}
# Well-known roles for which nothing here asks.
_UNKNOWN: Final = (
    ua.ObjectIds.WellKnownRole_TrustedApplication,
    ua.ObjectIds.WellKnownRole_SecurityKeyServerAdmin,
    ua.ObjectIds.WellKnownRole_SecurityKeyServerAccess,
    ua.ObjectIds.WellKnownRole_SecurityKeyServerPush,
)
_OF_SET: Final = ("Server_ServerCapabilities_RoleSet_AddRole", "Server_ServerCapabilities_RoleSet_RemoveRole")
_METHODS: Final = (
    "AddIdentity",
    "RemoveIdentity",
    "AddApplication",
    "RemoveApplication",
    "AddEndpoint",
    "RemoveEndpoint",
)
_PROPERTIES: Final = (
    "Identities",
    "Applications",
    "ApplicationsExclude",
    "Endpoints",
    "EndpointsExclude",
    "CustomConfiguration",
)


def install_roles(
    aspace: AddressSpace, access: Access, variables: Variables, snapshot: Callable[[], Snapshot]
) -> None:
    """Fill RoleSet.

    Args:
        aspace: The address space.
        access: Learns which nodes are for security only.
        variables: Makes the values.
        snapshot: Who there is, as last read from the users and the trust list.
    """
    remove(aspace, [int(role) for role in _UNKNOWN])
    for role in Role:
        _fill(role, variables, snapshot)
        properties = (_node(role, name) for name in _PROPERTIES)
        access.mark(Kind.SECURITY, (node for node in properties if node in aspace))
    methods = [_node(role, name) for role in Role for name in _METHODS]
    methods += [ua.NodeId(getattr(ua.ObjectIds, name)) for name in _OF_SET]
    _forbid(aspace, access, methods)


def _fill(role: Role, variables: Variables, snapshot: Callable[[], Snapshot]) -> None:
    """Part 18 §4.4.1: no application and no endpoint is shut out, so both lists are empty and exclude."""
    kinds = ua.VariantType
    who = partial(_identities, role, snapshot)
    variables.live(_node(role, "Identities").Identifier, kinds.ExtensionObject, who)
    rows: tuple[tuple[str, Any, ua.VariantType], ...] = (
        ("Applications", [], kinds.String),
        ("ApplicationsExclude", True, kinds.Boolean),
        ("Endpoints", [], kinds.ExtensionObject),
        ("EndpointsExclude", True, kinds.Boolean),
        ("CustomConfiguration", False, kinds.Boolean),
    )
    for name, value, kind in rows:  # some roles lack some of them in the standard address space
        identifier = _node(role, name).Identifier
        if identifier in variables:
            variables.show(identifier, value, kind)


def _identities(role: Role, snapshot: Callable[[], Snapshot]) -> list[Any]:
    return mapping(role, snapshot())


def mapping(role: Role, snapshot: Snapshot) -> list[Any]:
    """Return who has a role, as IdentityMappingRuleType (Part 18 §4.4.3).

    A user is named by his name, or by the thumbprint of his certificate; an application, which speaks for
    anonymous users, by its ApplicationUri. There is no criterion for "whoever this authority vouches for":
    it is a group with the authority's name.
    """
    criteria = ua.IdentityCriteriaType
    if role in _FIXED:
        return [_rule(_FIXED[role], "")]
    found = []
    for user in snapshot.users:
        if role in user.roles and not user.disabled:
            found += [_rule(criteria.UserName, user.name)] if user.password else []
            found += [_rule(criteria.Thumbprint, user.thumbprint)] if user.certificate else []
    for client in snapshot.clients:
        if role in client.roles and client.authority:
            found.append(_rule(criteria.GroupId, f"issued by {client.name}"))
        elif role in client.roles:
            found.append(_rule(criteria.Application, client.application_uri))
    return found


def _rule(kind: ua.IdentityCriteriaType, criteria: str) -> Any:
    return ua.IdentityMappingRuleType(CriteriaType=kind, Criteria=criteria)


def _forbid(aspace: AddressSpace, access: Access, methods: Iterable[ua.NodeId]) -> None:
    there = [method for method in methods if method in aspace]
    no = ua.DataValue(ua.Variant(Value=False, VariantType=ua.VariantType.Boolean))
    for method in there:
        for attribute in (ua.AttributeIds.Executable, ua.AttributeIds.UserExecutable):
            aspace[method].attributes[attribute].value = no
    access.mark(Kind.SECURITY, there)


def _node(role: Role, name: str) -> ua.NodeId:
    return ua.NodeId(getattr(ua.ObjectIds, f"WellKnownRole_{role.browse_name}_{name}"))
