"""The exporter among readers: well-behaved, silent, garbled, and too many."""

from __future__ import annotations

import contextlib
import socket
import urllib.error
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client import generate_latest

from edge_opcua.errors import ConfigError
from edge_opcua.telemetry.exporter import MOST_READERS, Exporter, _Handler
from tests.telemetry.plant import Plant, parsed, read, sample


@pytest.fixture
def plant(tmp_path: Path) -> Iterator[Plant]:
    plant = Plant(tmp_path)
    yield plant
    plant.close()


@pytest.fixture
def exporter(plant: Plant) -> Iterator[Exporter]:
    exporter = Exporter(plant.registry, "127.0.0.1", 0)
    exporter.start()
    yield exporter
    exporter.close()


def connect(exporter: Exporter) -> socket.socket:
    host, port = exporter.address.removeprefix("http://").removesuffix("/metrics").split(":")
    return socket.create_connection((host, int(port)), timeout=5)


def test_what_is_served_is_what_was_collected(plant: Plant, exporter: Exporter) -> None:
    plant.result()
    assert parsed(read(exporter.address))[sample("edge_score", pipeline="press-anomaly")] == 0.5
    assert b"# HELP edge_score " in generate_latest(plant.registry)


def test_readers_that_ask_for_nothing_keep_nobody_else_out_for_long(
    exporter: Exporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_Handler, "timeout", 0.2)
    silent = [connect(exporter) for _ in range(MOST_READERS + 2)]
    try:
        for each in silent:  # each is let go: those that had a place after their time, the others at once
            each.settimeout(5)
            with contextlib.suppress(ConnectionResetError):
                assert each.recv(1) == b""
        assert "edge_host_memory_bytes" in read(exporter.address)
    finally:
        for each in silent:
            each.close()


@pytest.mark.parametrize(
    "request_bytes", [b"\x00" * 64 + b"\r\n\r\n", b"GET /metrics\r\n", b"A" * 70_000 + b"\r\n\r\n"]
)
def test_nonsense_ends_its_own_connection_and_nothing_else(exporter: Exporter, request_bytes: bytes) -> None:
    with connect(exporter) as sock:
        sock.sendall(request_bytes)
        sock.shutdown(socket.SHUT_WR)
        with contextlib.suppress(ConnectionResetError):
            while sock.recv(4096):
                pass
    assert "edge_host_memory_bytes" in read(exporter.address)


def test_nothing_can_be_changed_by_a_reader(exporter: Exporter) -> None:
    with connect(exporter) as sock:
        sock.sendall(b"POST /metrics HTTP/1.0\r\nContent-Length: 0\r\n\r\n")
        assert b" 501 " in sock.recv(4096)


def test_an_address_that_is_taken_is_said(exporter: Exporter, plant: Plant) -> None:
    port = int(exporter.address.removesuffix("/metrics").rpartition(":")[2])
    with pytest.raises(ConfigError, match="metrics cannot be served on") as caught:
        Exporter(plant.registry, "127.0.0.1", port)
    assert caught.value.code == "H633"


def test_a_closed_exporter_answers_nobody(plant: Plant) -> None:
    exporter = Exporter(plant.registry, "127.0.0.1", 0)
    exporter.start()
    address = exporter.address
    exporter.close()
    with pytest.raises((urllib.error.URLError, ConnectionError)):
        read(address)
