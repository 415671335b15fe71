"""What a tag is in Data Access: its type, and what a SCADA takes from it."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
from asyncua import ua

from edge_opcua.config.schema import TagConfig
from edge_opcua.core.values import Scalar
from edge_opcua.opcua.items import Property, item_property, item_type, property_names, state_text
from edge_opcua.opcua.units import engineering_unit, unit_id


def tag(kind: Scalar = Scalar.DOUBLE, **more: Any) -> TagConfig:
    return TagConfig(name="x", address="DB1.DBD0:REAL", type=kind, **more)


def properties_of(of: TagConfig) -> list[Property]:
    return [found for name in property_names(of) if (found := item_property(of, name))]


def shown(of: TagConfig) -> dict[str, Any]:
    return {each.name: each.value and each.value.Value for each in properties_of(of)}


@pytest.mark.parametrize(
    ("given", "kind", "properties"),
    [
        (tag(unit="kN", low=0, high=9), ua.ObjectIds.AnalogUnitRangeType, {"EURange", "EngineeringUnits"}),
        (tag(low=0, high=9), ua.ObjectIds.AnalogItemType, {"EURange"}),
        (tag(unit="kN", low=0), ua.ObjectIds.AnalogUnitType, {"EngineeringUnits"}),
        (
            tag(Scalar.INT16, length=8, unit="kN", low=0, high=9),
            ua.ObjectIds.AnalogUnitRangeType,
            {"EURange", "EngineeringUnits"},
        ),
        (
            tag(Scalar.INT16, low=0, high=9, states=((0, "Idle"), (4, "Execute"))),
            ua.ObjectIds.MultiStateValueDiscreteType,
            {"EnumValues", "ValueAsText"},
        ),
        (tag(Scalar.UINT32), ua.ObjectIds.DataItemType, set()),
        (tag(Scalar.STRING, length=8), ua.ObjectIds.DataItemType, set()),
        (tag(Scalar.BOOLEAN), ua.ObjectIds.TwoStateDiscreteType, {"TrueState", "FalseState"}),
        (tag(Scalar.BOOLEAN, length=4), ua.ObjectIds.DataItemType, set()),
    ],
)
def test_a_tag_is_of_the_type_that_fits_with_what_it_demands(
    given: TagConfig, kind: int, properties: set[str]
) -> None:
    # Part 8 §5.3.2 (AnalogItemType: EURange mandatory), §5.3.3.2 (TwoStateDiscreteType).
    assert item_type(given) == ua.NodeId(int(kind))
    assert set(shown(given)) == properties
    assert property_names(given) == [each.name for each in properties_of(given)]


def test_the_names_of_the_two_states_are_the_tables() -> None:
    texts = shown(tag(Scalar.BOOLEAN, true_name="closed"))
    assert {name: text.Text for name, text in texts.items()} == {"TrueState": "closed", "FalseState": "FALSE"}


def test_how_a_value_is_calculated_is_its_definition() -> None:
    # Part 8 §5.3.1.
    assert shown(tag(scale=0.1, offset=-5))["Definition"] == "raw x 0.1 -5"


@pytest.mark.parametrize(("text", "code"), [("°C", "CEL"), ("µm", "4H"), ("\u03bcm", "4H"), ("kN", "B47")])
def test_units_have_their_unece_code(text: str, code: str) -> None:
    # Part 8 §5.6.4.3: the UnitId is the code's characters.
    unit = engineering_unit(text)
    assert unit.UnitId == unit_id(code)
    assert unit.DisplayName.Text == text


def test_a_unit_nobody_knows_keeps_its_text() -> None:
    assert (engineering_unit("furlong").UnitId, engineering_unit("furlong").DisplayName.Text) == (
        -1,
        "furlong",
    )


def test_the_text_of_a_state_has_the_numbers_status_and_times() -> None:
    # Part 8 §5.3.3.4: ValueAsText.
    source, server = dt.datetime(2026, 1, 2, tzinfo=dt.UTC), dt.datetime(2026, 1, 3, tzinfo=dt.UTC)
    status = ua.StatusCode(ua.StatusCodes.UncertainLastUsableValue)

    def read(value: int | None) -> ua.DataValue:
        variant = ua.Variant(value, ua.VariantType.Int16) if value is not None else None
        number = ua.DataValue(variant, status, SourceTimestamp=source, ServerTimestamp=server)
        return state_text(number, {4: "Execute"})

    shown = read(4)
    assert shown.Value == ua.Variant(ua.LocalizedText("Execute"))
    assert (shown.StatusCode, shown.SourceTimestamp, shown.ServerTimestamp) == (status, source, server)
    assert read(5).Value == ua.Variant(ua.LocalizedText(""))
    assert read(None).Value == ua.Variant(None)
