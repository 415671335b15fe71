"""Event filters are looked at when the item is made, and select what Part 4 says; without a server."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from asyncua import ua
from asyncua.common.events import Event
from asyncua.server.address_space import NodeManagementService
from asyncua.server.standard_address_space import standard_address_space
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_opcua.opcua.access import Access, AccessRule, Kind, Permission
from edge_opcua.opcua.addressspace import Nodes
from edge_opcua.opcua.limits import ServerLimits
from edge_opcua.opcua.services.event.eventtypes import EventTypes
from edge_opcua.opcua.services.event.filters import Compiled, Selection, compile_filter, may_receive
from edge_opcua.security.roles import Role

CODES = ua.StatusCodes
OP = ua.FilterOperator
K = ua.VariantType
BASE = ua.NodeId(ua.ObjectIds.BaseEventType)
SYSTEM = ua.NodeId(ua.ObjectIds.SystemEventType)
DEVICE_FAILURE = ua.NodeId(ua.ObjectIds.DeviceFailureEventType)
AUDIT = ua.NodeId(ua.ObjectIds.AuditEventType)
CONDITION = ua.NodeId(ua.ObjectIds.ConditionType)
ALARM = ua.NodeId(ua.ObjectIds.AlarmConditionType)
PRESS_EVENT = ua.NodeId("PressEventType", 2)
PRESS = ua.NodeId("Press", 2)


def add(nodes: NodeManagementService, node: ua.NodeId, parent: ua.NodeId, reference: int, name: str) -> None:
    """Add an event type, or a field to one."""
    item = ua.AddNodesItem()
    item.RequestedNewNodeId, item.ParentNodeId = node, parent
    item.ReferenceTypeId = ua.NodeId(reference)
    item.BrowseName = ua.QualifiedName(name, 2)
    if reference == ua.ObjectIds.HasSubtype:
        item.NodeClass, item.NodeAttributes = ua.NodeClass.ObjectType, ua.ObjectTypeAttributes()
    else:
        item.NodeClass, item.NodeAttributes = ua.NodeClass.Variable, ua.VariableAttributes()
        item.TypeDefinition = ua.NodeId(ua.ObjectIds.BaseDataVariableType)
    (result,) = nodes.add_nodes([item])
    result.StatusCode.check()


@pytest.fixture(scope="module")
def aspace() -> Nodes:
    """The standard address space, and an event type with nested fields."""
    space = Nodes()
    nodes = NodeManagementService(space)
    standard_address_space.fill_address_space(nodes)
    ids = ua.ObjectIds
    add(nodes, PRESS_EVENT, BASE, ids.HasSubtype, "PressEventType")
    for path in ("Force", "State", "Result", "Result.Meta", "Result.Meta.PartId"):
        parent, _, name = f"PressEventType.{path}".rpartition(".")
        add(nodes, ua.NodeId(f"PressEventType.{path}", 2), ua.NodeId(parent, 2), ids.HasComponent, name)
    return space


@pytest.fixture(scope="module")
def types(aspace: Nodes) -> EventTypes:
    return EventTypes(aspace)


def operand(
    *path: str,
    kind: ua.NodeId = BASE,
    attribute: ua.AttributeIds = ua.AttributeIds.Value,
    part: str | None = None,
) -> ua.SimpleAttributeOperand:
    """A path like ``"2:Result", "2:Meta"``; without a number it is namespace 0."""
    names = [ua.QualifiedName.from_string(name) for name in path]
    return ua.SimpleAttributeOperand(kind, names, attribute, part)


def literal(value: Any, kind: ua.VariantType | None = None) -> ua.LiteralOperand:
    return ua.LiteralOperand(ua.Variant(value, kind))


def element(index: int) -> ua.ElementOperand:
    return ua.ElementOperand(index)


def compiled(
    types: EventTypes, *where: tuple[Any, list[Any]], select: list[Any] | None = None, **bounds: Any
) -> Compiled:
    elements = [ua.ContentFilterElement(operator, operands) for operator, operands in where]
    wanted = ua.EventFilter(
        SelectClauses=[operand("Message")] if select is None else select,
        WhereClause=ua.ContentFilter(elements),
    )
    return compile_filter(types._aspace, wanted, types=types, limits=replace(ServerLimits(), **bounds))


def selection(types: EventTypes, *where: tuple[Any, list[Any]], select: list[Any] | None = None) -> Selection:
    found = compiled(types, *where, select=select)
    assert found.status == 0, [each.StatusCode for each in found.result.WhereClauseResult.ElementResults]
    assert found.selection is not None
    return found.selection


def event(kind: ua.NodeId = SYSTEM, **fields: tuple[Any, Any]) -> Event:
    made = Event(PRESS)
    for name, value, variant in (
        ("EventId", b"id", K.ByteString),
        ("EventType", kind, K.NodeId),
        ("SourceNode", PRESS, K.NodeId),
        ("SourceName", "Press", K.String),
        ("Time", dt.datetime(2026, 11, 21, tzinfo=dt.UTC), K.DateTime),
        ("Message", ua.LocalizedText("worn die", "en"), K.LocalizedText),
        ("Severity", 500, K.UInt16),
    ):
        made.add_property(name, value, variant)
    for name, (value, variant) in fields.items():
        made.add_property(name.replace("__", "/"), value, variant)
    return made


# --- select clauses (Part 4 §7.22.3) -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("clause", "code"),
    [
        (operand("Message"), 0),
        (operand("Message", kind=PRESS_EVENT), 0),
        (operand("2:Force"), 0),
        (operand("2:Force", kind=PRESS_EVENT), 0),
        (operand("2:Result", "2:Meta", "2:PartId"), 0),
        (operand("Retain", kind=CONDITION), 0),
        (operand("ActiveState", "Id"), 0),
        (operand("2:Force", part="0:3"), 0),
        (operand(attribute=ua.AttributeIds.NodeId, kind=CONDITION), 0),
        (operand("ShelvingState", kind=ALARM, attribute=ua.AttributeIds.NodeId), 0),
        # "the typeDefinitionId is not the NodeId for BaseEventType or a subtype of it"
        (operand("Message", kind=ua.NodeId()), CODES.BadTypeDefinitionInvalid),
        (operand("Message", kind=ua.NodeId(ua.ObjectIds.BaseObjectType)), CODES.BadTypeDefinitionInvalid),
        (operand("Message", kind=ua.NodeId("nothing", 9)), CODES.BadTypeDefinitionInvalid),
        # "the browsePath is specified but it will never exist in any Event"
        (operand("NoSuchField"), CODES.BadNodeIdUnknown),
        (operand("Force"), CODES.BadNodeIdUnknown),  # it is 2:Force
        (operand("2:Force", kind=SYSTEM), CODES.BadNodeIdUnknown),
        (operand("2:Result", "2:PartId"), CODES.BadNodeIdUnknown),
        (operand("__class__"), CODES.BadNodeIdUnknown),
        (operand("Message", "Message"), CODES.BadNodeIdUnknown),
        (operand(*["Message"] * 500), CODES.BadNodeIdUnknown),
        (operand(""), CODES.BadBrowseNameInvalid),
        (operand("Message", attribute=ua.AttributeIds.DisplayName), CODES.BadAttributeIdInvalid),
        (operand("Message", attribute=ua.AttributeIds.NodeId), CODES.BadAttributeIdInvalid),
        (operand("ShelvingState", kind=ALARM), CODES.BadAttributeIdInvalid),
        (operand(), CODES.BadAttributeIdInvalid),
        (operand("2:Force", part="3:1"), CODES.BadIndexRangeInvalid),
        (operand("2:Force", part="x"), CODES.BadIndexRangeInvalid),
        (
            operand(attribute=ua.AttributeIds.NodeId, kind=CONDITION, part="1"),
            CODES.BadIndexRangeInvalid,
        ),
    ],
)
def test_each_select_clause_gets_its_status(types: EventTypes, clause: Any, code: int) -> None:
    found = compiled(types, select=[operand("Severity"), clause])
    assert found.status == 0
    assert [status.value for status in found.result.SelectClauseResults] == [0, code]
    assert found.selection is not None
    if code:
        assert found.selection.fields(event())[1] == ua.Variant()


@pytest.mark.parametrize("select", [[], [operand("NoSuchField"), operand()], [operand("Message")] * 11])
def test_without_a_good_clause_or_with_too_many_there_is_no_item(
    types: EventTypes, select: list[Any]
) -> None:
    # "At least one valid clause shall be specified."
    found = compiled(types, select=select, select_clauses=10)
    assert (found.status, found.selection) == (CODES.BadEventFilterInvalid, None)


def test_fields_come_typed_from_the_types_that_have_them(types: EventTypes) -> None:
    chosen = selection(
        types,
        select=[
            operand("EventId"),
            operand("Severity"),
            operand("2:Force"),
            operand("2:Result", "2:Meta", "2:PartId"),
            operand("Severity", kind=DEVICE_FAILURE),
            operand("2:State"),
            operand("Message"),
        ],
    )
    force = ([1.5, 2.5], K.Float)
    press = event(PRESS_EVENT, Force=force, Result__Meta__PartId=("P-1", K.String), State=(None, K.String))
    assert chosen.fields(press) == [
        ua.Variant(b"id", K.ByteString),
        ua.Variant(500, K.UInt16),
        ua.Variant([1.5, 2.5], K.Float),
        ua.Variant("P-1", K.String),
        ua.Variant(),  # not a DeviceFailureEventType
        ua.Variant(),  # has nothing to say
        ua.Variant(ua.LocalizedText("worn die", "en"), K.LocalizedText),
    ]
    # A field of the same name that the type of this event does not declare is another field.
    failure = chosen.fields(event(DEVICE_FAILURE, Force=force, State=("x", K.String)))
    assert [field.Value for field in failure[1:6]] == [500, None, None, 500, None]


def test_an_event_is_what_it_was_when_it_was_selected(types: EventTypes) -> None:
    chosen = selection(types, select=[operand("Message"), operand("2:Force"), operand("LocalTime")])
    zone = ua.TimeZoneDataType(Offset=60)
    made = event(PRESS_EVENT, Force=([1.0], K.Double), LocalTime=(zone, ua.NodeId(8912)))
    fields = chosen.fields(made)
    made.Message.Text = "later"
    made.Force.append(2.0)
    zone.Offset = 0
    assert fields[0].Value.Text == "worn die"
    assert fields[1].Value == [1.0]
    assert (fields[2].VariantType, fields[2].Value.Offset) == (K.ExtensionObject, 60)


def test_items_that_get_the_same_event_share_its_copies(types: EventTypes) -> None:
    taken: dict[str, ua.Variant] = {}
    made = event()
    one = selection(types, select=[operand("Message"), operand("Severity")]).fields(made, taken)
    two = selection(types, select=[operand("Message")]).fields(made, taken)
    assert one[0] is two[0]


def test_a_part_of_a_field_is_cut_out_and_a_status_tells_where_there_is_none(types: EventTypes) -> None:
    chosen = selection(types, select=[operand("2:Force", part="1:2"), operand("SourceName", part="0:1")])
    fields = chosen.fields(event(PRESS_EVENT, Force=([1, 2, 3, 4], K.Int32)))
    assert [field.Value for field in fields] == [[2, 3], "Pr"]
    # "the event field shall contain a StatusCode that indicates the reason for the unavailability"
    (short, _) = chosen.fields(event(PRESS_EVENT, Force=([1], K.Int32)))
    assert (short.VariantType, short.Value.value) == (K.StatusCode, CODES.BadIndexRangeNoData)
    # §7.7.3 IsNull: "TRUE if the value is a StatusCode instead of the field DataType."
    is_null = (OP.IsNull, [operand("2:Force", part="1:2")])
    assert selection(types, is_null).matches(event(PRESS_EVENT, Force=([1], K.Int32)))
    assert not selection(types, is_null).matches(event(PRESS_EVENT, Force=([1, 2], K.Int32)))


def test_a_status_in_place_of_a_value_is_sent_as_one_and_compared_as_null(types: EventTypes) -> None:
    # §7.22.3: the StatusCode is sent instead of a value that has a bad one.
    status = ua.StatusCode(CODES.BadSensorFailure)
    made = event(PRESS_EVENT, Force=(status, K.Double))
    chosen = selection(types, (OP.IsNull, [operand("2:Force")]), select=[operand("2:Force")])
    assert chosen.matches(made)
    assert chosen.fields(made) == [ua.Variant(status, K.StatusCode)]


def test_the_condition_id_is_the_node_id_without_a_path(types: EventTypes) -> None:
    # Part 9 §5.5.2.
    chosen = selection(types, select=[operand(kind=CONDITION, attribute=ua.AttributeIds.NodeId)])
    condition = ua.NodeId("Alarm", 2)
    assert chosen.fields(event(ALARM, NodeId=(condition, K.NodeId)))[0].Value == condition
    assert chosen.fields(event(SYSTEM, NodeId=(condition, K.NodeId)))[0].Value is None


# --- where clauses (Part 4 §7.7) ---------------------------------------------------------------------------


def high(limit: int = 300) -> tuple[Any, list[Any]]:
    return OP.GreaterThanOrEqual, [operand("Severity"), literal(limit, K.Int64)]


def is_a(kind: ua.NodeId) -> tuple[Any, list[Any]]:
    return OP.OfType, [literal(kind)]


# asyncua compares the exact type only.
@pytest.mark.parametrize(
    ("wanted", "kind", "passes"),
    [
        (BASE, SYSTEM, True),
        (SYSTEM, SYSTEM, True),
        (SYSTEM, DEVICE_FAILURE, True),
        (DEVICE_FAILURE, SYSTEM, False),
        (AUDIT, DEVICE_FAILURE, False),
        (BASE, PRESS_EVENT, True),
        (ua.NodeId(ua.ObjectIds.BaseObjectType), SYSTEM, True),
        (ua.NodeId(ua.ObjectIds.BaseVariableType), SYSTEM, False),
        (ua.ExpandedNodeId(SYSTEM.Identifier, NamespaceUri="http://opcfoundation.org/UA/"), SYSTEM, True),
    ],
)
def test_of_type_knows_subtypes(types: EventTypes, wanted: Any, kind: ua.NodeId, passes: bool) -> None:
    assert selection(types, is_a(wanted)).matches(event(kind)) is passes


def test_of_type_takes_a_field_too(types: EventTypes) -> None:
    chosen = selection(types, (OP.OfType, [operand("EventType")]))
    assert chosen.matches(event(DEVICE_FAILURE))


@pytest.mark.parametrize(
    ("where", "passes"),
    [
        ([], True),
        ([high()], True),
        ([high(501)], False),
        ([(OP.Equals, [operand("SourceName"), literal("Press")])], True),
        ([(OP.Like, [operand("Message"), literal("%die")])], True),
        ([(OP.Like, [operand("Message"), operand("SourceName")])], False),
        ([(OP.Like, [literal("Press"), operand("SourceName")])], True),
        ([(OP.Between, [operand("Severity"), literal(1), literal(500)])], True),
        ([(OP.InList, [operand("EventType"), literal(AUDIT), literal(SYSTEM)])], True),
        ([(OP.InList, [operand("EventType"), literal(AUDIT), literal(BASE)])], False),
        ([(OP.InList, [operand("Severity"), literal(1), literal(500)])], True),
        ([(OP.InList, [operand("Severity"), literal(1, K.UInt16), literal(500, K.UInt16)])], True),
        ([(OP.InList, [operand("2:Force"), literal(1), literal(500)])], False),
        ([(OP.IsNull, [operand("2:Force")])], True),
        ([(OP.Not, [element(1)]), is_a(AUDIT)], True),
        ([(OP.And, [element(1), element(2)]), high(), is_a(SYSTEM)], True),
        ([(OP.And, [element(1), element(2)]), high(), is_a(AUDIT)], False),
        ([(OP.Or, [element(1), element(2)]), high(501), is_a(SYSTEM)], True),
        # A field this event does not have is NULL; NULL OR TRUE is TRUE, NOT NULL is NULL, NULL is not TRUE.
        ([(OP.Equals, [operand("2:Force"), literal(1)])], False),
        ([(OP.Not, [element(1)]), (OP.Equals, [operand("2:Force"), literal(1)])], False),
        ([(OP.Or, [element(1), element(2)]), (OP.Equals, [operand("2:Force"), literal(1)]), high()], True),
        (
            [
                (OP.Equals, [element(1), literal("500")]),
                (OP.Cast, [operand("Severity"), literal(ua.NodeId(12))]),
            ],
            True,
        ),
        ([(OP.IsNull, [element(1)]), (OP.Cast, [operand("Severity"), literal(ua.NodeId(3))])], True),
        ([(OP.Equals, [element(1), literal(4)]), (OP.BitwiseAnd, [operand("Severity"), literal(4)])], True),
        ([(OP.Equals, [element(1), literal(501)]), (OP.BitwiseOr, [operand("Severity"), literal(1)])], True),
        # An enumeration is carried by Int32, UtcTime by DateTime; Number is abstract.
        (
            [
                (OP.Equals, [element(1), literal(500)]),
                (OP.Cast, [operand("Severity"), literal(ua.NodeId(ua.ObjectIds.ApplicationType))]),
            ],
            True,
        ),
        ([(OP.IsNull, [element(1)]), (OP.Cast, [operand("Time"), literal(ua.NodeId(294))])], False),
        ([(OP.IsNull, [element(1)]), (OP.Cast, [operand("Severity"), literal(ua.NodeId(26))])], True),
        ([(OP.IsNull, [element(1)]), (OP.Cast, [operand("Severity"), literal("no NodeId")])], True),
        ([(OP.IsNull, [element(1)]), (OP.Cast, [operand("Severity"), operand("EventType")])], True),
        ([(OP.Like, [operand("Message"), literal(5)])], False),
        ([(OP.Like, [operand("2:Force"), literal("%")])], False),
        ([(OP.OfType, [operand("SourceName")])], False),
        ([(OP.InList, [operand("Severity"), literal(1, K.UInt16), literal(None)])], False),
        # Only literals: known before there is an event.
        ([(OP.Equals, [literal(1), literal(1.0)])], True),
        ([(OP.Not, [element(1)]), (OP.Equals, [literal(1), literal(2)])], True),
        ([(OP.Equals, [literal(None), literal(None)])], False),
    ],
)
def test_a_where_clause_decides(types: EventTypes, where: list[Any], passes: bool) -> None:
    assert selection(types, *where).matches(event()) is passes


@pytest.mark.parametrize(
    ("where", "element_code", "operand_codes"),
    [
        ((OP.InView, [literal(BASE)]), CODES.BadFilterOperatorUnsupported, []),
        ((OP.RelatedTo, [literal(1)] * 6), CODES.BadFilterOperatorUnsupported, []),
        ((99, [literal(1)]), CODES.BadFilterOperatorInvalid, []),
        ((OP.Equals, [literal(1)]), CODES.BadFilterOperandCountMismatch, []),
        ((OP.Equals, [literal(1)] * 3), CODES.BadFilterOperandCountMismatch, []),
        ((OP.Not, []), CODES.BadFilterOperandCountMismatch, []),
        ((OP.Between, [literal(1)] * 2), CODES.BadFilterOperandCountMismatch, []),
        ((OP.InList, [literal(1)]), CODES.BadFilterOperandCountMismatch, []),
        ((OP.Not, [element(0)]), CODES.BadFilterOperandInvalid, [CODES.BadFilterElementInvalid]),
        ((OP.Not, [element(7)]), CODES.BadFilterOperandInvalid, [CODES.BadFilterElementInvalid]),
        ((OP.Not, [ua.AttributeOperand()]), CODES.BadFilterOperandInvalid, [CODES.BadFilterOperandInvalid]),
        ((OP.Not, [None]), CODES.BadFilterOperandInvalid, [CODES.BadFilterOperandInvalid]),
        (
            (OP.Equals, [operand("NoSuchField"), literal(1)]),
            CODES.BadFilterOperandInvalid,
            [CODES.BadNodeIdUnknown, 0],
        ),
        (
            (OP.Equals, [literal(1), operand("Message", kind=PRESS)]),
            CODES.BadFilterOperandInvalid,
            [0, CODES.BadTypeDefinitionInvalid],
        ),
        ((OP.OfType, [literal("text")]), CODES.BadFilterOperandInvalid, [CODES.BadFilterLiteralInvalid]),
        (
            (OP.OfType, [literal(ua.NodeId("no such type", 2))]),
            CODES.BadFilterOperandInvalid,
            [CODES.BadNodeIdUnknown],
        ),
        (
            (OP.OfType, [literal(ua.ExpandedNodeId(1, NamespaceUri="urn:not:here"))]),
            CODES.BadFilterOperandInvalid,
            [CODES.BadFilterLiteralInvalid],
        ),
        (
            (OP.OfType, [literal(ua.NodeId(ua.ObjectIds.Server))]),
            CODES.BadFilterOperandInvalid,
            [CODES.BadFilterOperandInvalid],
        ),
        (
            (OP.Like, [operand("Message"), literal("[")]),
            CODES.BadFilterOperandInvalid,
            [0, CODES.BadFilterLiteralInvalid],
        ),
        (
            (OP.Like, [operand("Message"), literal("x" * 300)]),
            CODES.BadFilterOperandInvalid,
            [0, CODES.BadFilterLiteralInvalid],
        ),
    ],
)
def test_what_is_wrong_with_a_where_clause_is_said_when_the_item_is_made(
    types: EventTypes, where: Any, element_code: int, operand_codes: list[int]
) -> None:
    # Part 4 §7.7.2; the good element beside it gets a good result.
    found = compiled(types, (OP.Or, [element(1), element(2)]), where, high())
    if where[1] == [element(0)] or where[1] == [element(7)]:
        found = compiled(types, where)
    assert (found.status, found.selection) == (CODES.BadEventFilterInvalid, None)
    results = found.result.WhereClauseResult.ElementResults
    (bad,) = [each for each in results if not each.StatusCode.is_good()]
    assert bad.StatusCode.value == element_code
    assert [status.value for status in bad.OperandStatusCodes] == operand_codes


def test_elements_nothing_leads_to_are_ignored(types: EventTypes) -> None:
    # §7.7.1: "If an element cannot be traced back to the starting element it is ignored."
    assert selection(types, high(), (OP.InView, [])).matches(event())


def test_a_where_clause_has_a_bound(types: EventTypes) -> None:
    assert compiled(types, high(), (OP.Not, []), where_operands=3).status == 0
    assert compiled(types, high(), (OP.Not, []), where_operands=2).status == CODES.BadEventFilterInvalid
    wide = (OP.InList, [operand("Severity"), *[literal(1)] * 999])
    assert compiled(types, wide).status == 0
    assert compiled(types, wide, high()).status == CODES.BadEventFilterInvalid


@pytest.mark.parametrize(("patterns", "status"), [(5, 0), (6, CODES.BadEventFilterInvalid)])
def test_patterns_of_a_filter_together_have_a_bound(types: EventTypes, patterns: int, status: int) -> None:
    like = (OP.Like, [operand("Message"), literal("%" + "a" * 199)])
    where: list[Any] = []
    for here in range(0, 2 * patterns, 2):
        where += [(OP.Or, [element(here + 1), element(here + 2)]), like]
    assert compiled(types, *where, high()).status == status


def test_an_element_many_refer_to_is_worked_out_once(types: EventTypes) -> None:
    # 2^200 paths lead to the last element; with recursion the test would not end.
    ladder = [(OP.And, [element(i + 1), element(i + 1)]) for i in range(200)]
    chosen = selection(types, *ladder, high())
    assert chosen.matches(event())
    deep = [(OP.Not, [element(i + 1)]) for i in range(900)]
    assert selection(types, *deep, high()).matches(event())


# Leaves that are true, false and null for every event; none of them is known before there is one.
LEAVES = {
    True: (OP.Equals, [operand("SourceName"), literal("Press")]),
    False: (OP.Equals, [operand("SourceName"), literal("Oven")]),
    None: (OP.Equals, [operand("2:Force"), literal(1)]),
}


def reference(elements: list[Any], index: int) -> bool | None:
    """Tables 127 and 128 and Not, by recursion."""
    kind, operands = elements[index]
    if kind is None:
        leaf: bool | None = operands
        return leaf
    answers = [reference(elements, each) for each in operands]
    if kind == OP.Not:
        return None if answers[0] is None else not answers[0]
    strong = bool(kind == OP.Or)
    if strong in answers:
        return strong
    return None if None in answers else not strong


@st.composite
def logic(draw: Any) -> list[Any]:
    """Draw a list of elements that refer to later ones; the last ones are leaves."""
    size = draw(st.integers(0, 7))
    leaves = [(None, draw(st.sampled_from([True, False, None]))) for _ in range(3)]
    elements: list[Any] = []
    for here in range(size):
        kind = draw(st.sampled_from([OP.And, OP.Or, OP.Not]))
        later = st.integers(here + 1, size + len(leaves) - 1)
        elements.append((kind, [draw(later) for _ in range(1 if kind == OP.Not else 2)]))
    return elements + leaves


@settings(max_examples=200, deadline=None)
@given(elements=logic())
def test_any_tree_of_and_or_not_is_what_recursion_over_the_truth_tables_says(
    types: EventTypes, elements: list[Any]
) -> None:
    where = [
        LEAVES[operands] if kind is None else (kind, [element(each) for each in operands])
        for kind, operands in elements
    ]
    assert selection(types, *where).matches(event()) is (reference(elements, 0) is True)


def test_an_event_with_odd_values_is_let_by(types: EventTypes) -> None:
    odd = event(Severity=("high", K.UInt16))
    assert not selection(types, high()).matches(odd)
    same_type = (OP.GreaterThan, [operand("Severity"), literal(300, K.UInt16)])
    assert not selection(types, same_type).matches(odd)
    assert selection(types, high()).matches(event())
    assert not selection(types, is_a(SYSTEM)).matches(event(ua.NodeId("no type", 9)))


# --- ReceiveEvents (Part 3 §8.55) --------------------------------------------------------------------------


def test_an_event_is_received_with_the_permission_on_its_type_and_on_its_source(aspace: Nodes) -> None:
    everybody, officer = frozenset({Role.ANONYMOUS}), frozenset({Role.SECURITY_ADMIN})
    access = Access()
    server = ua.NodeId(ua.ObjectIds.Server)
    made = event(SourceNode=(server, K.NodeId))
    assert may_receive(access, everybody, made, aspace)
    access.mark(Kind.SECURITY, [DEVICE_FAILURE])
    failure = event(DEVICE_FAILURE, SourceNode=(server, K.NodeId))
    assert not may_receive(access, everybody, failure, aspace)
    assert may_receive(access, officer, failure, aspace)
    hidden = Access([AccessRule("PressEventType.Force", Role.ANONYMOUS, Permission(0))], namespace=2)
    source = event(SourceNode=(ua.NodeId("PressEventType.Force", 2), K.NodeId))
    assert not may_receive(hidden, everybody, source, aspace)
    assert may_receive(hidden, everybody, event(SourceNode=(None, K.NodeId)), aspace)
    assert may_receive(hidden, everybody, event(SourceNode=(ua.NodeId("gone", 2), K.NodeId)), aspace)


def test_the_page_names_every_operator() -> None:
    page = (Path(__file__).parents[2] / "docs" / "reference" / "events.md").read_text("utf-8")
    assert [operator.name for operator in OP if operator.name not in page] == []
