"""Who may do what: each role with each kind of node, and what the configuration changes."""

from __future__ import annotations

from fnmatch import fnmatchcase

import numpy as np
import pytest
from asyncua import ua
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_opcua.opcua.access import DEFAULTS, Access, AccessRule, Kind, Permission, rule
from edge_opcua.opcua.server import access_of
from edge_opcua.security.roles import Role
from tests.opcua.plant import configuration
from tests.opcua.tagplant import TagPlant, config

NODE = ua.NodeId("Press01.Process.sp_speed", 7)
LETTERS = {
    "b": Permission.Browse,
    "r": Permission.Read,
    "w": Permission.Write,
    "c": Permission.Call,
    "h": Permission.ReadHistory,
    "e": Permission.ReceiveEvents,
    "p": Permission.ReadRolePermissions,
}
# Part 3 §4.9.2 and Part 18 §4.3: what a well-known role is meant for. Columns are roles, in this order.
COLUMNS = (
    Role.ANONYMOUS,
    Role.AUTHENTICATED_USER,
    Role.OBSERVER,
    Role.OPERATOR,
    Role.SUPERVISOR,
    Role.ENGINEER,
    Role.CONFIGURE_ADMIN,
    Role.SECURITY_ADMIN,
)
TABLE = {
    #                    anon   user    observ. operator supervis. engineer config.   security
    Kind.PLAIN: ("bre", "breh", "breh", "breh", "breh", "breh", "brehp", "brehp"),
    Kind.SETPOINT: ("bre", "breh", "breh", "brehw", "brehw", "breh", "brehp", "brehp"),
    Kind.OUTPUT: ("bre", "breh", "breh", "brehc", "brehc", "breh", "brehp", "brehp"),
    Kind.DEMAND: ("bre", "breh", "breh", "brehc", "brehc", "breh", "brehp", "brehp"),
    Kind.MODEL: ("bre", "breh", "breh", "breh", "breh", "brehc", "brehpc", "brehp"),
    Kind.ANSWER: ("bre", "breh", "breh", "brehc", "brehc", "breh", "brehp", "brehp"),
    Kind.OWN: ("brec", "brehc", "brehc", "brehc", "brehc", "brehc", "brehpc", "brehpc"),
    Kind.DIAGNOSTICS: ("", "", "", "", "bre", "", "brep", "brep"),
    Kind.AUDIT: ("br", "br", "br", "br", "bre", "br", "bre", "bre"),
    Kind.SECURITY: ("", "", "", "", "", "", "", "brwcep"),
}


def letters(permissions: ua.PermissionType) -> set[str]:
    return {letter for letter, one in LETTERS.items() if permissions & one}


def rules(*made_of: tuple[str, str, str]) -> Access:
    made = [rule(nodes, role, words.split()) for nodes, role, words in made_of]
    return Access(made, namespace=7)


def test_the_table_is_complete() -> None:
    assert set(COLUMNS) == set(Role)
    assert set(TABLE) == set(Kind) == set(DEFAULTS)


@pytest.mark.parametrize("kind", Kind)
@pytest.mark.parametrize("role", Role)
def test_a_role_may_what_it_is_meant_for(role: Role, kind: Kind) -> None:
    access = Access()
    access.mark(kind, [NODE])
    wanted = set(TABLE[kind][COLUMNS.index(role)])
    assert letters(access.permissions(NODE, frozenset({role}))) == wanted
    for letter, permission in LETTERS.items():
        assert access.may(frozenset({role}), permission, NODE) == (letter in wanted)


def test_a_user_may_what_any_of_his_roles_may() -> None:
    # Part 3 §5.2.9
    access = Access()
    access.mark(Kind.SETPOINT, [NODE])
    both = access.permissions(NODE, frozenset({Role.OBSERVER, Role.OPERATOR}))
    assert letters(both) == set("brehw")
    assert letters(access.permissions(NODE, frozenset())) == set()


def test_a_node_that_nobody_marked_is_plain_and_a_mark_replaces_another() -> None:
    access = rules(("*", "observer", "browse"))
    assert access.kind(NODE) is Kind.PLAIN
    assert letters(access.table(NODE)[Role.OPERATOR]) == set("breh")
    access.mark(Kind.SETPOINT, [NODE])  # what was worked out before is forgotten
    assert letters(access.table(NODE)[Role.OPERATOR]) == set("brehw")


def test_a_rule_replaces_what_a_role_may_on_the_nodes_it_names() -> None:
    access = rules(("Press01.Process.*", "engineer", "browse read write"))
    assert letters(access.table(NODE)[Role.ENGINEER]) == set("brw")
    assert letters(access.table(NODE)[Role.OBSERVER]) == set("breh")
    elsewhere = ua.NodeId("Press01.Other", 7)
    assert access.table(elsewhere) == DEFAULTS[Kind.PLAIN]


def test_what_is_taken_from_a_role_does_not_come_back_through_the_roles_that_everybody_has() -> None:
    access = rules(("Press01.Process.*", "observer", ""))
    observer = frozenset({Role.ANONYMOUS, Role.AUTHENTICATED_USER, Role.OBSERVER})
    assert letters(access.permissions(NODE, observer)) == set()
    assert letters(access.permissions(NODE, observer | {Role.OPERATOR})) == set("breh")
    again = rules(("Press01.Process.*", "observer", ""), ("Press01.Process.*", "anonymous", "browse"))
    assert letters(again.permissions(NODE, observer)) == {"b"}


def test_a_rule_that_gives_takes_nothing_from_others() -> None:
    access = rules(("*", "operator", "browse read events history write call"))
    assert letters(access.table(NODE)[Role.ANONYMOUS]) == set("bre")
    assert letters(access.table(NODE)[Role.OPERATOR]) == set("brehwc")


def test_the_last_rule_that_matches_counts() -> None:
    access = rules(("*", "operator", ""), ("Press01.*", "operator", "browse"))
    assert letters(access.table(NODE)[Role.OPERATOR]) == {"b"}
    assert letters(access.table(ua.NodeId("Models", 7))[Role.OPERATOR]) == set()


def test_a_rule_can_open_what_only_security_may_see() -> None:
    access = rules(("Press01.Process.*", "anonymous", "read"), ("*", "observer", "browse"))
    access.mark(Kind.SECURITY, [NODE])
    assert letters(access.table(NODE)[Role.ANONYMOUS]) == {"r"}
    assert letters(access.table(NODE)[Role.OBSERVER]) == {"b"}


@pytest.mark.parametrize(
    "node", [ua.NodeId(2253), ua.NodeId(17, 7), ua.NodeId("Press01.Process.sp_speed", 6)]
)
def test_rules_speak_only_of_named_nodes_of_the_plant(node: ua.NodeId) -> None:
    assert rules(("*", "observer", "")).table(node) is DEFAULTS[Kind.PLAIN]


def test_equal_tables_are_one_object_and_are_kept() -> None:
    access = rules(("Press01.*", "operator", "browse"))
    other = ua.NodeId("Press01.Process.die_temp", 7)
    assert access.table(NODE) is access.table(other)
    assert access.table(NODE) is access.table(NODE)


def test_a_misspelt_rule_is_found() -> None:
    access = rules(("Press01.*", "operator", ""), ("Pres01.*", "operator", ""), ("[", "operator", ""))
    nodes = [NODE, ua.NodeId(2253), ua.NodeId("Pres01.x", 3)]
    assert [one.nodes for one in access.idle_rules(nodes)] == ["Pres01.*", "["]
    assert rules().idle_rules(nodes) == []
    assert access.idle_rules([NODE, ua.NodeId("Pres01.x", 7), ua.NodeId("[", 7), NODE]) == []


def test_the_server_keeps_the_rules_of_the_configuration() -> None:
    hidden = {"nodes": "Press01.Process.sp_*", "role": "operator", "permissions": "none"}
    config = configuration(opcua={"listen": "127.0.0.1:0", "access": [hidden]})
    access = access_of(config)
    assert letters(access.permissions(NODE, frozenset({Role.OPERATOR, Role.ANONYMOUS}))) == set()
    assert letters(access.permissions(NODE, frozenset({Role.OBSERVER}))) == set("breh")


def test_a_rule_in_the_words_of_the_configuration() -> None:
    every = ("browse", "read", "write", "call", "history", "events")
    made = rule("x", "securityadmin", every)
    assert made == AccessRule("x", Role.SECURITY_ADMIN, made.permissions)
    assert letters(made.permissions) == set("brwche")
    assert rule("x", "observer", ()).permissions == Permission(0)


PATTERNS = ["a", "b", "a*", "*b", "?", "[ab]c", "[!a]c", "a.b", "*", "[", "a]", "", "A"]
NAMES = ["a", "b", "ab", "ac", "bc", "a.b", "axb", "[", "a]", "A", "", "cc", "a\nb"]


@settings(max_examples=50)
@given(
    st.lists(st.tuples(st.sampled_from(PATTERNS), st.sampled_from(["", "read", "browse read"])), max_size=8)
)
def test_every_rule_that_matches_counts_in_its_order(wanted: list[tuple[str, str]]) -> None:
    # A rule without wildcards is looked up, others are tried together first: both say what fnmatch says.
    access = rules(*((nodes, "operator", words) for nodes, words in wanted))
    for name in NAMES:
        expected = set("brehw")
        for nodes, words in wanted:
            if fnmatchcase(name, nodes):
                expected = {word[0] for word in words.split()}
        table = access.table_of(name, Kind.SETPOINT)
        assert letters(table[Role.OPERATOR]) == expected
    useless = [one.nodes for one in access.idle_rules([ua.NodeId(name, 7) for name in NAMES])]
    assert useless == [nodes for nodes, _ in wanted if not any(fnmatchcase(name, nodes) for name in NAMES)]


@pytest.mark.parametrize("with_rules", [False, True])
def test_of_many_tags_the_tables_are_those_of_each(*, with_rules: bool) -> None:
    plant = TagPlant(*(config(f"t{i}", access="rw" if i % 3 else "r") for i in range(10)))
    special = [rule("t4", "Operator", []), rule("t[56]", "Operator", ["read"])] if with_rules else []
    access = Access(special, namespace=7)
    access.cover(plant.aspace.tags, plant.aspace.virtual)
    for numbers in ([4], [9, 0, 4, 4, 5], list(range(10))):
        codes, tables = access.tables_of_tags(np.array(numbers))
        assert [tables[code] for code in codes] == [access.table_of_tag(number) for number in numbers]
