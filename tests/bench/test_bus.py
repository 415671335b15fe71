import pytest

from edge_opcua.bench import bus


def test_the_figures_of_the_bus_stand_beside_their_peer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bus, "_BURSTS", 5)
    monkeypatch.setattr(bus, "READERS", (1, 2))
    figures = list(bus.run())
    assert {figure.unit for figure in figures} == {"µs/batch", "ns/tag"}
    assert all(figure.value > 0 and figure.peer_value for figure in figures)
    assert any("2 readers" in figure.name for figure in figures)
