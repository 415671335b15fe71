"""The pure parts: units, values, checks of writes and arguments."""

from __future__ import annotations

import copy
import datetime as dt
import math
from typing import Any

import pytest
from asyncua import ua
from asyncua.ua.ua_binary import struct_from_binary, struct_to_binary
from hypothesis import given
from hypothesis import strategies as st

from edge_opcua.config.schema import public_url
from edge_opcua.core.bus import Bus
from edge_opcua.core.ticks import from_utc
from edge_opcua.core.values import (
    BAD_OUT_OF_RANGE,
    BAD_SENSOR_FAILURE,
    BAD_TYPE_MISMATCH,
    GOOD,
    LIMIT_HIGH,
    UNCERTAIN_EU_EXCEEDED,
    UNCERTAIN_SUBSTITUTE,
    BlockSpec,
    Scalar,
    TagSpec,
)
from edge_opcua.opcua.modelmethods import objections
from edge_opcua.opcua.models import Job, ModelAlarm, ShadowFigures
from edge_opcua.opcua.tags.setpoints import Setpoint
from edge_opcua.opcua.units import UNECE_URI, engineering_unit, unit_id
from edge_opcua.opcua.values import as_held, data_value, shown_value, utc
from edge_opcua.opcua.writes import check

DOUBLE = ua.VariantType.Double
NOON = dt.datetime(2026, 3, 1, 12, 0, 0, 250, tzinfo=dt.UTC)


def test_a_known_unit_has_its_unece_code_and_an_unknown_one_its_text() -> None:
    # OPC 10000-8 §5.6.4.3 gives this very example: CEL is 4408652.
    assert unit_id("CEL") == 4408652
    known = engineering_unit("°C")
    assert (known.NamespaceUri, known.UnitId, known.DisplayName.Text) == (UNECE_URI, 4408652, "°C")
    unknown = engineering_unit("furlong")
    assert (unknown.UnitId, unknown.DisplayName.Text) == (-1, "furlong")


def test_a_bad_value_is_null_and_limit_bits_travel() -> None:
    bad = data_value(3.0, DOUBLE, BAD_SENSOR_FAILURE, 1, 2)
    assert bad.Value.Value is None
    assert bad.Value.VariantType == ua.VariantType.Null
    high = data_value(3.0, DOUBLE, UNCERTAIN_EU_EXCEEDED | LIMIT_HIGH, 1, 2)
    sent = struct_from_binary(ua.DataValue, ua.utils.Buffer(struct_to_binary(high)))
    assert sent.StatusCode.value == UNCERTAIN_EU_EXCEEDED | LIMIT_HIGH
    assert sent.Value.Value == 3.0


def test_a_shared_value_is_not_copied() -> None:
    value = data_value([1.0] * 2000, DOUBLE, GOOD, 1, 2)
    assert copy.deepcopy(value) is value


@given(st.integers(min_value=1, max_value=4_000_000_000_000_000_000))
def test_stamps_keep_their_microseconds(time_ns: int) -> None:
    found = utc(time_ns)
    assert found is not None
    assert found.tzinfo is not None
    exact = (found - utc(1_000)).total_seconds() if utc(1_000) else 0  # type: ignore[operator]
    assert math.isclose(exact, time_ns // 1000 / 1e6 - 1e-6, rel_tol=1e-12, abs_tol=2e-6)


def test_no_time_is_null() -> None:
    assert utc(0) is None


def test_a_substitute_stands_in_only_when_the_reader_says_so() -> None:
    bus = Bus.create([BlockSpec("b", (TagSpec("v", Scalar.FLOAT, substitute=7.0),), 2)])
    batch = bus.writer("b").batch
    batch.set(0, 3.0)
    batch.status[:] = GOOD
    assert shown_value(batch, 0, GOOD) == 3.0
    assert shown_value(batch, 0, UNCERTAIN_SUBSTITUTE) == 7.0
    # The writer itself already wrote a substitute, e.g. a lane its fail-safe verdict.
    batch.status[:] = UNCERTAIN_SUBSTITUTE
    assert shown_value(batch, 0, UNCERTAIN_SUBSTITUTE) == 3.0
    bus.close()


def test_a_time_is_held_as_ticks_and_sent_as_a_time() -> None:
    # Part 6 §5.2.2.5: 100 ns since 1601; the one, an array of them, and the substitute.
    rows = (
        TagSpec("t", Scalar.DATETIME, substitute=from_utc(NOON)),
        TagSpec("many", Scalar.DATETIME, 3),
    )
    bus = Bus.create([BlockSpec("b", rows, 2)])
    batch = bus.writer("b").batch
    batch.set(0, 10)
    batch.set(1, [0, from_utc(NOON)])
    batch.status[:] = GOOD
    first = dt.datetime(1601, 1, 1, tzinfo=dt.UTC)
    assert shown_value(batch, 0, GOOD) == first + dt.timedelta(microseconds=1)
    assert shown_value(batch, 0, UNCERTAIN_SUBSTITUTE) == NOON
    assert shown_value(batch, 1, GOOD) == [first, NOON]
    assert as_held([NOON, NOON], Scalar.DATETIME) == [from_utc(NOON)] * 2
    bus.close()


def setpoint(
    kind: Scalar, *, length: int = 0, low: float | None = None, high: float | None = None
) -> Setpoint:
    return Setpoint("press/x", kind, length, low, high)


@pytest.mark.parametrize(
    ("point", "value", "kind", "status"),
    [
        (setpoint(Scalar.FLOAT, low=10, high=60), 30.0, ua.VariantType.Float, GOOD),
        (setpoint(Scalar.FLOAT, low=10, high=60), 60.0, ua.VariantType.Float, GOOD),
        (setpoint(Scalar.FLOAT, low=10, high=60), 60.5, ua.VariantType.Float, BAD_OUT_OF_RANGE),
        (setpoint(Scalar.FLOAT, low=10, high=60), 9.0, ua.VariantType.Float, BAD_OUT_OF_RANGE),
        (setpoint(Scalar.FLOAT), math.nan, ua.VariantType.Float, BAD_OUT_OF_RANGE),
        (setpoint(Scalar.FLOAT), math.inf, ua.VariantType.Float, BAD_OUT_OF_RANGE),
        (setpoint(Scalar.FLOAT), 30.0, ua.VariantType.Double, BAD_TYPE_MISMATCH),
        (setpoint(Scalar.FLOAT), [30.0], ua.VariantType.Float, BAD_TYPE_MISMATCH),
        (setpoint(Scalar.STRING, length=4), "abcd", ua.VariantType.String, GOOD),
        (setpoint(Scalar.STRING, length=4), "äbcd", ua.VariantType.String, BAD_OUT_OF_RANGE),
        (setpoint(Scalar.STRING, length=4), None, ua.VariantType.String, BAD_TYPE_MISMATCH),
        (setpoint(Scalar.BOOLEAN), True, ua.VariantType.Boolean, GOOD),
        (setpoint(Scalar.DATETIME), NOON, ua.VariantType.DateTime, GOOD),
        (setpoint(Scalar.DATETIME, length=2), [NOON] * 2, ua.VariantType.DateTime, GOOD),
        (setpoint(Scalar.DATETIME), 7, ua.VariantType.Int64, BAD_TYPE_MISMATCH),
        (setpoint(Scalar.INT16, length=3, high=5), [1, 2, 3], ua.VariantType.Int16, GOOD),
        (setpoint(Scalar.INT16, length=3, high=5), [1, 2, 6], ua.VariantType.Int16, BAD_OUT_OF_RANGE),
        (setpoint(Scalar.INT16, length=3), [1, 2], ua.VariantType.Int16, BAD_OUT_OF_RANGE),
        (setpoint(Scalar.INT16, length=3), 1, ua.VariantType.Int16, BAD_TYPE_MISMATCH),
    ],
)
def test_a_write_is_looked_at_before_it_leaves(
    point: Setpoint, value: Any, kind: ua.VariantType, status: int
) -> None:
    assert check(point, ua.Variant(value, kind)) == status


def test_nothing_is_no_value_to_write() -> None:
    assert check(setpoint(Scalar.FLOAT), None) == BAD_TYPE_MISMATCH


@pytest.mark.parametrize(
    ("arguments", "bad"),
    [
        (("press-anomaly", 2, "a" * 64), []),
        (("../../etc/passwd", 2, "a" * 64), [0]),
        (("http://x/y", 2, "a" * 64), [0]),
        (("press-anomaly", 0, "A" * 64), [1]),
        (("press-anomaly", 2, "a" * 63), [2]),
        ((None, None, None), [0, 1, 2]),
    ],
)
def test_load_model_takes_only_what_can_be_a_model(arguments: tuple[Any, ...], bad: list[int]) -> None:
    found = objections(*arguments)
    assert [index for index, status in enumerate(found) if status] == bad


def test_a_job_is_read_from_what_the_supervisor_sends() -> None:
    job = Job.from_body({"job": "job-3", "name": "m", "version": 2, "state": "Failed", "percent": 250})
    assert (job.percent, job.failed, job.ended, job.changed, job.reason) == (100, True, True, False, "")
    assert (job.pipelines, job.shadow.compared) == ((), 0)
    shadow = {"wanted": 50, "compared": 20, "agreement": None}
    back = Job.from_body(
        {"kind": "rollback", "state": "RolledBack", "pipelines": ["a", "b"], "shadow": shadow}
    )
    assert (back.changed, back.pipelines, back.shadow) == (True, ("a", "b"), ShadowFigures(50, 20, 0.0, 0.0))


def test_an_alarm_is_read_from_what_the_watch_sends() -> None:
    body = {"pipeline": "p", "model": "press-anomaly/2", "kind": "drift", "active": True, "value": 0.31}
    alarm = ModelAlarm.from_body(body)
    assert (alarm.pipeline, alarm.name, alarm.version, alarm.active) == ("p", "press-anomaly", 2, True)
    assert alarm.value == 0.31
    assert math.isnan(alarm.limit)
    odd = ModelAlarm.from_body({"model": "nonsense", "value": "much"})
    assert (odd.name, odd.version, odd.active) == ("", 0, False)
    assert math.isnan(odd.value)


def test_a_url_is_shown_without_its_password() -> None:
    assert public_url("s7://u:p@10.0.0.1:102?rack=0") == "s7://10.0.0.1:102?rack=0"
    for url in ("modbus+rtu:///dev/ttyUSB0?baud=9600&unit=1", "modbus://10.0.0.1/1", "eip://10.0.0.1?route="):
        assert public_url(url) == url
