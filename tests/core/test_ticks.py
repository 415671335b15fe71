"""Times as OPC UA holds them."""

from __future__ import annotations

import datetime as dt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_opcua.core import ticks


def test_the_epoch_of_unix_is_where_part_6_has_it() -> None:
    # Part 6 §5.2.2.5: 100 ns since 1601-01-01.
    assert ticks.from_utc(dt.datetime(1970, 1, 1, tzinfo=dt.UTC)) == ticks.EPOCH_TICKS
    assert ticks.to_text(ticks.EPOCH_TICKS) == "1970-01-01T00:00:00Z"


@given(st.integers(0, ticks.LATEST // 10))
def test_whole_microseconds_survive_both_ways(us: int) -> None:
    assert ticks.from_utc(ticks.to_utc(10 * us)) == 10 * us
    assert ticks.from_text(ticks.to_text(10 * us)) == 10 * us


def test_what_lies_outside_becomes_the_nearest_end() -> None:
    # Part 6 §5.2.2.5: before 1601 is 0, after 9999 the end of time.
    assert ticks.to_text(-5) == "1601-01-01T00:00:00Z"
    assert ticks.to_text(2**63 - 1) == "9999-12-31T23:59:59Z"
    assert ticks.from_utc(dt.datetime(1, 1, 1, tzinfo=dt.UTC)) == 0
    assert ticks.from_utc(dt.datetime.max.replace(tzinfo=dt.UTC)) == ticks.LATEST


def test_a_zone_counts_and_none_is_utc() -> None:
    assert ticks.from_text("2026-03-01T13:00:00+01:00") == ticks.from_text("2026-03-01T12:00:00")


@pytest.mark.parametrize("text", ["yesterday", "1600-12-31", ""])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"1601|isoformat"):
        ticks.from_text(text)
