"""Who may do what with which node: role permissions by kind of node, and what the configuration changes.

Part 3 §5.2.9: a node has RolePermissions, a user has roles, and may do what any of his roles may. A node
without a kind is plain: everybody who got in may look at it. Without security (policy None, only if it is
configured) there is only the role Anonymous.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from fnmatch import translate
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt
from asyncua import ua

from edge_opcua.security.roles import ASSIGNABLE, Role

if TYPE_CHECKING:
    from edge_opcua.opcua.tags.nodes import TagNodes
    from edge_opcua.opcua.tags.table import TagTable

__all__ = ["Access", "AccessRule", "Kind", "Permission", "Table", "rule"]

Permission = ua.PermissionType
Table = Mapping[Role, ua.PermissionType]
Numbers = npt.NDArray[np.integer[Any]]

_NOTHING: Final = Permission(0)
_LOOK: Final = Permission.Browse | Permission.Read | Permission.ReceiveEvents
_STUDY: Final = _LOOK | Permission.ReadHistory
_ADMIN: Final = Permission.ReadRolePermissions


class Kind(Enum):
    """What a node is for, as far as permissions go."""

    PLAIN = "plain"
    SETPOINT = "set-point"
    OUTPUT = "method of an output"
    DEMAND = "poll on demand"
    MODEL = "model method"
    ANSWER = "answer to a verdict"
    OWN = "method on one's own session"
    DIAGNOSTICS = "diagnostics of others"
    AUDIT = "audit event types"
    SECURITY = "trust lists, certificates and roles"


def _table(extra: Mapping[Role, ua.PermissionType] | None = None) -> dict[Role, ua.PermissionType]:
    """Return what everybody may, with more for some."""
    table = dict.fromkeys((Role.AUTHENTICATED_USER, *ASSIGNABLE), _STUDY)
    table[Role.ANONYMOUS] = _LOOK
    for role, more in (extra or {}).items():
        table[role] |= more
    for role in (Role.SECURITY_ADMIN, Role.CONFIGURE_ADMIN):
        table[role] |= _ADMIN
    return table


_AUDITORS: Final = frozenset({Role.SECURITY_ADMIN, Role.CONFIGURE_ADMIN, Role.SUPERVISOR})
_CALL: Final = Permission.Call
_WRITE: Final = Permission.Write
_WRITE_BIT: Final = int(Permission.Write)
DEFAULTS: Final[Mapping[Kind, Table]] = {
    Kind.PLAIN: _table(),
    Kind.SETPOINT: _table({Role.OPERATOR: _WRITE, Role.SUPERVISOR: _WRITE}),
    Kind.OUTPUT: _table({Role.OPERATOR: _CALL, Role.SUPERVISOR: _CALL}),
    Kind.DEMAND: _table({Role.OPERATOR: _CALL, Role.SUPERVISOR: _CALL}),
    Kind.MODEL: _table({Role.ENGINEER: _CALL, Role.CONFIGURE_ADMIN: _CALL}),
    Kind.ANSWER: _table({Role.OPERATOR: _CALL, Role.SUPERVISOR: _CALL}),
    Kind.OWN: _table(dict.fromkeys(Role, _CALL)),
    Kind.DIAGNOSTICS: {
        Role.SECURITY_ADMIN: _LOOK | _ADMIN,
        Role.CONFIGURE_ADMIN: _LOOK | _ADMIN,
        Role.SUPERVISOR: _LOOK,
    },
    # Part 5 §6.5: everybody may know that there are such types, few are told what happened.
    Kind.AUDIT: {
        role: _LOOK if role in _AUDITORS else _LOOK & ~Permission.ReceiveEvents
        for role in (Role.ANONYMOUS, Role.AUTHENTICATED_USER, *ASSIGNABLE)
    },
    Kind.SECURITY: {Role.SECURITY_ADMIN: _LOOK | _WRITE | _CALL | _ADMIN},
}

_PLAIN: Final = DEFAULTS[Kind.PLAIN]
# By whether clients may write them.
_OF_TAGS: Final = (_PLAIN, DEFAULTS[Kind.SETPOINT])

# What makes a pattern of the string of a NodeId.
_WILD: Final = frozenset("*?[")
_BY_THEMSELVES: Final = (Role.ANONYMOUS, Role.AUTHENTICATED_USER)
_WORDS: Final = {
    "browse": Permission.Browse,
    "read": Permission.Read,
    "write": Permission.Write,
    "call": Permission.Call,
    "history": Permission.ReadHistory,
    "events": Permission.ReceiveEvents,
}


@dataclass(frozen=True, slots=True)
class AccessRule:
    """What the configuration says about some nodes; replaces what the role had there.

    Args:
        nodes: Pattern (``*``, ``?``, ``[…]``) on the string of a NodeId in the plant's namespace.
        role: For whom.
        permissions: What he may; nothing at all hides the nodes. What this takes from a role is taken from
            Anonymous and AuthenticatedUser, too, since everybody has those.
    """

    nodes: str
    role: Role
    permissions: ua.PermissionType


def rule(nodes: str, role: str, permissions: Sequence[str]) -> AccessRule:
    """Return a rule in the words of the configuration.

    Args:
        nodes: See :class:`AccessRule`.
        role: Name of the role.
        permissions: ``browse``, ``read``, ``write``, ``call``, ``history``, ``events``.
    """
    allowed = _NOTHING
    for word in permissions:
        allowed |= _WORDS[word]
    return AccessRule(nodes, Role.named(role), allowed)


class _Matcher:
    """Finds the rules for a name; a rule for each tag costs no more than one for all.

    Args:
        rules: In the order of the configuration.
    """

    def __init__(self, rules: Sequence[AccessRule]) -> None:
        self.exact: dict[str, list[int]] = {}
        self.patterns: dict[int, Callable[[str], Any]] = {}
        wild = []
        for index, one in enumerate(rules):
            if _WILD.isdisjoint(one.nodes):
                self.exact.setdefault(one.nodes, []).append(index)
            else:
                wild.append(translate(one.nodes))
                self.patterns[index] = re.compile(wild[-1]).match
        self._any = re.compile("|".join(wild)).match if wild else None

    def of(self, name: str) -> list[int]:
        """Return the indices of the rules that match, lowest first."""
        found = list(self.exact.get(name, ()))
        if self._any is not None and self._any(name):
            found += [index for index, matches in self.patterns.items() if matches(name)]
            found.sort()
        return found


class Access:
    """Decides for every service what a caller may do with a node.

    Args:
        rules: What the configuration changes, in its order; the last one that matches counts.
        namespace: Index of the namespace the rules speak of.

    Attributes:
        changes: How often something was marked; what was worked out from this is old after that.
    """

    def __init__(self, rules: Sequence[AccessRule] = (), *, namespace: int = 7) -> None:
        self.changes = 0
        self._rules = tuple(rules)
        self._matcher = _Matcher(self._rules)
        self._namespace = namespace
        self._kinds: dict[ua.NodeId, Kind] = {}
        self._tables: dict[tuple[Kind, tuple[AccessRule, ...]], Table] = {}
        self._of_node: dict[ua.NodeId, Table] = {}
        self._tags: TagTable | None = None
        self._virtual: TagNodes | None = None
        # With rules: index of each tag's table, by number; -1: nobody asked yet.
        self._tag_codes = array("i")
        self._tag_tables: list[Table] = []
        self._code_of_table: dict[int, int] = {}
        self._sums: dict[tuple[int, frozenset[Role]], int] = {}
        # By number of the tag; those that are not in here anybody may write who has the permission.
        self._reserved: Mapping[int, Callable[[frozenset[Role]], bool]] = {}

    def mark(self, kind: Kind, nodes: Iterable[ua.NodeId]) -> None:
        """Say what some nodes are for; done while the address space is built."""
        self.changes += 1
        for node in nodes:
            self._kinds[node] = kind
            self._of_node[node] = self._work_out(node)

    def cover(self, tags: TagTable, virtual: TagNodes) -> None:
        """Decide for tags and their properties, too; done whenever all of them are there.

        A tag that clients may write is a set-point, everything else of them is plain. Four bytes are kept of
        each tag, of properties nothing.
        """
        self.changes += 1
        self._tags, self._virtual = tags, virtual
        self._tag_codes = array("i")  # a tag may have become one that clients may write

    def reserve(self, tags: Mapping[int, Callable[[frozenset[Role]], bool]]) -> None:
        """Say who of those with the permission may write some tags; what was said before is forgotten.

        Args:
            tags: By number of the tag: whether somebody with these roles may, if he has the permission.
        """
        self.changes += 1
        self._reserved = dict(tags)

    def kind(self, node: ua.NodeId) -> Kind:
        """Return what a node is for."""
        number = self._tag(node)
        return self._kinds.get(node, Kind.PLAIN) if number is None else self._kind_of_tag(number)

    def table(self, node: ua.NodeId) -> Table:
        """Return the permissions of every role on a node (its RolePermissions)."""
        number = self._tag(node)
        if number is not None:
            return self.table_of_tag(number)
        found = self._of_node.get(node)
        if found is None:
            if not self._rules or node.NamespaceIndex != self._namespace:
                return _PLAIN
            if self._virtual is not None and self._virtual.find(node) is not None:
                return self._work_out(node)  # a property of a tag: there are as many as tags, or more
            found = self._of_node[node] = self._work_out(node)
        return found

    def table_of_tag(self, number: int) -> Table:
        """Return the permissions of every role on a tag."""
        if not self._rules:
            return DEFAULTS[self._kind_of_tag(number)]
        assert self._tags is not None, "there are no numbers without tags"
        if number >= len(self._tag_codes):
            self._tag_codes.extend([-1] * (self._tags.size - len(self._tag_codes)))
        code = self._tag_codes[number]
        if code < 0:
            table = self.table_of(self._tags.name(number), self._kind_of_tag(number))
            code = self._tag_codes[number] = self._code_of(table)
        return self._tag_tables[code]

    def tables_of_tags(self, numbers: Numbers) -> tuple[npt.NDArray[np.intp], Sequence[Table]]:
        """Return which table each of many tags has, and the tables."""
        assert self._tags is not None, "there are no numbers without tags"
        if not self._rules:
            return np.frombuffer(self._tags.writable, np.uint8)[numbers].astype(np.intp), _OF_TAGS
        if len(self._tag_codes) == self._tags.size:
            codes = np.frombuffer(self._tag_codes, np.intc)[numbers].astype(np.intp)
        else:
            codes = np.full(len(numbers), -1, np.intp)
        for place in np.flatnonzero(codes < 0).tolist():
            number = int(numbers[place])
            self.table_of_tag(number)
            codes[place] = self._tag_codes[number]
        return codes, self._tag_tables

    def _code_of(self, table: Table) -> int:
        code = self._code_of_table.setdefault(id(table), len(self._tag_tables))  # they live as long as we
        if code == len(self._tag_tables):
            self._tag_tables.append(table)
        return code

    def _tag(self, node: ua.NodeId) -> int | None:
        return None if self._tags is None else self._tags.number(node)

    def _kind_of_tag(self, number: int) -> Kind:
        assert self._tags is not None, "there are no numbers without tags"
        return Kind.SETPOINT if self._tags.writable[number] else Kind.PLAIN

    def bits(self, node: ua.NodeId, roles: frozenset[Role]) -> int:
        """Return what a user with these roles may do with a node, as a plain number.

        Asked for every node of every request; the operators of an ``IntFlag`` take longer than all the rest.
        Ask for nodes that exist only: what was worked out is kept.
        """
        found = self.sum_of(self.table(node), roles)
        if self._reserved and found & _WRITE_BIT:
            number = self._tag(node)
            allowed = None if number is None else self._reserved.get(number)
            if allowed is not None and not allowed(roles):
                return found & ~_WRITE_BIT
        return found

    def sum_of(self, table: Table, roles: frozenset[Role]) -> int:
        """Return what these roles together may do by a table of this object, as a plain number."""
        key = (id(table), roles)  # tables live as long as this object
        found = self._sums.get(key)
        if found is None:
            found = 0
            for role in roles:
                found |= int(table.get(role, _NOTHING))
            self._sums[key] = found
        return found

    def permissions(self, node: ua.NodeId, roles: frozenset[Role]) -> ua.PermissionType:
        """Return what a user with these roles may do with a node."""
        return Permission(self.bits(node, roles))

    def may(self, roles: frozenset[Role], permission: ua.PermissionType, node: ua.NodeId) -> bool:
        """Whether a user with these roles has a permission on a node."""
        return bool(self.bits(node, roles) & int(permission))

    def idle_rules(self, nodes: Iterable[ua.NodeId]) -> list[AccessRule]:
        """Return the rules that match none of these nodes: a misspelt one protects nothing."""
        exact, patterns = dict(self._matcher.exact), dict(self._matcher.patterns)
        for node in nodes:
            if not (exact or patterns):
                break
            if node.NamespaceIndex == self._namespace and isinstance(node.Identifier, str):
                exact.pop(node.Identifier, None)
                for index in [each for each, matches in patterns.items() if matches(node.Identifier)]:
                    del patterns[index]
        idle = sorted([*(index for same in exact.values() for index in same), *patterns])
        return [self._rules[index] for index in idle]

    @property
    def rule_count(self) -> int:
        """How many rules there are; with none a node's kind alone says who may what."""
        return len(self._rules)

    def table_of(self, name: str, kind: Kind) -> Table:
        """Return the permissions on a node by the string of its NodeId; nothing is kept of the node.

        Args:
            name: A NodeId's string in the namespace the rules speak of.
            kind: What the node is for.
        """
        rules = tuple(self._rules[index] for index in self._matcher.of(name))
        if not rules:
            return DEFAULTS[kind]
        table = self._tables.get((kind, rules))
        if table is None:
            table = self._tables[kind, rules] = _changed(DEFAULTS[kind], rules)
        return table

    def _work_out(self, node: ua.NodeId) -> Table:
        kind = self.kind(node)
        name = node.Identifier
        if node.NamespaceIndex != self._namespace or not isinstance(name, str):
            return DEFAULTS[kind]
        return self.table_of(name, kind)


def _changed(table: Table, rules: Iterable[AccessRule]) -> Table:
    """Return a table as the rules change it, one after the other.

    Permissions of several roles add up (Part 3 §5.2.9), and everybody has the two roles that come by
    themselves. What is taken from another role is therefore taken from these two as well: a rule that they
    silently undo would protect nothing. A later rule can give it back to them.
    """
    changed = dict(table)
    for one in rules:
        taken = changed.get(one.role, _NOTHING) & ~one.permissions
        changed[one.role] = one.permissions
        if one.role in _BY_THEMSELVES:
            continue
        for base in _BY_THEMSELVES:
            changed[base] = changed.get(base, _NOTHING) & ~taken
    return changed
