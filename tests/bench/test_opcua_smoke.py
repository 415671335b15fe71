"""A small scenario against each server, checked value by value."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import structlog

from edge_opcua.bench.opcua import scenario
from edge_opcua.bench.opcua.scenario import Demand, deliver
from edge_opcua.bench.opcua.target import NODE, OURS, Home, Load, home, node_missing, start


@pytest.fixture(scope="module")
def where() -> Iterator[Home]:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    with home() as found:
        yield found
    structlog.reset_defaults()


@pytest.mark.timeout(120)  # a start of the whole server in a process of its own
def test_our_server_delivers_every_value_to_two_encrypted_clients(where: Home) -> None:
    target = start(OURS, Load(110), where, (None, None))
    try:
        demand = Demand(110, 20.0, clients=2, parts=1, warm_s=0.2, secured=True)
        found = deliver(target, demand)
        assert found.lost == 0
        assert found.step.lost == 0
        assert found.offered == found.counts.values > 110 * 2 * 20
        assert found.counts.bad == 0
        read = scenario.reads(target, 100, fresh=True, seconds=0.1)
        assert read.size == 100
        assert scenario.browses(target, expected=110, seconds=0.1).size == 110
        assert scenario.calls(target, 0.1).count >= 3
        emitted = scenario.events(target, 500.0, 0.2)
        assert emitted.lost == 0
        assert emitted.emitted >= 90
    finally:
        target.close()


@pytest.mark.timeout(120)
def test_node_opcua_delivers_every_value(where: Home) -> None:
    if reason := node_missing():
        pytest.skip(reason)
    target = start(NODE, Load(22), where, (None, None))
    try:
        found = deliver(target, Demand(22, 10.0, parts=1, warm_s=0.2))
        assert found.step.lost == 0
        assert found.counts.values == found.offered
    finally:
        target.close()
