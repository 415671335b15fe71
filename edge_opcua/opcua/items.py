"""What kind of variable a tag is, and the properties that kind demands: Data Access (Part 8) for free.

A SCADA takes range, unit and texts from these properties, and a percent deadband needs the range.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

from asyncua import ua
from asyncua.server.address_space import AttributeValue

from edge_opcua.config.schema import CaptureConfig, TagConfig
from edge_opcua.core.values import Scalar
from edge_opcua.opcua.nodes import ARRAY, SCALAR
from edge_opcua.opcua.units import engineering_unit

_NOT_NUMBERS: Final = (Scalar.BOOLEAN, Scalar.STRING)
STATE_TEXT: Final = "ValueAsText"
TRUE_TEXT: Final = "TRUE"
FALSE_TEXT: Final = "FALSE"


class Property(NamedTuple):
    """A property of the base namespace: BrowseName, value (none: live), DataType and ValueRank."""

    name: str
    value: ua.Variant | None
    data_type: ua.NodeId
    rank: int = SCALAR


def item_type(tag: TagConfig) -> ua.NodeId:
    """Return the VariableType that fits a tag best (Part 8 §5.3).

    A number with a range is an AnalogItemType or a subtype, the only ones a client may ask a percent deadband
    of (Part 4 §7.22.2); a number with a unit alone is an AnalogUnitType.
    """
    ranged = tag.low is not None and tag.high is not None
    kind = ua.ObjectIds.DataItemType
    if tag.type is Scalar.BOOLEAN and not tag.length:
        kind = ua.ObjectIds.TwoStateDiscreteType
    elif tag.type in _NOT_NUMBERS:
        kind = ua.ObjectIds.DataItemType
    elif tag.states:
        kind = ua.ObjectIds.MultiStateValueDiscreteType
    elif ranged:
        kind = ua.ObjectIds.AnalogUnitRangeType if tag.unit else ua.ObjectIds.AnalogItemType
    elif tag.unit:
        kind = ua.ObjectIds.AnalogUnitType
    return ua.NodeId(int(kind))


def item_properties(tag: TagConfig) -> Iterator[Property]:
    """Yield what a tag's type demands, and what is known beyond it."""
    if tag.type is Scalar.BOOLEAN and not tag.length:
        yield text_property("TrueState", tag.true_name or TRUE_TEXT)
        yield text_property("FalseState", tag.false_name or FALSE_TEXT)
    if tag.states:
        yield from _state_properties(tag)
    elif tag.type not in _NOT_NUMBERS:
        yield from analog_properties(tag)
    if (tag.scale, tag.offset) != (1.0, 0.0):
        # Part 8 §5.3.1: how the value is calculated, for people.
        value = ua.Variant(f"raw x {tag.scale:g} {tag.offset:+g}", ua.VariantType.String)
        yield Property("Definition", value, ua.NodeId(ua.ObjectIds.String))


def _state_properties(tag: TagConfig) -> Iterator[Property]:
    """Yield the texts of the numbers, and the text of the present one (Part 8 §5.3.3.4)."""
    texts = [ua.EnumValueType(number, ua.LocalizedText(text)) for number, text in tag.states]
    value = ua.Variant(texts, ua.VariantType.ExtensionObject, is_array=True)
    yield Property("EnumValues", value, ua.NodeId(ua.ObjectIds.EnumValueType), ARRAY)
    yield Property(STATE_TEXT, None, ua.NodeId(ua.ObjectIds.LocalizedText))


def follow_text(of: AttributeValue, shown: AttributeValue, states: Mapping[int, str]) -> None:
    """Let a ValueAsText say what the number of its variable means, with the number's status and times.

    Args:
        of: Value of the variable.
        shown: Value of its ValueAsText.
        states: Text by number; a number without one has an empty text.
    """

    def read(node: ua.NodeId, attribute: ua.AttributeIds) -> ua.DataValue:
        held = of.value if of.value_callback is None else of.value_callback(node, attribute)
        if held is None or held.Value is None or held.Value.Value is None:
            return held
        text = ua.LocalizedText(states.get(int(held.Value.Value), ""))
        variant = ua.Variant(text, ua.VariantType.LocalizedText)
        return ua.DataValue(variant, held.StatusCode, held.SourceTimestamp, held.ServerTimestamp)

    shown.value_callback = read


def analog_properties(of: TagConfig | CaptureConfig) -> Iterator[Property]:
    """Yield EURange and EngineeringUnits as far as they are configured (Part 8 §5.3.2)."""
    if of.low is not None and of.high is not None:
        value = ua.Variant(ua.Range(of.low, of.high), ua.VariantType.ExtensionObject)
        yield Property("EURange", value, ua.NodeId(ua.ObjectIds.Range))
    if of.unit:
        value = ua.Variant(engineering_unit(of.unit), ua.VariantType.ExtensionObject)
        yield Property("EngineeringUnits", value, ua.NodeId(ua.ObjectIds.EUInformation))


def text_property(name: str, text: str) -> Property:
    """Return a LocalizedText property."""
    value = ua.Variant(ua.LocalizedText(text), ua.VariantType.LocalizedText)
    return Property(name, value, ua.NodeId(ua.ObjectIds.LocalizedText))
