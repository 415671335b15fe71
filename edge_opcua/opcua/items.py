"""What kind of variable a tag is, and the properties that kind demands: Data Access (Part 8) for free.

A SCADA takes range, unit and texts from these properties, and a percent deadband needs the range.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Final, NamedTuple

from asyncua import ua

from edge_opcua.config.schema import CaptureConfig, TagConfig
from edge_opcua.core.values import Scalar
from edge_opcua.opcua.nodes import ARRAY, SCALAR
from edge_opcua.opcua.units import engineering_unit
from edge_opcua.opcua.values import SharedDataValue

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
    elif not tag.type.is_number:
        kind = ua.ObjectIds.DataItemType
    elif tag.states:
        kind = ua.ObjectIds.MultiStateValueDiscreteType
    elif ranged:
        kind = ua.ObjectIds.AnalogUnitRangeType if tag.unit else ua.ObjectIds.AnalogItemType
    elif tag.unit:
        kind = ua.ObjectIds.AnalogUnitType
    return ua.NodeId(int(kind))


class Facts(NamedTuple):
    """What of a tag's row says which properties it has."""

    type: Scalar
    length: int
    low: float | None
    high: float | None
    unit: str
    states: tuple[tuple[int, str], ...]
    scale: float
    offset: float


def property_names(tag: TagConfig | Facts) -> list[str]:
    """Return the BrowseNames of what a tag's type demands, and of what is known beyond it."""
    return [name for name, (applies, _) in _PROPERTIES.items() if applies(tag)]


def item_property(tag: TagConfig, name: str) -> Property | None:
    """Return one of a tag's properties, None if it has none of this name."""
    applies, make = _PROPERTIES.get(name, _NO_PROPERTY)
    return make(tag) if applies(tag) else None


def has_property(tag: TagConfig, name: str) -> bool:
    """Whether a tag has a property of this name."""
    return _PROPERTIES.get(name, _NO_PROPERTY)[0](tag)


def _is_two_state(tag: TagConfig | Facts) -> bool:
    return tag.type is Scalar.BOOLEAN and not tag.length


def _has_states(tag: TagConfig | Facts) -> bool:
    return bool(tag.states)


def _has_range(of: TagConfig | Facts) -> bool:
    return _is_analog(of) and of.low is not None and of.high is not None


def _has_unit(of: TagConfig | Facts) -> bool:
    return _is_analog(of) and bool(of.unit)


def _is_analog(of: TagConfig | Facts) -> bool:
    return not of.states and of.type.is_number


def _is_scaled(tag: TagConfig | Facts) -> bool:
    return (tag.scale, tag.offset) != (1.0, 0.0)


def _true_state(tag: TagConfig) -> Property:
    return text_property("TrueState", tag.true_name or TRUE_TEXT)


def _false_state(tag: TagConfig) -> Property:
    return text_property("FalseState", tag.false_name or FALSE_TEXT)


def _enum_values(tag: TagConfig) -> Property:
    """Return the texts of the numbers (Part 8 §5.3.3.4)."""
    texts = [ua.EnumValueType(number, ua.LocalizedText(text)) for number, text in tag.states]
    value = ua.Variant(texts, ua.VariantType.ExtensionObject, is_array=True)
    return Property("EnumValues", value, ua.NodeId(ua.ObjectIds.EnumValueType), ARRAY)


def _value_as_text(_: TagConfig) -> Property:
    """Return the property that says the text of the present number (Part 8 §5.3.3.4)."""
    return Property(STATE_TEXT, None, ua.NodeId(ua.ObjectIds.LocalizedText))


def _range(of: TagConfig | CaptureConfig) -> Property:
    assert of.low is not None, "only asked of what has a range"
    assert of.high is not None, "only asked of what has a range"
    value = ua.Variant(ua.Range(of.low, of.high), ua.VariantType.ExtensionObject)
    return Property("EURange", value, ua.NodeId(ua.ObjectIds.Range))


def _units(of: TagConfig | CaptureConfig) -> Property:
    value = ua.Variant(engineering_unit(of.unit), ua.VariantType.ExtensionObject)
    return Property("EngineeringUnits", value, ua.NodeId(ua.ObjectIds.EUInformation))


def _definition(tag: TagConfig) -> Property:
    """Return how the value is calculated, for people (Part 8 §5.3.1)."""
    value = ua.Variant(f"raw x {tag.scale:g} {tag.offset:+g}", ua.VariantType.String)
    return Property("Definition", value, ua.NodeId(ua.ObjectIds.String))


def _never(_: TagConfig | Facts) -> bool:
    return False


_Rule = tuple[Callable[[TagConfig | Facts], bool], Callable[[TagConfig], Property]]
# In the order in which clients browse them: which tags have it, and what it is.
_PROPERTIES: Final[Mapping[str, _Rule]] = {
    "TrueState": (_is_two_state, _true_state),
    "FalseState": (_is_two_state, _false_state),
    "EnumValues": (_has_states, _enum_values),
    STATE_TEXT: (_has_states, _value_as_text),
    "EURange": (_has_range, _range),
    "EngineeringUnits": (_has_unit, _units),
    "Definition": (_is_scaled, _definition),
}
_NO_PROPERTY: Final[_Rule] = (_never, _value_as_text)


def state_text(value: ua.DataValue, states: Mapping[int, str]) -> SharedDataValue:
    """Return what a number means, with the number's status and times.

    Args:
        value: Value of the variable.
        states: Text by number; a number without one has an empty text.
    """
    variant = value.Value
    if variant is not None and variant.Value is not None:
        text = ua.LocalizedText(states.get(int(variant.Value), ""))
        variant = ua.Variant(text, ua.VariantType.LocalizedText)
    return SharedDataValue(variant, value.StatusCode, value.SourceTimestamp, value.ServerTimestamp)


def analog_properties(of: CaptureConfig) -> Iterator[Property]:
    """Yield EURange and EngineeringUnits as far as they are configured (Part 8 §5.3.2)."""
    if of.low is not None and of.high is not None:
        yield _range(of)
    if of.unit:
        yield _units(of)


def text_property(name: str, text: str) -> Property:
    """Return a LocalizedText property."""
    value = ua.Variant(ua.LocalizedText(text), ua.VariantType.LocalizedText)
    return Property(name, value, ua.NodeId(ua.ObjectIds.LocalizedText))
