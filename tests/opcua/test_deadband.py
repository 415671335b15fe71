"""What counts as a change: Part 4 §7.22.2 and Part 8 §7.2."""

from __future__ import annotations

import math
from typing import Any

import pytest
from asyncua import ua

from edge_opcua.opcua.services.subscription.deadband import Trigger, absolute, changed, exceeds
from tests.opcua.publishing import data_value

CODES = ua.StatusCodes
NAN, INF = math.nan, math.inf


@pytest.mark.parametrize(
    ("last", "now", "exceeded"),
    [
        (1.0, 1.5, False),
        (1.0, 2.0, False),  # §7.22.2: more than the deadband, not as much
        (1.0, 2.1, True),
        (1.0, -0.1, True),
        (NAN, NAN, False),
        (NAN, 1.0, True),
        (1.0, NAN, True),
        (INF, INF, False),
        (INF, -INF, True),
        (1.0, INF, True),
        (2**63 - 1, 2**63 - 2, False),
        (2**63 - 1, 2**63 - 3, True),  # exact, as no float would be
        ([1.0, 1.0], [1.0, 1.5], False),
        ([1.0, 1.0], [1.0, 3.0], True),  # §7.22.2: any element
        ([1.0], [1.0, 1.0], True),  # §7.22.2: the number of elements changed
        ([], [], False),
        ([NAN, 1.0], [NAN, 1.0], False),
        ([1.0], [NAN], True),
        (1.0, None, True),
        (None, None, False),
    ],
)
def test_a_value_moves_by_more_than_the_deadband(last: Any, now: Any, *, exceeded: bool) -> None:
    assert exceeds(last, now, 1.0) is exceeded


@pytest.mark.parametrize(
    ("kind", "value", "eu_range", "result"),
    [
        (ua.DeadbandType.None_, 7.0, None, 0.0),
        (ua.DeadbandType.Absolute, 2.5, None, 2.5),
        (ua.DeadbandType.Percent, 10.0, (-50.0, 150.0), 20.0),
        (ua.DeadbandType.Percent, 0.0, (0.0, 1.0), 0.0),
    ],
)
def test_a_deadband_becomes_a_number(kind: int, value: float, eu_range: Any, result: float) -> None:
    assert absolute(kind, value, eu_range) == result


@pytest.mark.parametrize(
    ("kind", "value", "eu_range", "code"),
    [
        (ua.DeadbandType.Absolute, -1.0, None, CODES.BadDeadbandFilterInvalid),
        (ua.DeadbandType.Absolute, NAN, None, CODES.BadDeadbandFilterInvalid),
        (ua.DeadbandType.Absolute, INF, None, CODES.BadDeadbandFilterInvalid),
        (ua.DeadbandType.Percent, 100.1, (0.0, 1.0), CODES.BadDeadbandFilterInvalid),
        (3, 1.0, (0.0, 1.0), CODES.BadDeadbandFilterInvalid),
        # Part 8 §7.2: a percentage is one of the EURange.
        (ua.DeadbandType.Percent, 10.0, None, CODES.BadMonitoredItemFilterUnsupported),
        (ua.DeadbandType.Percent, 10.0, (5.0, 5.0), CODES.BadMonitoredItemFilterUnsupported),
        (ua.DeadbandType.Percent, 10.0, (NAN, 5.0), CODES.BadMonitoredItemFilterUnsupported),
    ],
)
def test_a_deadband_that_makes_no_sense_is_refused(kind: int, value: float, eu_range: Any, code: int) -> None:
    with pytest.raises(ua.UaStatusCodeError) as failure:
        absolute(kind, value, eu_range)
    assert failure.value.code == code


GOOD, LATER = data_value(1.0), data_value(1.0, at_s=1.0)
BAD = data_value(None, None, status=CODES.BadNoCommunication)
UNCERTAIN = data_value(1.0, status=0x40940000)
MOVED = data_value(1.5)


@pytest.mark.parametrize(
    ("trigger", "band", "last", "now", "is_change"),
    [
        (Trigger.StatusValue, 0.0, None, GOOD, True),  # the first is always one
        (Trigger.Status, 5.0, None, GOOD, True),
        (Trigger.StatusValue, 0.0, GOOD, LATER, False),
        (Trigger.StatusValueTimestamp, 0.0, GOOD, LATER, True),
        # §7.22.2: with a deadband this trigger is the one before.
        (Trigger.StatusValueTimestamp, 1.0, GOOD, LATER, False),
        (Trigger.StatusValue, 0.0, GOOD, MOVED, True),
        (Trigger.Status, 0.0, GOOD, MOVED, False),
        (Trigger.Status, 0.0, GOOD, UNCERTAIN, True),
        # A status is never inside a deadband, nor is the absence of a value.
        (Trigger.StatusValue, 5.0, GOOD, MOVED, False),
        (Trigger.StatusValue, 5.0, GOOD, UNCERTAIN, True),
        (Trigger.StatusValue, 5.0, GOOD, BAD, True),
        (Trigger.StatusValue, 5.0, BAD, GOOD, True),
        (Trigger.StatusValue, 5.0, BAD, BAD, False),
        (Trigger.StatusValue, 0.0, data_value(NAN), data_value(NAN), False),
        (Trigger.StatusValue, 0.0, data_value([NAN, 1.0]), data_value([NAN, 1.0]), False),
        (Trigger.StatusValue, 0.0, data_value([NAN, 1.0]), data_value([NAN, 2.0]), True),
        (Trigger.StatusValue, 1.0, data_value([1.0, 2.0]), data_value([1.0, 4.0]), True),
        (Trigger.StatusValue, 0.0, data_value("a", ua.VariantType.String), data_value(1.0), True),
        (
            Trigger.StatusValue,
            1.0,
            data_value("a", ua.VariantType.String),
            data_value("b", ua.VariantType.String),
            True,
        ),
    ],
)
def test_a_sample_is_a_notification(
    trigger: int, band: float, last: Any, now: Any, *, is_change: bool
) -> None:
    assert changed(trigger, band, last, now) is is_change
