"""Who comes or asks too often is refused, then slowed, then sent away; who waits for his answers never is."""

from __future__ import annotations

import pytest

from edge_opcua.core.clock import Clock
from edge_opcua.opcua.limits import ServerLimits
from edge_opcua.opcua.seam.pace import Arrivals, Bucket, Pace, RequestRate, site_of
from edge_opcua.testing import ManualClock

LIMITS = ServerLimits(
    requests_per_s=10,
    request_burst=20,
    busy_batch=5,
    busy_answers=12,
    connects_per_s=1,
    connect_burst=2,
    addresses=3,
)


def request_rate(clock: Clock) -> RequestRate:
    return RequestRate(LIMITS.requests_per_s, LIMITS.request_burst, LIMITS, clock)


def test_a_bucket_gives_its_burst_and_then_its_rate() -> None:
    clock = ManualClock()
    bucket = Bucket(10, 20, clock)
    assert [bucket.take() for _ in range(21)] == [True] * 20 + [False]
    clock.step(0.5)
    assert bucket.wait_s(7) == pytest.approx(0.2)
    assert [bucket.take() for _ in range(6)] == [True] * 5 + [False]
    clock.step(100)
    assert bucket.is_full()
    assert not bucket.take(21)
    assert bucket.take(20)


def test_requests_beyond_the_rate_are_refused_and_soon_nothing_is_read() -> None:
    clock = ManualClock()
    rate = request_rate(clock)
    assert [rate.ask() for _ in range(20)] == [Pace.SERVE] * 20
    for _ in range(4):
        assert rate.ask() is Pace.REFUSE
        assert rate.pause_s() == 0
    assert rate.ask() is Pace.REFUSE
    assert rate.pause_s() == pytest.approx(0.5)  # until five are allowed again
    clock.step(0.5)
    assert [rate.ask() for _ in range(6)] == [Pace.SERVE] * 5 + [Pace.REFUSE]


def test_who_goes_on_hammering_is_sent_away() -> None:
    rate = request_rate(ManualClock())
    asked = [rate.ask(waiting=3) for _ in range(33)]
    assert asked == [Pace.SERVE] * 20 + [Pace.REFUSE] * 12 + [Pace.END]


def test_who_waits_for_each_answer_is_never_sent_away() -> None:
    rate = request_rate(ManualClock())
    assert Pace.END not in {rate.ask() for _ in range(1000)}


def test_a_client_that_calms_down_is_forgiven() -> None:
    clock = ManualClock()
    rate = request_rate(clock)
    for _ in range(32):
        rate.ask(waiting=1)
    clock.step(1.5)
    assert [rate.ask(waiting=1) for _ in range(15)] == [Pace.SERVE] * 15
    assert [rate.ask(waiting=1) for _ in range(12)] == [Pace.REFUSE] * 12


def test_an_expensive_request_counts_for_many() -> None:
    rate = request_rate(ManualClock())
    assert [rate.ask(9) for _ in range(3)] == [Pace.SERVE, Pace.SERVE, Pace.REFUSE]


def test_connections_are_counted_by_address_and_the_table_is_bounded() -> None:
    clock = ManualClock()
    arrivals = Arrivals(LIMITS, clock)
    assert [arrivals.admit("a") for _ in range(3)] == [True, True, False]
    assert [arrivals.admit("b"), arrivals.admit("c")] == [True, True]
    # Whoever comes while the table is full shares one rate.
    assert [arrivals.admit(site) for site in "defg"] == [True, True, False, False]
    clock.step(2)  # all are forgotten that have nothing taken
    assert [arrivals.admit("h") for _ in range(3)] == [True, True, False]
    assert not arrivals._others.take(3)


@pytest.mark.parametrize(
    ("host", "site"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::1", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", ""),
    ],
)
def test_an_ipv6_network_is_one_address(host: str, site: str) -> None:
    assert site_of(host) == site
