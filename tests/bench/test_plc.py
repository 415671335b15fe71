"""What `bench plc` works out from what it measures, and that it reads what a C server holds."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pytest

from edge_opcua.bench.plc import peers, refresh, steady, suite
from edge_opcua.bench.plc.poller import Polling, device


def test_lateness_is_the_distance_from_the_grid_whatever_its_phase() -> None:
    grid = 7.3 + np.arange(50, dtype=np.float64) / 10
    assert steady.lateness_ms(grid, 100).max() < 1e-6
    late = grid.copy()
    late[20] += 0.030
    late[30] -= 0.020
    found = steady.lateness_ms(late, 100)
    assert found[20] == pytest.approx(30)
    assert found[30] == pytest.approx(20)
    assert np.median(found) < 1e-6


def test_a_missed_scan_shows_in_the_age() -> None:
    grid = np.arange(40, dtype=np.float64) / 4
    assert steady.worst_age_ms([grid]) == pytest.approx(250)
    assert steady.worst_age_ms([grid, np.delete(grid, [10, 20])]) == pytest.approx(500)


def test_scattered_registers_take_no_more_requests_than_cover_them() -> None:
    (figure,) = refresh.scattered_requests()
    assert figure.value <= 1.1 * (figure.peer_value or 0)


def test_a_refresh_reads_everything_from_the_c_server() -> None:
    try:
        folder = peers.libmodbus()
    except peers.MissingPeerError as exc:
        pytest.skip(str(exc))
    with peers.process([str(folder / "server"), "tcp", "0"]) as server:
        url = f"modbus://127.0.0.1:{server.port}/1"
        addresses = [f"hr:{peers.FIRST + at}:UINT" for at in range(500)]
        polling = Polling([device("plc", "modbus", url, addresses, period_ms=60_000)])

        async def main() -> list[Any]:
            async with polling.running():
                assert len(await polling.refresh_ms("plc", 3)) == 3
                batch = polling.reader("plc").latest()
                assert batch is not None
                assert polling.good("plc")
                return [batch.value(row) for row in range(500)]

        assert asyncio.run(main()) == list(range(peers.FIRST, peers.FIRST + 500))


def test_a_part_without_its_peer_says_so_and_the_others_go_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def missing() -> list[object]:
        """B9: something."""
        raise peers.MissingPeerError("nobody is here")

    monkeypatch.setattr(suite, "PARTS", (missing, refresh.scattered_requests))
    monkeypatch.setattr(suite, "configure_logging", lambda **_: None)  # it is for the whole process
    assert [figure.unit for figure in suite.run()] == ["requests"]
    assert "B9 left out: nobody is here" in capsys.readouterr().err
