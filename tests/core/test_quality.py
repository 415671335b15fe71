import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_opcua.core.batch import LINK, LINK_SINCE, REFRESHED, STAMP, BlockLayout, TagBatch
from edge_opcua.core.quality import TABLE, effective, steady_until, substitutes
from edge_opcua.core.values import (
    BAD_COMMUNICATION_ERROR,
    BAD_CONFIGURATION_ERROR,
    BAD_DEVICE_FAILURE,
    BAD_NO_COMMUNICATION,
    BAD_OUT_OF_SERVICE,
    BAD_SENSOR_FAILURE,
    BAD_WAITING_FOR_INITIAL_DATA,
    GOOD,
    GOOD_CLAMPED,
    GOOD_LOCAL_OVERRIDE,
    LIMIT_HIGH,
    LIMIT_LOW,
    UNCERTAIN_EU_EXCEEDED,
    UNCERTAIN_LAST_USABLE,
    UNCERTAIN_NO_COMMUNICATION_LAST_USABLE,
    UNCERTAIN_SUBNORMAL,
    UNCERTAIN_SUBSTITUTE,
    BlockSpec,
    Link,
    Policy,
    Scalar,
    TagSpec,
    Verdict,
    bad_rows,
    is_bad,
    is_good,
    is_uncertain,
    status_name,
)

SECOND = 1_000_000_000
_OWN = (
    GOOD,
    GOOD_CLAMPED,
    GOOD_LOCAL_OVERRIDE,
    UNCERTAIN_EU_EXCEEDED | LIMIT_LOW,
    UNCERTAIN_EU_EXCEEDED | LIMIT_HIGH,
    UNCERTAIN_SUBNORMAL,
    BAD_WAITING_FOR_INITIAL_DATA,
    BAD_CONFIGURATION_ERROR,
    BAD_DEVICE_FAILURE,
    BAD_SENSOR_FAILURE,
)


def oracle(
    own: int,
    *,
    link: Link,
    substitute: bool,
    policy: Policy,
    refreshed_age_s: float,
    link_age_s: float,
    beat_age_s: float,
) -> int:
    """The table of architecture §4, read line by line for one row."""
    if link is Link.DISABLED:
        return BAD_OUT_OF_SERVICE
    writer_lost = beat_age_s > policy.writer_lost_s
    never_read = own == BAD_WAITING_FOR_INITIAL_DATA
    if never_read:
        coming_up = link in (Link.CONNECTING, Link.UP) and not writer_lost
        return BAD_WAITING_FOR_INITIAL_DATA if coming_up else BAD_NO_COMMUNICATION
    if own >= 0x80000000:  # address, type, configuration, device or sensor fault
        return own
    if link is not Link.UP or writer_lost:
        lost_for_s = beat_age_s if link is Link.UP else max(link_age_s, beat_age_s)
        if lost_for_s <= policy.hold_s:
            return UNCERTAIN_NO_COMMUNICATION_LAST_USABLE
        return UNCERTAIN_SUBSTITUTE if substitute else BAD_COMMUNICATION_ERROR
    if refreshed_age_s > policy.stale_after_s:
        return UNCERTAIN_LAST_USABLE
    return own


_limits = st.sampled_from([0.0, 0.5, 2.0, math.inf])
_ages = st.integers(0, 30).map(lambda tenths: tenths / 10)


def make_batch(rows: list[tuple[int, bool]], link: Link, policy: Policy) -> TagBatch:
    tags = tuple(
        TagSpec(f"t{i}", Scalar.DOUBLE, substitute=1.0 if substitute else None)
        for i, (_, substitute) in enumerate(rows)
    )
    batch = TagBatch(BlockLayout(BlockSpec("b", tags, depth=2, policy=policy)))
    batch.status[:] = [own for own, _ in rows]
    batch.head[5] = link
    return batch


_policies = st.builds(Policy, stale_after_s=_limits, hold_s=_limits, writer_lost_s=_limits)


@settings(max_examples=150)
@given(
    rows=st.lists(st.tuples(st.sampled_from(_OWN), st.booleans()), min_size=1, max_size=8),
    link=st.sampled_from(Link),
    policy=_policies,
    ages=st.tuples(_ages, _ages, _ages),
)
def test_the_columns_say_what_the_table_says_row_by_row(
    rows: list[tuple[int, bool]], link: Link, policy: Policy, ages: tuple[float, float, float]
) -> None:
    refreshed_age_s, link_age_s, beat_age_s = ages
    now_ns = 1000 * SECOND
    batch = make_batch(rows, link, policy)
    batch.head[4] = now_ns - round(refreshed_age_s * SECOND)
    batch.head[6] = now_ns - round(link_age_s * SECOND)
    shown = effective(batch, policy, beat_ns=now_ns - round(beat_age_s * SECOND), now_ns=now_ns)
    assert shown.dtype == np.uint32
    assert shown.tolist() == [
        oracle(
            own,
            link=link,
            substitute=substitute,
            policy=policy,
            refreshed_age_s=refreshed_age_s,
            link_age_s=link_age_s,
            beat_age_s=beat_age_s,
        )
        for own, substitute in rows
    ]
    assert batch.status.tolist() == [own for own, _ in rows]  # asking changes nothing
    assert substitutes(batch).tolist() == [substitute for _, substitute in rows]


@given(st.lists(st.sampled_from(_OWN), min_size=1, max_size=8), st.sampled_from(Link), _ages, _ages)
def test_a_lost_source_never_leaves_a_row_good(
    own: list[int], link: Link, beat_age_s: float, link_age_s: float
) -> None:
    policy = Policy(writer_lost_s=0.5, hold_s=1.0)
    batch = make_batch([(status, False) for status in own], link, policy)
    now_ns = 1000 * SECOND
    batch.head[4] = now_ns
    batch.head[6] = now_ns - round(link_age_s * SECOND)
    shown = effective(batch, policy, beat_ns=now_ns - round(beat_age_s * SECOND), now_ns=now_ns)
    if link is not Link.UP or beat_age_s > policy.writer_lost_s:
        assert all(not is_good(int(status)) for status in shown)


@settings(max_examples=300)
@given(st.sampled_from(Link), _policies, *[_ages] * 4, st.floats(0, 20))
def test_until_it_says_nothing_changes_whatever_signs_of_life_come(
    link: Link,
    policy: Policy,
    refreshed_age_s: float,
    link_age_s: float,
    beat_age_s: float,
    later_s: float,
    next_beat_s: float,
) -> None:
    batch = make_batch([(GOOD, False), (GOOD, True), (BAD_WAITING_FOR_INITIAL_DATA, False)], link, policy)
    now_ns = 1000 * SECOND
    beat_ns = now_ns - round(beat_age_s * SECOND)
    batch.head[STAMP] = beat_ns
    batch.head[REFRESHED] = now_ns - round(refreshed_age_s * SECOND)
    # What becomes of a link is told by a batch, and that is a sign of life.
    batch.head[LINK_SINCE] = min(now_ns - round(link_age_s * SECOND), beat_ns)
    until_ns = steady_until(batch, policy, beat_ns=beat_ns, now_ns=now_ns)
    then_ns = now_ns + round(later_s * SECOND)
    if until_ns < now_ns:  # the writer is silent: any moment it may be heard of again
        assert then_ns - beat_ns > policy.writer_lost_s * SECOND
        return
    before = effective(batch, policy, beat_ns=beat_ns, now_ns=now_ns).tolist()
    then_ns = min(then_ns, int(until_ns)) if until_ns < math.inf else then_ns
    for heard_ns in (beat_ns, min(then_ns, beat_ns + round(next_beat_s * SECOND))):
        assert effective(batch, policy, beat_ns=heard_ns, now_ns=then_ns).tolist() == before


def test_it_is_over_right_after_it_says() -> None:
    policy = Policy(stale_after_s=1.0, hold_s=3.0, writer_lost_s=2.0)
    batch = make_batch([(GOOD, False)], Link.UP, policy)
    now_ns = batch.head[REFRESHED] = 100 * SECOND
    stale_ns = int(steady_until(batch, policy, beat_ns=now_ns, now_ns=now_ns))
    assert stale_ns == 101 * SECOND
    shown = [effective(batch, policy, beat_ns=now_ns, now_ns=at).tolist() for at in (stale_ns, stale_ns + 1)]
    assert shown == [[GOOD], [UNCERTAIN_LAST_USABLE]]
    lost_ns = int(steady_until(batch, policy, beat_ns=now_ns, now_ns=stale_ns + 1))
    assert lost_ns == 102 * SECOND
    assert steady_until(batch, policy, beat_ns=now_ns, now_ns=lost_ns + 1) < lost_ns
    batch.head[LINK] = Link.DISABLED
    assert steady_until(batch, policy, beat_ns=now_ns, now_ns=now_ns) == math.inf


def test_a_stamp_from_the_future_of_another_core_is_not_old() -> None:
    batch = make_batch([(GOOD, False)], Link.UP, Policy(stale_after_s=0.1))
    batch.head[4] = 5 * SECOND + 10
    assert effective(
        batch, Policy(stale_after_s=0.1), beat_ns=5 * SECOND + 10, now_ns=5 * SECOND
    ).tolist() == [GOOD]


def test_the_table_names_each_situation_once_with_its_code() -> None:
    assert len({rule.situation for rule in TABLE}) == len(TABLE)
    assert all(not status_name(rule.status).startswith("0x") for rule in TABLE)
    assert {rule.status for rule in TABLE} >= {GOOD, UNCERTAIN_SUBSTITUTE, BAD_COMMUNICATION_ERROR}


def test_verdicts_are_numbered_as_in_machinery_result() -> None:
    # OPC 40001-101 ResultEvaluationEnum: Undefined, OK, NotOK, NotDecidable
    assert [int(verdict) for verdict in Verdict] == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("status", "good", "uncertain", "bad", "name"),
    [
        (GOOD, True, False, False, "Good"),
        (UNCERTAIN_EU_EXCEEDED | LIMIT_HIGH, False, True, False, "UncertainEngineeringUnitsExceeded"),
        (BAD_SENSOR_FAILURE, False, False, True, "BadSensorFailure"),
        (0x80FF0000, False, False, True, "0x80FF0000"),
    ],
)
def test_severity_and_name_of_a_status(
    status: int, good: bool, uncertain: bool, bad: bool, name: str
) -> None:
    assert (is_good(status), is_uncertain(status), is_bad(status)) == (good, uncertain, bad)
    assert status_name(status) == name
    assert bad_rows(np.array([status], np.uint32)).tolist() == [bad]


def test_declarations_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ValueError, match="capacity"):
        TagSpec("x", Scalar.STRING)
    with pytest.raises(ValueError, match="negative"):
        TagSpec("x", Scalar.FLOAT, -1)
    with pytest.raises(ValueError, match="2 slots"):
        BlockSpec("b", (), depth=1)
    with pytest.raises(ValueError, match="same name"):
        BlockSpec("b", (TagSpec("x", Scalar.FLOAT), TagSpec("x", Scalar.INT16)), depth=2)
